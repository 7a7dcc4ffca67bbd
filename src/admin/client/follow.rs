//! Events as they happen: server-sent events, one JSON object each.

use std::collections::VecDeque;
use std::path::PathBuf;

use http::Response;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::runtime::Runtime;

use super::error::ClientError;
use super::not_understood;
use crate::admin::api::Event;

/// A line longer than this is no event of ours.
const LINE_BYTES_MAX: usize = 1 << 20;

/// Events as they happen. Ends when the daemon does, or after an error.
#[derive(Debug)]
pub struct Events {
    runtime: Runtime,
    socket: PathBuf,
    answer: Option<Response<Incoming>>,
    lines: Lines,
}

impl Events {
    pub(super) fn new(runtime: Runtime, socket: PathBuf, answer: Response<Incoming>) -> Self {
        Self { runtime, socket, answer: Some(answer), lines: Lines::default() }
    }

    fn fail(&mut self, error: ClientError) -> Option<Result<Event, ClientError>> {
        self.answer = None;
        Some(Err(error))
    }
}

impl Iterator for Events {
    type Item = Result<Event, ClientError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(data) = self.lines.events.pop_front() {
                return match serde_json::from_str(&data) {
                    Ok(event) => Some(Ok(event)),
                    Err(source) => self.fail(not_understood(&self.socket, source)),
                };
            }
            let answer = self.answer.as_mut()?;
            match self.runtime.block_on(answer.frame()) {
                None => {
                    self.answer = None;
                    return None;
                }
                Some(Ok(frame)) => {
                    let fits = frame.data_ref().is_none_or(|bytes| self.lines.take(bytes));
                    if !fits {
                        let socket = self.socket.clone();
                        return self.fail(ClientError::TooLong { socket, max: LINE_BYTES_MAX });
                    }
                }
                Some(Err(source)) => {
                    let socket = self.socket.clone();
                    return self.fail(ClientError::BrokeOff { socket, source });
                }
            }
        }
    }
}

/// What came so far (the WHATWG's "Server-sent events", section 9.2.6, as far as an event is its data).
#[derive(Debug, Default)]
struct Lines {
    /// An unfinished line.
    partial: Vec<u8>,
    /// The data of an unfinished event.
    data: String,
    events: VecDeque<String>,
}

impl Lines {
    /// Takes what came; false if a line grows beyond all measure.
    fn take(&mut self, bytes: &[u8]) -> bool {
        for &byte in bytes {
            if byte == b'\n' {
                let line = std::mem::take(&mut self.partial);
                let line = String::from_utf8_lossy(&line);
                self.line(line.strip_suffix('\r').unwrap_or(&line));
            } else {
                self.partial.push(byte);
            }
            if self.partial.len() + self.data.len() > LINE_BYTES_MAX {
                return false;
            }
        }
        true
    }

    fn line(&mut self, line: &str) {
        if line.is_empty() {
            if !self.data.is_empty() {
                self.events.push_back(std::mem::take(&mut self.data));
            }
        } else if let Some(data) = line.strip_prefix("data:") {
            if !self.data.is_empty() {
                self.data.push('\n');
            }
            self.data.push_str(data.strip_prefix(' ').unwrap_or(data));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_found_however_the_stream_is_cut() {
        let stream =
            b": hello\n\ndata: {\"a\":\ndata: 1}\n\nevent: x\r\nid: 7\r\ndata:{}\r\n\r\ndata: unfinished\n";
        for piece in 1..stream.len() {
            let mut lines = Lines::default();
            for bytes in stream.chunks(piece) {
                assert!(lines.take(bytes));
            }
            assert_eq!(lines.events, ["{\"a\":\n1}", "{}"], "in pieces of {piece}");
        }
    }

    #[test]
    fn a_line_without_end_is_given_up() {
        let mut lines = Lines::default();
        assert!(lines.take(&vec![b'x'; LINE_BYTES_MAX]));
        assert!(!lines.take(b"x"));
    }
}
