//! Stories over real sockets with tiny receivers.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::ArcSwap;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::{broadcast, mpsc, oneshot};

use super::call::{CallError, Caller};
use super::desk::Desk;
use super::post::Post;
use super::signature::sign;
use super::*;
use crate::clock::Timestamp;
use crate::outbound::causes;
use crate::rollout::{
    Circumstances, Compare, Confirms, Gates, Hold, MetricGate, MetricSource, OnFail, OnInconclusive, PerRole,
    Phase, Plan, Rollout, Stage, Tick, Verdict, Waiting, Windows,
};
use crate::traffic::{PerVariant, Variant, Weight};

/// What a receiver got.
#[derive(Debug)]
struct Got {
    line: String,
    headers: http::HeaderMap,
    body: String,
}

impl Got {
    fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

/// Answers with `answers` in turn, then with 200 and nothing; shows what it got.
async fn receiver(answers: &[(u16, &str)]) -> (String, mpsc::UnboundedReceiver<Got>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let answers: VecDeque<(u16, String)> =
        answers.iter().map(|(status, body)| (*status, (*body).to_owned())).collect();
    let answers = Arc::new(Mutex::new(answers));
    let (seen, gets) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let (answers, seen) = (answers.clone(), seen.clone());
            let service = service_fn(move |request: Request<Incoming>| {
                let (answers, seen) = (answers.clone(), seen.clone());
                async move {
                    let line = format!("{} {}", request.method(), request.uri());
                    let headers = request.headers().clone();
                    let body = request.into_body().collect().await.unwrap().to_bytes();
                    let body = String::from_utf8(body.to_vec()).unwrap();
                    let _ = seen.send(Got { line, headers, body });
                    let (status, body) = answers.lock().unwrap().pop_front().unwrap_or((200, String::new()));
                    let answer = Response::builder().status(status).header("location", "/elsewhere");
                    Ok::<_, std::convert::Infallible>(answer.body(Full::new(Bytes::from(body))).unwrap())
                }
            });
            let serving =
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            tokio::spawn(serving);
        }
    });
    (url, gets)
}

fn webhook(url: &str) -> Call {
    Call::Webhook { url: url.into(), secret: None, timeout: Duration::from_secs(30) }
}

fn command(argv: &[&str], timeout: Duration) -> Call {
    Call::Command { argv: argv.iter().map(|part| (*part).into()).collect(), timeout }
}

fn channel(call: Call, style: Style) -> Channel {
    let on = ["start", "stage", "suspect", "pause", "rollback", "promotion", "keep-over"];
    Channel { call, style, on: on.map(Into::into).to_vec(), every: None, escalate: None }
}

fn view(gates: Gates, confirm: Confirms, phase: Phase, waiting: Option<Waiting>) -> View {
    let plan = Plan {
        name: "shop-2".into(),
        delay: Duration::ZERO,
        stages: vec![Stage {
            weight: Weight::from_percent(5).unwrap(),
            mirror: None,
            hold: Hold::Endless,
            min_requests: 0,
            max_hold: None,
            approval: false,
            gates: None,
            tolerate: None,
        }],
        gates,
        false_rollback: 0.01,
        warmup: Duration::ZERO,
        on_inconclusive: OnInconclusive::Hold,
        keep: Duration::ZERO,
        windows: Windows::default(),
        slo: None,
        confirm,
        notify: vec![],
    };
    let around = Circumstances {
        at: Timestamp::from_millis(0),
        actor: "uid 1".into(),
        frozen: false,
        locked: false,
        candidate_healthy: true,
    };
    let (rollout, _) = Rollout::start(7, Arc::new(plan), &around).unwrap();
    View {
        service: "shop".into(),
        candidate: Variant::Green,
        weight: Weight::from_percent(5).unwrap(),
        versions: PerVariant { blue: Some("1.0".into()), green: Some("2.0".into()) },
        rollout: Arc::new(Rollout { phase, ..rollout }),
        tick: Some(Tick {
            verdict: Verdict::Pass,
            waiting,
            readings: vec![],
            act: None,
            left_ms: None,
            news: None,
        }),
        held_ms: 420_000,
        freeze: None,
    }
}

/// What hooks said to the control plane.
#[derive(Debug, PartialEq)]
enum Said {
    Value(String, String, PerRole<Option<f64>>),
    Answer(String, String, bool),
    Entry(String, String),
}

fn desk(view: Option<View>) -> (Desk, mpsc::UnboundedReceiver<Said>) {
    let (said, heard) = mpsc::unbounded_channel();
    let (values, answers) = (said.clone(), said.clone());
    let desk = Desk::new(
        Arc::new(move |_| view.clone()),
        Arc::new(|launch| if launch == "quiet" { vec!["works".into()] } else { Vec::new() }),
        Arc::new(move |service, gate, value| {
            let _ = values.send(Said::Value(service.into(), gate.into(), value));
        }),
        Arc::new(move |service, hook, yes| {
            let _ = answers.send(Said::Answer(service.into(), hook.to_string(), yes));
        }),
        Arc::new(move |entry| {
            let _ = said.send(Said::Entry(entry.what, entry.reason.unwrap_or_default()));
        }),
    );
    (desk, heard)
}

fn entry(what: &str, reason: &str) -> AuditEntry {
    AuditEntry {
        time: Timestamp::from_millis(1_767_225_599_123),
        what: what.into(),
        generation: 41,
        actor: "tidegate".into(),
        service: Some("shop".into()),
        from: Some("5%".into()),
        to: Some("0%".into()),
        reason: Some(reason.into()),
        ..AuditEntry::default()
    }
}

fn no_launches() -> launches::Book {
    launches::Book { launches: Arc::new(Vec::new), tell: Arc::new(|_, _| Box::pin(async { true })) }
}

/// The loop, with events that are given to it and one rollout.
struct Running {
    events: broadcast::Sender<AuditEntry>,
    heard: mpsc::UnboundedReceiver<Said>,
    _stop: oneshot::Sender<()>,
}

fn start(settings: HookSettings, view: Option<View>) -> Running {
    let (events, following) = broadcast::channel(16);
    let (stop, stopped) = oneshot::channel::<()>();
    let (desk, heard) = desk(view.clone());
    let settings = Arc::new(ArcSwap::from_pointee(settings));
    let post = Post::new(settings.clone(), Caller::new(), desk.clone(), "web-1".into(), 7);
    let views = move || view.clone().into_iter().collect();
    tokio::spawn(work(following, post, (desk, no_launches()), settings, views, async {
        let _ = stopped.await;
    }));
    Running { events, heard, _stop: stop }
}

fn channels(channels: Vec<(&str, Channel)>) -> HookSettings {
    let channels = channels.into_iter().map(|(name, channel)| (name.into(), channel)).collect();
    HookSettings { channels, ..HookSettings::default() }
}

#[tokio::test]
async fn a_signed_webhook_says_what_happened_in_order() {
    let (url, mut gets) = receiver(&[]).await;
    let secret = Token::new("it is a secret");
    let call = Call::Webhook {
        url: format!("{url}/hook").into(),
        secret: Some(secret.clone()),
        timeout: Duration::from_secs(30),
    };
    let running = start(
        channels(vec![("ops", channel(call, Style::Json))]),
        Some(view(Gates::none(), Confirms::default(), Phase::Holding, None)),
    );
    running.events.send(entry("rollout-stage", "5 %")).unwrap();
    running.events.send(entry("deploy", "not told")).unwrap();
    running.events.send(entry("rollout-rollback", "green fails 2.4 %")).unwrap();

    let first = gets.recv().await.unwrap();
    assert_eq!(
        (first.line.as_str(), &first.headers["content-type"]),
        ("POST /hook", &"application/json".parse().unwrap())
    );
    let at: u64 = first.headers[TIMESTAMP].to_str().unwrap().parse().unwrap();
    let expected = sign(&secret, Timestamp::from_millis(at * 1000), first.body.as_bytes());
    assert_eq!(first.headers[SIGNATURE].to_str().unwrap(), expected);
    let expected = serde_json::json!({
        "event": "rollout-stage", "service": "shop", "sentence": "5 %", "from": "5%", "to": "0%",
        "actor": "tidegate", "time": "2025-12-31T23:59:59.123Z", "generation": 41, "host": "web-1",
        "rollout": "shop-2", "stage": 1, "stages": 1, "candidate": "green", "version": "2.0", "weight": "5%",
    });
    assert_eq!(first.json(), expected);
    assert_eq!(gets.recv().await.unwrap().json()["sentence"], "green fails 2.4 %");
}

#[tokio::test]
async fn a_channel_that_hangs_delays_no_other() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let hanging = webhook(&format!("http://{}", silent.local_addr().unwrap()));
    let (url, mut gets) = receiver(&[]).await;
    let settings = channels(vec![
        ("a-hangs", channel(hanging, Style::Json)),
        ("works", channel(webhook(&url), Style::Slack)),
    ]);
    let running = start(settings, None);
    running.events.send(entry("rollout-pause", "<b> & \"c\" > d")).unwrap();
    running.events.send(entry("rollout-start", "again")).unwrap();
    let text = gets.recv().await.unwrap().json()["text"].as_str().unwrap().to_owned();
    assert_eq!(text, "*shop*: &lt;b&gt; &amp; \"c\" &gt; d (5% → 0%) [web-1, generation 41]");
    assert!(gets.recv().await.unwrap().body.contains("again"));
}

#[tokio::test]
async fn a_launch_is_told_to_those_it_names_and_who_want_to_know() {
    let (url, mut gets) = receiver(&[]).await;
    let (other, mut others) = receiver(&[]).await;
    let of = |url: &str, on: &[&str]| Channel {
        on: on.iter().map(|on| (*on).into()).collect(),
        ..channel(webhook(url), Style::Json)
    };
    let settings = channels(vec![
        ("works", of(&url, &["launch", "launch-phase"])),
        ("others", of(&other, &["launch-end"])),
    ]);
    let running = start(settings, None);
    let of = |what: &str, launch: &str| AuditEntry { launch: Some(launch.into()), ..entry(what, what) };
    for (what, launch) in [
        ("launch-end", "quiet"),
        ("launch-vote", "shop-2"),
        ("launch-phase", "shop-2"),
        ("launch-unattended", "shop-2"),
        ("launch-end", "shop-2"),
    ] {
        running.events.send(of(what, launch)).unwrap();
    }
    let mut told = Vec::new();
    for _ in 0..4 {
        let got = gets.recv().await.unwrap().json();
        told.push((got["event"].as_str().unwrap().to_owned(), got["launch"].as_str().unwrap().to_owned()));
    }
    let expected = [("end", "quiet"), ("phase", "shop-2"), ("unattended", "shop-2"), ("end", "shop-2")];
    let expected = expected.map(|(what, launch)| (format!("launch-{what}"), launch.to_owned()));
    assert_eq!(told, expected);
    assert_eq!(
        others.recv().await.unwrap().json()["launch"],
        "shop-2",
        "the quiet one named another channel"
    );
}

#[tokio::test]
async fn flags_are_switched_off_by_the_hook_and_that_is_noted() {
    use crate::launch::{Entry, FlagsOff, Launch, Ledger, Record, Stop, Told};

    let (url, mut gets) = receiver(&[]).await;
    let note = |seq, entry| Record {
        seq,
        at: Timestamp::from_millis(seq),
        actor: "tidegate".into(),
        claimed: None,
        entry,
        figures: None,
    };
    let flags = serde_json::json!({"names": ["new_checkout"], "hook": "flags"});
    let launch: Launch = serde_json::from_value(serde_json::json!({
        "name": "shop-2", "service": "shop", "flags": flags, "phases": [],
    }))
    .unwrap();
    assert_eq!(launch.flags, Some(FlagsOff { names: vec!["new_checkout".into()], hook: "flags".into() }));
    let started =
        Entry::Started { candidate: Variant::Green, holder: "here".into(), unmet: Vec::new(), reason: None };
    let stopped = Entry::Stopped { why: Stop::Breaker { sentence: "green fails".into() } };
    let ledger = Ledger::begin(&note(1, Entry::Planned { launch: Arc::new(launch) })).unwrap();
    let ledger = ledger.with(&note(2, started)).unwrap().with(&note(3, stopped)).unwrap();
    let (said, mut told) = mpsc::unbounded_channel();
    let book = launches::Book {
        launches: Arc::new(move || vec![Arc::new(ledger.clone())]),
        tell: Arc::new(move |launch, about| {
            let _ = said.send((launch, about));
            Box::pin(async { true })
        }),
    };
    let settings = HookSettings {
        hooks: BTreeMap::from([("flags".into(), webhook(&format!("{url}/off")))]),
        ..HookSettings::default()
    };
    let (desk, _heard) = desk(None);
    let mut errands = launches::Errands::default();
    errands.run(clock::now(), clock::wall(), &settings, &book, &Caller::new(), &desk);
    let got = gets.recv().await.unwrap();
    let expected = serde_json::json!({
        "launch": "shop-2", "service": "shop", "flags": ["new_checkout"], "reason": "green fails",
    });
    assert_eq!((got.line.as_str(), got.json()), ("POST /off", expected));
    assert_eq!(told.recv().await.unwrap(), ("shop-2".into(), Told::FlagsOff { done: true }));
}

#[tokio::test]
async fn whoever_refuses_for_good_is_given_up_and_that_is_said() {
    let (url, mut gets) = receiver(&[(404, ""), (302, "")]).await;
    let mut running = start(channels(vec![("ops", channel(webhook(&url), Style::Json))]), None);
    running.events.send(entry("kill", "one")).unwrap();
    running.events.send(entry("signal", "two")).unwrap();
    running.events.send(entry("freeze", "three")).unwrap();
    let sentences = ["killed: everybody is on stable; one", "two", "three"];
    for sentence in sentences {
        assert_eq!(gets.recv().await.unwrap().json()["sentence"], sentence);
    }
    let Said::Entry(what, reason) = running.heard.recv().await.unwrap() else { panic!() };
    assert_eq!(what, "notify");
    assert!(reason.starts_with("the channel \"ops\" was not told of kill: http://127.0.0.1:"), "{reason}");
    assert!(reason.ends_with("answered 404 Not Found"), "{reason}");
}

#[tokio::test]
async fn a_program_reads_the_body_and_nothing_of_our_environment() {
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("read").display().to_string();
    let script = "cat > \"$1\"; env | sed 's/=.*//' | sort | tr '\\n' ' ' >> \"$1\"";
    let call = command(&["/bin/sh", "-c", script, "sh", &to], Duration::from_secs(30));
    Caller::new().call(&call, "{\"a\":1}".into()).await.unwrap();
    let read = std::fs::read_to_string(&to).unwrap();
    let names = read.strip_prefix("{\"a\":1}").unwrap();
    assert!(
        names.split_whitespace().all(|name| ["OLDPWD", "PATH", "PWD", "SHLVL", "_"].contains(&name)),
        "{names}"
    );
}

#[tokio::test]
async fn a_program_that_fails_says_why_and_one_that_is_missing_too() {
    let caller = Caller::new();
    let failing = command(&["/bin/sh", "-c", "echo bad news >&2; exit 3"], Duration::from_secs(30));
    let error = caller.call(&failing, Bytes::new()).await.unwrap_err();
    assert_eq!(error.to_string(), "/bin/sh ended with exit status: 3: bad news");
    assert!(error.is_answer() && !error.is_final());
    let missing = command(&["/nowhere/at-all"], Duration::from_secs(30));
    let error = caller.call(&missing, Bytes::new()).await.unwrap_err();
    assert!(!error.is_answer(), "{error}");
    assert!(causes(&error).starts_with("run /nowhere/at-all: No such file"), "{error}");
}

#[tokio::test]
async fn a_program_that_hangs_is_killed_with_all_it_started() {
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("pids").display().to_string();
    let script = "sleep 1000 & echo $$ $! > \"$1\"; wait";
    let call = command(&["/bin/sh", "-c", script, "sh", &to], Duration::from_secs(2));
    let error = Caller::new().call(&call, Bytes::new()).await.unwrap_err();
    assert!(matches!(error, CallError::Timeout { .. }), "{error}");
    let pids = std::fs::read_to_string(&to).unwrap();
    let pids: Vec<&str> = pids.split_whitespace().collect();
    assert_eq!(pids.len(), 2);
    let state = |pid: &str| std::fs::read_to_string(format!("/proc/{pid}/stat")).ok();
    assert_eq!(state(pids[0]), None, "it is gone, and no zombie");
    // Its child is init's now, which takes it out when it likes; it runs no more.
    let ended = async {
        while state(pids[1]).is_some_and(|stat| !stat.contains(") Z ")) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), ended).await.unwrap();
}

#[tokio::test]
async fn a_hook_is_asked_as_flagger_asks_until_it_says_yes() {
    let (url, mut gets) = receiver(&[(200, "")]).await;
    let (no, _) = receiver(&[(403, "")]).await;
    let hooks = BTreeMap::from([("yes".into(), webhook(&url)), ("no".into(), webhook(&no))]);
    let waiting = Waiting::Confirm { hooks: vec!["yes".into(), "no".into()] };
    let confirm = Confirms { traffic_increase: vec!["yes".into(), "no".into()], ..Confirms::default() };
    let view = view(Gates::none(), confirm, Phase::Holding, Some(waiting));
    let mut running = start(HookSettings { hooks, ..HookSettings::default() }, Some(view));
    let mut answers = [running.heard.recv().await.unwrap(), running.heard.recv().await.unwrap()];
    answers.sort_by_key(|said| matches!(said, Said::Answer(_, hook, _) if hook == "yes"));
    let answer = |hook: &str, yes| Said::Answer("shop".into(), hook.into(), yes);
    assert_eq!(answers, [answer("no", false), answer("yes", true)]);
    let body = gets.recv().await.unwrap().json();
    assert_eq!((&body["name"], &body["namespace"]), (&"shop".into(), &"tidegate".into()));
    assert_eq!(
        (&body["phase"], &body["metadata"]["type"]),
        (&"Progressing".into(), &"confirm-traffic-increase".into())
    );
    assert!(body["metadata"].as_object().unwrap().values().all(serde_json::Value::is_string), "{body}");
}

#[tokio::test]
async fn a_hook_that_cannot_be_reached_has_said_nothing() {
    let refused = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/secret-path", refused.local_addr().unwrap());
    drop(refused);
    let hooks = BTreeMap::from([("gone".into(), webhook(&url))]);
    let confirm = Confirms { rollback: vec!["gone".into()], ..Confirms::default() };
    let view = view(Gates::none(), confirm, Phase::Holding, None);
    let mut running = start(HookSettings { hooks, ..HookSettings::default() }, Some(view));
    let Said::Entry(what, reason) = running.heard.recv().await.unwrap() else { panic!() };
    assert_eq!(what, "hook");
    assert!(reason.starts_with("the hook \"gone\" has not answered: http://127.0.0.1:"), "{reason}");
    assert!(!reason.contains("secret-path"), "{reason}");
}

#[tokio::test]
async fn a_query_is_asked_for_each_role_and_pushed() {
    let sample = |value: &str| {
        format!(
            r#"{{"status":"success","data":{{"resultType":"vector","result":[{{"metric":{{}},"value":[1.5,"{value}"]}}]}}}}"#
        )
    };
    let (candidate, stable) = (sample("0.25"), sample("NaN"));
    let (url, mut gets) = receiver(&[(200, &candidate), (200, &stable)]).await;
    let source =
        Source { url: url.as_str().into(), token: Some(Token::new("t")), timeout: Duration::from_secs(30) };
    let gate = MetricGate {
        name: "revenue".into(),
        source: MetricSource::Query {
            source: "prometheus".into(),
            query: r#"sum(x{service="{{service}}",variant="{{ variant }}"})"#.into(),
            interval: Duration::from_secs(3600),
        },
        pass_if: Compare::AtLeastStable(0.95),
        on_fail: OnFail::Pause,
        misses: 3,
    };
    let gates = Gates { metrics: vec![gate], ..Gates::none() };
    let sources = BTreeMap::from([("prometheus".into(), source)]);
    let settings = HookSettings { sources, ..HookSettings::default() };
    let mut running = start(settings, Some(view(gates, Confirms::default(), Phase::Holding, None)));

    let asked = gets.recv().await.unwrap();
    assert_eq!(
        asked.line,
        "GET /api/v1/query?query=sum%28x%7Bservice%3D%22shop%22%2Cvariant%3D%22green%22%7D%29"
    );
    assert_eq!(asked.headers["authorization"], "Bearer t");
    assert!(gets.recv().await.unwrap().line.contains("%22blue%22"));
    let Said::Entry(what, reason) = running.heard.recv().await.unwrap() else { panic!() };
    assert_eq!(what, "metric");
    assert!(
        reason.starts_with("no evidence from the metric revenue for the stable: the query returns NaN"),
        "{reason}"
    );
    let value = PerRole { stable: None, candidate: Some(0.25) };
    assert_eq!(running.heard.recv().await.unwrap(), Said::Value("shop".into(), "revenue".into(), value));
}
