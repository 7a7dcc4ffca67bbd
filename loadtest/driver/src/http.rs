//! As much HTTP/1.1 as the admin socket and the probes need: a request, and an answer with its length.

use std::io::{BufRead, BufReader, Read, Write};

use crate::Outcome;

pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Answer {
    /// The first value of a header field; `name` in lower case.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

/// Sends a request on a kept connection and reads the answer.
pub fn exchange<S: Read + Write>(
    stream: &mut BufReader<S>,
    method: &str,
    path: &str,
    fields: &str,
    body: &str,
) -> Outcome<Answer> {
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: loadtest\r\n{fields}content-length: {length}\r\n\r\n{body}"
    );
    stream.get_mut().write_all(request.as_bytes())?;
    let mut head = String::new();
    loop {
        let before = head.len();
        if stream.read_line(&mut head)? == 0 {
            return Err(format!("{method} {path}: the connection was closed instead of an answer").into());
        }
        if head[before..].trim_end().is_empty() {
            break;
        }
    }
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).ok_or("no status")?;
    let mut answer = Answer { status, head, body: String::new() };
    let length: usize = answer.field("content-length").unwrap_or("0").parse()?;
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    answer.body = String::from_utf8(body)?;
    Ok(answer)
}
