//! Credentials from Docker's configuration: what `docker login` left there, or the helper that it names.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;

use data_encoding::BASE64;
use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;

/// How much of a helper's answer is read.
const ANSWER_BYTES_MAX: u64 = 256 * 1024;

/// The user's name that stands before an identity token.
const IDENTITY: &str = "<token>";

/// Who we are.
pub(super) enum Credentials {
    /// A name and a password, or what stands for one.
    Password { user: String, password: String },
    /// What a token service gives tokens for (OAuth 2 refresh token).
    Identity(String),
}

/// `config.json`, as far as it is needed.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Config {
    auths: BTreeMap<String, Auth>,
    cred_helpers: BTreeMap<String, String>,
    creds_store: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Auth {
    auth: String,
    username: String,
    password: String,
    identitytoken: String,
}

/// What a helper says.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    username: String,
    secret: String,
}

/// The credentials for a registry, from the folder of Docker's configuration.
///
/// # Errors
/// If there may be some, and they cannot be read.
pub(super) async fn find(folder: Option<&Path>, registry: &str) -> Result<Option<Credentials>, String> {
    let Some(path) = folder.map(|folder| folder.join("config.json")) else { return Ok(None) };
    let text = match std::fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(format!("read {}: {error}", path.display())),
    };
    // The parser's words might repeat what it read.
    let config: Config = serde_json::from_slice(&text)
        .map_err(|_| format!("{} is no configuration of Docker's", path.display()))?;
    let is_it = |key: &&String| host(key) == host(registry);
    let named = config.cred_helpers.keys().find(is_it).and_then(|key| config.cred_helpers.get(key));
    if let Some(helper) = named {
        return ask(helper, registry).await;
    }
    if let Some(helper) = &config.creds_store
        && let Some(found) = ask(helper, registry).await?
    {
        return Ok(Some(found));
    }
    let auth = config.auths.keys().find(is_it).and_then(|key| config.auths.get(key));
    auth.map_or(Ok(None), |auth| {
        read(auth).map_err(|why| format!("{}: the credentials for {}: {why}", path.display(), host(registry)))
    })
}

/// Keys are hosts, or URLs of any age: `https://index.docker.io/v1/`, `ghcr.io`.
fn host(key: &str) -> &str {
    let key = key.split_once("://").map_or(key, |(_, rest)| rest);
    let host = key.split('/').next().unwrap_or_default();
    match host {
        "index.docker.io" | "registry-1.docker.io" => "docker.io",
        host => host,
    }
}

fn read(auth: &Auth) -> Result<Option<Credentials>, &'static str> {
    if !auth.identitytoken.is_empty() {
        return Ok(Some(Credentials::Identity(auth.identitytoken.clone())));
    }
    if !auth.auth.is_empty() {
        let decoded = BASE64.decode(auth.auth.as_bytes()).map_err(|_| "its `auth` is no base64")?;
        let decoded = String::from_utf8(decoded).map_err(|_| "its `auth` is no text")?;
        let (user, password) = decoded.split_once(':').ok_or("its `auth` is no NAME:PASSWORD")?;
        let (user, password) = (user.to_owned(), password.trim_end_matches('\0').to_owned());
        return Ok(Some(Credentials::Password { user, password }));
    }
    let (user, password) = (auth.username.clone(), auth.password.clone());
    Ok((!user.is_empty()).then_some(Credentials::Password { user, password }))
}

/// Asks `docker-credential-NAME`, which gets the registry on its standard input. It ends with the check.
async fn ask(helper: &str, registry: &str) -> Result<Option<Credentials>, String> {
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if helper.is_empty() || !helper.bytes().all(is_name) {
        return Err(format!("{helper:?} is no credential helper"));
    }
    let program = format!("docker-credential-{helper}");
    let failed =
        |error: std::io::Error| format!("run {program}, which Docker's configuration names: {error}");
    let mut child = Command::new(&program)
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .map_err(failed)?;
    if let Some(mut stdin) = child.stdin.take() {
        // One that knows without being told is free not to read.
        let _ = stdin.write_all(registry.as_bytes()).await;
    }
    let mut said = Vec::new();
    if let Some(stdout) = child.stdout.take() {
        stdout.take(ANSWER_BYTES_MAX).read_to_end(&mut said).await.map_err(failed)?;
    }
    let status = child.wait().await.map_err(failed)?;
    if !status.success() {
        // The protocol's own words, on the standard output.
        let none = b"credentials not found";
        return match said.windows(none.len()).any(|words| words == none) {
            true => Ok(None),
            false => Err(format!("{program}, which Docker's configuration names, ended with {status}")),
        };
    }
    let answer: Answer =
        serde_json::from_slice(&said).map_err(|_| format!("{program} answered with no credentials"))?;
    Ok(Some(match answer.username.as_str() {
        IDENTITY => Credentials::Identity(answer.secret),
        _ => Credentials::Password { user: answer.username, password: answer.secret },
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn credentials_are_found_under_every_form_of_a_registrys_name() {
        let folder = tempfile::tempdir().unwrap();
        let config = r#"{"auths": {
            "https://index.docker.io/v1/": {"auth": "aHViOnNlOmNyZXQ="},
            "ghcr.io": {"username": "ada", "password": "x"},
            "https://acr.example.com": {"auth": "", "identitytoken": "id"},
            "empty.example.com": {},
            "broken.example.com": {"auth": "?"}
        }, "credHelpers": {"helped.example.com": "no/such", "absent.example.com": "not-installed-anywhere"}}"#;
        std::fs::write(folder.path().join("config.json"), config).unwrap();
        let of = async |registry: &str| match find(Some(folder.path()), registry).await {
            Ok(Some(Credentials::Password { user, password })) => format!("{user} {password}"),
            Ok(Some(Credentials::Identity(token))) => format!("identity {token}"),
            Ok(None) => "none".to_owned(),
            Err(why) => why,
        };
        assert_eq!(of("https://index.docker.io/v1/").await, "hub se:cret");
        assert_eq!(of("ghcr.io").await, "ada x");
        assert_eq!(of("acr.example.com").await, "identity id");
        assert_eq!(of("empty.example.com").await, "none");
        assert_eq!(of("evil.ghcr.io").await, "none");
        assert!(of("broken.example.com").await.ends_with("its `auth` is no base64"));
        assert_eq!(of("helped.example.com").await, "\"no/such\" is no credential helper");
        let absent = of("absent.example.com").await;
        assert!(absent.starts_with("run docker-credential-not-installed-anywhere, which"), "{absent}");
        assert!(find(None, "ghcr.io").await.unwrap().is_none());
        std::fs::write(folder.path().join("config.json"), "secret").unwrap();
        let why = of("ghcr.io").await;
        assert!(why.ends_with("is no configuration of Docker's") && !why.contains("secret"), "{why}");
        std::fs::remove_file(folder.path().join("config.json")).unwrap();
        assert_eq!(of("ghcr.io").await, "none");
    }
}
