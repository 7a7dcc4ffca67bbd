//! Endpoints come and go while users are served: nobody notices, nothing is cut, and it lasts.

use std::net::Ipv4Addr;
use std::process::{Command, Output};

use tidegate::admin::api::{Changed, EndpointStatus, ProblemKind, Reloaded};
use tidegate::traffic::PerVariant;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, UnixStream};

use crate::support::gate::{Asked, understand};
use crate::support::{Gate, Mood, Origin, Wire, connect, get, name_server, origin, tidegate, until};

async fn blue_and_green() -> (Origin, Origin) {
    (origin().says("blue").start().await, origin().says("green").start().await)
}

/// `tidegate endpoint …` as it is typed.
async fn typed(gate: &Gate, line: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    command.arg("endpoint").args(line.split_whitespace()).arg("--socket").arg(gate.socket()).env_clear();
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

async fn listed(gate: &Gate) -> PerVariant<Vec<EndpointStatus>> {
    gate.ask("GET", "/v1/services/shop/endpoints", &[], "").await.unwrap()
}

/// `127.0.0.1:1234 draining` and so on, of blue.
async fn blues(gate: &Gate) -> Vec<String> {
    let listed = listed(gate).await.blue;
    listed.iter().map(|endpoint| format!("{} {}", endpoint.url, endpoint.standing)).collect()
}

#[tokio::test]
async fn fifty_changes_under_load_fail_no_request_and_move_no_traffic() {
    let (blue, green) = blue_and_green().await;
    let (more_blue, more_green) = blue_and_green().await;
    let gate = tidegate().service("shop", &blue, &green).with("split: {by: request}").start().await;
    gate.shift("shop", "50%").await;
    let load = gate.load("/");
    for round in 0..50 {
        let (verb, old) =
            [("add", false), ("drain", true), ("undrain", true), ("drain", true), ("remove", true)]
                [round % 5];
        // In the next round of five the other one comes back.
        let swapped = round / 5 % 2 == 1;
        for (variant, one, other) in [("blue", &blue, &more_blue), ("green", &green, &more_green)] {
            let origin = if old == swapped { other } else { one };
            gate.endpoint(verb, variant, &origin.url()).await.unwrap();
        }
        load.goes_on(20).await;
    }
    let seen = load.end().await;
    seen.assert_none_failed();
    assert!(seen.blue() > 0 && seen.green() > 0);
    assert!(more_blue.requests() > 0 && more_green.requests() > 0 && blue.requests() > 0);
    assert_eq!(gate.weight("shop").await.to_string(), "50%");
    // Where it began: nothing is left to say over the configuration.
    assert!(gate.service("shop").await.drift.iter().all(|drift| !drift.contains("run time")));
    assert_eq!(listed(&gate).await.blue.len(), 1);
}

#[tokio::test]
async fn what_was_changed_survives_a_restart_and_goes_with_discard_overlay() {
    let (blue, green) = blue_and_green().await;
    let newer = origin().says("newer").start().await;
    let gate = tidegate().service("shop", &blue, &green).start().await;
    let changed = gate.endpoint("add", "blue", &newer.url()).await.unwrap();
    assert!(changed.saved && changed.changes[0].changed);
    let undo = format!("tidegate endpoint remove shop blue {}", newer.url());
    assert_eq!(changed.undo.as_deref(), Some(&*undo));
    gate.is_ready().await;
    gate.endpoint("drain", "blue", &blue.url()).await.unwrap();
    for _ in 0..10 {
        assert_eq!(gate.get("/").await.text(), "newer");
    }
    let expected = [format!("{} draining", blue.url()), format!("{} in service", newer.url())];
    assert_eq!(blues(&gate).await, expected);

    let gate = gate.restarts().await;
    assert_eq!(gate.get("/").await.text(), "newer");
    assert_eq!(blues(&gate).await, expected);
    let drift = gate.service("shop").await.drift;
    assert!(drift.iter().any(|text| text.starts_with("blue was changed at run time: added")), "{drift:?}");
    let dry: Reloaded = gate.ask("POST", "/v1/reload", &[], r#"{"dry_run":true}"#).await.unwrap();
    assert!(dry.drift.iter().any(|text| text.contains("run time")) && dry.changes.is_empty(), "{dry:?}");
    gate.reload().await.unwrap();
    assert_eq!(blues(&gate).await, expected, "a reload leaves it alone");
    let discard = r#"{"discard_overlay":true}"#;
    let reloaded: Reloaded = gate.ask("POST", "/v1/reload", &[], discard).await.unwrap();
    assert!(reloaded.changes[0].contains("no longer changed at run time"), "{reloaded:?}");
    assert_eq!(blues(&gate).await, [format!("{} in service", blue.url())]);
    assert_eq!(gate.get("/").await.text(), "blue");
}

#[tokio::test]
async fn a_slow_request_ends_as_it_would_and_wait_says_when() {
    for verb in ["remove", "drain"] {
        let (blue, green) = blue_and_green().await;
        let other = origin().says("other").start().await;
        let gate = tidegate().service("shop", &blue, &green).start().await;
        blue.turns(Mood::Holds);
        let mut client = connect(gate.address()).await.unwrap();
        client.write(&get("/", &[])).await.unwrap();
        until("blue has the request", async || (blue.waiting() == 1).then_some(())).await;
        let added = typed(&gate, &format!("add shop blue {} --wait --timeout 20s", other.url())).await;
        assert!(added.status.success() && said(&added).contains("healthy"), "{}", said(&added));

        let late = typed(&gate, &format!("{verb} blue {} --wait --timeout 100ms", blue.url())).await;
        assert_eq!(late.status.code(), Some(4), "{}", said(&late));
        assert!(said(&late).contains("1 request or tunnel is still under way there"), "{}", said(&late));
        assert_eq!(gate.get("/").await.text(), "other", "it gets nothing new");
        let standing = if verb == "remove" { "leaving" } else { "draining" };
        let listed = listed(&gate).await.blue;
        let leaving = listed.iter().find(|endpoint| endpoint.url == blue.url()).unwrap();
        assert_eq!((leaving.standing.as_str(), leaving.in_flight), (standing, 1));

        let generation = gate.status().await.generation;
        let path = format!(
            "/v1/wait?service=shop&generation={generation}&variant=blue&endpoint={}&timeout_ms=20000",
            blue.url()
        );
        let mut waiting = Wire::new(UnixStream::connect(gate.socket()).await.unwrap());
        waiting.write(&get(&path, &[])).await.unwrap();
        blue.turns(Mood::Answers);
        assert_eq!(client.answer().await.unwrap().text(), "blue");
        assert_eq!(understand(&waiting.answer().await.unwrap()), Ok(()));
        let left = blues(&gate).await;
        assert_eq!(left.len(), if verb == "remove" { 1 } else { 2 }, "{left:?}");
    }
}

#[tokio::test]
async fn idle_connections_of_a_drained_endpoint_are_closed() {
    let (other, green) = blue_and_green().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (kept, mut closed) = tokio::sync::mpsc::unbounded_channel();
    let serving = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let kept = kept.clone();
            tokio::spawn(async move {
                let mut wire = Wire::new(stream);
                let mut served = 0;
                while let Ok(Some(_)) = wire.request().await {
                    wire.write(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nkept").await.unwrap();
                    served += 1;
                }
                // Health checks connect, too, and say nothing.
                if served > 0 {
                    kept.send(served).unwrap();
                }
            });
        }
    });
    let gate = tidegate().set("threads: 1").service_at("shop", &url, &green.url()).start().await;
    for _ in 0..3 {
        assert_eq!(gate.get("/").await.text(), "kept");
    }
    assert!(closed.try_recv().is_err(), "it is kept for the next request");
    gate.endpoint("add", "blue", &other.url()).await.unwrap();
    gate.endpoint("drain", "blue", &url).await.unwrap();
    let served = tokio::time::timeout(std::time::Duration::from_secs(20), closed.recv()).await;
    assert_eq!(served.expect("it is closed long before it is too old"), Some(3));
    assert_eq!(listed(&gate).await.blue[0].health, "healthy", "it is checked on");
    serving.abort();
}

/// Switches to another protocol, and says back what it hears.
async fn echoes() -> (String, tokio::task::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let serving = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut head, mut some) = (Vec::new(), [0; 1024]);
                while !head.ends_with(b"\r\n\r\n") {
                    match stream.read(&mut some).await {
                        Ok(count @ 1..) => head.extend(&some[..count]),
                        _ => return,
                    }
                }
                let switch =
                    "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n";
                stream.write_all(switch.as_bytes()).await.unwrap();
                while let Ok(count @ 1..) = stream.read(&mut some).await {
                    if stream.write_all(&some[..count]).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    (url, serving)
}

#[tokio::test]
async fn a_tunnel_outlives_the_removal_of_its_endpoint() {
    let (blue, green) = blue_and_green().await;
    let (url, _serving) = echoes().await;
    let plan = tidegate().service_at("shop", &url, &green.url()).with("upgrades: [echo]");
    let gate = plan.start().await;
    let mut client = tokio::net::TcpStream::connect(gate.address()).await.unwrap();
    client.write_all(&get("/", &[("connection", "upgrade"), ("upgrade", "echo")])).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await.unwrap());
    }
    assert!(head.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&head));
    gate.endpoint("add", "blue", &blue.url()).await.unwrap();
    let generation = gate.endpoint("remove", "blue", &url).await.unwrap().generation;
    let wait = format!("/v1/wait?service=shop&generation={generation}&variant=blue&endpoint={url}");
    let early: Asked<()> = gate.ask("GET", &format!("{wait}&timeout_ms=50"), &[], "").await;
    assert_eq!(early.unwrap_err().1.kind, ProblemKind::TimedOut);
    client.write_all(b"still here").await.unwrap();
    let mut back = [0; 10];
    client.read_exact(&mut back).await.unwrap();
    assert_eq!(&back, b"still here");
    assert!(blues(&gate).await.iter().any(|text| text.ends_with("leaving")));
    drop(client);
    let over: Asked<()> = gate.ask("GET", &format!("{wait}&timeout_ms=20000"), &[], "").await;
    assert_eq!(over, Ok(()));
    assert_eq!(blues(&gate).await, [format!("{} in service", blue.url())]);
}

#[tokio::test]
async fn what_does_not_fit_is_refused_or_forced_and_told() {
    let (blue, green) = blue_and_green().await;
    let gate = tidegate().service("shop", &blue, &green).start().await;
    let unknown = "http://127.0.0.1:9";
    for (verb, variant, url, status, kind) in [
        ("add", "blue", blue.url().as_str(), 409, ProblemKind::Conflict),
        ("add", "blue", green.url().as_str(), 409, ProblemKind::Conflict),
        ("add", "blue", "127.0.0.1:80", 400, ProblemKind::Invalid),
        ("add", "blue", "http://a:1/path", 400, ProblemKind::Invalid),
        ("remove", "blue", blue.url().as_str(), 409, ProblemKind::Conflict),
        ("drain", "blue", blue.url().as_str(), 409, ProblemKind::Conflict),
        ("remove", "blue", unknown, 404, ProblemKind::NotFound),
        ("drain", "blue", unknown, 404, ProblemKind::NotFound),
        ("undrain", "blue", unknown, 404, ProblemKind::NotFound),
        ("undrain", "red", unknown, 400, ProblemKind::Invalid),
        ("turn", "blue", unknown, 404, ProblemKind::NotFound),
    ] {
        let (refused, problem) = gate.endpoint(verb, variant, url).await.unwrap_err();
        assert_eq!((refused, problem.kind), (status, kind), "{verb} {url}: {}", problem.error);
    }
    for (line, code, words) in [
        (format!("add shop blue {}", blue.url()), 3, "nothing to add"),
        (format!("drain blue {}", blue.url()), 3, "say --force"),
        (format!("remove shop blue {unknown}"), 2, "has no endpoint http://127.0.0.1:9; there is http://"),
        ("add shop blue 127.0.0.1:80".to_owned(), 2, "did you mean http://127.0.0.1:80?"),
        (format!("add shop blue {unknown} --weight 0"), 2, "1..=1000"),
    ] {
        let refused = typed(&gate, &line).await;
        assert_eq!(refused.status.code(), Some(code), "{line}: {}", said(&refused));
        assert!(said(&refused).contains(words), "{line}: {}", said(&refused));
    }
    let before = gate.events(50).await;
    assert!(!before.iter().any(|event| event.what.starts_with("endpoint")), "what is refused is no change");

    let forced = typed(&gate, &format!("drain shop blue {} --force --reason fire", blue.url())).await;
    assert!(forced.status.success() && said(&forced).contains("forced"), "{}", said(&forced));
    assert_eq!(gate.get("/").await.status(), 503);
    let event = gate.events(50).await.into_iter().find(|event| event.what == "endpoint-drain").unwrap();
    assert!(event.to.unwrap().contains("forced: blue has none left"), "it is told");
    assert_eq!(event.reason.as_deref(), Some("fire"));
    gate.endpoint("undrain", "blue", &blue.url()).await.unwrap();
    assert_eq!(gate.get("/").await.text(), "blue");
}

#[tokio::test]
async fn a_key_has_one_effect_and_if_match_sees_what_others_did() {
    let (blue, green) = blue_and_green().await;
    let more = origin().says("blue").start().await;
    let gate = tidegate().service("shop", &blue, &green).start().await;
    let body = format!(r#"{{"variant":"blue","endpoints":["{}"],"weight":3,"as":"ci"}}"#, more.url());
    let add = async |fields: &[(&str, &str)]| -> Asked<Changed> {
        gate.ask("POST", "/v1/services/shop/endpoints/add", fields, &body).await
    };
    let key = [("idempotency-key", "scale-1")];
    let first = add(&key).await.unwrap();
    let told = first.changes[0].endpoints_changed.clone().unwrap();
    assert_eq!((told.act.as_str(), told.endpoints[0].weight), ("add", 3));
    gate.endpoint("remove", "blue", &more.url()).await.unwrap();
    let again = add(&key).await.unwrap();
    assert_eq!((again.generation, &again.changes), (first.generation, &first.changes));
    assert_eq!(listed(&gate).await.blue.len(), 1, "it stays removed");
    let seen = first.generation.to_string();
    let (status, stale) = add(&[("if-match", &seen)]).await.unwrap_err();
    assert_eq!((status, stale.kind), (412, ProblemKind::Stale));
}

#[tokio::test]
async fn a_name_is_served_by_all_its_addresses_and_one_that_goes_is_not_cut() {
    let ip = |last| Ipv4Addr::new(127, 0, 0, last);
    let one = origin().says("blue").start_at((ip(2), 0).into()).await;
    let port = one.address().port();
    let two = origin().says("blue").start_at((ip(3), port).into()).await;
    let three = origin().says("blue").start_at((ip(4), port).into()).await;
    let green = origin().says("green").start().await;
    let names = name_server(&[ip(3), ip(2)]);
    let url = format!("http://shop.test:{port}");
    let plan = tidegate().asking(&names).service_at("shop", &url, &green.url());
    let gate = plan.start().await;
    let of = |last: u8| format!("{url} (127.0.0.{last}) in service");
    until("both are there", async || (blues(&gate).await == [of(2), of(3)]).then_some(())).await;
    gate.is_ready().await;
    let load = gate.load("/");
    load.goes_on(200).await;
    assert!(one.requests() > 0 && two.requests() > 0);
    assert_eq!(one.last().field("host"), Some("gate.test"), "they hear what the client said");

    // One goes while it has a request, another comes.
    two.turns(Mood::Holds);
    until("it has a request", async || (two.waiting() > 0).then_some(())).await;
    names.says(Some(&[ip(2), ip(4)]));
    until("the addresses are other ones", async || {
        let now = blues(&gate).await;
        let leaves = now.get(2).is_some_and(|text| text.ends_with("(127.0.0.3) leaving"));
        (now.starts_with(&[of(2), of(4)]) && leaves).then_some(())
    })
    .await;
    two.turns(Mood::Answers);
    until("nothing is under way there", async || (blues(&gate).await.len() == 2).then_some(())).await;
    load.goes_on(200).await;
    assert!(three.requests() > 0);

    // Nobody says anything any more: what was good stays.
    names.says(None);
    let asked = names.asked();
    until("it was asked again", async || (names.asked() > asked + 2).then_some(())).await;
    load.goes_on(50).await;
    assert_eq!(blues(&gate).await, [of(2), of(4)]);
    load.end().await.assert_none_failed();
    let metrics = gate.metrics().await;
    let label = format!("endpoint=\"{url} (127.0.0.4)\"");
    assert_eq!(metrics.count("tidegate_endpoint_healthy", &[&label]), 1);
}
