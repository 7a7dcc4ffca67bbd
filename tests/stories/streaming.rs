//! Bodies far larger than what a gate may keep of them.

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use crate::support::{Gate, tidegate};

const BODY_BYTES: u64 = 100 << 20;
/// What passes may fill buffers on its way; a part of a body that is kept would be far more.
const KEPT_BYTES_MAX: u64 = 16 << 20;
const PIECE: &[u8] = &[b'x'; 64 * 1024];

/// Answers POST with how long its body was, and GET with a long one.
async fn app() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(answer(stream));
        }
    });
    url
}

async fn answer(stream: TcpStream) {
    let mut stream = BufReader::new(stream);
    while let Some((line, length)) = head(&mut stream).await {
        if line.starts_with("POST") {
            let got = swallow(&mut stream, length).await.to_string();
            let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{got}", got.len());
            stream.write_all(answer.as_bytes()).await.unwrap();
        } else {
            send(&mut stream, &format!("HTTP/1.1 200 OK\r\ncontent-length: {BODY_BYTES}\r\n\r\n")).await;
        }
    }
}

/// The first line, and the length that the head says. `None` at the end.
async fn head(stream: &mut BufReader<TcpStream>) -> Option<(String, u64)> {
    let (mut first, mut length) = (String::new(), 0);
    if stream.read_line(&mut first).await.ok()? == 0 {
        return None;
    }
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await.ok()?;
        match line.trim_end().split_once(':') {
            None => return Some((first, length)),
            Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                length = value.trim().parse().unwrap();
            }
            Some(_) => {}
        }
    }
}

/// Reads so many bytes and keeps none.
async fn swallow(stream: &mut BufReader<TcpStream>, length: u64) -> u64 {
    let mut sink = tokio::io::sink();
    tokio::io::copy(&mut stream.take(length), &mut sink).await.unwrap()
}

/// A head, and a body of [`BODY_BYTES`].
async fn send(stream: &mut BufReader<TcpStream>, head: &str) {
    stream.write_all(head.as_bytes()).await.unwrap();
    for _ in 0..BODY_BYTES / PIECE.len() as u64 {
        stream.write_all(PIECE).await.unwrap();
    }
}

/// The most memory that its process has had at once, in bytes.
fn peak(gate: &Gate) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", gate.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

#[tokio::test]
async fn a_hundred_mebibytes_go_up_and_down_and_hardly_any_stay() {
    let (blue, green) = (app().await, app().await);
    let gate = tidegate().service_at("shop", &blue, &green).start_daemon().await;
    let mut client = BufReader::new(TcpStream::connect(gate.address()).await.unwrap());
    let before = peak(&gate);

    send(&mut client, &format!("POST / HTTP/1.1\r\nhost: shop\r\ncontent-length: {BODY_BYTES}\r\n\r\n"))
        .await;
    let (status, length) = head(&mut client).await.unwrap();
    let mut got = vec![0; length as usize];
    client.read_exact(&mut got).await.unwrap();
    assert_eq!((status.trim_end(), got), ("HTTP/1.1 200 OK", BODY_BYTES.to_string().into_bytes()));

    client.write_all(b"GET / HTTP/1.1\r\nhost: shop\r\n\r\n").await.unwrap();
    let (status, length) = head(&mut client).await.unwrap();
    assert_eq!((status.trim_end(), length), ("HTTP/1.1 200 OK", BODY_BYTES));
    assert_eq!(swallow(&mut client, length).await, BODY_BYTES);

    let grown = peak(&gate) - before;
    assert!(grown < KEPT_BYTES_MAX, "{grown} bytes more at once");
}
