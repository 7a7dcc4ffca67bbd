//! The app of the example release, and what stands around it: `README.md` beside it says how to run them.
//!
//! One program in several versions. From 2.0.2 on it reads a column that migration 2 brings, so the migration has to come first, and 2.0.1 has to
//! get on with it. A file `broken-VERSION` in the folder that `--faults` names makes a version answer 500: a release that has to be taken back.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{self, Request, State};
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use clap::{Parser, Subcommand};
use rusqlite::{Connection, OpenFlags};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::Notify;

type Failure = Box<dyn Error + Send + Sync>;

/// A small shop, its database, and what a release of it needs nearby.
#[derive(Parser)]
#[command(name = "shop")]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Answers requests as one version of the app does.
    Serve {
        /// The database.
        #[arg(long)]
        db: PathBuf,
        /// For instance 2.0.1.
        #[arg(long)]
        version: Version,
        /// Where it listens.
        #[arg(long)]
        socket: PathBuf,
        /// Where a file `broken-VERSION` makes it answer 500.
        #[arg(long)]
        faults: Option<PathBuf>,
        /// Leaves the process group: whatever starts it does not take it along when it ends.
        #[arg(long)]
        detach: bool,
    },
    /// Asks an instance to end.
    Stop {
        /// Where it listens.
        socket: PathBuf,
    },
    /// Brings the database's schema forward, or one migration back.
    Migrate {
        /// Which way.
        direction: Direction,
        /// The database.
        #[arg(long)]
        db: PathBuf,
        /// The folder with NNNN_NAME.sql, and with down/NNNN_NAME.sql.
        #[arg(long)]
        files: PathBuf,
        /// No further than this migration.
        #[arg(long)]
        to: Option<u32>,
    },
    /// Ends with 0 if the schema has what a version reads.
    Fits {
        /// The database.
        #[arg(long)]
        db: PathBuf,
        /// For instance 2.0.1.
        #[arg(long)]
        version: Version,
    },
    /// An image registry (/v2) and a flag provider (/ofrep/v1) on loopback.
    Neighbours {
        /// Where they listen; 0: anywhere.
        #[arg(long, default_value_t = 0)]
        port: u16,
        /// The file that is told where, once they do.
        #[arg(long)]
        tell: PathBuf,
        /// Leaves the process group.
        #[arg(long)]
        detach: bool,
    },
    /// Prints the digest under which the registry has an image, such as shop:2.0.2.
    Digest {
        /// NAME:TAG.
        image: String,
    },
    /// Visits a shop, so many times a second, until its folder is gone.
    Visit {
        /// HOST:PORT.
        address: String,
        /// So many times.
        #[arg(long, default_value_t = 100)]
        rps: u32,
        /// It ends when this file is gone.
        #[arg(long)]
        until_gone: PathBuf,
        /// Leaves the process group.
        #[arg(long)]
        detach: bool,
    },
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Direction {
    Up,
    Down,
}

/// Numbers with dots; compared number by number.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Version(Vec<u32>);

impl std::str::FromStr for Version {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let numbers = text.split('.').map(str::parse).collect::<Result<_, _>>();
        numbers.map(Self).map_err(|_| format!("{text} is no version such as 2.0.1"))
    }
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let numbers: Vec<_> = self.0.iter().map(u32::to_string).collect();
        f.write_str(&numbers.join("."))
    }
}

impl Version {
    /// What it reads of the database.
    fn query(&self) -> &'static str {
        if *self >= Self(vec![2, 0, 2]) {
            "SELECT name, price_cents * (100 - discount_percent) / 100 FROM items ORDER BY name"
        } else {
            "SELECT name, price_cents FROM items ORDER BY name"
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match done(Arguments::parse().verb).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("shop: {failure}");
            ExitCode::FAILURE
        }
    }
}

async fn done(verb: Verb) -> Result<(), Failure> {
    match verb {
        Verb::Serve { db, version, socket, faults, detach } => {
            leave(detach);
            let faults = faults.map(|folder| folder.join(format!("broken-{version}")));
            serve(App { db, version, faults, over: Notify::new() }, &socket).await
        }
        Verb::Stop { socket } => stop(&socket).await,
        Verb::Migrate { direction: Direction::Up, db, files, to } => up(&db, &files, to),
        Verb::Migrate { direction: Direction::Down, db, files, .. } => down(&db, &files),
        Verb::Fits { db, version } => read(&db, &version).map(drop),
        Verb::Neighbours { port, tell, detach } => {
            leave(detach);
            neighbours(port, &tell).await
        }
        Verb::Digest { image } => {
            let (name, tag) = image.rsplit_once(':').ok_or("an image is NAME:TAG")?;
            println!("{}", digest(&manifest(name, tag)));
            Ok(())
        }
        Verb::Visit { address, rps, until_gone, detach } => {
            leave(detach);
            visit(&address, rps, &until_gone).await
        }
    }
}

/// A phase's command is ended with everything in its process group. What is started to stay is in one of its own.
fn leave(detach: bool) {
    if detach {
        // Whoever leads a group already has left.
        _ = rustix::process::setsid();
    }
}

// The app.

struct App {
    db: PathBuf,
    version: Version,
    faults: Option<PathBuf>,
    over: Notify,
}

async fn serve(app: App, socket: &Path) -> Result<(), Failure> {
    let app = Arc::new(app);
    // What one that was killed left behind.
    if socket.exists() && UnixStream::connect(socket).await.is_err() {
        fs::remove_file(socket)?;
    }
    let listener = UnixListener::bind(socket)?;
    let router = Router::new()
        .route("/up", get(show))
        .route("/", get(show))
        .route("/stop", post(async |State(app): State<Arc<App>>| app.over.notify_one()))
        .with_state(app.clone());
    axum::serve(listener, router).with_graceful_shutdown(async move { app.over.notified().await }).await?;
    fs::remove_file(socket)?;
    Ok(())
}

async fn show(State(app): State<Arc<App>>) -> Response {
    let version = app.version.to_string();
    if app.faults.as_ref().is_some_and(|file| file.exists()) {
        return (StatusCode::INTERNAL_SERVER_ERROR, format!("{version} is broken\n")).into_response();
    }
    match read(&app.db, &app.version) {
        Ok(items) => Json(json!({ "version": version, "items": items })).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{version}: {error}\n")).into_response(),
    }
}

/// Names and prices in cents, as a version reads them.
fn read(db: &Path, version: &Version) -> Result<BTreeMap<String, i64>, Failure> {
    let db = Connection::open_with_flags(db, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    db.busy_timeout(Duration::from_secs(5))?;
    let mut statement =
        db.prepare(version.query()).map_err(|error| format!("{version} cannot read it: {error}"))?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

async fn stop(socket: &Path) -> Result<(), Failure> {
    let mut stream = UnixStream::connect(socket).await?;
    let request = "POST /stop HTTP/1.1\r\nhost: shop\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).await?;
    stream.read_to_end(&mut Vec::new()).await?;
    Ok(())
}

// Its database.

/// The migrations of a folder, by their numbers.
fn migrations(folder: &Path) -> Result<BTreeMap<u32, PathBuf>, Failure> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if let Some((number, _)) = name.split_once('_')
            && let Ok(number) = number.parse()
        {
            found.insert(number, path);
        }
    }
    Ok(found)
}

fn open(db: &Path) -> Result<(Connection, u32), Failure> {
    let db = Connection::open(db)?;
    db.busy_timeout(Duration::from_secs(5))?;
    db.pragma_update(None, "journal_mode", "wal")?;
    let at = db.pragma_query_value(None, "user_version", |row| row.get(0))?;
    Ok((db, at))
}

/// Runs a file whole or not at all.
fn run(db: &mut Connection, file: &Path, then_at: u32) -> Result<(), Failure> {
    let transaction = db.transaction()?;
    transaction.execute_batch(&fs::read_to_string(file)?)?;
    transaction.pragma_update(None, "user_version", then_at)?;
    transaction.commit()?;
    Ok(())
}

fn up(db: &Path, files: &Path, to: Option<u32>) -> Result<(), Failure> {
    let (mut db, at) = open(db)?;
    for (number, file) in migrations(files)?.range(at + 1..=to.unwrap_or(u32::MAX - 1)) {
        run(&mut db, file, *number)?;
        println!("migrated to {number}");
    }
    Ok(())
}

fn down(db: &Path, files: &Path) -> Result<(), Failure> {
    let (mut db, at) = open(db)?;
    let files = migrations(&files.join("down"))?;
    let file = files.get(&at).ok_or_else(|| format!("there is no way back from {at}"))?;
    run(&mut db, file, at - 1)?;
    println!("migrated back to {}", at - 1);
    Ok(())
}

// What stands around it.

/// The flags, and whether each is on.
type Flags = Arc<Mutex<BTreeMap<String, bool>>>;

async fn neighbours(port: u16, tell: &Path) -> Result<(), Failure> {
    let flags = Flags::new(Mutex::new([("new_checkout".to_owned(), true)].into()));
    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    let address = listener.local_addr()?;
    let router = Router::new()
        .route("/v2/", get(async || Json(json!({}))))
        .route("/ofrep/v1/evaluate/flags/{key}", post(evaluate))
        .route("/flags/off", post(switch_off))
        .fallback(image)
        .with_state(flags);
    let half = tell.with_extension("half");
    fs::write(&half, address.to_string())?;
    fs::rename(&half, tell)?;
    let gone = tell.to_owned();
    axum::serve(listener, router).with_graceful_shutdown(is_gone(gone)).await?;
    Ok(())
}

async fn is_gone(file: PathBuf) {
    while file.exists() {
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// OpenFeature Remote Evaluation Protocol, one flag.
async fn evaluate(State(flags): State<Flags>, extract::Path(key): extract::Path<String>) -> Response {
    let value = flags.lock().unwrap_or_else(PoisonError::into_inner).get(&key).copied();
    match value {
        Some(on) => Json(json!({ "key": key, "value": on, "reason": "STATIC" })).into_response(),
        None => {
            let problem = json!({ "key": key, "errorCode": "FLAG_NOT_FOUND" });
            (StatusCode::NOT_FOUND, Json(problem)).into_response()
        }
    }
}

/// What the daemon's hook asks for when the breaker trips.
async fn switch_off(State(flags): State<Flags>, Json(asked): Json<Value>) -> StatusCode {
    let mut flags = flags.lock().unwrap_or_else(PoisonError::into_inner);
    for name in asked["flags"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        flags.insert(name.to_owned(), false);
    }
    StatusCode::OK
}

/// OCI distribution: `/v2/NAME/manifests/TAG`. Whatever is asked for is there.
async fn image(request: Request) -> Response {
    let path = request.uri().path().strip_prefix("/v2/");
    let Some((name, tag)) = path.and_then(|path| path.split_once("/manifests/")) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let manifest = manifest(name, tag);
    let fields = [
        (header::CONTENT_TYPE.as_str(), "application/vnd.oci.image.manifest.v1+json".to_owned()),
        ("docker-content-digest", digest(&manifest)),
    ];
    let body = if request.method() == Method::HEAD { Bytes::new() } else { Bytes::from(manifest) };
    (fields, body).into_response()
}

/// The manifest of an image with nothing in it but its name.
fn manifest(name: &str, tag: &str) -> String {
    let empty = json!({
        "mediaType": "application/vnd.oci.empty.v1+json",
        "digest": "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a",
        "size": 2,
    });
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": empty,
        "layers": [empty],
        "annotations": { "org.opencontainers.image.title": name, "org.opencontainers.image.version": tag },
    });
    manifest.to_string()
}

fn digest(manifest: &str) -> String {
    format!("sha256:{}", data_encoding::HEXLOWER.encode(&Sha256::digest(manifest.as_bytes())))
}

/// A visitor's request each time, on a connection of its own.
async fn visit(address: &str, rps: u32, until_gone: &Path) -> Result<(), Failure> {
    let mut turn = tokio::time::interval(Duration::from_secs(1) / rps.max(1));
    while until_gone.exists() {
        turn.tick().await;
        let address = address.to_owned();
        tokio::spawn(async move {
            let Ok(mut stream) = TcpStream::connect(address).await else { return };
            let request = "GET / HTTP/1.1\r\nhost: shop.example.com\r\nconnection: close\r\n\r\n";
            if stream.write_all(request.as_bytes()).await.is_ok() {
                _ = stream.read_to_end(&mut Vec::new()).await;
            }
        });
    }
    Ok(())
}
