//! The PROXY protocol, versions 1 and 2: who connected to the load balancer in front of us.
//!
//! <https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt>. Read strictly, because the bytes that follow belong to
//! somebody else: a header whose end is in doubt would let a client write its own. Extensions (TLVs) are skipped.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// §2.1: the longest line, its end included.
const LINE_BYTES_MAX: usize = 107;
/// §2.2: every version 2 header begins with it.
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// §2.1
const LINE_START: &[u8] = b"PROXY ";
/// Signature, version and command, family, length.
const FIXED_BYTES: usize = 16;
/// The whole of a version 2 header: addresses take at most 216 bytes, the rest are extensions.
const BINARY_BYTES_MAX: usize = 4096;

/// What the first bytes of a connection are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Beginning {
    /// A header of so many bytes.
    Header {
        /// Where what it is about begins.
        length: usize,
        /// Who connected; `None` when the sender speaks for itself or does not say.
        source: Option<IpAddr>,
    },
    /// Perhaps a header; more bytes will tell.
    Partial,
    /// Something else.
    Other,
    /// A header that breaks the rules.
    Malformed,
}

/// Looks at all bytes that have come so far.
pub(super) fn begin(bytes: &[u8]) -> Beginning {
    if bytes.starts_with(SIGNATURE) {
        return binary(bytes).unwrap_or(Beginning::Malformed);
    }
    if bytes.starts_with(LINE_START) {
        return line(bytes);
    }
    if SIGNATURE.starts_with(bytes) || LINE_START.starts_with(bytes) {
        return Beginning::Partial;
    }
    Beginning::Other
}

/// §2.1
fn line(bytes: &[u8]) -> Beginning {
    let window = &bytes[..bytes.len().min(LINE_BYTES_MAX)];
    let Some(end) = window.windows(2).position(|pair| pair == b"\r\n") else {
        let is_over = bytes.len() >= LINE_BYTES_MAX;
        return if is_over { Beginning::Malformed } else { Beginning::Partial };
    };
    match source(&window[LINE_START.len()..end]) {
        Some(source) => Beginning::Header { length: end + 2, source },
        None => Beginning::Malformed,
    }
}

/// What stands between `PROXY ` and the end of the line; the outer `None` if that is nothing valid.
fn source(text: &[u8]) -> Option<Option<IpAddr>> {
    let text = std::str::from_utf8(text).ok()?;
    // Whatever follows is to be ignored.
    if text == "UNKNOWN" || text.starts_with("UNKNOWN ") {
        return Some(None);
    }
    let mut words = text.split(' ');
    let family = words.next()?;
    let (source, destination) = (words.next()?, words.next()?);
    let (source, destination) = match family {
        "TCP4" => (IpAddr::V4(source.parse().ok()?), IpAddr::V4(destination.parse().ok()?)),
        "TCP6" => (IpAddr::V6(source.parse().ok()?), IpAddr::V6(destination.parse().ok()?)),
        _ => return None,
    };
    // Only their form matters.
    let (_, _, _) = (destination, port(words.next()?)?, port(words.next()?)?);
    words.next().is_none().then_some(Some(source.to_canonical()))
}

/// Decimal, without signs and leading zeros.
fn port(text: &str) -> Option<u16> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    if is_plain { text.parse().ok() } else { None }
}

/// §2.2; `None` for what breaks the rules.
fn binary(bytes: &[u8]) -> Option<Beginning> {
    let Some(fixed) = bytes.get(SIGNATURE.len()..FIXED_BYTES) else { return Some(Beginning::Partial) };
    let [version_and_command, family, high, low] = fixed.try_into().ok()?;
    let is_local = match version_and_command {
        0x20 => true,
        0x21 => false,
        _ => return None,
    };
    let addresses = match family {
        // Unspecified, IPv4, IPv6 and unix sockets, each over a stream; a datagram has not come here.
        0x00 => 0,
        0x11 => 12,
        0x21 => 36,
        0x31 => 216,
        _ if is_local => 0,
        _ => return None,
    };
    let rest = usize::from(u16::from_be_bytes([high, low]));
    let length = FIXED_BYTES + rest;
    if length > BINARY_BYTES_MAX || (!is_local && rest < addresses) {
        return None;
    }
    let Some(payload) = bytes.get(FIXED_BYTES..length) else { return Some(Beginning::Partial) };
    let source = match family {
        _ if is_local => None,
        0x11 => Some(Ipv4Addr::from(<[u8; 4]>::try_from(payload.get(..4)?).ok()?).into()),
        0x21 => {
            Some(IpAddr::from(Ipv6Addr::from(<[u8; 16]>::try_from(payload.get(..16)?).ok()?)).to_canonical())
        }
        _ => None,
    };
    Some(Beginning::Header { length, source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn header(length: usize, source: &str) -> Beginning {
        Beginning::Header { length, source: source.parse().ok() }
    }

    #[test]
    fn a_line_is_taken_only_as_it_is_specified() {
        #[track_caller]
        fn check(text: &str, expected: Beginning) {
            assert_eq!(begin(text.as_bytes()), expected, "{text:?}");
        }
        check("PROXY TCP4 203.0.113.7 10.0.0.1 65535 0\r\nGET", header(41, "203.0.113.7"));
        check("PROXY TCP6 2001:db8::1 ::1 1 2\r\n", header(32, "2001:db8::1"));
        check("PROXY TCP6 ::ffff:203.0.113.7 ::1 1 2\r\n", header(39, "203.0.113.7"));
        check("PROXY UNKNOWN\r\n", header(15, ""));
        check("PROXY UNKNOWN 1.2.3.4 whatever it says\r\n", header(40, ""));
        let longest = format!("PROXY UNKNOWN {}\r\n", "x".repeat(107 - 16));
        check(&longest, header(107, ""));
        for text in ["", "P", "PROXY", "PROXY ", "PROXY TCP4 1.2.3.4 10.0.0.1 1 2\r", "\r\n\r\n", "\r"] {
            check(text, Beginning::Partial);
        }
        for text in
            ["GET / HTTP/1.1", "PRI * HTTP/2.0", "proxy tcp4", "PROXYING", "PROXY\tTCP4", "\r\n\r\n\r"]
        {
            check(text, Beginning::Other);
        }
        for text in [
            "PROXY TCP4 203.0.113.7 10.0.0.1 1\r\n",
            "PROXY TCP4 203.0.113.7 10.0.0.1 1 2 3\r\n",
            "PROXY TCP4  203.0.113.7 10.0.0.1 1 2\r\n",
            "PROXY TCP4 203.0.113.7 10.0.0.1 1 2 \r\n",
            "PROXY TCP4 203.0.113.07 10.0.0.1 1 2\r\n",
            "PROXY TCP4 203.0.113.7 10.0.0.1 65536 2\r\n",
            "PROXY TCP4 203.0.113.7 10.0.0.1 +1 2\r\n",
            "PROXY TCP4 203.0.113.7 10.0.0.1 01 2\r\n",
            "PROXY TCP4 203.0.113.7 10.0.0.1  2\r\n",
            "PROXY TCP4 2001:db8::1 ::1 1 2\r\n",
            "PROXY TCP6 203.0.113.7 10.0.0.1 1 2\r\n",
            "PROXY TCP6 fe80::1%eth0 ::1 1 2\r\n",
            "PROXY tcp4 203.0.113.7 10.0.0.1 1 2\r\n",
            "PROXY UDP4 203.0.113.7 10.0.0.1 1 2\r\n",
            "PROXY UNKNOWNS\r\n",
            "PROXY \r\n",
            &format!("PROXY UNKNOWN {}\r\n", "x".repeat(108 - 16)),
            &"PROXY UNKNOWN ".repeat(20),
        ] {
            check(text, Beginning::Malformed);
        }
    }

    /// Version and command, family, payload.
    fn binary_header(version_and_command: u8, family: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = SIGNATURE.to_vec();
        bytes.extend([version_and_command, family]);
        bytes.extend((payload.len() as u16).to_be_bytes());
        bytes.extend(payload);
        bytes
    }

    #[test]
    fn a_binary_header_is_taken_only_as_it_is_specified() {
        #[track_caller]
        fn check(bytes: &[u8], expected: Beginning) {
            assert_eq!(begin(bytes), expected, "{bytes:02x?}");
        }
        let v4 = [203, 0, 113, 7, 10, 0, 0, 1, 0, 1, 0, 2];
        let mut v6 = [0; 36];
        v6[..16].copy_from_slice(&"2001:db8::1".parse::<Ipv6Addr>().unwrap().octets());
        check(&binary_header(0x21, 0x11, &v4), header(28, "203.0.113.7"));
        check(&binary_header(0x21, 0x21, &v6), header(52, "2001:db8::1"));
        check(&[&binary_header(0x21, 0x11, &v4)[..], b"GET /"].concat(), header(28, "203.0.113.7"));
        let with_tlv = [&v4[..], &[0x04, 0, 3, 1, 2, 3]].concat();
        check(&binary_header(0x21, 0x11, &with_tlv), header(34, "203.0.113.7"));
        check(&binary_header(0x20, 0x00, &[]), header(16, ""));
        check(&binary_header(0x20, 0x11, &v4), header(28, ""));
        check(&binary_header(0x20, 0x77, &[]), header(16, ""));
        check(&binary_header(0x21, 0x00, b"tlv"), header(19, ""));
        check(&binary_header(0x21, 0x31, &[0; 216]), header(232, ""));
        check(&binary_header(0x20, 0, &[0; 4080]), header(4096, ""));
        check(&binary_header(0x20, 0, &[0; 4081]), Beginning::Malformed);
        let whole = binary_header(0x21, 0x11, &v4);
        for end in 0..whole.len() {
            check(&whole[..end], Beginning::Partial);
        }
        for (version_and_command, family, payload) in [
            (0x11, 0x11, &v4[..]),
            (0x31, 0x11, &v4),
            (0x22, 0x11, &v4),
            (0x21, 0x12, &v4),
            (0x21, 0x22, &v6),
            (0x21, 0x41, &v6),
            (0x21, 0x01, &[]),
            (0x21, 0x11, &v4[..11]),
            (0x21, 0x21, &v6[..35]),
            (0x21, 0x31, &v6),
        ] {
            check(&binary_header(version_and_command, family, payload), Beginning::Malformed);
        }
    }

    proptest! {
        /// Whatever comes in whatever pieces, the answer does not change once it is there, and it comes in bounded time.
        #[test]
        fn the_answer_does_not_depend_on_how_bytes_arrive(
            start in prop_oneof![Just(SIGNATURE.to_vec()), Just(LINE_START.to_vec()), Just(Vec::new())],
            rest in proptest::collection::vec(any::<u8>(), 0..200),
        ) {
            let bytes = [start, rest].concat();
            let mut answer = Beginning::Partial;
            for end in 0..=bytes.len() {
                let now = begin(&bytes[..end]);
                if answer == Beginning::Partial {
                    answer = now;
                }
                prop_assert_eq!(now, answer);
                if let Beginning::Header { length, .. } = now {
                    prop_assert!(length <= end);
                }
            }
        }

        #[test]
        fn every_address_comes_through(octets in any::<[u8; 16]>(), ports in any::<(u16, u16)>(), after in "[ -~]{0,40}") {
            let (v4, v6) = (Ipv4Addr::new(octets[0], octets[1], octets[2], octets[3]), Ipv6Addr::from(octets));
            for (family, source) in [("TCP4", IpAddr::V4(v4)), ("TCP6", IpAddr::V6(v6))] {
                let head = format!("PROXY {family} {source} {source} {} {}\r\n", ports.0, ports.1);
                prop_assert!(head.len() <= LINE_BYTES_MAX);
                let expected = Beginning::Header { length: head.len(), source: Some(source.to_canonical()) };
                prop_assert_eq!(begin((head + &after).as_bytes()), expected);
            }
        }

        #[test]
        fn more_than_the_longest_header_is_never_waited_for(bytes in proptest::collection::vec(any::<u8>(), 4096..4200)) {
            for start in [SIGNATURE, LINE_START] {
                let all = [start, &bytes].concat();
                prop_assert_ne!(begin(&all), Beginning::Partial);
            }
        }
    }
}
