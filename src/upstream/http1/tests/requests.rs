use std::sync::mpsc::channel;

use http::HeaderMap;
use http_body_util::BodyExt;

use super::endpoint::{Peer, endpoint};
use super::{Script, Step, connect, finish, get, request, run, send, until_not_idle};
use crate::upstream::{BodyError, SendErrorKind};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// What an endpoint gets that reads `bytes` after the head.
#[track_caller]
fn check(body: Script, bytes: usize, head: &str, expected: &str) {
    let (told, tell) = channel();
    let url = endpoint(move |_, peer| {
        let head = peer.head();
        let body = peer.read(bytes);
        peer.say(OK);
        told.send((head, String::from_utf8(body).unwrap(), peer.rest())).unwrap();
    });
    let connection =
        run(async move { finish(send(&url, request("POST", body)).await.unwrap().response).await });
    assert!(connection.1.is_some());
    drop(connection);
    let got = tell.recv().unwrap();
    assert_eq!(
        got,
        (format!("POST / HTTP/1.1\r\nhost: shop\r\n{head}\r\n\r\n"), expected.to_owned(), Vec::new())
    );
}

#[test]
fn a_body_is_framed_by_its_length_or_in_chunks() {
    let data = |text: &'static str| Step::Data(text.into());
    check(Script::default(), 0, "content-length: 0", "");
    check(Script::text("hello"), 5, "content-length: 5", "hello");
    check(Script::of([data("he"), data(""), data("llo")], Some(5)), 5, "content-length: 5", "hello");
    let expected = "2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n";
    check(Script::of([data("he"), data(""), data("llo")], None), 20, "transfer-encoding: chunked", expected);
    let mut trailers = HeaderMap::new();
    trailers.append("x-sum", "1".parse().unwrap());
    trailers.append("x-sum", "2".parse().unwrap());
    let body = Script::of([data("he"), Step::Trailers(trailers.clone())], None);
    let expected = "2\r\nhe\r\n0\r\nx-sum: 1\r\nx-sum: 2\r\n\r\n";
    check(body, expected.len(), "transfer-encoding: chunked", expected);
    // There is no place for trailers behind a length.
    check(Script::of([data("he"), Step::Trailers(trailers)], Some(2)), 2, "content-length: 2", "he");
}

#[test]
fn large_bodies_arrive_whole_however_they_are_cut() {
    const PIECE: usize = 300_000;
    for length in [Some(10 * PIECE as u64), None] {
        let pieces = (0..10_u8).map(|number| Step::Data(vec![b'0' + number; PIECE].into()));
        let body = Script::of(pieces, length);
        let url = endpoint(move |_, peer| {
            peer.head();
            for number in 0..10_u8 {
                if length.is_none() {
                    assert_eq!(peer.read(7), b"493e0\r\n");
                }
                assert!(peer.read(PIECE).iter().all(|byte| *byte == b'0' + number));
                if length.is_none() {
                    assert_eq!(peer.read(2), b"\r\n");
                }
            }
            if length.is_none() {
                assert_eq!(peer.read(5), b"0\r\n\r\n");
            }
            peer.say(OK);
            peer.rest();
        });
        let (content, connection) =
            run(async move { finish(send(&url, request("PUT", body)).await.unwrap().response).await });
        assert_eq!((content.as_slice(), connection.is_some()), (&b"ok"[..], true));
    }
}

#[test]
fn a_body_that_fails_or_is_not_as_long_as_it_said_is_not_passed_off_as_whole() {
    let data = || Step::Data("hello".into());
    for (steps, length) in [
        (vec![Step::Fails], None),
        (vec![data(), Step::Fails], Some(9)),
        (vec![data()], Some(4)),
        (vec![data()], Some(6)),
        (vec![data(), Step::Trailers(HeaderMap::new())], Some(6)),
    ] {
        let (told, tell) = channel();
        let url = endpoint(move |_, peer| {
            peer.head();
            told.send(String::from_utf8(peer.rest()).unwrap()).unwrap();
        });
        let error = run(send(&url, request("POST", Script::of(steps, length)))).unwrap_err();
        assert_eq!(error.kind, SendErrorKind::RequestBody);
        assert!(error.body.is_none() && !error.is_unsent);
        let got = tell.recv().unwrap();
        assert!(
            got.len() < length.unwrap_or(1) as usize
                || length == Some(6) && got == "hello"
                || length == Some(9),
            "{got}"
        );
        assert!(!got.ends_with("0\r\n\r\n"), "{got}");
    }
}

#[test]
fn a_connection_serves_one_request_after_another() {
    let url = endpoint(|number, peer| {
        assert_eq!(number, 0);
        for _ in 0..5 {
            assert_eq!(peer.head(), "GET / HTTP/1.1\r\nhost: shop\r\n\r\n");
            peer.say(OK);
        }
    });
    run(async move {
        let mut connection = connect(&url).await;
        for _ in 0..5 {
            assert!(connection.is_idle());
            let sent = connection.send(&get().into_parts().0, Script::default()).await.unwrap();
            let (content, again) = finish(sent.response).await;
            assert_eq!(content, b"ok");
            connection = again.unwrap();
        }
        until_not_idle(&mut connection).await;
    });
}

#[test]
fn whether_a_request_can_have_arrived_decides_what_is_given_back() {
    let hangs_up = |bytes: &'static str| {
        move |_: usize, peer: &mut Peer| {
            peer.head();
            peer.say(bytes);
        }
    };
    let body = || Script::of([Step::Data("x".into()), Step::Stalls], Some(2));
    // The request may have been processed; without a body it can be had back, because nothing was answered.
    let lost = run(send(&endpoint(hangs_up("")), get())).unwrap_err();
    assert_eq!((lost.kind, lost.is_unsent, lost.body.is_some()), (SendErrorKind::Reset, false, true));
    let lost = run(send(&endpoint(hangs_up("")), request("POST", body()))).unwrap_err();
    assert_eq!((lost.kind, lost.is_unsent, lost.body.is_some()), (SendErrorKind::Reset, false, false));
    for begun in ["H", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 103 Early Hints\r\n\r\n"] {
        let lost = run(send(&endpoint(hangs_up(begun)), get())).unwrap_err();
        assert_eq!(
            (lost.kind, lost.is_unsent, lost.body.is_some()),
            (SendErrorKind::Reset, false, false),
            "{begun}"
        );
    }
    // Nothing was written: it may go elsewhere, whatever it is.
    let (go, wait) = channel::<()>();
    let url = endpoint(move |_, peer| {
        // Before that, connecting itself might fail.
        wait.recv().unwrap();
        peer.resets();
    });
    let unsent = run(async move {
        let mut connection = connect(&url).await;
        go.send(()).unwrap();
        until_not_idle(&mut connection).await;
        let (head, body) = request("POST", body()).into_parts();
        connection.send(&head, body).await.unwrap_err()
    });
    assert_eq!((unsent.kind, unsent.is_unsent), (SendErrorKind::Reset, true));
    assert!(!unsent.body.unwrap().was_asked.get());
}

#[test]
fn an_endpoint_that_hung_up_or_spoke_unasked_is_not_asked_again() {
    for unasked in ["", "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil", "\r\n"] {
        let (go, wait) = channel::<()>();
        let url = endpoint(move |_, peer| {
            peer.head();
            peer.say(OK);
            wait.recv().unwrap();
            peer.say(unasked);
            if !unasked.is_empty() {
                peer.rest();
            }
        });
        run(async move {
            let sent = send(&url, get()).await.unwrap();
            let mut connection = finish(sent.response).await.1.unwrap();
            assert!(connection.is_idle());
            go.send(()).unwrap();
            until_not_idle(&mut connection).await;
        });
    }
}

#[test]
fn an_answer_that_comes_early_is_given_on_at_once_and_ends_the_connection() {
    let url = endpoint(|_, peer| {
        peer.head();
        peer.read(1);
        peer.say("HTTP/1.1 401 Unauthorized\r\ncontent-length: 2\r\n\r\nno");
        peer.rest();
    });
    let body = Script::of([Step::Data("x".into()), Step::Stalls], None);
    run(async move {
        let sent = send(&url, request("POST", body)).await.unwrap();
        assert_eq!(sent.response.status(), 401);
        let (content, connection) = finish(sent.response).await;
        assert_eq!((content.as_slice(), connection.is_some()), (&b"no"[..], false));
    });
}

#[test]
fn an_answer_is_worth_more_than_the_reset_behind_it() {
    let url = endpoint(|_, peer| {
        peer.head();
        peer.say("HTTP/1.1 413 Content Too Large\r\ncontent-length: 2\r\n\r\nno");
        // Dropped with unread bytes: the kernel resets.
    });
    for _ in 0..20 {
        let pieces = (0..200).map(|_| Step::Data(vec![b'x'; 50_000].into()));
        let body = Script::of(pieces, Some(10_000_000));
        let (content, connection) =
            run(async { finish(send(&url, request("POST", body)).await.unwrap().response).await });
        assert_eq!((content.as_slice(), connection.is_some()), (&b"no"[..], false));
    }
}

#[test]
fn request_and_response_may_flow_at_once() {
    let url = endpoint(|_, peer| {
        peer.head();
        peer.say("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
        // More than any socket buffer holds, so that one cannot be done before the other.
        for _ in 0..200 {
            assert_eq!(peer.read(7), b"186a0\r\n");
            let chunk = [b"186a0\r\n".to_vec(), peer.read(100_002)].concat();
            peer.say(chunk);
        }
        let end = peer.read(5);
        peer.say(end);
        peer.rest();
    });
    let body = Script::of((0..200_u8).map(|n| Step::Data(vec![n; 100_000].into())), None);
    run(async move {
        let sent = send(&url, request("POST", body)).await.unwrap();
        let (content, connection) = finish(sent.response).await;
        assert!(content.chunks(100_000).enumerate().all(|(n, chunk)| chunk.iter().all(|b| *b == n as u8)));
        assert_eq!((content.len(), connection.is_some()), (20_000_000, true));
    });
}

#[test]
fn a_request_body_that_breaks_off_ends_the_response_to_it() {
    let url = endpoint(|_, peer| {
        peer.head();
        peer.say("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n12");
        peer.rest();
    });
    run(async move {
        let large = Step::Data(vec![b'x'; 20_000_000].into());
        let mut response =
            send(&url, request("POST", Script::of([large, Step::Fails], None))).await.unwrap().response;
        loop {
            match response.body_mut().frame().await {
                Some(Ok(_)) => {}
                Some(Err(error)) => return assert_eq!(error, BodyError::RequestBody),
                None => panic!("not whole"),
            }
        }
    });
}

#[test]
fn a_body_that_waits_for_100_is_asked_for_when_it_comes_or_is_overdue() {
    for says_so in [true, false] {
        let body = Script::text("hello");
        let asked = body.was_asked.clone();
        let url = endpoint(move |_, peer| {
            let head = peer.head();
            assert!(head.contains("\r\nexpect: 100-continue\r\n"), "{head}");
            if says_so {
                peer.say("HTTP/1.1 100 Continue\r\n\r\n");
            }
            assert_eq!(peer.read(5), b"hello");
            peer.say(OK);
            peer.rest();
        });
        let mut request = request("POST", body);
        request.headers_mut().insert("expect", "100-continue".parse().unwrap());
        run(async move {
            let sent = send(&url, request).await.unwrap();
            assert_eq!(sent.informational, 0);
            assert!(finish(sent.response).await.1.is_some());
        });
        assert!(asked.get());
    }
}

#[test]
fn a_body_that_waits_for_100_is_never_asked_for_after_another_answer() {
    let (go, wait) = channel::<()>();
    let url = endpoint(move |_, peer| {
        peer.head();
        peer.say("HTTP/1.1 417 Expectation Failed\r\ncontent-length: 2\r\n\r\n");
        wait.recv().unwrap();
        peer.say("no");
        assert_eq!(peer.rest(), b"");
    });
    let body = Script::text("hello");
    let asked = body.was_asked.clone();
    let mut request = request("POST", body);
    request.headers_mut().insert("expect", "100-continue".parse().unwrap());
    run(async move {
        let sent = send(&url, request).await.unwrap();
        assert_eq!(sent.response.status(), 417);
        // The time after which it would have been sent anyway.
        tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
        go.send(()).unwrap();
        let (content, connection) = finish(sent.response).await;
        assert_eq!((content.as_slice(), connection.is_some()), (&b"no"[..], false));
    });
    assert!(!asked.get());
}
