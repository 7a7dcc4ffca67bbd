//! The gate between clients and origins, with a folder of its own: in this process, or as the real program.

use std::io::{BufRead as _, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use serde::de::DeserializeOwned;
use tempfile::TempDir;
use tidegate::admin::api::{Changed, Event, Problem, Reloaded, ServiceStatus, Status, Upgraded};
use tidegate::app::{Extras, Running, Source, StartError};
use tidegate::config::{self, Overrides};
use tidegate::traffic::{Variant, Weight};
use tidegate::upstream::Resolver;
use tokio::net::UnixStream;

use super::http::{Message, Wire, connect, get};
use super::load::{Load, Seen};
use super::metrics::Metrics;
use super::names::NameServer;
use super::origin::Origin;
use super::until;

/// A gate narrows the umask of the whole process while it binds its socket; folders are not made meanwhile.
static BINDING: Mutex<()> = Mutex::new(());

/// A gate that is not started yet.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    settings: String,
    services: String,
    environment: Vec<(String, String)>,
    activated: Option<Arc<TcpListener>>,
    descriptors: Option<u32>,
    names: Option<SocketAddr>,
}

/// A plan for a gate with ports of its own choice, two threads and no service yet.
pub fn tidegate() -> Plan {
    Plan::default()
}

impl Plan {
    /// Adds a service.
    pub fn service(self, name: &str, blue: &Origin, green: &Origin) -> Self {
        let (blue, green) = (blue.url(), green.url());
        self.service_at(name, &blue, &green)
    }

    /// The same with URLs.
    pub fn service_at(mut self, name: &str, blue: &str, green: &str) -> Self {
        self.services += &format!("  {name}:\n    blue: {blue}\n    green: {green}\n");
        self
    }

    /// Adds a line to the service added last, such as `split: {by: user}`.
    pub fn with(mut self, line: &str) -> Self {
        self.services += &format!("    {line}\n");
        self
    }

    /// Adds a line that is not a service's.
    pub fn set(mut self, line: &str) -> Self {
        self.settings += &format!("{line}\n");
        self
    }

    /// Gives the real program a variable.
    pub fn environment(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Looks names up at this server; not for the real program.
    pub fn asking(mut self, server: &NameServer) -> Self {
        self.names = Some(server.address());
        self
    }

    /// Gives the real program a socket that listens already, as a service manager does.
    pub fn activated(mut self, socket: TcpListener) -> Self {
        self.activated = Some(Arc::new(socket));
        self
    }

    /// Gives the real program no more than so many file descriptors.
    pub fn descriptors(mut self, most: u32) -> Self {
        self.descriptors = Some(most);
        self
    }

    /// The configuration file.
    pub fn yaml(&self, folder: &Path) -> String {
        let folder = folder.display();
        let mut text = self.settings.clone();
        let mut or = |key: &str, value: String| {
            if !self.settings.lines().any(|line| line.starts_with(key)) {
                text += &format!("{key} {value}\n");
            }
        };
        or("listen:", "[{address: \"127.0.0.1:0\"}]".to_owned());
        or("threads:", "2".to_owned());
        or("admin:", format!("{{socket: {folder}/admin.sock}}"));
        or("telemetry:", "127.0.0.1:0".to_owned());
        or("state:", format!("{folder}/state"));
        text + "services:\n" + &self.services
    }

    /// Starts it in this process, and waits until its endpoints are known to be healthy.
    pub async fn start(self) -> Gate {
        let gate = Gate::begin(new_folder(), self, Kind::Inside);
        gate.is_ready().await;
        gate
    }

    /// Starts it in this process; or says why it does not.
    pub fn tries_to_start(self) -> Result<Gate, String> {
        let folder = new_folder();
        std::fs::write(folder.path().join("tidegate.yaml"), self.yaml(folder.path())).unwrap();
        Remains { folder, plan: self, kind: Kind::Inside }.begins_again()
    }

    /// Starts the real program, and waits the same.
    pub async fn start_daemon(self) -> Gate {
        let gate = Gate::begin(new_folder(), self, Kind::Daemon);
        gate.is_ready().await;
        gate
    }
}

/// A folder of its own.
pub fn new_folder() -> Arc<TempDir> {
    let _binding = BINDING.lock().unwrap_or_else(PoisonError::into_inner);
    Arc::new(tempfile::tempdir().unwrap())
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Inside,
    Daemon,
}

/// What became of a request to the admin socket.
pub type Asked<T> = Result<T, (u16, Problem)>;

/// A gate that runs, until it is dropped.
pub struct Gate {
    folder: Arc<TempDir>,
    plan: Plan,
    address: SocketAddr,
    telemetry: Option<SocketAddr>,
    process: Process,
}

enum Process {
    Inside {
        running: Option<JoinHandle<bool>>,
        stop: Box<dyn Fn(bool) + Send + Sync>,
    },
    /// `successor`: the process that has taken over, if one has.
    Daemon {
        child: Child,
        said: Arc<Mutex<String>>,
        successor: Option<u32>,
    },
}

impl Gate {
    fn begin(folder: Arc<TempDir>, plan: Plan, kind: Kind) -> Self {
        let file = folder.path().join("tidegate.yaml");
        std::fs::write(file, plan.yaml(folder.path())).unwrap();
        Remains { folder, plan, kind }.begins_again().unwrap_or_else(|why| panic!("it does not start: {why}"))
    }

    fn begin_inside(folder: Arc<TempDir>, plan: Plan, file: PathBuf) -> Result<Self, StartError> {
        let config = config::load(&file, &Overrides::default()).unwrap();
        let source = Some(Source { path: file, overrides: Overrides::default() });
        let running = {
            let _binding = BINDING.lock().unwrap_or_else(PoisonError::into_inner);
            let resolver = plan.names.map(Resolver::asking).unwrap_or_default();
            Running::start(config, Extras { source, resolver, ..Extras::default() })?
        };
        let (address, telemetry) = (running.addresses()[0], running.telemetry());
        let stop = Box::new(running.stopper());
        let running = std::thread::spawn(move || running.wait().unwrap());
        let process = Process::Inside { running: Some(running), stop };
        Ok(Self { folder, plan, address, telemetry, process })
    }

    fn begin_daemon(folder: Arc<TempDir>, plan: Plan, file: &Path) -> Result<Self, String> {
        let program = env!("CARGO_BIN_EXE_tidegate");
        let mut command = match &plan.activated {
            None => match plan.descriptors {
                None => Command::new(program),
                Some(most) => {
                    let mut shell = Command::new("/bin/sh");
                    shell.args(["-c", &format!("ulimit -n {most}; exec \"$0\" \"$@\""), program]);
                    shell
                }
            },
            Some(socket) => {
                // Only the process itself knows its number, and the sockets begin at the fourth descriptor.
                let mut shell = Command::new("/bin/sh");
                let script = "LISTEN_PID=$$ LISTEN_FDS=1 exec \"$0\" \"$@\" 3<&0 0</dev/null";
                shell.args(["-c", script, program]).stdin(OwnedFd::from(socket.try_clone().unwrap()));
                shell
            }
        };
        if plan.activated.is_none() {
            command.stdin(Stdio::null());
        }
        let mut child = command
            .arg("run")
            .arg("--config")
            .arg(file)
            .env_clear()
            .envs(plan.environment.iter().map(|(name, value)| (name, value)))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // It says where it listens in one line; before that there may be warnings.
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
        let mut before = String::new();
        let Some(line) = lines.by_ref().find(|line| {
            before += &format!("{line}\n");
            line.contains(", admin socket ")
        }) else {
            return Err(format!("{}: {before}", child.wait().unwrap()));
        };
        let address = between(&line, " on ", ",").parse().unwrap();
        let telemetry = between(&line, "metrics on http://", "/").parse().ok();
        let said = Arc::new(Mutex::new(before));
        let hears = said.clone();
        // Read on, so that the daemon never waits for us.
        std::thread::spawn(move || {
            lines.for_each(|line| *hears.lock().unwrap() += &format!("{line}\n"));
        });
        let process = Process::Daemon { child, said, successor: None };
        Ok(Self { folder, plan, address, telemetry, process })
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where the metrics are.
    pub fn telemetry(&self) -> SocketAddr {
        self.telemetry.expect("telemetry is on")
    }

    /// Where the configuration, the state and the socket are.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The admin socket.
    pub fn socket(&self) -> PathBuf {
        self.folder().join("admin.sock")
    }

    /// What the daemon has said on standard error so far.
    pub fn said(&self) -> String {
        match &self.process {
            Process::Daemon { said, .. } => said.lock().unwrap().clone(),
            Process::Inside { .. } => String::new(),
        }
    }

    /// Waits until all endpoints are healthy.
    pub async fn is_ready(&self) {
        until("all endpoints are healthy", async || {
            let services = self.status().await.services;
            let endpoints = services.iter().flat_map(|service| {
                service.variants.blue.endpoints.iter().chain(&service.variants.green.endpoints)
            });
            endpoints.into_iter().all(|endpoint| endpoint.health == "healthy").then_some(())
        })
        .await;
    }

    // Clients.

    /// Sends a request on a connection of its own.
    pub async fn get(&self, path: &str) -> Message {
        self.get_with(path, &[]).await
    }

    /// The same with fields.
    pub async fn get_with(&self, path: &str, fields: &[(&str, &str)]) -> Message {
        self.send(&get(path, fields)).await.expect("an answer")
    }

    /// Sends bytes on a connection of their own, and reads an answer.
    pub async fn send(&self, bytes: &[u8]) -> std::io::Result<Message> {
        connect(self.address).await?.ask(bytes).await
    }

    /// Sends many plain requests over kept connections.
    pub async fn get_many(&self, path: &str, count: u64) -> Seen {
        let request = get(path, &[]);
        Load::begin(self.address, move |number| (number < count).then(|| request.clone())).result().await
    }

    /// Requests that flow until they are told to end.
    pub fn load(&self, path: &str) -> Load {
        Load::of(self.address, path)
    }

    // Operators.

    /// Sends a request to the admin socket.
    pub async fn admin(&self, method: &str, path: &str, fields: &[(&str, &str)], body: &str) -> Message {
        self.try_admin(method, path, fields, body).await.expect("an answer from the admin socket")
    }

    /// The same, when the daemon may be dying.
    pub async fn try_admin(
        &self,
        method: &str,
        path: &str,
        fields: &[(&str, &str)],
        body: &str,
    ) -> std::io::Result<Message> {
        let mut head =
            format!("{method} {path} HTTP/1.1\r\nhost: tidegate\r\ncontent-length: {}\r\n", body.len());
        for (name, value) in fields {
            head += &format!("{name}: {value}\r\n");
        }
        Wire::new(UnixStream::connect(self.socket()).await?).ask(format!("{head}\r\n{body}").as_bytes()).await
    }

    /// Sends a request and understands the answer.
    pub async fn ask<T: DeserializeOwned>(
        &self,
        method: &str,
        path: &str,
        fields: &[(&str, &str)],
        body: &str,
    ) -> Asked<T> {
        understand(&self.admin(method, path, fields, body).await)
    }

    /// `tidegate shift SERVICE SHARE`.
    pub async fn shift(&self, service: &str, share: &str) -> Changed {
        self.shift_all(&[(service, share)], &[]).await.unwrap_or_else(|refused| panic!("{refused:?}"))
    }

    /// Several at once, with header fields; refused or not.
    pub async fn shift_all(&self, shares: &[(&str, &str)], fields: &[(&str, &str)]) -> Asked<Changed> {
        let shares: Vec<_> = shares.iter().map(|(name, share)| format!("\"{name}\":\"{share}\"")).collect();
        let body = format!("{{\"services\":{{{}}}}}", shares.join(","));
        self.ask("POST", "/v1/shift", fields, &body).await
    }

    /// `tidegate kill SERVICE`.
    pub async fn kill(&self, service: &str) -> Changed {
        let body = format!("{{\"services\":[\"{service}\"]}}");
        self.ask("POST", "/v1/kill", &[], &body).await.unwrap_or_else(|refused| panic!("{refused:?}"))
    }

    /// `tidegate arm SERVICE`.
    pub async fn arm(&self, service: &str) -> Changed {
        let body = format!("{{\"services\":[\"{service}\"],\"note\":\"looked into it\"}}");
        self.ask("POST", "/v1/arm", &[], &body).await.unwrap_or_else(|refused| panic!("{refused:?}"))
    }

    /// `tidegate deploy SERVICE URL`.
    pub async fn deploy(&self, service: &str, url: &str, version: &str) -> Asked<Changed> {
        let body = format!("{{\"endpoints\":[\"{url}\"],\"version\":\"{version}\"}}");
        self.ask("POST", &format!("/v1/services/{service}/deploy"), &[], &body).await
    }

    /// `tidegate endpoint VERB SERVICE VARIANT URL`.
    pub async fn endpoint(&self, verb: &str, variant: &str, url: &str) -> Asked<Changed> {
        let body = format!("{{\"variant\":\"{variant}\",\"endpoints\":[\"{url}\"]}}");
        self.ask("POST", &format!("/v1/services/shop/endpoints/{verb}"), &[], &body).await
    }

    /// `tidegate reload`.
    pub async fn reload(&self) -> Asked<Reloaded> {
        self.ask("POST", "/v1/reload", &[], "").await
    }

    /// Changes the configuration file.
    pub fn rewrite(&mut self, plan: Plan) {
        let text = plan.yaml(self.folder());
        self.plan = plan;
        std::fs::write(self.folder().join("tidegate.yaml"), text).unwrap();
    }

    /// `tidegate upgrade`, with the fields of its request.
    pub async fn upgrade(&mut self, request: &str) -> Asked<Upgraded> {
        let upgraded: Upgraded = self.ask("POST", "/v1/upgrade", &[], request).await?;
        self.has_successor(upgraded.new.pid);
        Ok(upgraded)
    }

    /// From now on another process is meant, and is ended at the end.
    pub fn has_successor(&mut self, pid: u32) {
        let Process::Daemon { successor, .. } = &mut self.process else { panic!("only a daemon has one") };
        *successor = Some(pid);
    }

    /// Waits for the end of the process that was started first: whether it ended well.
    pub async fn first_has_ended(&mut self) -> bool {
        let Process::Daemon { child, .. } = &mut self.process else { panic!("only a daemon has successors") };
        until("the first process has ended", async || child.try_wait().unwrap()).await.success()
    }

    /// Whether this is the process that was started first.
    pub fn is_first(&self, pid: u32) -> bool {
        matches!(&self.process, Process::Daemon { child, .. } if child.id() == pid)
    }

    /// Stops the newest process: whether it ended.
    pub async fn has_ended_when_stopped(mut self) -> bool {
        self.asks_to_stop(false);
        self.has_ended().await && !self.socket().exists()
    }

    /// `tidegate status`.
    pub async fn status(&self) -> Status {
        self.ask("GET", "/v1/status", &[], "").await.unwrap_or_else(|refused| panic!("{refused:?}"))
    }

    /// `tidegate status SERVICE`.
    pub async fn service(&self, name: &str) -> ServiceStatus {
        self.ask("GET", &format!("/v1/services/{name}"), &[], "").await.unwrap()
    }

    /// The candidate's weight of a service.
    pub async fn weight(&self, service: &str) -> Weight {
        self.service(service).await.weight
    }

    /// `tidegate candidate SERVICE`.
    pub async fn candidate(&self, service: &str) -> Variant {
        self.service(service).await.candidate
    }

    /// `tidegate events`.
    pub async fn events(&self, last: usize) -> Vec<Event> {
        self.ask("GET", &format!("/v1/events?last={last}"), &[], "").await.unwrap()
    }

    /// The metrics page.
    pub async fn metrics(&self) -> Metrics {
        Metrics(self.telemetry_page("/metrics").await.text().to_owned())
    }

    /// A page of the telemetry listener.
    pub async fn telemetry_page(&self, path: &str) -> Message {
        let mut wire = connect(self.telemetry()).await.unwrap();
        wire.ask(&get(path, &[])).await.unwrap()
    }

    // Its end, and another beginning.

    /// Asks it to stop, without waiting: after open requests, or now.
    pub fn asks_to_stop(&self, now: bool) {
        match &self.process {
            Process::Inside { stop, .. } => stop(now),
            Process::Daemon { .. } => {
                self.signal(rustix::process::Signal::TERM);
                if now {
                    self.signal(rustix::process::Signal::TERM);
                }
            }
        }
    }

    /// Sends a signal to the daemon.
    pub fn signal(&self, signal: rustix::process::Signal) {
        assert!(matches!(self.process, Process::Daemon { .. }), "only a daemon hears signals");
        send(self.pid(), signal);
    }

    /// The daemon's process id.
    pub fn pid(&self) -> u32 {
        match &self.process {
            Process::Daemon { child, successor, .. } => successor.unwrap_or(child.id()),
            Process::Inside { .. } => std::process::id(),
        }
    }

    /// Waits for its end: whether it ended well, its last state saved.
    pub async fn has_ended(&mut self) -> bool {
        match &mut self.process {
            Process::Inside { running, .. } => {
                let running = running.take().expect("it ends once");
                until("it has stopped", async || running.is_finished().then_some(())).await;
                running.join().unwrap()
            }
            Process::Daemon { successor: Some(pid), .. } => {
                has_gone(*pid).await;
                true
            }
            Process::Daemon { child, .. } => {
                until("it has stopped", async || child.try_wait().unwrap()).await.success()
            }
        }
    }

    /// Kills the daemon, as kill -9 does.
    pub fn dies(mut self) -> Remains {
        let Process::Daemon { child, successor, .. } = &mut self.process else {
            panic!("only a daemon can be killed")
        };
        if let Some(pid) = successor {
            let pid = *pid;
            send(pid, rustix::process::Signal::KILL);
            // It is not our child, so nobody says when its sockets and its lock are free.
            while !is_gone(pid) {
                std::thread::yield_now();
            }
        }
        child.kill().unwrap();
        child.wait().unwrap();
        self.remains()
    }

    /// Stops it.
    pub async fn stops(mut self) -> Remains {
        self.asks_to_stop(false);
        assert!(self.has_ended().await, "it saved its state");
        self.remains()
    }

    /// Stops it and starts it anew, in the same folder and way.
    pub async fn restarts(self) -> Self {
        let again = self.stops().await.begins_again();
        again.unwrap_or_else(|why| panic!("it does not start: {why}"))
    }

    fn remains(&self) -> Remains {
        let kind = match &self.process {
            Process::Inside { .. } => Kind::Inside,
            Process::Daemon { .. } => Kind::Daemon,
        };
        Remains { folder: self.folder.clone(), plan: self.plan.clone(), kind }
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        match &mut self.process {
            Process::Inside { running, stop } => {
                stop(true);
                if let Some(running) = running.take() {
                    drop(running.join());
                }
            }
            Process::Daemon { child, successor, .. } => {
                if let Some(pid) = successor {
                    send(*pid, rustix::process::Signal::KILL);
                }
                drop(child.kill());
                drop(child.wait());
            }
        }
    }
}

/// What a gate leaves behind.
#[derive(Clone)]
pub struct Remains {
    folder: Arc<TempDir>,
    plan: Plan,
    kind: Kind,
}

impl Remains {
    /// A file in the state folder.
    pub fn state_file(&self, name: &str) -> PathBuf {
        self.folder.path().join("state").join(name)
    }

    /// Starts a gate on it; or says why there is none.
    pub fn begins_again(self) -> Result<Gate, String> {
        let file = self.folder.path().join("tidegate.yaml");
        match self.kind {
            Kind::Inside => {
                Gate::begin_inside(self.folder, self.plan, file).map_err(|error| error.to_string())
            }
            Kind::Daemon => Gate::begin_daemon(self.folder, self.plan, &file),
        }
    }
}

/// Sends a signal to a process, which may be gone already.
pub fn send(pid: u32, signal: rustix::process::Signal) {
    let _ = rustix::process::kill_process(process(pid), signal);
}

/// A process by its number.
pub fn process(pid: u32) -> rustix::process::Pid {
    rustix::process::Pid::from_raw(pid.try_into().unwrap()).unwrap()
}

/// How much processor time the threads of a process have taken so far, as the scheduler knows it.
pub fn cpu_time(pid: u32) -> Duration {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let nanos = threads.filter_map(|thread| {
        let text = std::fs::read_to_string(thread.ok()?.path().join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse::<u64>().ok()
    });
    Duration::from_nanos(nanos.sum())
}

/// Waits until a process that is not our child has ended.
pub async fn has_gone(pid: u32) {
    until("the process has gone", async || is_gone(pid).then_some(())).await;
}

fn is_gone(pid: u32) -> bool {
    // Nobody may have asked how it ended: then its name is still there, with a Z for its state.
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The first thread may be ahead of the others, which hold the sockets as long as they are there.
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count);
    stat.rsplit(')').next().is_none_or(|rest| rest.is_empty() || (rest.starts_with(" Z") && threads <= 1))
}

/// Understands an answer of the admin socket.
pub fn understand<T: DeserializeOwned>(answer: &Message) -> Asked<T> {
    let text = answer.text();
    if (200..300).contains(&answer.status()) {
        let text = if text.is_empty() { "null" } else { text };
        return Ok(serde_json::from_str(text).unwrap_or_else(|error| panic!("{error} in {text}")));
    }
    let problem = serde_json::from_str(text);
    Err((answer.status(), problem.unwrap_or_else(|error| panic!("{error} in {} {text}", answer.head))))
}

fn between<'t>(text: &'t str, start: &str, end: &str) -> &'t str {
    let rest = text.split_once(start).map_or("", |(_, rest)| rest);
    rest.split_once(end).map_or(rest, |(found, _)| found)
}
