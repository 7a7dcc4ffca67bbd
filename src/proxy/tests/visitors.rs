use std::time::Duration;

use super::{answer, gate};
use crate::clock::{self, Timestamp};
use crate::routing::UserKey;
use crate::telemetry::ServiceSlot;
use crate::traffic::{Bucket, By, OverrideCookie, Reason, Variant, VisitorCookie};

#[test]
fn a_visitor_keeps_his_variant_by_a_cookie_that_the_endpoint_never_sees() {
    let (blue, green) = (answer("blue"), answer("green"));
    let gate = gate(&blue, &green).weight("50%").start();
    let mut texts = Vec::new();
    for _ in 0..20 {
        let first = gate.get("/", "cookie: a=\"1\"; b=\u{e4}; tidegate=forged.1\r\n");
        let cookie = first.cookie("tidegate").expect("a cookie").to_owned();
        assert!(first.one("set-cookie").ends_with("; HttpOnly; SameSite=Lax; Path=/; Max-Age=15552000"));
        assert_eq!(first.one("cache-control"), "private");
        for _ in 0..2 {
            let again = gate.get("/", &format!("cookie: x=1; {cookie}; y=2\r\n"));
            assert_eq!(again.text(), first.text());
            assert!(!again.has("set-cookie") && !again.has("cache-control"));
        }
        texts.push(first.text().to_owned());
    }
    assert!(texts.contains(&"blue".into()) && texts.contains(&"green".into()));
    for seen in blue.seen().iter().chain(&green.seen()) {
        assert!(["a=\"1\"; b=\u{c3}\u{a4}", "x=1; y=2"].contains(&seen.one("cookie")), "{seen:?}");
    }
    let ignored = gate.tallies.process().cookies_ignored;
    assert_eq!(ignored, [20, 0, 0]);
    let visitors = gate.tallies.visitors(ServiceSlot(0), clock::wall());
    assert_eq!(visitors.blue + visitors.green, 20);
}

#[test]
fn the_first_cookie_that_is_genuine_counts_and_old_ones_are_renewed() {
    let blue = answer("blue");
    let gate = gate(&blue, &blue).weight("50%").start();
    let seal = |age: Duration| {
        let issued = Timestamp::from_millis(clock::wall().as_millis() - age.as_millis() as u64);
        VisitorCookie { id: crate::traffic::VisitorId(1), issued }.seal(&gate.keys, "tidegate")
    };
    let half = VisitorCookie::MAX_AGE / 2;
    let fresh = gate.get("/", &format!("cookie: tidegate=x; tidegate={}\r\n", seal(Duration::ZERO)));
    assert!(!fresh.has("set-cookie"));
    let old = gate.get("/", &format!("cookie: tidegate={}\r\n", seal(half + Duration::from_secs(9))));
    assert!(old.cookie("tidegate").unwrap().contains(".0000000000000001."));
    let expired = gate.get("/", &format!("cookie: tidegate={}\r\n", seal(half * 2 + Duration::from_secs(9))));
    assert!(!expired.cookie("tidegate").unwrap().contains(".0000000000000001."));
    assert_eq!(gate.tallies.process().cookies_ignored, [1, 0, 1]);
}

#[test]
fn no_cookie_is_set_while_none_can_decide() {
    let (blue, green) = (answer("blue"), answer("green"));
    for (weight, by) in [("0", By::Cookie), ("100%", By::Cookie), ("50%", By::Request)] {
        let gate = gate(&blue, &green).weight(weight).with(|gate| gate.split.by = by).start();
        let got = gate.get("/", "cookie: tidegate=garbage\r\n");
        assert!(!got.has("set-cookie"), "{weight}");
        assert_eq!(gate.tallies.process().cookies_ignored, [0; 3]);
    }
}

#[test]
fn behind_a_trusted_https_proxy_cookies_are_secure() {
    let blue = answer("blue");
    let gate = gate(&blue, &blue).weight("50%").trusting_us().start();
    let got = gate.get("/", "x-forwarded-proto: https\r\n");
    let cookie = got.cookie("__Host-tidegate").unwrap().to_owned();
    assert!(got.one("set-cookie").contains("; Secure; Path=/"));
    let again = gate.get("/", &format!("x-forwarded-proto: https\r\ncookie: {cookie}\r\n"));
    assert!(!again.has("set-cookie"));
    assert!(!blue.last().has("cookie"));
}

#[test]
fn users_go_where_their_key_says_wherever_it_stands() {
    let (blue, green) = (answer("blue"), answer("green"));
    let keys: Vec<UserKey> = ["header:x-user-id", "cookie:uid", "query:user", "client_addr"]
        .iter()
        .map(|key| key.parse().unwrap())
        .collect();
    let gate = gate(&blue, &green)
        .weight("30%")
        .trusting_us()
        .with(|gate| {
            gate.split.by = By::User;
            gate.user_keys = keys;
        })
        .start();
    let expected = |key: &str| {
        if Bucket::of(key.as_bytes(), b"salt").index() < 30_000 { "green" } else { "blue" }
    };
    for user in (0..40).map(|user| format!("user-{user}")) {
        assert_eq!(gate.get("/", &format!("x-user-id: {user}\r\n")).text(), expected(&user));
        assert_eq!(
            gate.get("/", &format!("x-user-id:\r\ncookie: a=1; uid={user}\r\n")).text(),
            expected(&user)
        );
        assert_eq!(gate.get(&format!("/?a=b&user={user}&c"), "").text(), expected(&user));
    }
    for net in 0..40 {
        let got = gate.get("/", &format!("x-forwarded-for: 203.0.{net}.77\r\n"));
        assert_eq!(got.text(), expected(&format!("203.0.{net}.0/24")));
        assert!(!got.has("set-cookie"));
    }
    let visitors = gate.tallies.visitors(ServiceSlot(0), clock::wall());
    assert!((75..=85).contains(&(visitors.blue + visitors.green)), "{visitors:?}");
    gate.until_quiet();
    assert_eq!(gate.counts(Variant::Blue).assignments[Reason::Cookie as usize], 0);
}

#[test]
fn a_tester_goes_where_he_asks_if_he_knows_the_secret() {
    let (blue, green) = (answer("blue"), answer("green"));
    let gate = gate(&blue, &green).tester("hunter2").start();
    #[track_caller]
    fn check(gate: &super::Gate, lines: &str, expected: &str) {
        assert_eq!(gate.get("/", lines).text(), expected, "{lines}");
    }
    check(&gate, "", "blue");
    check(&gate, "x-tidegate-override: green:hunter2\r\n", "green");
    assert_eq!(gate.tallies.process().overrides_refused, 0);
    for wrong in ["green:hunter3", "green:", "green", "red:hunter2", "hunter2", "green:hunter2x"] {
        check(&gate, &format!("x-tidegate-override: {wrong}\r\n"), "blue");
    }
    let twice = "x-tidegate-override: green:hunter2\r\n".repeat(2);
    check(&gate, &twice, "blue");
    assert_eq!(gate.tallies.process().overrides_refused, 7);
    assert!(blue.seen().iter().chain(&green.seen()).all(|seen| !seen.has("x-tidegate-override")));

    let wish = |expires| OverrideCookie { variant: Variant::Green, expires: Timestamp::from_millis(expires) };
    let later = wish(clock::wall().as_millis() + 60_000).seal(&gate.keys, "tidegate-o-shop");
    check(&gate, &format!("cookie: tidegate-o-shop={later}\r\n"), "green");
    check(&gate, &format!("cookie: tidegate-o-cart={later}\r\n"), "blue");
    let past = wish(1_000).seal(&gate.keys, "tidegate-o-shop");
    check(&gate, &format!("cookie: tidegate-o-shop={past}\r\n"), "blue");
    assert_eq!(gate.tallies.process().cookies_ignored, [0, 0, 1]);
    assert!(blue.seen().iter().chain(&green.seen()).all(|seen| !seen.has("cookie")));

    gate.kill();
    check(&gate, "x-tidegate-override: green:hunter2\r\n", "blue");
}

#[test]
fn the_ratchet_holds_a_visitor_on_the_candidate_until_the_next_epoch() {
    let (blue, green) = (answer("blue"), answer("green"));
    let gate = gate(&blue, &green).weight("99.999%").with(|gate| gate.split.ratchet = true).start();
    let first = gate.get("/", "");
    assert_eq!(first.text(), "green");
    let ratchet = first.cookie("tidegate-r-shop").expect("a ratchet").to_owned();
    let visitor = first.cookie("tidegate").unwrap().to_owned();
    assert!(!gate.get("/", &format!("cookie: {visitor}; {ratchet}\r\n")).has("set-cookie"));

    gate.publish(|service| service.split.weight = "0.001%".parse().unwrap());
    assert_eq!(gate.get("/", &format!("cookie: {visitor}\r\n")).text(), "blue");
    assert_eq!(gate.get("/", &format!("cookie: {visitor}; {ratchet}\r\n")).text(), "green");
    gate.publish(|service| {
        service.split.weight = "0.001%".parse().unwrap();
        service.split.epoch += 1;
    });
    assert_eq!(gate.get("/", &format!("cookie: {visitor}; {ratchet}\r\n")).text(), "blue");
}

#[test]
fn the_endpoint_learns_the_visitor_if_it_is_to() {
    let blue = answer("blue");
    let gate =
        gate(&blue, &blue).weight("50%").with(|gate| gate.settings.tell.endpoint_visitor = true).start();
    let got = gate.get("/", "");
    let id = blue.last().one("x-tidegate-visitor").to_owned();
    assert!(got.cookie("tidegate").unwrap().contains(&format!(".{id}.")));
}

#[test]
fn a_share_by_request_is_kept() {
    let (blue, green) = (answer("blue"), answer("green"));
    let gate = gate(&blue, &green).weight("25%").with(|gate| gate.split.by = By::Request).start();
    let mut session = super::Session::open(gate.address());
    for _ in 0..1000 {
        session.ask(super::request("GET", "/", ""));
    }
    let green = green.seen().len();
    // 250 expected, standard deviation 13.7: five of them on either side.
    assert!((181..=319).contains(&green), "{green}");
}
