//! How requests are copied to the candidate, beside the share that decides whose.

use std::time::Duration;

use http::Method;

/// A service's settings for mirroring. They change with a reload; the share does not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MirrorSettings {
    /// What may be mirrored; default: what is safe.
    pub methods: MirrorMethods,
    /// A larger request body is not mirrored, in bytes; default 64 KiB.
    pub body_bytes_max: usize,
    /// How long a copy may take, from the whole request to the end of its answer; default 10 s. A request body that takes
    /// longer to come is not mirrored.
    pub timeout: Duration,
    /// Copies under way at once, on all threads together; default 128, at least 1. There are no more: the rest is dropped.
    pub in_flight_max: u32,
    /// Whether times to the response head are compared; default true.
    pub compares_latency: bool,
    /// Whether bodies are compared, up to their first MiB; default false.
    pub compares_body: bool,
}

impl Default for MirrorSettings {
    fn default() -> Self {
        Self {
            methods: MirrorMethods::Safe,
            body_bytes_max: 64 * 1024,
            timeout: Duration::from_secs(10),
            in_flight_max: 128,
            compares_latency: true,
            compares_body: false,
        }
    }
}

/// Which methods are mirrored. Never CONNECT, nor what asks for another protocol.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum MirrorMethods {
    /// GET, HEAD and OPTIONS.
    #[default]
    Safe,
    /// Everything: what changes something happens twice.
    All,
    /// These.
    Listed(Vec<Method>),
}

impl MirrorMethods {
    /// Whether requests with this method are mirrored.
    pub fn allow(&self, method: &Method) -> bool {
        match self {
            _ if *method == Method::CONNECT => false,
            Self::Safe => is_safe(method),
            Self::All => true,
            Self::Listed(listed) => listed.contains(method),
        }
    }

    /// Whether any of them may change something (RFC 9110 §9.2.1).
    pub fn are_safe(&self) -> bool {
        match self {
            Self::Safe => true,
            Self::All => false,
            Self::Listed(listed) => listed.iter().all(is_safe),
        }
    }
}

fn is_safe(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_mirrored_is_safe_unless_somebody_said_otherwise() {
        #[track_caller]
        fn check(methods: &MirrorMethods, expected: [bool; 4], are_safe: bool) {
            let all = [Method::GET, Method::OPTIONS, Method::POST, Method::CONNECT];
            assert_eq!(all.map(|method| methods.allow(&method)), expected, "{methods:?}");
            assert_eq!(methods.are_safe(), are_safe, "{methods:?}");
        }
        check(&MirrorMethods::Safe, [true, true, false, false], true);
        check(&MirrorMethods::All, [true, true, true, false], false);
        check(
            &MirrorMethods::Listed(vec![Method::POST, Method::CONNECT]),
            [false, false, true, false],
            false,
        );
        check(&MirrorMethods::Listed(vec![Method::GET]), [true, false, false, false], true);
    }
}
