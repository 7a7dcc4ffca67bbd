//! From http to https: the same host and the same target, byte for byte.

use http::HeaderValue;
use http::request::Parts;
use http::uri::PathAndQuery;

use super::target::Target;

const HTTPS_PORT: u16 = 443;

/// Where a request is sent. The host has been read and checked, and is what stands before the port; the rest is
/// what the parser took, which holds neither blanks nor line ends. `None` for a request without a host.
pub(super) fn location(target: &Target<'_>, head: &Parts, port: u16) -> Option<HeaderValue> {
    let host = target.host.as_ref()?.as_str();
    let path = head.uri.path_and_query().map_or("/", PathAndQuery::as_str);
    let location = match port {
        HTTPS_PORT => format!("https://{host}{path}"),
        _ => format!("https://{host}:{port}{path}"),
    };
    HeaderValue::try_from(location).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::ClientLimits;
    use http::Request;

    #[test]
    fn host_and_target_stay_and_the_port_goes() {
        #[track_caller]
        fn check(uri: &str, host: &str, port: u16, expected: &str) {
            let head = Request::get(uri).header("host", host).body(()).unwrap().into_parts().0;
            let limits = ClientLimits::default();
            let target = Target::read(&head, &limits).unwrap();
            assert_eq!(location(&target, &head, port).unwrap(), expected);
        }
        check("/", "shop.example", 443, "https://shop.example/");
        check("/a%2e%2e?x=1&y", "Shop.Example.:8080", 443, "https://shop.example/a%2e%2e?x=1&y");
        check("//evil.example/", "shop.example:80", 8443, "https://shop.example:8443//evil.example/");
        check("/a", "[2001:db8::1]:80", 443, "https://[2001:db8::1]/a");
        check("http://shop.example:80/a?b", "shop.example:80", 443, "https://shop.example/a?b");
        check("http://shop.example", "shop.example", 443, "https://shop.example/");
    }
}
