//! A request that wants its connection to speak something else than HTTP (RFC 9110 §7.8, RFC 8441).
//!
//! Toward the endpoint there is one form, that of HTTP/1.1, and it is written here: exactly one protocol, one that the
//! service allows. What the endpoint answers is believed only if it is an answer to that. Over HTTP/2 the two sides
//! shake hands apart: `Sec-WebSocket-Key` and `-Accept` are between the endpoint and us.
//!
//! A request with a body never upgrades: its end and the beginning of the other protocol are what smuggling is made of, and
//! no WebSocket has one. Its upgrade is left out, as RFC 9110 allows to everybody who does not want to change.

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use data_encoding::BASE64;
use http::header::{
    CONNECTION, CONTENT_LENGTH, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version, request, response};
use hyper::ext::Protocol;
use hyper::upgrade::OnUpgrade;

use super::error::Refusal;
use crate::routing::UpgradeToken;

/// RFC 6455 §1.3.
const WEBSOCKET_GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// A change of protocol that the endpoint is asked for.
#[derive(Debug)]
pub(super) struct Upgrade {
    token: UpgradeToken,
    /// The stream to come, if the client asked by extended CONNECT.
    on: Option<OnUpgrade>,
    /// What the endpoint has to prove, if the client does not look at it.
    accept: Option<HeaderValue>,
}

impl Upgrade {
    /// What a request asks for, if that is allowed. Takes what belongs to it out of the head.
    pub(super) fn asked(
        head: &mut request::Parts,
        has_body: bool,
        allowed: &[UpgradeToken],
    ) -> Result<Option<Self>, Refusal> {
        let on = head.extensions.remove::<OnUpgrade>();
        if head.method == Method::CONNECT {
            let protocol = head.extensions.remove::<Protocol>();
            let token =
                protocol.and_then(|protocol| allowed.iter().find(|token| token.is(protocol.as_ref())));
            return match (token, on) {
                (Some(token), Some(on)) => {
                    Ok(Some(Self { token: token.clone(), on: Some(on), accept: None }))
                }
                _ => Err(Refusal::Protocol),
            };
        }
        if has_body || head.version != Version::HTTP_11 || !lists(&head.headers, CONNECTION, b"upgrade") {
            return Ok(None);
        }
        let token = elements(&head.headers, UPGRADE)
            .find_map(|offered| allowed.iter().find(|token| token.is(offered)))
            .filter(|token| head.method == Method::GET || !token.is_websocket());
        Ok(token.map(|token| Self { token: token.clone(), on: None, accept: None }))
    }

    /// Writes into a request that is otherwise ready for the endpoint what it is to be asked.
    pub(super) fn ask(&mut self, head: &mut request::Parts, random: &mut fastrand::Rng) {
        head.headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        head.headers.insert(UPGRADE, self.token.value().clone());
        if self.on.is_none() {
            return;
        }
        head.method = Method::GET;
        if self.token.is_websocket() {
            let key = BASE64.encode(&random.u128(..).to_be_bytes());
            self.accept = HeaderValue::try_from(accept(&key)).ok();
            if let Ok(key) = HeaderValue::try_from(key) {
                head.headers.insert(SEC_WEBSOCKET_KEY, key);
            }
            if !head.headers.contains_key(SEC_WEBSOCKET_VERSION) {
                head.headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
            }
        }
    }

    /// Whether the endpoint's head is an answer to it: the change that was asked for, or another answer that the client
    /// cannot take for one.
    pub(super) fn is_answered_by(&self, status: StatusCode, headers: &HeaderMap) -> bool {
        if status != StatusCode::SWITCHING_PROTOCOLS {
            // To a CONNECT that would mean that the tunnel stands (RFC 9110 §9.3.6).
            return self.on.is_none() || !status.is_success();
        }
        let is_only = |name: HeaderName, expected: &dyn Fn(&[u8]) -> bool| {
            let mut fields = headers.get_all(name).iter();
            let is = fields.next().is_some_and(|field| expected(field.as_bytes()));
            is && fields.next().is_none()
        };
        is_only(UPGRADE, &|name| self.token.is(name))
            && lists(headers, CONNECTION, b"upgrade")
            && self
                .accept
                .as_ref()
                .is_none_or(|accept| is_only(SEC_WEBSOCKET_ACCEPT, &|found| found == accept.as_bytes()))
    }

    /// Makes the endpoint's 101 what the client gets, after its fields were prepared. Returns the client's stream to come, if
    /// it is one of HTTP/2.
    pub(super) fn grant(self, head: &mut response::Parts) -> Option<OnUpgrade> {
        head.headers.remove(CONTENT_LENGTH);
        if self.on.is_some() {
            head.status = StatusCode::OK;
            head.headers.remove(SEC_WEBSOCKET_ACCEPT);
        } else {
            head.headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
            head.headers.insert(UPGRADE, self.token.value().clone());
        }
        self.on
    }
}

/// What a 426 tells the client to change to (RFC 9110 §15.5.22): what the endpoint takes and the service allows.
pub(super) fn required(head: &response::Parts, allowed: &[UpgradeToken]) -> Option<HeaderValue> {
    if head.status != StatusCode::UPGRADE_REQUIRED {
        return None;
    }
    let mut offered = elements(&head.headers, UPGRADE);
    let token = offered.find_map(|offered| allowed.iter().find(|token| token.is(offered)))?;
    Some(token.value().clone())
}

/// RFC 6455 §4.2.2.
pub(super) fn accept(key: &str) -> String {
    let sum = digest(&SHA1_FOR_LEGACY_USE_ONLY, &[key.as_bytes(), WEBSOCKET_GUID].concat());
    BASE64.encode(sum.as_ref())
}

/// The elements of a list field (RFC 9110 §5.6.1).
fn elements(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &[u8]> {
    headers
        .get_all(name)
        .iter()
        .flat_map(|field| field.as_bytes().split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
}

fn lists(headers: &HeaderMap, name: HeaderName, element: &[u8]) -> bool {
    elements(headers, name).any(|found| found.eq_ignore_ascii_case(element))
}

#[cfg(test)]
mod tests {
    use http::{Request, Response};

    use super::*;

    fn allowed(tokens: &[&str]) -> Vec<UpgradeToken> {
        tokens.iter().map(|token| token.parse().unwrap()).collect()
    }

    #[track_caller]
    fn asks(request: request::Builder, has_body: bool, tokens: &[&str], expected: Option<&str>) {
        let mut head = request.body(()).unwrap().into_parts().0;
        let got = Upgrade::asked(&mut head, has_body, &allowed(tokens)).unwrap();
        assert_eq!(got.map(|upgrade| upgrade.token.to_string()).as_deref(), expected);
    }

    fn with(connection: &str, upgrade: &str) -> request::Builder {
        Request::get("/").header("connection", connection).header("upgrade", upgrade)
    }

    #[test]
    fn only_what_is_allowed_is_asked_for() {
        let both = &["websocket", "IRC/6.9"][..];
        asks(with("Upgrade", "WebSocket"), false, both, Some("websocket"));
        asks(with("close, upgrade", "h2c, irc/6.9, websocket"), false, both, Some("IRC/6.9"));
        asks(
            with("x", "x").header("connection", "upgrade").header("upgrade", "websocket"),
            false,
            both,
            Some("websocket"),
        );
        asks(with("upgrade", "websocket"), false, &[], None);
        asks(with("upgrade", "websocket/13, irc"), false, both, None);
        asks(with("keep-alive", "websocket"), false, both, None);
        asks(with("upgrade", ""), false, both, None);
        asks(with("upgrade", "websocket"), true, both, None);
        asks(with("upgrade", "websocket").version(Version::HTTP_10), false, both, None);
        asks(with("upgrade", "websocket").version(Version::HTTP_2), false, both, None);
        asks(with("upgrade", "websocket").method("POST"), false, both, None);
        asks(with("upgrade", "irc/6.9").method("POST"), false, both, Some("IRC/6.9"));
    }

    #[test]
    fn an_answer_is_one_to_what_was_asked() {
        #[track_caller]
        fn check(upgrade: &Upgrade, status: u16, fields: &[(&'static str, &str)], expected: bool) {
            let mut response = Response::builder().status(status);
            for (name, value) in fields {
                response = response.header(*name, *value);
            }
            let (head, ()) = response.body(()).unwrap().into_parts();
            assert_eq!(upgrade.is_answered_by(head.status, &head.headers), expected, "{fields:?}");
        }
        let mut upgrade = Upgrade { token: UpgradeToken::websocket(), on: None, accept: None };
        let connection = ("connection", "Upgrade");
        check(&upgrade, 101, &[connection, ("upgrade", "WebSocket")], true);
        check(&upgrade, 101, &[("upgrade", "websocket")], false);
        check(&upgrade, 101, &[connection], false);
        check(&upgrade, 101, &[connection, ("upgrade", "x")], false);
        check(&upgrade, 101, &[connection, ("upgrade", "websocket, x")], false);
        check(&upgrade, 101, &[connection, ("upgrade", "websocket"), ("upgrade", "websocket")], false);
        check(&upgrade, 200, &[], true);
        check(&upgrade, 426, &[], true);

        upgrade.accept = Some(HeaderValue::try_from(accept("dGhlIHNhbXBsZSBub25jZQ==")).unwrap());
        let proof = ("sec-websocket-accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        check(&upgrade, 101, &[connection, ("upgrade", "websocket"), proof], true);
        check(&upgrade, 101, &[connection, ("upgrade", "websocket")], false);
        check(&upgrade, 101, &[connection, ("upgrade", "websocket"), ("sec-websocket-accept", "x")], false);
        check(&upgrade, 101, &[connection, ("upgrade", "websocket"), proof, proof], false);
    }
}
