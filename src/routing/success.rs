//! Which requests count as a success for the business: an order placed, not merely a page shown.

use std::ops::RangeInclusive;

use http::Method;

use super::PathPrefix;

/// A request that the proxy itself can see to be a success.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SuccessRule {
    /// The method; `None`: any.
    pub method: Option<Method>,
    /// At or below this path, by whole segments.
    pub path: PathPrefix,
    /// What the client is answered, both ends included.
    pub status: RangeInclusive<u16>,
}

impl SuccessRule {
    /// Whether a request with this method and normalised path will be a success if its answer is one.
    pub fn is_about(&self, method: &Method, path: &str) -> bool {
        self.method.as_ref().is_none_or(|own| own == method) && self.path.covers(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_is_about_a_method_and_whole_segments() {
        #[track_caller]
        fn check(own: Option<Method>, prefix: &str, method: Method, path: &str, expected: bool) {
            let rule = SuccessRule { method: own, path: prefix.parse().unwrap(), status: 200..=299 };
            assert_eq!(rule.is_about(&method, path), expected, "{method} {path}");
        }
        check(None, "/orders", Method::PUT, "/orders", true);
        check(Some(Method::POST), "/orders", Method::POST, "/orders/7", true);
        check(Some(Method::POST), "/orders", Method::GET, "/orders/7", false);
        check(Some(Method::POST), "/orders", Method::POST, "/orders-old", false);
        check(None, "/", Method::GET, "/anything", true);
    }
}
