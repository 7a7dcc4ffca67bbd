//! A registry of images, as far as its manifests go (OCI distribution specification), with the token service that stands beside registries.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use data_encoding::{BASE64, HEXLOWER};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use sha2::{Digest, Sha256};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

const TOKEN: &str = "a-token-of-the-registry";

/// Whom it lets in.
#[derive(Clone)]
pub enum Door {
    /// Everybody.
    Open,
    /// Whoever has a token, which everybody gets.
    Token,
    /// Whoever has a token, which only this user gets, for this password.
    Login(&'static str, &'static str),
    /// This user, with this password and without a token.
    Basic(&'static str, &'static str),
}

/// How it answers.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// As it should.
    Well,
    /// Without the digest.
    NoDigest,
    /// Not to HEAD.
    NoHead,
    /// With another digest than that of what it sends.
    Lies,
    /// With a redirect to `http://elsewhere.test`.
    Elsewhere,
    /// That it was asked too often.
    TooOften,
}

struct Shelf {
    /// By repository and then tag or digest.
    manifests: BTreeMap<(String, String), Bytes>,
    door: Door,
    manner: Manner,
    /// Another realm than its own.
    realm: Option<String>,
    /// Method and path with query of every request, and the scheme of its authorization.
    seen: Vec<String>,
}

/// A registry on this machine, spoken to without TLS. It ends with this.
pub struct Registry {
    address: SocketAddr,
    shelf: Arc<Mutex<Shelf>>,
    serving: JoinHandle<()>,
}

impl Registry {
    /// An empty one that lets everybody in. Needs a runtime around it.
    pub fn start() -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let listener = TcpListener::from_std(listener).unwrap();
        let shelf = Shelf {
            manifests: BTreeMap::new(),
            door: Door::Open,
            manner: Manner::Well,
            realm: None,
            seen: Vec::new(),
        };
        let shelf = Arc::new(Mutex::new(shelf));
        let serving = tokio::spawn(serve(listener, shelf.clone()));
        Self { address, shelf, serving }
    }

    /// Pushes a manifest under a tag, over what was there; gives its digest.
    pub fn put(&self, image: &str, tag: &str, manifest: &str) -> String {
        let manifest = Bytes::from(manifest.to_owned());
        let digest = digest(&manifest);
        let manifests = &mut self.shelf().manifests;
        manifests.insert((image.to_owned(), tag.to_owned()), manifest.clone());
        manifests.insert((image.to_owned(), digest.clone()), manifest);
        digest
    }

    /// `HOST:PORT`.
    pub fn host(&self) -> String {
        self.address.to_string()
    }

    /// An image's whole name: `HOST:PORT/IMAGE:TAG`.
    pub fn image(&self, image: &str, tag: &str) -> String {
        format!("{}/{image}:{tag}", self.address)
    }

    /// Lets others in from now on.
    pub fn opens_to(&self, door: Door) {
        self.shelf().door = door;
    }

    /// Answers otherwise from now on.
    pub fn answers(&self, manner: Manner) {
        self.shelf().manner = manner;
    }

    /// Sends people to another token service.
    pub fn sends_to(&self, realm: &str) {
        self.shelf().realm = Some(realm.to_owned());
    }

    /// What was asked since the last time: `GET /v2/shop/manifests/1 Bearer`.
    pub fn seen(&self) -> Vec<String> {
        std::mem::take(&mut self.shelf().seen)
    }

    fn shelf(&self) -> MutexGuard<'_, Shelf> {
        self.shelf.lock().unwrap()
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn serve(listener: TcpListener, shelf: Arc<Mutex<Shelf>>) {
    let address = listener.local_addr().unwrap();
    loop {
        let Ok((stream, _)) = listener.accept().await else { return };
        let shelf = shelf.clone();
        let service = service_fn(move |request: Request<Incoming>| {
            let answer = shelf.lock().unwrap().answer(&request, address);
            async move { Ok::<_, Infallible>(answer) }
        });
        tokio::spawn(
            hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service),
        );
    }
}

impl Shelf {
    fn answer(&mut self, request: &Request<Incoming>, address: SocketAddr) -> Response<Full<Bytes>> {
        let authorization =
            request.headers().get(AUTHORIZATION).map(|value| value.to_str().unwrap().to_owned());
        let scheme = authorization.as_deref().and_then(|value| value.split(' ').next()).unwrap_or("-");
        self.seen.push(format!("{} {} {scheme}", request.method(), request.uri()));
        let path = request.uri().path();
        let plain = |status: u16, body: &str| {
            Response::builder().status(status).body(Full::from(Bytes::from(body.to_owned()))).unwrap()
        };
        let login = |user: &str, password: &str| {
            let basic = format!("Basic {}", BASE64.encode(format!("{user}:{password}").as_bytes()));
            authorization.as_deref() == Some(&*basic)
        };
        if path == "/token" {
            let scoped = request.uri().query().is_some_and(|query| query.contains("scope=repository%3A"));
            let welcome = match self.door {
                Door::Login(user, password) => login(user, password),
                Door::Open | Door::Token | Door::Basic(..) => true,
            };
            return match welcome && scoped {
                true => plain(200, &format!("{{\"token\": \"{TOKEN}\", \"expires_in\": 60}}")),
                false => plain(401, "{\"errors\": [{\"code\": \"UNAUTHORIZED\"}]}"),
            };
        }
        let asked = path.strip_prefix("/v2/").and_then(|path| path.split_once("/manifests/"));
        let Some((image, wanted)) = asked else { return plain(404, "") };
        let has_token = authorization.as_deref() == Some(&*format!("Bearer {TOKEN}"));
        let realm = self.realm.clone().unwrap_or_else(|| format!("http://{address}/token"));
        let challenge = match self.door {
            Door::Open => None,
            Door::Token | Door::Login(..) if has_token => None,
            Door::Basic(user, password) if login(user, password) => None,
            Door::Token | Door::Login(..) => Some(format!(
                "Bearer realm=\"{realm}\",service=\"the registry\",scope=\"repository:{image}:pull\""
            )),
            Door::Basic(..) => Some("Basic realm=\"the registry\"".to_owned()),
        };
        if let Some(challenge) = challenge {
            let mut refused = plain(401, "{\"errors\": [{\"code\": \"UNAUTHORIZED\"}]}");
            refused.headers_mut().insert(WWW_AUTHENTICATE, challenge.parse().unwrap());
            return refused;
        }
        let manifest = match self.manner {
            Manner::Elsewhere => {
                let mut elsewhere = plain(307, "");
                elsewhere.headers_mut().insert("location", "http://elsewhere.test/secret".parse().unwrap());
                return elsewhere;
            }
            Manner::TooOften => {
                let mut busy = plain(429, "");
                busy.headers_mut().insert("retry-after", "60".parse().unwrap());
                return busy;
            }
            Manner::NoHead if request.method() == Method::HEAD => return plain(405, ""),
            _ => self.manifests.get(&(image.to_owned(), wanted.to_owned())),
        };
        let Some(manifest) = manifest else {
            return plain(404, "{\"errors\": [{\"code\": \"MANIFEST_UNKNOWN\"}]}");
        };
        let mut answer = Response::new(Full::from(manifest.clone()));
        *answer.status_mut() = StatusCode::OK;
        let kind = "application/vnd.oci.image.manifest.v1+json".parse().unwrap();
        answer.headers_mut().insert("content-type", kind);
        let said = match self.manner {
            Manner::NoDigest => return answer,
            Manner::Lies => digest(b"something else"),
            _ => digest(manifest),
        };
        answer.headers_mut().insert("docker-content-digest", said.parse().unwrap());
        answer
    }
}

/// `sha256:…` of a text.
pub fn digest(text: &[u8]) -> String {
    format!("sha256:{}", HEXLOWER.encode(&Sha256::digest(text)))
}
