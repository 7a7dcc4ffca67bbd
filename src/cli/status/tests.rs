use super::*;
use crate::clock::Timestamp;
use crate::traffic::{Cause, Weight};

/// A status with this many services, the first of which is `shop`.
pub(in crate::cli) fn example(services: usize) -> Status {
    Status {
        host: "web-1".to_owned(),
        version: "0.1.0".to_owned(),
        pid: 7,
        started: Timestamp::from_millis(1_767_225_599_123),
        generation: 41,
        saved: true,
        draining: false,
        predecessors: Vec::new(),
        secure: Vec::new(),
        listen: vec!["0.0.0.0:8080".to_owned()],
        services: (0..services).map(service).collect(),
        drift: Vec::new(),
    }
}

#[test]
fn a_launch_is_a_line_of_its_service() {
    let launch = serde_json::json!({
        "name": "shop-2.0.2", "service": "shop", "state": "RUNNING", "unattended": false,
        "phase": ["traffic", "execute"], "planned": "2026-01-01T00:00:00Z",
    });
    let launch = Some(serde_json::from_value(launch).unwrap());
    let status = Status { services: vec![ServiceStatus { launch, ..service(0) }], ..example(1) };
    let line = "launch shop-2.0.2 RUNNING, traffic (execute)";
    assert!(render(&status, 120, false).contains(&format!("\n  {line}\n")));
    assert!(plain_lines(&status)[0].contains(line));
}

fn service(index: usize) -> ServiceStatus {
    ServiceStatus {
        name: if index == 0 { "shop".to_owned() } else { format!("service-{index}") },
        routes: vec!["shop.example.com/".to_owned()],
        stable: Variant::Blue,
        candidate: Variant::Green,
        weight: Weight::from_percent(25).unwrap(),
        by: By::Cookie,
        ratchet: false,
        salt: "shop-2.0".to_owned(),
        epoch: 3,
        changed_at: 41,
        lock: None,
        mirror: None,
        launch: None,
        rollout: None,
        variants: PerVariant { blue: variant(Variant::Blue), green: variant(Variant::Green) },
        split_expired: None,
        drift: Vec::new(),
    }
}

fn variant(place: Variant) -> VariantStatus {
    let green = place == Variant::Green;
    let endpoint = |port: u16| EndpointStatus {
        url: format!("http://10.0.0.11:{port}"),
        health: "healthy".to_owned(),
        standing: "in service".to_owned(),
        weight: 1,
        error: None,
        ejected: None,
        ejections: 0,
        requests: 500,
        failures: 0,
        in_flight: 0,
    };
    VariantStatus {
        version: Some(if green { "2.0.1" } else { "2.0.0" }.to_owned()),
        role: if green { Role::Candidate } else { Role::Stable },
        share: Weight::from_percent(if green { 25 } else { 75 }).unwrap(),
        share_of_requests: Some(if green { 0.249 } else { 0.751 }),
        share_of_visitors: (!green).then_some(1.0),
        requests: 1000,
        failures: 3,
        rate: if green { 104.2 } else { 312.4 },
        failure_ratio: Some(if green { 0.024 } else { 0.003 }),
        client_error_ratio: Some(0.012),
        p50_ms: Some(if green { 12.9 } else { 12.1 }),
        p95_ms: Some(if green { 35.0 } else { 40.0 }),
        p99_ms: green.then_some(120.0),
        in_flight: 3,
        spilled: if green { 12_345 } else { 0 },
        endpoints: if green { vec![endpoint(4000)] } else { vec![endpoint(3000), endpoint(3001)] },
    }
}

fn lock() -> Lock {
    Lock {
        cause: Cause::Kill,
        actor: "uid 1000 (ops)".to_owned(),
        at: Timestamp::from_millis(1_767_225_599_123),
        reason: Some("errors".to_owned()),
    }
}

#[test]
fn blue_and_green_stand_side_by_side() {
    let expected = "\
web-1  tidegate 0.1.0  generation 41  last 60 s  on 0.0.0.0:8080  since 2025-12-31 23:59:59 UTC

shop  shop.example.com/  by cookie
               blue               green
  role         stable             candidate
  version      2.0.0              2.0.1
  share        75 %               25 %
  of requests  75.1 %             24.9 %
  of visitors  100 %              –
  requests/s   312                104
  failures     0.30 %             2.4 %              +2.1 points
  4xx          1.2 %              1.2 %
  p50          12.1 ms            12.9 ms            +0.80 ms (+7 %)
  p95          40.0 ms            35.0 ms            −5.00 ms (−12 %)
  p99          –                  120 ms
  in flight    3                  3
  spilled      0                  12,345
  endpoints    ● 10.0.0.11:3000   ● 10.0.0.11:4000
               ● 10.0.0.11:3001
";
    assert_eq!(render(&example(1), 120, false), expected);
}

#[test]
fn an_endpoint_that_goes_shows_what_is_under_way_there() {
    let mut status = example(1);
    let [first, second] = status.services[0].variants.blue.endpoints.as_mut_slice() else { panic!() };
    (first.standing, first.in_flight, first.health) = ("draining".to_owned(), 2, "unhealthy".to_owned());
    (second.standing, second.in_flight, second.health) = ("leaving".to_owned(), 1, "unknown".to_owned());
    let text = render(&status, 160, false);
    assert!(text.contains("✗ 10.0.0.11:3000 draining, 2 under way"), "{text}");
    assert!(text.contains("○ 10.0.0.11:3001 leaving, 1 under way"), "{text}");
    assert!(!plain_lines(&status)[0].contains("unhealthy"), "nobody is sent there");
}

#[test]
fn trouble_is_told_with_its_cure() {
    let mut status = example(1);
    status.saved = false;
    status.draining = true;
    status.drift = vec!["listen changed and waits for a restart".to_owned()];
    let shop = &mut status.services[0];
    shop.lock = Some(lock());
    shop.split_expired = Some(Timestamp::from_millis(1_767_225_599_123));
    shop.drift = vec!["the file says 0 % and 25 % is in force".to_owned()];
    let endpoint = &mut shop.variants.green.endpoints[0];
    endpoint.health = "unhealthy".to_owned();
    endpoint.weight = 2;
    endpoint.error = Some("connection refused\x1b[2J".to_owned());
    let text = render(&status, 120, false);
    for expected in [
        "\n  not saved: a restart now would undo changes\n",
        "\n  stopping: open requests may end, no new ones are taken\n",
        "\n  drift: listen changed and waits for a restart\n",
        "✗ 10.0.0.11:4000 ×2\n",
        "\n  unhealthy: green http://10.0.0.11:4000: connection refused[2J\n",
        "\n  locked: kill by uid 1000 (ops), 2025-12-31 23:59:59 UTC (errors); when all is well again:",
        " tidegate arm shop",
        "\n  expired: nothing moves green from 25% since 2025-12-31 23:59:59 UTC; shift it on, or back\n",
        "\n  drift: the file says 0 % and 25 % is in force\n",
    ] {
        assert!(text.contains(expected), "{expected:?} in\n{text}");
    }
}

#[test]
fn an_ejected_endpoint_says_until_when_and_why() {
    let mut status = example(1);
    let blue = &mut status.services[0].variants.blue.endpoints;
    blue.push(blue[0].clone());
    blue[0].in_flight = 7;
    blue[1].url = "http://10.0.0.12:3000".to_owned();
    (blue[1].in_flight, blue[1].ejections) = (2, 3);
    let until = Timestamp::from_millis(1_767_225_599_000);
    blue[1].ejected = Some(Ejection { until, why: "5 failures in a row".to_owned() });
    let text = render(&status, 120, false);
    for expected in [
        "● 10.0.0.11:3000, 7 in flight ",
        "◌ 10.0.0.12:3000, 2 in flight",
        "\n  ejected: blue http://10.0.0.12:3000: 5 failures in a row; until 2025-12-31 23:59:59 UTC (3 times by now)\n",
    ] {
        assert!(text.contains(expected), "{expected:?} in\n{text}");
    }
    assert!(plain_lines(&status)[0].contains(", blue: 1 of 3 ejected"), "{:?}", plain_lines(&status));
}

#[test]
fn what_is_mirrored_is_told_in_a_sentence() {
    let mut status = example(1);
    status.services[0].mirror = Some(MirrorStatus {
        share: Weight::from_percent(10).unwrap(),
        compared: 1234,
        different: 5,
        status_differs: 5,
        only_candidate_failed: 4,
        dropped: [("in_flight".to_owned(), 7), ("cut".to_owned(), 1)].into(),
        candidate_p50_ms: Some(12.9),
        candidate_p99_ms: Some(120.0),
        stable_p50_ms: Some(12.1),
        stable_p99_ms: Some(110.0),
        ..MirrorStatus::default()
    });
    let expected = "\n  mirroring: 10 % of blue's visitors, to green; 1,234 compared, 5 different (5 by status, 4 failed by \
                    green alone), 8 dropped; green p50 12.9 ms p99 120 ms, blue p50 12.1 ms p99 110 ms\n";
    let text = render(&status, 250, false);
    assert!(text.contains(expected), "{text}");
    assert!(plain_lines(&status)[0].ends_with(", mirroring 10 %"));
}

#[test]
fn red_is_for_trouble_only() {
    let mut status = example(1);
    let red = "\x1b[31m";
    assert_eq!(render(&status, 120, true).matches(red).count(), 1, "2.4 % of failures");
    status.services[0].variants.green.failure_ratio = Some(0.009);
    let calm = render(&status, 120, true);
    assert!(!calm.contains(red));
    assert!(calm.contains("\x1b[1;34mblue\x1b[0m") && calm.contains("\x1b[1;32mgreen\x1b[0m"));
    assert!(!render(&status, 120, false).contains('\x1b'));
}

#[test]
fn more_than_five_services_get_a_line_each() {
    assert!(render(&example(5), 120, false).contains("p99"));
    let mut status = example(6);
    status.services.drain(2..5);
    status.services.extend((6..9).map(service));
    status.services[1].lock = Some(lock());
    status.services[1].drift = vec!["x".to_owned()];
    status.services[1].variants.green.endpoints[0].health = "unhealthy".to_owned();
    let expected = "
service    candidate    share  of requests  requests/s  failures      p95
shop       green 2.0.1    25 %       24.9 %         417     2.4 %  35.0 ms
service-1  green 2.0.1    25 %       24.9 %         417     2.4 %  35.0 ms  locked: kill  green: 1 of 1 unhealthy  drift
service-5  green 2.0.1    25 %       24.9 %         417     2.4 %  35.0 ms
service-6  green 2.0.1    25 %       24.9 %         417     2.4 %  35.0 ms
service-7  green 2.0.1    25 %       24.9 %         417     2.4 %  35.0 ms
service-8  green 2.0.1    25 %       24.9 %         417     2.4 %  35.0 ms
";
    let text = render(&status, 120, false);
    assert_eq!(text.split_once('\n').unwrap().1, expected);
}

#[test]
fn no_line_is_wider_than_the_terminal() {
    let mut many = example(9);
    many.services[0].name = "a".repeat(300);
    let mut few = example(2);
    few.services[0].lock = Some(lock());
    few.services[0].variants.blue.version = Some("2".repeat(300));
    for status in [many, few] {
        for width in [1, 20, 40, 80, 200] {
            for line in render(&status, width, false).lines() {
                assert!(line.chars().count() <= width, "{width}: {line}");
            }
        }
    }
}

#[test]
fn a_service_without_traffic_has_dashes_instead_of_figures() {
    let mut status = example(1);
    for place in Variant::ALL {
        let variant = &mut status.services[0].variants[place];
        let role = variant.role;
        *variant = VariantStatus {
            version: None,
            role,
            share: Weight::ZERO,
            share_of_requests: None,
            share_of_visitors: None,
            requests: 0,
            failures: 0,
            rate: 0.0,
            failure_ratio: None,
            client_error_ratio: None,
            p50_ms: None,
            p95_ms: None,
            p99_ms: None,
            in_flight: 0,
            spilled: 0,
            endpoints: Vec::new(),
        };
    }
    let text = render(&status, 120, false);
    for expected in
        ["  version      –           –\n", "  p99          –           –\n", "  requests/s   0           0\n"]
    {
        assert!(text.contains(expected), "{expected:?} in\n{text}");
    }
}

#[test]
fn a_plain_line_tells_a_service() {
    let mut status = example(1);
    let calm = "shop: green 25 % (24.9 % of requests), 417 requests/s, failures blue 0.30 % green 2.4 %, \
                p95 blue 40.0 ms green 35.0 ms";
    assert_eq!(plain_lines(&status), [calm]);
    status.services[0].lock = Some(lock());
    assert_eq!(plain_lines(&status), [format!("{calm}, locked: kill")]);
}
