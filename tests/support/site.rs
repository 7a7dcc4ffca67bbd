//! Where a launch is run: a folder with the scripts that it runs, which write down that they were called, and the program that runs it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rusqlite::Connection;
use serde::de::DeserializeOwned;
use tidegate::admin::api::LaunchView;
use tidegate::launch::{Entry, Record, State};
use tokio::net::UnixStream;
use tokio::process::{Child, Command};

use super::Gate;
use super::gate::{Asked, understand};
use super::http::{Wire, get};

/// After this nothing is going to be noted any more: a lease that lapses takes 15 s.
const PATIENCE: Duration = Duration::from_secs(90);

/// Notes that it was called, then does what the order of this name says; without one it does nothing, well.
const ACT: &str = r#"#!/bin/sh
echo "$1" >>calls
if [ -f "orders/$1" ]; then . "./orders/$1"; fi
"#;

/// The folder that a launch of one service is run in.
pub struct Site {
    folder: PathBuf,
    socket: PathBuf,
    /// The service.
    pub service: String,
    environment: Vec<(String, String)>,
}

/// How a program ended, and what it said on both outputs.
#[derive(Debug)]
pub struct Ended {
    /// `None`: by a signal.
    pub code: Option<i32>,
    /// On both outputs.
    pub said: String,
}

/// A program that runs, until it is dropped.
pub struct Running {
    child: Child,
    said: tempfile::TempPath,
}

impl Site {
    /// A folder below the gate's, for a service of the gate's. `SERVICE` in files stands for its name.
    pub fn new(gate: &Gate, service: &str) -> Self {
        let folder = gate.folder().join("launches").join(service);
        fs::create_dir_all(folder.join("orders")).unwrap();
        let site =
            Self { folder, socket: gate.socket(), service: service.to_owned(), environment: Vec::new() };
        site.script("act", ACT);
        site
    }

    /// Gives what is run a variable.
    pub fn environment(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// A file in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Writes a file.
    pub fn file(&self, name: &str, text: &str) -> &Self {
        fs::write(self.path(name), text.replace("SERVICE", &self.service)).unwrap();
        self
    }

    /// Writes a file that can be run.
    pub fn script(&self, name: &str, text: &str) -> &Self {
        self.file(name, text);
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(0o755)).unwrap();
        self
    }

    /// From now on `./act NAME` does this.
    pub fn order(&self, name: &str, shell: &str) -> &Self {
        self.file(&format!("orders/{name}"), shell)
    }

    /// From now on it does nothing again.
    pub fn no_order(&self, name: &str) -> &Self {
        drop(fs::remove_file(self.path("orders").join(name)));
        self
    }

    /// What was called, in order.
    pub fn calls(&self) -> Vec<String> {
        let text = fs::read_to_string(self.path("calls")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// How often something was called.
    pub fn called(&self, name: &str) -> usize {
        self.calls().iter().filter(|call| *call == name).count()
    }

    /// Forgets what was called.
    pub fn forget(&self) {
        drop(fs::remove_file(self.path("calls")));
    }

    /// Runs `tidegate` here, to its end.
    pub async fn tidegate(&self, arguments: &[&str]) -> Ended {
        self.begin(arguments).ends().await
    }

    /// Begins to run `tidegate` here.
    pub fn begin(&self, arguments: &[&str]) -> Running {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
        command.args(arguments);
        self.run(command)
    }

    /// Begins to run a program here. It speaks to a file: whoever outlives it may keep that open.
    pub fn run(&self, mut command: Command) -> Running {
        let said = tempfile::NamedTempFile::new_in(&self.folder).unwrap().into_temp_path();
        let file = fs::File::options().append(true).open(&said).unwrap();
        command
            .current_dir(&self.folder)
            .env("TIDEGATE_SOCKET", &self.socket)
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .kill_on_drop(true);
        Running { child: command.spawn().unwrap(), said }
    }
}

impl Running {
    /// Its end.
    pub async fn ends(mut self) -> Ended {
        let status = tokio::time::timeout(PATIENCE, self.child.wait()).await;
        let said = || fs::read_to_string(&self.said).unwrap_or_default();
        let status = status.unwrap_or_else(|_| panic!("it does not end:\n{}", said())).unwrap();
        Ended { code: status.code(), said: said() }
    }

    /// As `kill -9` does.
    pub async fn dies(mut self) {
        self.child.kill().await.unwrap();
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id().expect("it runs")
    }
}

impl Ended {
    /// Fails unless it ended so.
    #[track_caller]
    pub fn with(self, code: i32) -> String {
        assert_eq!(self.code, Some(code), "{}", self.said);
        self.said
    }
}

/// What a daemon knows of launches.
pub struct Book {
    socket: PathBuf,
}

impl Book {
    /// Of the daemon that listens there.
    pub fn at(socket: impl Into<PathBuf>) -> Self {
        Self { socket: socket.into() }
    }

    /// Of a gate's.
    pub fn of(gate: &Gate) -> Self {
        Self::at(gate.socket())
    }

    async fn ask<T: DeserializeOwned>(&self, path: &str) -> std::io::Result<Asked<T>> {
        let mut wire = Wire::new(UnixStream::connect(&self.socket).await?);
        Ok(understand(&wire.ask(&get(path, &[])).await?))
    }

    /// All of it.
    pub async fn view(&self, launch: &str) -> LaunchView {
        self.ask(&format!("/v1/launches/{launch}")).await.unwrap().unwrap()
    }

    /// What became of it.
    pub async fn state(&self, launch: &str) -> State {
        self.view(launch).await.ledger.run.state
    }

    /// What became of its phases, each as `ID STATE`.
    pub async fn phases(&self, launch: &str) -> Vec<String> {
        let ledger = self.view(launch).await.ledger;
        let phases = ledger.launch.phases.iter().zip(&ledger.run.phases);
        phases.map(|(phase, run)| format!("{} {}", phase.id, run.state.as_str())).collect()
    }

    /// Its journal after a number; waits for something if there is nothing.
    pub async fn records(&self, launch: &str, after: u64) -> Vec<Record> {
        let path = format!("/v1/launches/{launch}/records?after={after}&wait_ms=60000");
        match self.ask(&path).await {
            Ok(Ok(records)) => records,
            // Nobody has put it on the book yet, or the daemon is away.
            Ok(Err((404, _))) | Err(_) => {
                tokio::time::sleep(Duration::from_millis(5)).await;
                Vec::new()
            }
            Ok(Err(refused)) => panic!("{refused:?}"),
        }
    }

    /// Waits for a record.
    pub async fn until(&self, launch: &str, what: &str, is_it: impl Fn(&Record) -> bool) -> Record {
        let found = async {
            let mut after = 0;
            loop {
                for record in self.records(launch, after).await {
                    after = record.seq;
                    if is_it(&record) {
                        return record;
                    }
                }
            }
        };
        match tokio::time::timeout(PATIENCE, found).await {
            Ok(record) => record,
            Err(_) => {
                panic!("{launch}: waited in vain for {what}; {:#?}", self.view(launch).await.ledger.run)
            }
        }
    }

    /// Waits for the record of this number.
    pub async fn has_noted(&self, launch: &str, number: u64) -> Record {
        self.until(launch, &format!("record {number}"), |record| record.seq == number).await
    }

    /// Waits until a step of a phase has begun.
    pub async fn has_begun(&self, launch: &str, phase: usize, step: tidegate::launch::Step) {
        let wanted = Entry::Began { phase, step };
        self.until(launch, &format!("{wanted:?}"), |record| record.entry == wanted).await;
    }

    /// Waits until nobody attends to it, or it is over: whether it is not.
    pub async fn is_free(&self, launch: &str) -> bool {
        loop {
            let view = self.view(launch).await;
            if view.unattended || view.ledger.run.state.is_over() {
                return view.unattended;
            }
            let next = self.records(launch, view.ledger.seq);
            let next = tokio::time::timeout(PATIENCE, next).await;
            assert!(next.is_ok(), "{launch}: somebody attends to it for ever; {:#?}", view.ledger.run);
        }
    }

    /// Waits until nobody attends to it.
    pub async fn is_unattended(&self, launch: &str) {
        let seen = |record: &Record| matches!(record.entry, Entry::Unattended { .. });
        self.until(launch, "nobody to attend to it", seen).await;
    }
}

/// The columns of a table, in a database of SQLite's.
pub fn columns(db: &Path, table: &str) -> Vec<String> {
    let db = Connection::open(db).unwrap();
    let mut statement = db.prepare("SELECT name FROM pragma_table_info(?1)").unwrap();
    statement.query_map([table], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
}
