use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::endpoint::{endpoint, says};
use super::{Script, Step, finish, request, run, send};
use crate::upstream::{Malformed, SendErrorKind};

const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n";

fn upgrading(body: Script) -> http::Request<Script> {
    let mut request = request("GET", body);
    request.headers_mut().insert("connection", "upgrade".parse().unwrap());
    request.headers_mut().insert("upgrade", "echo".parse().unwrap());
    request
}

#[test]
fn after_101_the_bytes_are_bare_from_behind_the_head() {
    let url = endpoint(|_, peer| {
        assert!(peer.head().contains("\r\nconnection: upgrade\r\nupgrade: echo\r\n"));
        peer.say([SWITCH, "first"].concat());
        assert_eq!(peer.read(4), b"ping");
        peer.say("pong");
        assert_eq!(peer.rest(), b"");
    });
    run(async move {
        let sent = send(&url, upgrading(Script::default())).await.unwrap();
        assert_eq!(
            (sent.response.status().as_u16(), sent.response.headers()["upgrade"].as_bytes()),
            (101, &b"echo"[..])
        );
        let mut upgraded = sent.response.into_body().into_upgraded().unwrap();
        let mut first = [0; 5];
        upgraded.read_exact(&mut first).await.unwrap();
        upgraded.write_all(b"ping").await.unwrap();
        let mut second = [0; 4];
        upgraded.read_exact(&mut second).await.unwrap();
        assert_eq!((&first, &second), (b"first", b"pong"));
        upgraded.shutdown().await.unwrap();
        assert_eq!(upgraded.read(&mut first).await.unwrap(), 0);
    });
}

#[test]
fn an_upgrade_that_is_refused_is_an_answer_like_others() {
    let url = endpoint(|_, peer| {
        peer.head();
        peer.say("HTTP/1.1 426 Upgrade Required\r\ncontent-length: 2\r\n\r\nno");
        peer.rest();
    });
    run(async move {
        let sent = send(&url, upgrading(Script::default())).await.unwrap();
        let (content, connection) = finish(sent.response).await;
        assert_eq!((content.as_slice(), connection.is_some()), (&b"no"[..], true));
        let sent = send(&says("HTTP/1.1 200 OK\r\n\r\n"), upgrading(Script::default())).await.unwrap();
        assert!(sent.response.into_body().into_upgraded().is_none());
    });
}

#[test]
fn the_protocol_does_not_change_within_a_request() {
    let body = Script::of([Step::Data("x".into()), Step::Stalls], None);
    let error = run(send(&says(SWITCH), upgrading(body))).unwrap_err();
    assert_eq!(error.kind, SendErrorKind::Protocol(Malformed::Switch));
}
