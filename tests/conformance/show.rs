//! Messages as the rows write them: `|` is CR LF, other control bytes are escaped.
//!
//! What varies from run to run is normalised, and nothing else:
//!
//! - The fields behind `host` and the framing are sorted by name (their order means nothing, RFC 9110 §5.3); those of
//!   one name keep theirs.
//! - `x-request-id` and Tidegate's own part of `cdn-loop` become `*`.
//! - `sec-websocket-key` becomes `*` if it could be one of Tidegate's; that of RFC 6455 §1.2 is a client's.
//! - If all six fields that Tidegate adds for an untrusted client of 127.0.0.1 stand there exactly as they should, they
//!   become one `+`. If one is missing, twice there, or says something else, all of them are shown.
//! - Of answers: `date` is left out, the chunks are put together, and a body that breaks off ends with `✂`.

use data_encoding::BASE64;

/// What an untrusted client's request gets, `{host}` being its host.
const OURS: [&str; 6] = [
    "cdn-loop: *",
    "x-forwarded-for: 127.0.0.1",
    "x-forwarded-host: {host}",
    "x-forwarded-proto: {proto}",
    "x-request-id: *",
    "x-tidegate-variant: blue",
];

/// A request as the endpoint got it. `is_https`: what the client spoke.
pub fn request(bytes: &[u8], is_https: bool) -> String {
    let end = super::strict::head_length(bytes).unwrap_or(bytes.len());
    let (head, body) = bytes.split_at(end);
    let head: String = head.iter().map(|byte| char::from(*byte)).collect();
    let mut lines: Vec<String> = head.trim_end_matches("\r\n").split("\r\n").map(varying).collect();
    let first = 1 + lines.iter().skip(1).take_while(|line| is_first(line)).count();
    lines[first..].sort_by(|a, b| name(a).cmp(name(b)));
    let host = lines.iter().find_map(|line| line.strip_prefix("host: ")).unwrap_or_default().to_owned();
    let proto = if is_https { "https" } else { "http" };
    let ours: Vec<String> =
        OURS.iter().map(|line| line.replace("{host}", &host).replace("{proto}", proto)).collect();
    let names: Vec<&str> = ours.iter().map(|line| name(line)).collect();
    let found: Vec<&String> = lines.iter().filter(|line| names.contains(&name(line))).collect();
    if found.iter().copied().eq(&ours) {
        lines.retain(|line| !ours.contains(line));
        lines.push("+".to_owned());
    }
    let mut text: Vec<String> = lines.iter().map(|line| latin(line)).collect();
    text.push(String::new());
    text.join("|") + "|" + &bytes_as_text(body)
}

fn is_first(line: &str) -> bool {
    ["host", "content-length", "transfer-encoding"].contains(&name(line))
}

fn name(line: &str) -> &str {
    line.split(':').next().unwrap_or_default()
}

fn varying(line: &str) -> String {
    if let Some(id) = line.strip_prefix("x-request-id: ")
        && id.len() == 32
        && id.bytes().all(|byte| byte.is_ascii_hexdigit())
    {
        return "x-request-id: *".to_owned();
    }
    if let Some(passed) = line.strip_prefix("cdn-loop: tidegate-")
        && passed.len() == 16
    {
        return "cdn-loop: *".to_owned();
    }
    if let Some(key) = line.strip_prefix("sec-websocket-key: ")
        && key != "dGhlIHNhbXBsZSBub25jZQ=="
        && BASE64.decode(key.as_bytes()).is_ok_and(|key| key.len() == 16)
    {
        return "sec-websocket-key: *".to_owned();
    }
    line.to_owned()
}

/// A client's view of an answer.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    /// Without its empty line.
    pub head: String,
    /// Out of its chunks.
    pub body: Vec<u8>,
    /// Whole lines.
    pub trailers: Vec<String>,
    /// Whether it came to its end.
    pub is_whole: bool,
}

impl Answer {
    /// Its status.
    pub fn status(&self) -> u16 {
        self.head.get(9..12).and_then(|status| status.parse().ok()).unwrap_or_default()
    }

    /// The values of all fields of this name.
    pub fn fields(&self, name: &str) -> Vec<&str> {
        let fields = self.head.split("\r\n").skip(1).filter_map(|line| line.split_once(':'));
        fields.filter(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim()).collect()
    }
}

/// An answer as a client got it: `200 OK|name: value||body||trailer: value`; HTTP/1.0 is written out.
pub fn answer(answer: &Answer) -> String {
    let mut lines = answer.head.split("\r\n").map(varying);
    let line = lines.next().unwrap_or_default();
    let line = line.strip_prefix("HTTP/1.1 ").map_or(line.clone(), ToOwned::to_owned);
    let mut fields: Vec<String> = lines.filter(|line| name(line) != "date").collect();
    fields.sort_by(|a, b| name(a).cmp(name(b)));
    let mut text = vec![latin(&line)];
    text.extend(fields.iter().map(|field| latin(field)));
    let mut text = text.join("|") + "||" + &bytes_as_text(&answer.body);
    if !answer.trailers.is_empty() {
        text += "||";
        text += &answer.trailers.iter().map(|line| latin(line)).collect::<Vec<_>>().join("|");
    }
    if !answer.is_whole {
        text += "✂";
    }
    text
}

/// Of characters that stand for bytes.
fn latin(text: &str) -> String {
    bytes_as_text(&text.chars().map(|char| char as u8).collect::<Vec<_>>())
}

/// `|` for CR LF, and escapes; what is long is cut.
pub fn bytes_as_text(bytes: &[u8]) -> String {
    const MOST: usize = 2000;
    let text = bytes.get(..MOST).unwrap_or(bytes).escape_ascii().to_string();
    let text = text.replace('|', "\\x7c").replace("\\r\\n", "|").replace("\\\"", "\"").replace("\\'", "'");
    if bytes.len() > MOST { format!("{text}… ({} bytes)", bytes.len()) } else { text }
}

/// Both texts, line under line, with a mark where they part.
pub fn diff(expected: &str, got: &str) -> String {
    let same = expected.chars().zip(got.chars()).take_while(|(a, b)| a == b).count();
    format!("      expected {expected}\n      got      {got}\n               {}^", " ".repeat(same))
}
