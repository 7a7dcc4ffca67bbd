//! What a registry says of a manifest.
//!
//! Anonymous first; asked who we are, with a token from the service that the registry names (the token authentication of
//! `distribution/distribution`), or with the credentials themselves. Credentials go to the registry and to its token service only, and only
//! under TLS or within this machine. Redirects are not followed: manifests need none.

use std::path::Path;

use bytes::Bytes;
use data_encoding::{BASE64, HEXLOWER};
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, LOCATION, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::credentials::{Credentials, find};
use super::reference::{Reference, is_loopback, parse_digest};
use crate::outbound::{Address, HttpError, Outbound, causes, percent_encoded};

/// The specification asks registries to take manifests of up to 4 MiB.
const MANIFEST_BYTES_MAX: usize = 4 << 20;
const TOKEN_BYTES_MAX: usize = 1 << 20;

const ACCEPTED: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json";

/// The registry of an image.
pub(super) struct Registry<'a> {
    image: &'a Reference,
    is_plain: bool,
    docker: Option<&'a Path>,
    outbound: Outbound,
    /// What it let us in with.
    authorization: Option<HeaderValue>,
    /// Whether there were credentials for it.
    is_known: bool,
}

impl<'a> Registry<'a> {
    pub(super) fn new(image: &'a Reference, is_plain: bool, docker: Option<&'a Path>) -> Self {
        let outbound = Outbound::new();
        Self { image, is_plain, docker, outbound, authorization: None, is_known: false }
    }

    /// The digest of what the image's name means.
    pub(super) async fn digest(&mut self) -> Result<String, String> {
        let head = self.answer(Method::HEAD).await?;
        if head.status().is_success()
            && let Some(digest) = stated(head.headers())?
        {
            return Ok(digest);
        }
        // One that does not know the method, or does not say the digest.
        if head.status().is_success() || head.status() == StatusCode::METHOD_NOT_ALLOWED {
            return Ok(counted(&self.manifest().await?));
        }
        Err(self.refusal(&head))
    }

    /// The manifest itself.
    pub(super) async fn manifest(&mut self) -> Result<Bytes, String> {
        let answer = self.answer(Method::GET).await?;
        if !answer.status().is_success() {
            return Err(self.refusal(&answer));
        }
        let is = counted(answer.body());
        match stated(answer.headers())? {
            Some(said) if said != is => {
                Err(format!("{} says {said}, but sends {is}: something between is broken", self.image.host()))
            }
            Some(_) | None => Ok(answer.into_body()),
        }
    }

    async fn answer(&mut self, method: Method) -> Result<Response<Bytes>, String> {
        let scheme = if self.is_plain { "http" } else { "https" };
        let Reference { repository, .. } = self.image;
        let url =
            format!("{scheme}://{}/v2/{repository}/manifests/{}", self.image.host(), self.image.wanted());
        let address = Address::parse(&url).map_err(|error| causes(&error))?;
        let answer = self.ask(&address, &method).await?;
        if answer.status() != StatusCode::UNAUTHORIZED || self.authorization.is_some() {
            return Ok(answer);
        }
        self.authorization = self.let_in(answer.headers()).await?;
        match self.authorization {
            Some(_) => self.ask(&address, &method).await,
            None => Ok(answer),
        }
    }

    async fn ask(&self, address: &Address, method: &Method) -> Result<Response<Bytes>, String> {
        let mut request = Request::new(Full::default());
        *request.method_mut() = method.clone();
        request.headers_mut().insert(ACCEPT, HeaderValue::from_static(ACCEPTED));
        if let Some(authorization) = &self.authorization {
            request.headers_mut().insert(AUTHORIZATION, authorization.clone());
        }
        self.outbound
            .exchange(address, request, MANIFEST_BYTES_MAX)
            .await
            .map_err(|error| self.unreachable(&error))
    }

    /// What to answer to its challenges (RFC 9110 §11.6.1); `None`: nothing that we have.
    async fn let_in(&mut self, headers: &HeaderMap) -> Result<Option<HeaderValue>, String> {
        let host = self.image.host();
        let is_safe = !self.is_plain || self.image.is_local();
        let credentials = if is_safe { find(self.docker, self.image.key()).await? } else { None };
        self.is_known = credentials.is_some();
        let challenges =
            headers.get_all(WWW_AUTHENTICATE).into_iter().filter_map(|value| value.to_str().ok());
        let challenges = challenges.filter_map(|value| http_auth::parse_challenges(value).ok()).flatten();
        let challenges: Vec<_> = challenges.collect();
        let named = |scheme: &str| challenges.iter().find(|one| one.scheme.eq_ignore_ascii_case(scheme));
        if let Some(bearer) = named("bearer") {
            let of = |name: &str| {
                let found = bearer.params.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
                found.map(|(_, value)| value.to_unescaped())
            };
            let realm =
                of("realm").ok_or_else(|| format!("{host} asks for a token and does not say whose"))?;
            let scope = of("scope").unwrap_or_else(|| format!("repository:{}:pull", self.image.repository));
            let token = self.token(&realm, of("service").as_deref(), &scope, credentials).await?;
            return sensitive(&format!("Bearer {token}")).map(Some);
        }
        match (named("basic"), credentials) {
            (Some(_), Some(Credentials::Password { user, password })) => basic(&user, &password).map(Some),
            (Some(_), Some(Credentials::Identity(_)) | None) => Ok(None),
            (None, _) => Err(format!("{host} asks who we are in a way that is not known here")),
        }
    }

    async fn token(
        &self,
        realm: &str,
        service: Option<&str>,
        scope: &str,
        credentials: Option<Credentials>,
    ) -> Result<String, String> {
        let host = self.image.host();
        let mut address = Address::parse(realm).map_err(|_| format!("{host} names no token service"))?;
        let authority = address.uri.authority().map(|authority| authority.as_str()).unwrap_or_default();
        // Who asks for plain HTTP gets it, but only between local ones may secrets go over it.
        let is_plain = address.uri.scheme_str() == Some("http");
        if is_plain && !(self.is_plain && (is_loopback(authority) || credentials.is_none())) {
            return Err(format!(
                "{host} sends us to the token service {} without TLS; not followed",
                address.host
            ));
        }
        let mut form = format!("scope={}", percent_encoded(scope));
        if let Some(service) = service {
            form = format!("service={}&{form}", percent_encoded(service));
        }
        let mut request = Request::new(Full::default());
        match &credentials {
            Some(Credentials::Identity(token)) => {
                let form = format!(
                    "grant_type=refresh_token&client_id=tidegate&{form}&refresh_token={}",
                    percent_encoded(token)
                );
                *request.method_mut() = Method::POST;
                let kind = HeaderValue::from_static("application/x-www-form-urlencoded");
                request.headers_mut().insert(CONTENT_TYPE, kind);
                *request.body_mut() = Full::new(Bytes::from(form));
            }
            Some(Credentials::Password { user, password }) => {
                request.headers_mut().insert(AUTHORIZATION, basic(user, password)?);
                address = with_query(realm, &form)?;
            }
            None => address = with_query(realm, &form)?,
        }
        let answer = self.outbound.exchange(&address, request, TOKEN_BYTES_MAX).await;
        let answer = answer.map_err(|error| causes(&error))?;
        if !answer.status().is_success() {
            let (token_service, status) = (&address.host, answer.status());
            return Err(format!(
                "the token service {token_service} of {host} answered {status}; {}",
                self.advice()
            ));
        }
        let token: Token = serde_json::from_slice(answer.body())
            .map_err(|_| format!("the token service {} of {host} gave no token", address.host))?;
        let token = token.token.or(token.access_token).filter(|token| !token.is_empty());
        token.ok_or_else(|| format!("the token service {} of {host} gave no token", address.host))
    }

    fn refusal(&self, answer: &Response<Bytes>) -> String {
        let (host, shown) = (self.image.host(), self.image.shown());
        let header = |name| answer.headers().get(name).and_then(|value: &HeaderValue| value.to_str().ok());
        match answer.status() {
            StatusCode::NOT_FOUND => format!("{host} has no {shown}: not pushed yet, or another name"),
            status @ (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => {
                format!("{host} does not let us see {shown} ({}); {}", status.as_u16(), self.advice())
            }
            StatusCode::TOO_MANY_REQUESTS => {
                let after = header(RETRY_AFTER).and_then(|after| after.parse::<u64>().ok());
                let after = after.map(|after| format!("; it says to ask again after {after} s"));
                format!("{host} was asked too often (429){}; {}", after.unwrap_or_default(), self.advice())
            }
            status if status.is_redirection() => {
                let to = header(LOCATION).and_then(|to| Address::parse(to).ok());
                let to = to.map(|to| format!(" to {}", to.host)).unwrap_or_default();
                format!("{host} sends us on{to} ({status}), which is not followed; name that registry")
            }
            status => format!("{host} answered {status} to {shown}"),
        }
    }

    fn advice(&self) -> String {
        if self.is_plain && !self.image.is_local() {
            return "credentials are not sent without TLS".to_owned();
        }
        match self.is_known {
            true => "its credentials in Docker's configuration do not open it; log in again with `docker login`".to_owned(),
            false => "there are no credentials for it in Docker's configuration; log in with `docker login`, or name \
                      another folder in DOCKER_CONFIG"
                .to_owned(),
        }
    }

    fn unreachable(&self, error: &HttpError) -> String {
        let cure = match self.is_plain {
            true => "",
            false => "; a registry without TLS needs `plain_http: true`",
        };
        match error {
            HttpError::Unreachable { .. } => format!("{}{cure}", causes(error)),
            _ => causes(error),
        }
    }
}

#[derive(Deserialize)]
struct Token {
    token: Option<String>,
    access_token: Option<String>,
}

fn with_query(realm: &str, form: &str) -> Result<Address, String> {
    let mark = if realm.contains('?') { '&' } else { '?' };
    Address::parse(&format!("{realm}{mark}{form}")).map_err(|error| causes(&error))
}

fn basic(user: &str, password: &str) -> Result<HeaderValue, String> {
    sensitive(&format!("Basic {}", BASE64.encode(format!("{user}:{password}").as_bytes())))
}

fn sensitive(text: &str) -> Result<HeaderValue, String> {
    let mut value =
        HeaderValue::from_str(text).map_err(|_| "a token that cannot be in a header".to_owned())?;
    value.set_sensitive(true);
    Ok(value)
}

/// What it says the digest is; one of another kind than SHA-256 says nothing to compare with.
fn stated(headers: &HeaderMap) -> Result<Option<String>, String> {
    let Some(said) = headers.get("docker-content-digest") else { return Ok(None) };
    let said = said.to_str().map_err(|_| "the registry's digest is no text".to_owned())?;
    if !said.starts_with("sha256:") {
        return Ok(None);
    }
    parse_digest(said).map(Some)
}

fn counted(body: &[u8]) -> String {
    format!("sha256:{}", HEXLOWER.encode(&Sha256::digest(body)))
}
