//! What holds for every host and every path.

use super::{Host, HostPattern, PathPrefix, normalise};

/// A host is compared in the one form that all its spellings have, and so is what a configuration may say.
pub fn host(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Some(host) = Host::parse(text) {
        let name = host.as_str();
        assert!(!name.is_empty() && name.is_ascii() && !name.bytes().any(|byte| byte.is_ascii_uppercase()));
        assert!(!name.ends_with('.') && text.to_ascii_lowercase().starts_with(name));
        assert!(name.starts_with('[') || !name.contains([':', '/', '@', '?', '#', '\\']), "{name}");
        assert_eq!(Host::parse(name).as_ref(), Some(&host), "read twice");
        for spelling in [name.to_ascii_uppercase(), format!("{name}:443"), format!("{name}:")] {
            assert_eq!(Host::parse(&spelling).as_ref(), Some(&host), "{spelling}");
        }
        assert_eq!(Host::parse(&format!("{name}:65536")), None);
    }
    if let Ok(pattern) = text.parse::<HostPattern>() {
        assert_eq!(pattern.to_string().parse().as_ref(), Ok(&pattern), "written and read");
        match &pattern {
            HostPattern::Exact(name) => {
                assert_eq!(Host::parse(text).as_ref().map(Host::as_str), Some(&**name))
            }
            HostPattern::Below(_) => assert!(text.starts_with("*.") && Host::parse(text).is_none()),
            HostPattern::Any => assert_eq!(text, "*"),
        }
    }
}

/// A path that was normalised has nothing left that could be read in another way.
pub fn path(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(once) = normalise(text) else {
        assert!(text.parse::<PathPrefix>().is_err());
        return;
    };
    assert!(once.starts_with('/') && once.len() <= text.len());
    assert!(!once.contains(['\\', '\0']) && !once.split('/').any(|segment| matches!(segment, "." | "..")));
    assert_eq!(normalise(&once).as_deref(), Ok(&*once), "normalised twice");
    for (at, _) in once.match_indices('%') {
        let digits = once.get(at + 1..at + 3).unwrap_or_default();
        let byte = u8::from_str_radix(digits, 16).unwrap_or_else(|_| panic!("{digits:?} behind a %"));
        assert!(!byte.is_ascii_alphanumeric() && !b"-._~/\\\0".contains(&byte), "{digits} is left");
        assert_eq!(digits, digits.to_ascii_uppercase());
    }

    let Ok(prefix) = text.parse::<PathPrefix>() else { panic!("{text:?} is a path and no prefix") };
    assert!(prefix.covers(&once) && PathPrefix::root().covers(&once));
    assert_eq!(prefix.to_string().parse().as_ref(), Ok(&prefix), "written and read");
    if prefix != PathPrefix::root() {
        assert!(prefix.covers(&format!("{prefix}/x")) && !prefix.covers(&format!("{prefix}x")));
    }
}
