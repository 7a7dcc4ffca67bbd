use http_body_util::BodyExt;

use super::endpoint::{endpoint, says};
use super::{Script, finish, get, read, request, run, send};
use crate::upstream::{BodyError, Malformed, SendErrorKind};

/// A response's content, its trailers' names, and whether the connection goes on.
#[track_caller]
fn check(method: &str, text: &str, expected: Result<(&str, &[&str], bool), BodyError>) {
    let text = text.replace('|', "\r\n");
    let url = endpoint({
        let text = text.clone();
        move |_, peer| {
            peer.head();
            peer.say(&text);
            if !text.contains("open") {
                peer.says_no_more();
            } else {
                peer.rest();
            }
        }
    });
    let got = run(async move {
        let sent = send(&url, request(method, Script::default())).await.unwrap();
        let mut body = sent.response.into_body();
        let (content, trailers) = read(&mut body).await?;
        let trailers: Vec<String> =
            trailers.iter().flat_map(|map| map.keys()).map(ToString::to_string).collect();
        Ok((String::from_utf8(content).unwrap(), trailers, body.release().is_some()))
    });
    let expected = expected.map(|(content, trailers, goes_on)| {
        (content.to_owned(), trailers.iter().map(ToString::to_string).collect(), goes_on)
    });
    assert_eq!(got, expected, "{text:?}");
}

#[test]
fn a_response_ends_where_its_framing_says() {
    check("GET", "HTTP/1.1 200 OK|x: open|content-length: 2||ok", Ok(("ok", &[], true)));
    check("GET", "HTTP/1.1 200 OK|x: open|content-length: 0||", Ok(("", &[], true)));
    check("GET", "HTTP/1.1 200 OK|x: open|transfer-encoding: chunked||2|ok|0||", Ok(("ok", &[], true)));
    check(
        "GET",
        "HTTP/1.1 200 OK|x: open|transfer-encoding: chunked||2|ok|0|x-sum: 1|y: 2||",
        Ok(("ok", &["x-sum", "y"], true)),
    );
    check("GET", "HTTP/1.1 200 OK||until the end", Ok(("until the end", &[], false)));
    check("GET", "HTTP/1.0 200 OK||until the end", Ok(("until the end", &[], false)));
    check("GET", "HTTP/1.0 200 OK|x: open|content-length: 2||ok", Ok(("ok", &[], false)));
    check("GET", "HTTP/1.1 200 OK|x: open|connection: close|content-length: 2||ok", Ok(("ok", &[], false)));
    check("HEAD", "HTTP/1.1 200 OK|x: open|content-length: 2||", Ok(("", &[], true)));
    check("HEAD", "HTTP/1.1 200 OK|x: open|transfer-encoding: chunked||", Ok(("", &[], true)));
    check("GET", "HTTP/1.1 204 No Content|x: open||", Ok(("", &[], true)));
    check("GET", "HTTP/1.1 304 Not Modified|x: open|content-length: 9||", Ok(("", &[], true)));
}

#[test]
fn what_follows_a_response_is_nobodys_and_ends_the_connection() {
    let evil = "HTTP/1.1 200 OK|content-length: 4||evil";
    for (method, head, expected) in [
        ("GET", "HTTP/1.1 200 OK|x: open|content-length: 2||ok", "ok"),
        ("GET", "HTTP/1.1 200 OK|x: open|transfer-encoding: chunked||2|ok|0||", "ok"),
        ("GET", "HTTP/1.1 200 OK|x: open|content-length: 0||", ""),
        ("HEAD", "HTTP/1.1 200 OK|x: open|content-length: 2||", ""),
        ("GET", "HTTP/1.1 204 No Content|x: open||", ""),
        ("GET", "HTTP/1.1 304 Not Modified|x: open||", ""),
    ] {
        for surplus in [evil, "x", "|", "\0"] {
            check(method, &format!("{head}{surplus}"), Ok((expected, &[], false)));
        }
    }
}

#[test]
fn a_response_that_ends_before_its_end_is_truncated() {
    check("GET", "HTTP/1.1 200 OK|content-length: 3||ok", Err(BodyError::Truncated));
    check("GET", "HTTP/1.1 200 OK|content-length: 3||", Err(BodyError::Truncated));
    for rest in ["", "2", "2|", "2|o", "2|ok", "2|ok|", "2|ok|0", "2|ok|0|", "2|ok|0|a: b", "2|ok|0|a: b|"] {
        let text = format!("HTTP/1.1 200 OK|transfer-encoding: chunked||{rest}");
        check("GET", &text, Err(BodyError::Truncated));
    }
}

#[test]
fn garbled_chunks_are_an_error_and_never_content() {
    let check = |rest: &str, malformed| {
        let text = format!("HTTP/1.1 200 OK|x: open|transfer-encoding: chunked||{rest}");
        check("GET", &text, Err(BodyError::Protocol(malformed)));
    };
    check("x|", Malformed::ChunkSize);
    check("2\nok|0||", Malformed::ChunkSize);
    check("2|okay|0||", Malformed::ChunkEnd);
    check("0|a : b||", Malformed::Field);
}

#[test]
fn what_is_no_http_is_refused_before_any_of_it_is_given_on() {
    #[track_caller]
    fn check(text: &str, expected: Malformed) {
        let url = says(text.replace('|', "\r\n"));
        let error = run(send(&url, get())).unwrap_err();
        assert_eq!(error.kind, SendErrorKind::Protocol(expected), "{text}");
        assert!(!error.is_unsent && error.body.is_none());
    }
    check("<html>hello", Malformed::NotHttp);
    check("HTTP/0.9 200 OK||", Malformed::NotHttp);
    check("HTTP/1.1 200 OK\n\n", Malformed::LineEnd);
    check("HTTP/1.1 xx OK||", Malformed::StatusLine);
    check("HTTP/1.1 200 OK|a: b| c||", Malformed::Field);
    check("HTTP/1.1 200 OK|a: \0||", Malformed::Field);
    check("HTTP/1.1 200 OK|content-length: 2|content-length: 2||ok", Malformed::Length);
    check("HTTP/1.1 200 OK|content-length: 2|transfer-encoding: chunked||0||", Malformed::TwoLengths);
    check("HTTP/1.1 200 OK|transfer-encoding: gzip, chunked||0||", Malformed::Coding);
    check("HTTP/1.0 200 OK|transfer-encoding: chunked||0||", Malformed::OldCoding);
    check("HTTP/1.1 101 Switching Protocols|connection: upgrade|upgrade: x||", Malformed::Switch);
    check("HTTP/1.1 103 Early Hints|content-length: 2||okHTTP/1.1 200 OK||", Malformed::InformationalContent);
    check(&"HTTP/1.1 100 Continue||".repeat(17), Malformed::TooManyInformational);
    check(&format!("HTTP/1.1 200 OK|a: {}", "b".repeat(70_000)), Malformed::TooLong);
    check(&format!("HTTP/1.1 200 OK|{}|", "a: b|".repeat(300)), Malformed::TooManyFields);
}

#[test]
fn informational_responses_are_swallowed_and_counted() {
    let text = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n\
        HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 200 Fine\r\ncontent-length: 2\r\n\r\nok";
    for step in [1, 7, text.len()] {
        let url = endpoint(move |_, peer| {
            peer.head();
            for piece in text.as_bytes().chunks(step) {
                peer.say(piece);
            }
            peer.rest();
        });
        run(async move {
            let sent = send(&url, get()).await.unwrap();
            assert_eq!((sent.response.status().as_u16(), sent.informational), (200, 2));
            assert!(!sent.response.headers().contains_key("link"));
            let reason = sent.response.extensions().get::<hyper::ext::ReasonPhrase>().unwrap();
            assert_eq!(reason.as_bytes(), b"Fine");
            assert!(finish(sent.response).await.1.is_some());
        });
    }
}

#[test]
fn a_large_response_comes_in_pieces_of_bounded_size() {
    const BYTES: usize = 20_000_000;
    for head in [format!("content-length: {BYTES}"), "x: y".to_owned()] {
        let url = endpoint(move |_, peer| {
            peer.head();
            peer.say(format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n"));
            peer.say(vec![b'x'; BYTES]);
            peer.says_no_more();
        });
        run(async move {
            let mut body = send(&url, get()).await.unwrap().response.into_body();
            let (mut bytes, mut largest) = (0, 0);
            while let Some(frame) = body.frame().await {
                let data = frame.unwrap().into_data().unwrap();
                bytes += data.len();
                largest = largest.max(data.len());
            }
            assert_eq!(bytes, BYTES);
            assert!((1..=65 * 1024).contains(&largest), "{largest}");
        });
    }
}
