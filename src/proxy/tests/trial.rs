//! What gates get to see of real requests.

use std::io::{Read, Write};
use std::time::Duration;

use super::gate::Gate;
use super::{Origin, Session, answer, gate, origin, request};
use crate::clock;
use crate::routing::SuccessRule;
use crate::telemetry::{Gauge, MethodLabel, Outcome, ServiceSlot, TrialLook, Trials, Units};
use crate::traffic::Variant::{Blue, Green};
use crate::traffic::{By, PerVariant, Variant};
use crate::upstream::Health::Unhealthy;

const SHOP: ServiceSlot = ServiceSlot(0);

fn failing() -> Origin {
    origin(|_, stream| write!(stream, "HTTP/1.1 500 Oops\r\ncontent-length: 0\r\n\r\n").is_ok())
}

/// As the gate's service says: its first table is era 1.
fn trial(gate: &Gate) -> Trials {
    let mut trials = Trials::new(gate.tallies.clone());
    arm(&mut trials, 1);
    trials
}

fn arm(trials: &mut Trials, era: u64) {
    trials.arm(SHOP, Gauge { era, candidate: Green, rollout: 1, latency_ratio: 1.2 });
}

fn look(gate: &Gate, trials: &mut Trials) -> TrialLook {
    gate.until_quiet();
    trials.look(SHOP, clock::now()).unwrap()
}

fn units(units: u64, events: u64) -> Units {
    Units { units, events }
}

fn both(list: PerVariant<Units>) -> Units {
    units(list.blue.units + list.green.units, list.blue.events + list.green.events)
}

#[test]
fn visitors_and_draws_are_judged_each_in_its_stratum() {
    let (blue, green) = (answer("blue"), failing());
    for (by, stratum) in [(By::User, 0), (By::Cookie, 1), (By::Request, 2)] {
        let gate = gate(&blue, &green)
            .weight("50%")
            .with(|gate| {
                gate.split.by = by;
                gate.user_keys = vec!["header:x-user-id".parse().unwrap()];
            })
            .start();
        let mut trials = trial(&gate);
        let (mut failed, mut of_green) = (0, 0);
        for user in 0..30 {
            let first = gate.get("/", &format!("x-user-id: user-{user}\r\n"));
            let cookie = first.cookie("tidegate").map_or("a=b", |cookie| cookie).to_owned();
            let again = gate.get("/", &format!("x-user-id: user-{user}\r\ncookie: {cookie}\r\n"));
            failed += [&first, &again].iter().filter(|answer| answer.status == 500).count() as u64;
            of_green += u64::from(first.status == 500);
        }
        let look = look(&gate, &mut trials);
        let expected = if by == By::Request { units(60, failed) } else { units(30, of_green) };
        let seen = both(look.strata[stratum].errors);
        assert!(seen.units.abs_diff(expected.units) <= 1, "{seen:?}, not {expected:?}");
        assert!(seen.events.abs_diff(expected.events) <= 1, "{seen:?}, not {expected:?}");
        assert_eq!(look.strata[stratum].errors.blue.events, 0);
        assert_eq!(look.failed_visitors, seen.events);
        assert_eq!((look.requests.blue + look.requests.green, look.failures.green), (60, failed));
        for other in (0..3).filter(|other| *other != stratum) {
            assert_eq!(both(look.strata[other].errors), units(0, 0));
        }
    }
}

#[test]
fn what_chance_had_no_part_in_is_not_judged() {
    let (blue, green) = (answer("blue"), failing());
    for weight in ["0", "100%"] {
        let gate = gate(&blue, &green).weight(weight).tester("secret").start();
        let mut trials = trial(&gate);
        gate.get("/", "");
        gate.get("/", "x-tidegate-override: green:secret\r\n");
        let look = look(&gate, &mut trials);
        assert_eq!(look.strata, TrialLook::default().strata);
        assert_eq!(look.requests.blue + look.requests.green, 2);
    }
    let gate = gate(&blue, &green).weight("99.9%").with(|gate| gate.split.ratchet = true).start();
    let mut trials = trial(&gate);
    let first = gate.get("/", "");
    let cookies: Vec<_> = first.all("set-cookie").iter().filter_map(|set| set.split(';').next()).collect();
    assert_eq!(cookies.len(), 2, "{cookies:?}");
    gate.get("/", &format!("cookie: {}\r\n", cookies.join("; ")));
    assert_eq!(both(look(&gate, &mut trials).strata[1].errors), units(1, 1));
    assert_eq!(gate.counts(Green).totals.requests, 2);
}

#[test]
fn a_late_answer_to_what_another_weight_assigned_is_not_judged() {
    let (told, tell) = std::sync::mpsc::channel::<()>();
    let tell = std::sync::Mutex::new(tell);
    let green = origin(move |_, stream| {
        tell.lock().unwrap().recv().unwrap();
        write!(stream, "HTTP/1.1 500 Oops\r\ncontent-length: 0\r\n\r\n").is_ok()
    });
    let gate = gate(&green, &green).weight("50%").with(|gate| gate.split.by = By::Request).start();
    let mut trials = trial(&gate);
    let mut session = Session::open(gate.address());
    session.send(request("GET", "/", ""));
    gate.until("the request is there", |_| !green.seen().is_empty());
    gate.publish(|service| {
        service.split.weight = "60%".parse().unwrap();
        service.era = 2;
    });
    arm(&mut trials, 2);
    told.send(()).unwrap();
    assert_eq!(session.read(false).unwrap().status, 500);
    let look = look(&gate, &mut trials);
    assert_eq!(look.strata, TrialLook::default().strata);
    assert_eq!(look.failures.blue + look.failures.green, 1);
}

#[test]
fn a_hung_endpoint_is_a_failure_at_the_stall_limit_and_only_then() {
    let green = origin(|_, stream| {
        let _ = stream.read(&mut [0]);
        false
    });
    let blue = answer("blue");
    let gate = gate(&blue, &green).weight("99.9%").with(|gate| gate.split.by = By::Request).start();
    let mut trials = trial(&gate);
    quick(&gate);
    look(&gate, &mut trials);
    let mut waiting: Vec<_> = (0..3).map(|_| Session::open(gate.address())).collect();
    waiting.iter_mut().for_each(|session| session.send(request("GET", "/orders/4711", "")));
    let mut errors = units(0, 0);
    for _ in 0..3_000 {
        let look = trials.look(SHOP, clock::now()).unwrap();
        let tick = look.strata[2].errors.green;
        errors = units(errors.units + tick.units, errors.events + tick.events);
        if errors.events == 3 {
            assert_eq!(look.strata[2].slow[3].green.events, tick.events);
            break;
        }
        #[allow(clippy::disallowed_methods, reason = "the limit is real time")]
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(errors, units(3, 3));
    assert_eq!(gate.counts(Green).totals.requests, 0, "the tally waits for the outcome");
    let remembered = trials.remembered(SHOP).green;
    assert_eq!((remembered.failures[0].error, remembered.failures[0].status), (Some("stalled"), 0));
    drop(waiting);
    assert_eq!(both(look(&gate, &mut trials).strata[2].errors), units(0, 0));
    assert_eq!(gate.counts(Green).totals.requests, 3);
}

/// Stable has answered: 100 requests, 1 ms each, so that a stall is 5 s. Told by a worker that the proxy does
/// not have.
fn quick(gate: &Gate) {
    let tally = gate.tallies.worker(1).service(SHOP);
    let ttfb = Some(Duration::from_millis(1));
    for _ in 0..100 {
        tally.outcome(Outcome { variant: Blue, code: 200, method: MethodLabel::Get, ttfb, failure: None });
    }
}

#[test]
fn five_failures_in_a_row_ring_also_when_stable_hides_them() {
    let (blue, green) = (answer("blue"), failing());
    for is_dead in [false, true] {
        let mut builder = gate(&blue, &green).weight("99.999%").with(|gate| gate.split.by = By::Request);
        if is_dead {
            builder = builder.endpoints(Green, &[(green.address, Unhealthy)]);
        }
        let gate = builder.start();
        let _trials = trial(&gate);
        let rings = || std::pin::pin!(gate.tallies.alarm().notified()).as_mut().enable();
        for _ in 0..4 {
            assert_eq!(gate.get("/", "").status, if is_dead { 200 } else { 500 });
        }
        gate.until_quiet();
        assert!(!rings());
        gate.get("/", "");
        gate.until_quiet();
        assert!(rings());
    }
}

#[test]
fn failures_are_remembered_without_anybodys_id() {
    let (blue, green) = (answer("blue"), failing());
    let gate =
        gate(&blue, &green).weight("99.999%").trusting_us().with(|gate| gate.split.by = By::Request).start();
    let trials = trial(&gate);
    gate.get("/%6frders/4711/../4712/items?card=4242", "x-request-id: r-1\r\n");
    gate.until_quiet();
    let remembered = trials.remembered(SHOP);
    let [failure] = &remembered.green.failures[..] else { panic!("{remembered:?}") };
    assert_eq!((failure.method.as_str(), failure.path.as_str()), ("GET", "/orders/*/items"));
    assert_eq!((failure.status, failure.error, failure.visitor), (500, None, None));
    assert_eq!(failure.request_id, "r-1");
    assert_eq!(failure.endpoint.as_deref(), Some(&*format!("http://{}", green.address)));
    assert_eq!(remembered.green.sample, [(("GET".into(), "/orders/*/items".into()), 1)]);
    assert!(remembered.blue.failures.is_empty());
}

#[test]
fn a_success_is_what_the_rule_says() {
    let blue = origin(|request, stream| {
        let code = if request.line.contains("fail") { 404 } else { 201 };
        write!(stream, "HTTP/1.1 {code} X\r\ncontent-length: 0\r\n\r\n").is_ok()
    });
    let rule =
        SuccessRule { method: Some(http::Method::POST), path: "/orders".parse().unwrap(), status: 200..=299 };
    let gate = gate(&blue, &blue)
        .weight("50%")
        .with(|gate| {
            gate.split.by = By::Request;
            gate.success = Some(rule);
        })
        .start();
    let mut trials = trial(&gate);
    let mut session = Session::open(gate.address());
    for (method, path) in [
        ("POST", "/orders"),
        ("POST", "/orders/1?x"),
        ("POST", "/orders/fail"),
        ("GET", "/orders"),
        ("POST", "/x"),
    ] {
        session.ask(request(method, path, "content-length: 0\r\n"));
    }
    let draws = look(&gate, &mut trials).strata[2];
    assert_eq!(both(draws.business), units(5, 2));
    assert_eq!(both(draws.client_errors), units(5, 1));
    assert_eq!(both(draws.errors), units(5, 0));
}

#[test]
fn a_truncated_answer_is_a_failure_once() {
    let green = origin(|_, stream| {
        let _ = write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf");
        false
    });
    let gate = gate(&green, &green).weight("50%").with(|gate| gate.split.by = By::Request).start();
    let mut trials = trial(&gate);
    assert!(!gate.get("/", "").is_complete);
    let look = look(&gate, &mut trials);
    assert_eq!(both(look.strata[2].errors), units(1, 1));
    let all: Vec<_> =
        Variant::ALL.iter().flat_map(|variant| trials.remembered(SHOP)[*variant].failures.clone()).collect();
    assert_eq!((all.len(), all[0].error, all[0].status), (1, Some("truncated"), 200));
}
