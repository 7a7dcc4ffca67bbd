//! A reader of requests that takes nothing but the one form of RFC 9112 that nobody can misunderstand.
//!
//! The endpoints of this suite read with it: whatever Tidegate sends that it does not take fails the case, whatever else
//! the case is about.

/// Where a request ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// After so many bytes.
    Length(u64),
    /// After the last chunk.
    Chunked,
}

/// How many bytes the head at the front has, its empty line included.
pub fn head_length(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|window| window == b"\r\n\r\n").map(|at| at + 4)
}

/// Looks at a whole head. `upgrade` is the protocol that it may ask for, in the one form that there is for that.
pub fn read_head(head: &[u8], upgrade: Option<&str>) -> Result<(String, Framing), String> {
    let text = head.strip_suffix(b"\r\n\r\n").ok_or("the head does not end with an empty line")?;
    let text: String = text.iter().map(|byte| char::from(*byte)).collect();
    let mut lines = text.split("\r\n");
    let line = lines.next().unwrap_or_default();
    let target = request_line(line)?;
    let (mut hosts, mut lengths, mut codings) = (Vec::new(), Vec::new(), Vec::new());
    let mut asks = Vec::new();
    for line in lines {
        let (name, value) = line.split_once(':').ok_or_else(|| format!("{line:?} is no field"))?;
        if name.is_empty() || !name.bytes().all(is_token) {
            return Err(format!("{name:?} is no field name"));
        }
        let value =
            value.strip_prefix(' ').ok_or_else(|| format!("{line:?} has no blank after its colon"))?;
        if value.trim_matches([' ', '\t']) != value || !value.bytes().all(is_field_byte) {
            return Err(format!("{value:?} is no field value"));
        }
        match name.to_ascii_lowercase().as_str() {
            "host" => hosts.push(value.to_owned()),
            "content-length" => lengths.push(value.to_owned()),
            "transfer-encoding" => codings.push(value.to_owned()),
            "connection" | "upgrade" if upgrade.is_some() => asks.push(line.to_owned()),
            "connection" | "keep-alive" | "proxy-connection" | "upgrade" | "proxy" => {
                return Err(format!("{line:?} is not for an endpoint"));
            }
            _ => {}
        }
    }
    asks.sort_unstable();
    let form = ["connection: upgrade".to_owned(), format!("upgrade: {}", upgrade.unwrap_or_default())];
    if !asks.is_empty() && asks != form {
        return Err(format!("{asks:?} asks for something else than {upgrade:?}"));
    }
    if hosts.len() != 1 {
        return Err(format!("{} hosts", hosts.len()));
    }
    let framing = match (lengths.as_slice(), codings.as_slice()) {
        ([], []) => Framing::Length(0),
        ([], [coding]) if coding == "chunked" => Framing::Chunked,
        ([length], []) if length.bytes().all(|byte| byte.is_ascii_digit()) => {
            Framing::Length(length.parse().map_err(|_| format!("{length:?} is no length"))?)
        }
        other => return Err(format!("lengths and codings {other:?}")),
    };
    if !asks.is_empty() && framing != Framing::Length(0) {
        return Err("an upgrade with a body".to_owned());
    }
    Ok((target, framing))
}

fn request_line(line: &str) -> Result<String, String> {
    let wrong = || format!("{line:?} is no request line");
    let [method, target, "HTTP/1.1"] = line.split(' ').collect::<Vec<_>>()[..] else { return Err(wrong()) };
    let is_target = target.starts_with('/') && target.bytes().all(|byte| matches!(byte, b'!'..=b'~'));
    if method.is_empty() || !method.bytes().all(is_token) || !is_target {
        return Err(wrong());
    }
    Ok(target.to_owned())
}

/// Of a name.
pub fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn is_field_byte(byte: u8) -> bool {
    matches!(byte, b'\t' | b' '..=b'~' | 0x80..)
}

/// How many bytes of a chunked body's beginning are there, if it is whole.
pub fn chunked_length(bytes: &[u8]) -> Result<Option<usize>, String> {
    let mut at = 0;
    loop {
        let Some(line) = line(&bytes[at..])? else { return Ok(None) };
        let digits = std::str::from_utf8(line).unwrap_or("");
        let is_size =
            !digits.is_empty() && digits.len() < 16 && digits.bytes().all(|b| b.is_ascii_hexdigit());
        let size = usize::from_str_radix(digits, 16).ok().filter(|_| is_size);
        let size = size.ok_or_else(|| format!("{:?} is no chunk size", line.escape_ascii().to_string()))?;
        at += line.len() + 2;
        if size == 0 {
            break;
        }
        let Some(end) = bytes.get(at + size..at + size + 2) else { return Ok(None) };
        if end != b"\r\n" {
            return Err("a chunk does not end where its size says".to_owned());
        }
        at += size + 2;
    }
    loop {
        let Some(line) = line(&bytes[at..])? else { return Ok(None) };
        at += line.len() + 2;
        if line.is_empty() {
            return Ok(Some(at));
        }
        let colon = line.iter().position(|byte| *byte == b':').filter(|colon| *colon > 0);
        if !colon.is_some_and(|colon| line[..colon].iter().all(|byte| is_token(*byte))) {
            return Err(format!("{:?} is no trailer", line.escape_ascii().to_string()));
        }
    }
}

fn line(bytes: &[u8]) -> Result<Option<&[u8]>, String> {
    let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else { return Ok(None) };
    match bytes[..end].split_last() {
        Some((b'\r', line)) if !line.contains(&b'\r') => Ok(Some(line)),
        _ => Err("a line does not end with CR LF".to_owned()),
    }
}
