//! Whether a registry has an image under the digest that the launch pins (OCI distribution specification 1.1).
//!
//! The digest is that of what the tag names, which for an image of several platforms is the index: the same that `docker pull` shows and
//! `image@sha256:…` pins.

mod credentials;
mod reference;
mod registry;

use std::path::Path;

use serde::Deserialize;

use reference::{Reference, parse_digest};
use registry::Registry;

/// Looks an image up. `docker` is the folder of Docker's configuration, where credentials are.
pub(super) async fn ask(
    image: &str,
    digest: &str,
    plain_http: Option<bool>,
    docker: Option<&Path>,
) -> Result<String, String> {
    let (image, pinned) = (Reference::parse(image)?, parse_digest(digest)?);
    let is_plain = plain_http.unwrap_or_else(|| image.is_local());
    let mut registry = Registry::new(&image, is_plain, docker);
    let found = registry.digest().await?;
    let shown = image.shown();
    if found == pinned {
        return Ok(format!("{shown} is {found}"));
    }
    let part = registry.manifest().await.ok().and_then(|body| platform(&body, &pinned));
    Err(match part {
        Some(platform) => format!(
            "{shown} is {found}; the pinned {pinned} is only its part for {platform}: pin the whole, or name the part as {}/{}@{pinned}",
            image.registry, image.repository
        ),
        None => format!(
            "{shown} is {found}, the pinned digest is {pinned}: somebody pushed another image under this name, or the pin is of another one"
        ),
    })
}

/// An image index, or a Docker manifest list.
#[derive(Deserialize)]
struct Index {
    manifests: Vec<Part>,
}

#[derive(Deserialize)]
struct Part {
    digest: String,
    platform: Option<Platform>,
}

#[derive(Deserialize)]
struct Platform {
    os: String,
    architecture: String,
}

/// For which platform an index has the digest.
fn platform(body: &[u8], pinned: &str) -> Option<String> {
    let index: Index = serde_json::from_slice(body).ok()?;
    let part = index.manifests.into_iter().find(|part| part.digest == pinned)?;
    let named = part.platform.map(|platform| format!("{}/{}", platform.os, platform.architecture));
    Some(named.unwrap_or_else(|| "one platform".to_owned()))
}

#[cfg(test)]
#[allow(dead_code, reason = "stories use other parts of it")]
#[path = "../../../../tests/support/registry.rs"]
mod stand_in;

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::stand_in::{Door, Manner, Registry, digest};
    use super::*;

    const MANIFEST: &str = r#"{"schemaVersion": 2, "config": {}}"#;

    fn logged_in(registry: &Registry, login: &str) -> TempDir {
        let folder = tempfile::tempdir().unwrap();
        let auth = data_encoding::BASE64.encode(login.as_bytes());
        let config = format!(r#"{{"auths": {{"http://{}/v1/": {{"auth": "{auth}"}}}}}}"#, registry.host());
        std::fs::write(folder.path().join("config.json"), config).unwrap();
        folder
    }

    #[tokio::test]
    async fn an_image_is_what_the_registry_says_it_is() {
        let registry = Registry::start();
        let pinned = registry.put("acme/shop", "2.0.2", MANIFEST);
        let image = registry.image("acme/shop", "2.0.2");
        let ask = async |image: &str, pin: &str| ask(image, pin, None, None).await;
        assert_eq!(ask(&image, &pinned).await.unwrap(), format!("{image} is {pinned}"));
        assert_eq!(registry.seen(), ["HEAD /v2/acme/shop/manifests/2.0.2 -"]);
        assert_eq!(
            ask(&image, &pinned.to_uppercase().replace("SHA", "sha")).await.unwrap(),
            format!("{image} is {pinned}")
        );

        let other = digest(b"x");
        let said = ask(&image, &other).await.unwrap_err();
        assert!(
            said.starts_with(&format!("{image} is {pinned}, the pinned digest is {other}: somebody")),
            "{said}"
        );
        let said = ask(&registry.image("acme/shop", "9"), &pinned).await.unwrap_err();
        assert!(said.contains("has no ") && said.contains("not pushed yet"), "{said}");
        let named = format!("{}/acme/shop@{pinned}", registry.host());
        assert_eq!(ask(&named, &pinned).await.unwrap(), format!("{named} is {pinned}"));
        assert!(ask(&image, "latest").await.unwrap_err().contains("is no digest"));

        registry.put("acme/shop", "2.0.2", "{}");
        assert!(ask(&image, &pinned).await.is_err(), "somebody pushed over it");
    }

    #[tokio::test]
    async fn the_pin_of_one_platform_is_told_from_that_of_the_whole() {
        let registry = Registry::start();
        let part = digest(b"amd64");
        let index = format!(
            r#"{{"manifests": [{{"digest": "{}", "platform": {{"os": "linux", "architecture": "arm64"}}}},
                {{"digest": "{part}", "platform": {{"os": "linux", "architecture": "amd64"}}}}]}}"#,
            digest(b"arm64")
        );
        let whole = registry.put("shop", "1", &index);
        let image = registry.image("shop", "1");
        assert!(ask(&image, &whole, None, None).await.is_ok());
        let said = ask(&image, &part, None, None).await.unwrap_err();
        assert!(said.contains(&format!("the pinned {part} is only its part for linux/amd64")), "{said}");
    }

    #[tokio::test]
    async fn registries_with_manners_of_their_own_are_understood_or_named() {
        let registry = Registry::start();
        let pinned = registry.put("shop", "1", MANIFEST);
        let image = registry.image("shop", "1");
        let ask = async || ask(&image, &pinned, None, None).await;
        for manner in [Manner::NoDigest, Manner::NoHead] {
            registry.answers(manner);
            assert!(ask().await.is_ok());
            assert_eq!(registry.seen().last().unwrap(), "GET /v2/shop/manifests/1 -");
        }
        registry.answers(Manner::Lies);
        assert!(ask().await.is_err());
        registry.answers(Manner::TooOften);
        assert!(ask().await.unwrap_err().contains("asked too often (429); it says to ask again after 60 s"));
        registry.answers(Manner::Elsewhere);
        let said = ask().await.unwrap_err();
        assert!(said.contains("to http://elsewhere.test (307") && !said.contains("secret"), "{said}");
    }

    #[tokio::test]
    async fn tokens_and_passwords_open_what_they_should_and_nothing_else() {
        let registry = Registry::start();
        let pinned = registry.put("shop", "1", MANIFEST);
        let image = registry.image("shop", "1");
        let ask =
            async |docker: Option<&TempDir>| ask(&image, &pinned, None, docker.map(TempDir::path)).await;

        registry.opens_to(Door::Token);
        assert!(ask(None).await.is_ok());
        let token = "GET /token?service=the%20registry&scope=repository%3Ashop%3Apull";
        let manifest = "HEAD /v2/shop/manifests/1";
        assert_eq!(
            registry.seen(),
            [format!("{manifest} -"), format!("{token} -"), format!("{manifest} Bearer")]
        );

        let (right, wrong) = (logged_in(&registry, "ada:hunter2"), logged_in(&registry, "ada:no"));
        registry.opens_to(Door::Login("ada", "hunter2"));
        assert!(ask(Some(&right)).await.is_ok());
        assert_eq!(registry.seen()[1], format!("{token} Basic"));
        let said = ask(Some(&wrong)).await.unwrap_err();
        assert!(said.contains("401") && said.contains("log in again with `docker login`"), "{said}");
        let said = ask(None).await.unwrap_err();
        assert!(said.contains("there are no credentials for it"), "{said}");

        registry.opens_to(Door::Basic("ada", "hunter2"));
        assert!(ask(Some(&right)).await.is_ok());
        let said = ask(Some(&wrong)).await.unwrap_err();
        assert!(said.contains("does not let us see") && !said.contains("hunter2"), "{said}");
        registry.seen();

        registry.opens_to(Door::Login("ada", "hunter2"));
        for realm in ["http://192.0.2.1/token", "http://elsewhere.test/token", "ftp://x/", "none"] {
            registry.sends_to(realm);
            let said = ask(Some(&right)).await.unwrap_err();
            assert!(
                said.contains("without TLS; not followed") || said.contains("no token service"),
                "{said}"
            );
            assert_eq!(registry.seen(), [format!("{manifest} -")]);
        }
    }
}
