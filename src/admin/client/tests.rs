use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::thread::{self, JoinHandle};

use super::*;
use crate::admin::api::{ActRequest, PlanFile, ProblemKind, ReadingRequest, SignalRequest, StartRequest};
use crate::traffic::Variant;

/// Answers one connection after another, then closes; returns the requests it saw. An empty answer is none:
/// the connection stays open until the client has had enough.
fn daemon(socket: &Path, answers: Vec<String>) -> JoinHandle<Vec<String>> {
    let listener = UnixListener::bind(socket).unwrap();
    thread::spawn(move || {
        let mut seen = Vec::new();
        let mut answers = answers.into_iter().peekable();
        while answers.peek().is_some() {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = Vec::new();
            let mut bytes = [0; 1024];
            while !is_whole(&request) {
                match stream.read(&mut bytes).unwrap() {
                    0 => break,
                    count => request.extend_from_slice(&bytes[..count]),
                }
            }
            // A client that only looks whether anybody answers says nothing.
            if request.is_empty() {
                continue;
            }
            seen.push(String::from_utf8(request).unwrap());
            let answer = answers.next().unwrap();
            if answer.is_empty() {
                while stream.read(&mut bytes).unwrap() > 0 {}
            }
            _ = stream.write_all(answer.as_bytes());
        }
        seen
    })
}

fn is_whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
    body.len() >= length.unwrap_or(0)
}

fn http(status: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

#[test]
fn a_change_carries_its_terms_and_brings_its_answer() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("admin.sock");
    let answer = r#"{"host":"web-1","generation":42,"saved":true,"live_us":210,"changes":[{"service":"shop",
        "candidate":"green","from":"0%","to":"5%","changed":true}],"undo":"tidegate shift shop 0%"}"#;
    let seen = daemon(&socket, vec![http("200 OK", answer)]);
    let request = ShiftRequest {
        services: [("shop".to_owned(), "5%".to_owned())].into(),
        reason: Some("try".to_owned()),
        claimed: None,
        ..ShiftRequest::default()
    };
    let terms = Terms { if_generation: Some(41), idempotency_key: Some("käse".to_owned()) };
    let changed = Client::connect(&socket).unwrap().shift(&request, &terms).unwrap();
    assert_eq!((changed.generation, changed.changes[0].to.to_string().as_str()), (42, "5%"));

    let seen = seen.join().unwrap();
    assert!(seen[0].starts_with("POST /v1/shift HTTP/1.1\r\n"), "{seen:?}");
    for line in
        ["\r\nif-match: 41\r\n", "\r\nidempotency-key: käse\r\n", "\r\ncontent-type: application/json\r\n"]
    {
        assert!(seen[0].contains(line), "{line:?} in {seen:?}");
    }
    assert!(seen[0].ends_with(r#"{"services":{"shop":"5%"},"reason":"try"}"#), "{seen:?}");
}

#[test]
fn names_are_escaped_in_paths() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("admin.sock");
    let seen = daemon(&socket, vec![http("200 OK", "{}"); 2]);
    let client = Client::connect(&socket).unwrap();
    let subject = Subject::User("a&b=ü".to_owned());
    assert!(client.explain("x/../y", &subject).is_err(), "an empty object is no explanation");
    let query =
        WaitQuery { service: "a b".to_owned(), generation: 7, timeout_ms: Some(5), ..WaitQuery::default() };
    client.wait(&query).unwrap();
    let seen = seen.join().unwrap();
    assert!(
        seen[0].starts_with("GET /v1/services/x%2F..%2Fy/explain?user=a%26b%3D%C3%BC HTTP/1.1\r\n"),
        "{seen:?}"
    );
    assert!(
        seen[1].starts_with("GET /v1/wait?service=a%20b&generation=7&timeout_ms=5 HTTP/1.1\r\n"),
        "{seen:?}"
    );
}

#[test]
fn endpoints_are_named_in_the_body_and_waited_for_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("admin.sock");
    let changed = r#"{"host":"web-1","generation":42,"saved":true,"live_us":1,"changes":[]}"#;
    let seen = daemon(&socket, vec![http("200 OK", changed), http("204 No Content", "")]);
    let client = Client::connect(&socket).unwrap();
    let request = EndpointsRequest {
        variant: Variant::Green,
        endpoints: vec!["http://a:1".to_owned()],
        weight: Some(2),
        force: false,
        reason: None,
        claimed: None,
    };
    let terms = Terms { if_generation: Some(41), idempotency_key: None };
    client.endpoints("shop", "add", &request, &terms).unwrap();
    let query = WaitQuery {
        service: "shop".to_owned(),
        generation: 42,
        variant: Some(Variant::Green),
        endpoint: Some("http://a:1".to_owned()),
        timeout_ms: None,
    };
    client.wait(&query).unwrap();
    let seen = seen.join().unwrap();
    assert!(seen[0].starts_with("POST /v1/services/shop/endpoints/add HTTP/1.1\r\n"), "{seen:?}");
    assert!(seen[0].contains("\r\nif-match: 41\r\n"), "{seen:?}");
    assert!(seen[0].ends_with(r#"{"variant":"green","endpoints":["http://a:1"],"weight":2}"#), "{seen:?}");
    let waited =
        "GET /v1/wait?service=shop&generation=42&variant=green&endpoint=http%3A%2F%2Fa%3A1 HTTP/1.1\r\n";
    assert!(seen[1].starts_with(waited), "{seen:?}");
}

#[test]
fn a_refusal_is_told_without_control_characters() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("admin.sock");
    let problem = r#"{"error":"shop is\u001b[2J locked\nreally","kind":"locked"}"#;
    let seen = daemon(&socket, vec![http("423 Locked", problem)]);
    let error = Client::connect(&socket).unwrap().status().unwrap_err();
    assert_eq!(error.to_string(), "shop is[2J locked\nreally");
    let ClientError::Refused { problem, status: 423 } = error else { panic!("{error:?}") };
    assert_eq!(problem.kind, ProblemKind::Locked);
    seen.join().unwrap();
}

#[test]
fn an_answer_that_is_not_ours_is_told_as_such() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("admin.sock");
    let seen = daemon(
        &socket,
        vec![
            http("200 OK", "hello"),
            http("500 Oops", "<html>"),
            "SSH-2.0-OpenSSH\r\n".to_owned(),
            "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{".to_owned(),
        ],
    );
    let client = Client::connect(&socket).unwrap();
    for _ in 0..2 {
        let error = client.status().unwrap_err();
        assert!(matches!(error, ClientError::NotUnderstood { .. }), "{error:?}");
    }
    for _ in 0..2 {
        let error = client.status().unwrap_err();
        assert!(matches!(error, ClientError::BrokeOff { .. }), "{error:?}");
    }
    seen.join().unwrap();
}

#[test]
fn silence_ends_with_the_deadline() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("admin.sock");
    let silent = daemon(&socket, vec![String::new()]);
    let client = Client::connect(&socket).unwrap().with_deadline(Duration::from_millis(50));
    let error = client.kill(&KillRequest::default(), &Terms::default()).unwrap_err();
    assert!(matches!(error, ClientError::TimedOut { .. }), "{error:?}");
    assert!(
        error.to_string().contains("did not answer within 50ms; whether anything was done is unknown"),
        "{error}"
    );
    drop(client);
    silent.join().unwrap();
}

#[test]
fn a_client_rests_and_sees_a_daemon_go() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("admin.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let client = Client::connect(&socket).unwrap();
    client.rest(Duration::from_millis(1));
    let error = client.wait_until_gone(Duration::from_millis(1)).unwrap_err();
    assert!(matches!(error, ClientError::TimedOut { .. }), "{error:?}");
    drop(listener);
    client.wait_until_gone(Duration::from_secs(60)).unwrap();
}

#[test]
fn nobody_there_is_told_with_all_places_and_the_cure() {
    let folder = tempfile::tempdir().unwrap();
    let [missing, stale, beneath] = ["a.sock", "b.sock", "b.sock/c"].map(|name| folder.path().join(name));
    drop(UnixListener::bind(&stale).unwrap());
    for socket in [&missing, &stale, &beneath] {
        let error = Client::connect(socket).unwrap_err();
        assert!(
            matches!(&error, ClientError::NotRunning { tried } if tried == std::slice::from_ref(socket)),
            "{error:?}"
        );
    }
    let text = Client::only_one_of(vec![missing.clone(), stale.clone()]).unwrap_err().to_string();
    for expected in [missing.to_str().unwrap(), stale.to_str().unwrap(), "tidegate run", "tidegate demo"] {
        assert!(text.contains(expected), "{expected} in {text}");
    }
}

#[test]
fn one_daemon_is_found_and_of_two_none_is_taken() {
    let folder = tempfile::tempdir().unwrap();
    let [first, second, missing] = ["a.sock", "b.sock", "c.sock"].map(|name| folder.path().join(name));
    let _first = UnixListener::bind(&first).unwrap();
    let found = Client::only_one_of(vec![missing.clone(), first.clone()]).unwrap();
    assert_eq!(found.socket(), first);
    let _second = UnixListener::bind(&second).unwrap();
    let error = Client::only_one_of(vec![first.clone(), missing, second.clone()]).unwrap_err();
    assert!(
        matches!(&error, ClientError::Several { sockets } if sockets == &[first.clone(), second]),
        "{error:?}"
    );
    assert!(error.to_string().contains(&format!("\n  --socket {}", first.display())), "{error}");
}

#[test]
fn a_closed_door_is_told_with_its_key() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let socket = &folder.path().join("admin.sock");
    let _listener = UnixListener::bind(socket).unwrap();
    let denied = |mode| {
        std::fs::set_permissions(socket, std::fs::Permissions::from_mode(mode)).unwrap();
        ClientError::unreachable(socket, std::io::ErrorKind::PermissionDenied.into()).to_string()
    };
    let shown = socket.display();
    assert_eq!(denied(0o600), format!("no permission on {shown}: only root and its owner may use it; sudo"));
    let to_group = denied(0o660);
    let group = to_group.strip_prefix(&format!("no permission on {shown}: join group ")).unwrap();
    assert!(group.ends_with(", or sudo") && group.len() > ", or sudo".len(), "{to_group}");
    let nowhere = ClientError::unreachable(Path::new("/none/x"), std::io::ErrorKind::PermissionDenied.into());
    assert_eq!(nowhere.to_string(), "no permission on /none/x: use sudo");
    let other = ClientError::unreachable(socket, std::io::ErrorKind::InvalidInput.into());
    assert!(matches!(other, ClientError::Socket { .. }), "{other:?}");
}

#[test]
fn events_come_as_they_happen_until_the_daemon_ends() {
    let event = |generation: u64| {
        format!(
            r#"{{"time":"2026-01-31T23:59:59.123Z","what":"shift","generation":{generation},"actor":"tidegate"}}"#
        )
    };
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("admin.sock");
    let body = format!(": here\n\ndata: {}\n\nevent: x\ndata: {}\n\n", event(1), event(2));
    let endless = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n";
    let seen = daemon(&socket, vec![format!("{endless}{body}"), format!("{endless}data: no\n\n")]);
    let events = Client::connect(&socket).unwrap().follow().unwrap();
    let generations: Vec<u64> = events.map(|event| event.unwrap().generation).collect();
    assert_eq!(generations, [1, 2]);
    let mut garbled = Client::connect(&socket).unwrap().follow().unwrap();
    assert!(matches!(garbled.next(), Some(Err(ClientError::NotUnderstood { .. }))));
    assert!(garbled.next().is_none());
    assert!(seen.join().unwrap()[0].starts_with("GET /v1/events?follow=true HTTP/1.1\r\n"));
}

#[test]
fn text_loses_what_a_terminal_would_obey() {
    let rows = [
        ("plain ü – 漢", "plain ü – 漢"),
        ("a\x1b]0;title\x07b\r\nc\td\u{9b}e", "a]0;titleb c de"),
        ("\u{202e}gpj.exe\u{2066}\u{200f}", "gpj.exe"),
        ("one\u{2028}two", "one two"),
    ];
    for (text, expected) in rows {
        assert_eq!(printable(text), expected);
    }
}

#[test]
fn calls_around_rollouts_name_service_and_verb() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("admin.sock");
    let changed = r#"{"host":"web-1","generation":42,"saved":true,"live_us":0,"changes":[]}"#;
    let answers = [changed, changed, "", ""].map(|body| match body {
        "" => "HTTP/1.1 204 No Content\r\n\r\n".to_owned(),
        body => http("200 OK", body),
    });
    let seen = daemon(&socket, answers.into());
    let client = Client::connect(&socket).unwrap();
    let terms = Terms { if_generation: None, idempotency_key: Some("k".to_owned()) };
    let plan = Some(PlanFile { name: "p.yaml".to_owned(), text: "stages: []".to_owned() });
    client.start_rollout("a/b", &StartRequest { plan, ..StartRequest::default() }, &terms).unwrap();
    client.act("shop", "pause", &ActRequest::default(), &terms).unwrap();
    client.signal("shop", &SignalRequest { name: "x".to_owned(), ..SignalRequest::default() }).unwrap();
    client.push("shop", "a b", &ReadingRequest { stable: None, candidate: Some(0.5) }).unwrap();
    let seen = seen.join().unwrap();
    assert!(seen[0].starts_with("POST /v1/services/a%2Fb/rollout HTTP/1.1\r\n"), "{}", seen[0]);
    assert!(seen[0].contains("idempotency-key: k\r\n"), "{}", seen[0]);
    assert!(seen[0].ends_with(r#"{"plan":{"name":"p.yaml","text":"stages: []"}}"#), "{}", seen[0]);
    assert!(seen[1].starts_with("POST /v1/services/shop/rollout/pause HTTP/1.1\r\n"), "{}", seen[1]);
    assert!(seen[2].ends_with(r#"{"name":"x","critical":false}"#), "{}", seen[2]);
    assert!(seen[3].starts_with("POST /v1/services/shop/metrics/a%20b HTTP/1.1\r\n"), "{}", seen[3]);
    assert!(seen[3].ends_with(r#"{"candidate":0.5}"#), "{}", seen[3]);
}
