//! The demo: the real proxy over real sockets, between two built-in apps and a gentle load.
//!
//! Only the apps and the load are made up. The proxy, the admin socket, the metrics and every verb are
//! what `run` starts; state and socket are the demo's own, so it disturbs nobody and leaves nothing behind.

mod apps;
mod load;
mod screen;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use self::apps::Faults;
use crate::admin::client::Client;
use crate::admin::socket;
use crate::app::{Extras, RunError, Running};
use crate::cli::Failure;
use crate::config::{self, Overrides};

/// How far the metrics' port is from the proxy's: 9900 for 8080.
const TELEMETRY_FROM_PORT: u16 = 9900 - 8080;
/// The name of the one service.
const SERVICE: &str = "demo";

/// Runs until somebody presses `q`, or stops it as any other daemon. `port` is the proxy's; telemetry, socket and
/// state follow from it, so that several demos run side by side.
pub fn run(port: u16) -> Result<(), Failure> {
    let telemetry = port.checked_add(TELEMETRY_FROM_PORT).ok_or_else(|| {
        let highest = u16::MAX - TELEMETRY_FROM_PORT;
        Failure::Usage(format!(
            "--port is at most {highest}: the metrics take the port {TELEMETRY_FROM_PORT} above it"
        ))
    })?;
    let seed = getrandom::u64().unwrap_or(0);
    let faults = Arc::new(Faults::default());
    let apps = apps::start(faults.clone(), seed)?;
    let socket = socket::demo_socket(port);
    let state = Scratch::new(&socket.with_extension("state"))?;

    let text = format!(
        "listen: 127.0.0.1:{port}\n\
         telemetry: 127.0.0.1:{telemetry}\n\
         services:\n  {SERVICE}:\n    \
             blue: {{endpoints: [http://{}], version: 1.0.0}}\n    \
             green: {{endpoints: [http://{}], version: 1.1.0}}\n    \
             health: {{path: /up}}\n",
        apps.blue, apps.green
    );
    let overrides = Overrides { socket: Some(socket), state: Some(state.0.clone()), ..Overrides::default() };
    let config = config::parse(&text, "the demo", Path::new("."), &overrides)?;
    let breaks = {
        let faults = faults.clone();
        Box::new(move |request| faults.set(request))
    };
    let running = Running::start(config, Extras { breaks: Some(breaks), ..Extras::default() })
        .map_err(RunError::from)?;
    let proxy = running.addresses().first().copied();
    if let Some(proxy) = proxy {
        load::start(proxy, seed)?;
    }
    crate::app::listen_for_signals(&running).map_err(RunError::from)?;

    let client = Client::connect(running.socket())?;
    let stop = running.stopper();
    let ended = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| running.wait());
        let shown = screen::show(&client, &faults, port, telemetry, &|| waiting.is_finished());
        // The load never ends by itself, so there is nothing to wait for.
        stop(true);
        match waiting.join() {
            Ok(ended) => ended.map_err(|error| Failure::from(RunError::from(error))).and(shown),
            Err(_) => Err(Failure::Failed("the demo broke off".to_owned())),
        }
    });
    drop(state);
    ended
}

/// A folder that is empty at first, and gone at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new(path: &Path) -> io::Result<Self> {
        match fs::remove_dir_all(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        if let Some(parent) = path.parent() {
            use std::os::unix::fs::DirBuilderExt as _;
            fs::DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
            if !socket::is_ours(parent) {
                let error =
                    format!("{} belongs to somebody else, or others can write to it", parent.display());
                return Err(io::Error::new(io::ErrorKind::PermissionDenied, error));
            }
        }
        Ok(Self(path.to_owned()))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed is replaced by the next demo.
        let _ = fs::remove_dir_all(&self.0);
    }
}
