//! Names of images, by the grammar of `distribution/reference`, as far as a registry has to be asked by them.

use std::net::IpAddr;

/// What a name without a registry means.
const HUB: &str = "docker.io";

/// An image in a registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reference {
    /// `HOST` or `HOST:PORT`, as people write it.
    pub(super) registry: String,
    /// Its name there.
    pub(super) repository: String,
    /// `latest` if nothing is said.
    pub(super) tag: String,
    /// A digest in the name goes before the tag.
    pub(super) digest: Option<String>,
}

impl Reference {
    /// # Errors
    /// What is wrong with it.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let wrong = |why: &str| format!("{text:?} is no image: {why}");
        let (named, digest) = match text.split_once('@') {
            Some((named, digest)) => (named, Some(parse_digest(digest)?)),
            None => (text, None),
        };
        let last = named.rfind('/').map_or(0, |at| at + 1);
        let (name, tag) = match named[last..].split_once(':') {
            Some((name, tag)) => (&named[..last + name.len()], tag),
            None => (named, "latest"),
        };
        if !is_tag(tag) {
            return Err(wrong("a tag has 1 to 128 letters, digits, `_`, `.` and `-`"));
        }
        let (registry, path) = match name.split_once('/') {
            Some((first, rest)) if is_host(first) => (first, rest),
            _ => (HUB, name),
        };
        let registry = if registry == "index.docker.io" { HUB } else { registry };
        let is_registry = |byte: u8| byte.is_ascii_alphanumeric() || b".-:[]".contains(&byte);
        let starts = registry.starts_with(|char: char| char.is_ascii_alphanumeric() || char == '[');
        if !starts || registry.contains("..") || !registry.bytes().all(is_registry) {
            return Err(wrong("its registry is no host"));
        }
        let is_official = registry == HUB && !path.contains('/');
        let repository = if is_official { format!("library/{path}") } else { path.to_owned() };
        if repository.len() > 255 || !repository.split('/').all(is_component) {
            return Err(wrong(
                "a name has lower-case letters and digits, with `.`, `_`, `__` or `-` between them",
            ));
        }
        Ok(Self { registry: registry.to_owned(), repository, tag: tag.to_owned(), digest })
    }

    /// Whether its registry is on this machine.
    pub(super) fn is_local(&self) -> bool {
        is_loopback(&self.registry)
    }

    /// Whom to ask.
    pub(super) fn host(&self) -> &str {
        // Docker Hub's registry has another name than its images.
        if self.registry == HUB { "registry-1.docker.io" } else { &self.registry }
    }

    /// By what its registry's credentials are kept in Docker's configuration.
    pub(super) fn key(&self) -> &str {
        if self.registry == HUB { "https://index.docker.io/v1/" } else { &self.registry }
    }

    /// What is asked for: the digest, else the tag.
    pub(super) fn wanted(&self) -> &str {
        self.digest.as_deref().unwrap_or(&self.tag)
    }

    /// As people write it.
    pub(super) fn shown(&self) -> String {
        let mark = if self.digest.is_some() { '@' } else { ':' };
        format!("{}/{}{mark}{}", self.registry, self.repository, self.wanted())
    }
}

/// `sha256:` and 64 hexadecimal digits.
pub(super) fn parse_digest(text: &str) -> Result<String, String> {
    let text = text.trim();
    let is_hex = |hex: &str| hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_hexdigit());
    match text.split_once(':') {
        Some(("sha256", hex)) if is_hex(hex) => Ok(format!("sha256:{}", hex.to_ascii_lowercase())),
        _ => Err(format!("{text:?} is no digest: sha256: and 64 hexadecimal digits")),
    }
}

/// Whether `HOST` or `HOST:PORT` is this machine.
pub(super) fn is_loopback(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    let is_local = |name: &str| name == "localhost" || name.ends_with(".localhost");
    is_local(&name.to_ascii_lowercase()) || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// A first component is a registry if it could be no part of a name on Docker Hub.
fn is_host(first: &str) -> bool {
    first == "localhost" || first.contains(['.', ':']) || first.bytes().any(|byte| byte.is_ascii_uppercase())
}

fn is_tag(tag: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let starts = tag.bytes().next().is_some_and(is_word);
    starts && tag.len() <= 128 && tag.bytes().all(|byte| is_word(byte) || byte == b'.' || byte == b'-')
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`.
fn is_component(component: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let ends = |byte: Option<u8>| byte.is_some_and(is_plain);
    let separators = component.split(|char: char| char.is_ascii_lowercase() || char.is_ascii_digit());
    let is_separator =
        |text: &str| matches!(text, "" | "." | "_" | "__") || text.bytes().all(|byte| byte == b'-');
    ends(component.bytes().next())
        && ends(component.bytes().last())
        && separators.into_iter().all(is_separator)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_read_as_docker_reads_them() {
        #[track_caller]
        fn check(text: &str, expected: Option<(&str, &str, &str)>) {
            let found = Reference::parse(text);
            let found = found.as_ref().map(|found| (&*found.registry, &*found.repository, found.wanted()));
            assert_eq!(found.ok(), expected, "{text}");
        }
        let digest = format!("sha256:{}", "0af".repeat(21) + "b");
        check("shop", Some(("docker.io", "library/shop", "latest")));
        check("shop:2.0.1", Some(("docker.io", "library/shop", "2.0.1")));
        check("acme/shop", Some(("docker.io", "acme/shop", "latest")));
        check("index.docker.io/acme/shop", Some(("docker.io", "acme/shop", "latest")));
        check("localhost/shop:1", Some(("localhost", "shop", "1")));
        check("localhost:5000/a/b/shop:1", Some(("localhost:5000", "a/b/shop", "1")));
        check("[::1]:5000/shop:1", Some(("[::1]:5000", "shop", "1")));
        check("ghcr.io/acme/shop", Some(("ghcr.io", "acme/shop", "latest")));
        check("ghcr.io/acme/a.b_c__d--e:x_Y", Some(("ghcr.io", "acme/a.b_c__d--e", "x_Y")));
        check(&format!("ghcr.io/shop:1@{digest}"), Some(("ghcr.io", "shop", &digest)));
        for wrong in [
            "",
            ":",
            "shop:",
            "shop:-1",
            "ghcr.io/",
            "ghcr.io/Acme/shop",
            "a//b",
            "shop@sha256:12",
            "shop@md5:1",
            "-shop",
            "shop-",
            "a___b",
            "a..b",
            "sh op",
            "ghcr.io/shop?x=1",
            "evil.com#/shop",
            "user@ghcr.io/shop",
            "../shop",
            "ghcr.io/../shop",
        ] {
            check(wrong, None);
        }
        check(&format!("shop:{}", "x".repeat(129)), None);
        check(&"x".repeat(300), None);
    }

    #[test]
    fn only_this_machine_is_local() {
        for local in ["localhost", "localhost:5000", "127.0.0.1:5000", "127.9.9.9", "[::1]:1", "x.localhost"]
        {
            assert!(is_loopback(local), "{local}");
        }
        for other in
            ["localhost.example.com", "10.0.0.1:5000", "notlocalhost", "[fe80::1]:1", "", "127.0.0.1.nip.io"]
        {
            assert!(!is_loopback(other), "{other}");
        }
    }
}
