//! The demo: the real proxy over real sockets, between two built-in apps and a gentle load.
//!
//! Only the apps and the load are made up. The proxy, the admin socket, the metrics and every verb are
//! what `run` starts; state and socket are the demo's own, so it disturbs nobody and leaves nothing behind.

mod apps;
mod load;
mod screen;

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
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
    let state = Scratch::new(socket.parent().unwrap_or(Path::new(".")), port)?;

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
    let heard = crate::app::listen_for_signals(&running).map_err(RunError::from);
    let socket = running.socket().to_owned();
    let stop = running.stopper();
    // Whatever fails from here on, the parts that run are stopped first, and the folder goes last.
    let ended = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| running.wait());
        let shown = heard.map_err(Failure::from).and_then(|()| {
            let client = Client::connect(&socket)?;
            screen::show(&client, &faults, port, telemetry, &|| waiting.is_finished())
        });
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

/// A folder of this run alone, and gone at the end: another demo, on the same port even, has its own.
struct Scratch(PathBuf);

impl Scratch {
    fn new(parent: &Path, port: u16) -> io::Result<Self> {
        let private = |recursive| {
            let mut builder = fs::DirBuilder::new();
            builder.recursive(recursive).mode(0o700);
            builder
        };
        private(true).create(parent)?;
        if !socket::is_ours(parent) {
            let error = format!("{} belongs to somebody else, or others can write to it", parent.display());
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, error));
        }
        let chance = getrandom::u64().map_err(|error| io::Error::other(error.to_string()))?;
        let path = parent.join(format!("demo-{port}-{chance:016x}.state"));
        // Fails if it exists: nothing is ever taken over.
        private(false).create(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed stays behind, and is in nobody's way.
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_demo_on_the_same_port_leaves_the_first_ones_folder_alone() {
        let folder = tempfile::tempdir().unwrap();
        let parent = folder.path().join("tidegate");
        let first = Scratch::new(&parent, 8080).unwrap();
        fs::write(first.0.join("state.json"), "precious").unwrap();
        drop(Scratch::new(&parent, 8080).unwrap());
        assert_eq!(fs::read_to_string(first.0.join("state.json")).unwrap(), "precious");
        drop(first);
        assert_eq!(fs::read_dir(&parent).unwrap().count(), 0);
    }

    #[test]
    fn a_folder_that_others_can_write_to_is_not_used() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
        assert!(Scratch::new(folder.path(), 8080).is_err());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
