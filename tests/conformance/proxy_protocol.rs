//! Who is in front says who the client is: the PROXY protocol, versions 1 and 2. What is no such header ends the
//! connection without a word, for nobody knows whom the word would reach.

use super::case::{Case, GET, OK, case};
use super::client::Way;
use super::stage::Stage;

const SPEC: &str = "PROXY protocol §2";
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// A stage whose every connection begins with a header.
pub fn stage() -> Stage {
    Stage::new(|plan| plan.set("listen: [{address: \"127.0.0.1:0\", proxy_protocol: {from: 127.0.0.0/8}}]"))
        .by(Way::Proxied)
        .rows_by(Way::Plain)
}

fn got(client: &str) -> String {
    if client == "127.0.0.1" {
        return "GET / HTTP/1.1|host: shop|+||".to_owned();
    }
    format!(
        "GET / HTTP/1.1|host: shop|cdn-loop: *|x-forwarded-for: {client}|x-forwarded-host: shop|x-forwarded-proto: http|x-request-id: *|x-tidegate-variant: blue||"
    )
}

fn version_2(command: u8, family: u8, payload: &[u8]) -> Vec<u8> {
    [SIGNATURE, &[command, family], &(payload.len() as u16).to_be_bytes(), payload].concat()
}

pub fn cases(_: &Stage) -> Vec<Case> {
    let four = [&[6, 6, 6, 6, 7, 7, 7, 7][..], &[0, 1, 0, 2]].concat();
    let six =
        [&[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1][..], &[0; 16], &[0, 1, 0, 2]].concat();
    let mut cases = Vec::new();
    for (name, header, client) in [
        ("IPv4", b"PROXY TCP4 6.6.6.6 7.7.7.7 1 2\r\n".to_vec(), "6.6.6.6"),
        ("IPv6", b"PROXY TCP6 2001:db8::1 ::1 1 2\r\n".to_vec(), "2001:db8::1"),
        ("nobody known", b"PROXY UNKNOWN\r\n".to_vec(), "127.0.0.1"),
        ("nobody known, and words about him", b"PROXY UNKNOWN a b c d\r\n".to_vec(), "127.0.0.1"),
        ("version 2 and IPv4", version_2(0x21, 0x11, &four), "6.6.6.6"),
        ("version 2 and IPv6", version_2(0x21, 0x21, &six), "2001:db8::1"),
        ("version 2 and additions", version_2(0x21, 0x11, &[&four[..], &[4, 0, 1, 0]].concat()), "6.6.6.6"),
        ("version 2 and the proxy itself", version_2(0x20, 0, &[]), "127.0.0.1"),
        ("version 2 and a socket file", version_2(0x21, 0x31, &[0; 216]), "127.0.0.1"),
    ] {
        let bytes = [&header, GET.as_bytes()].concat();
        cases.push(case(name, SPEC).sends(bytes).gets(OK).forwards(&got(client)));
        cases.push(
            case(format!("{name}, in two pieces"), SPEC)
                .sends(&header[..7])
                .sends([&header[7..], GET.as_bytes()].concat())
                .gets(OK)
                .forwards(&got(client)),
        );
        cases.push(
            case(format!("{name}, twice"), SPEC)
                .sends([&header[..], &header, GET.as_bytes()].concat())
                .gets_status(400)
                .closed(),
        );
    }
    cases.push(case("the client's own word is not believed", "7239 §8.1")
        .sends("PROXY TCP4 6.6.6.6 7.7.7.7 1 2\r\nGET / HTTP/1.1\r\nHost: shop\r\nX-Forwarded-For: 1.1.1.1\r\n\r\n")
        .gets(OK).forwards(&got("6.6.6.6")));
    for (name, header) in [
        ("no header", b"".to_vec()),
        ("a protocol that is none", b"PROXY TCP5 6.6.6.6 7.7.7.7 1 2\r\n".to_vec()),
        ("an address that is none", b"PROXY TCP4 6.6.6 7.7.7.7 1 2\r\n".to_vec()),
        ("an address of the other family", b"PROXY TCP4 ::1 ::1 1 2\r\n".to_vec()),
        ("a port that is none", b"PROXY TCP4 6.6.6.6 7.7.7.7 x 2\r\n".to_vec()),
        ("a port too large", b"PROXY TCP4 6.6.6.6 7.7.7.7 1 65536\r\n".to_vec()),
        ("a word too few", b"PROXY TCP4 6.6.6.6 7.7.7.7 1\r\n".to_vec()),
        ("a word too many", b"PROXY TCP4 6.6.6.6 7.7.7.7 1 2 3\r\n".to_vec()),
        ("two blanks", b"PROXY  TCP4 6.6.6.6 7.7.7.7 1 2\r\n".to_vec()),
        ("a lone LF", b"PROXY TCP4 6.6.6.6 7.7.7.7 1 2\n".to_vec()),
        ("lower case", b"proxy TCP4 6.6.6.6 7.7.7.7 1 2\r\n".to_vec()),
        ("a line too long", [&b"PROXY UNKNOWN "[..], &[b'x'; 200], b"\r\n"].concat()),
        ("version 3", version_2(0x31, 0x11, &four)),
        ("an unknown command", version_2(0x22, 0x11, &four)),
        ("too short for its family", version_2(0x21, 0x11, &four[..11])),
        ("a broken signature", [&SIGNATURE[..11], b"\r\x21\x11\0\0"].concat()),
    ] {
        cases.push(
            case(format!("a header with {name}"), SPEC).sends([&header, GET.as_bytes()].concat()).closed(),
        );
    }
    cases
}
