//! What the process says to the service manager that started it (`sd_notify(3)`): that it serves, that it reloads or
//! stops, which process is the main one after an upgrade, and that it is alive.

use std::env;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// The way to the service manager; without one, nothing is said.
#[derive(Debug, Default)]
pub struct Supervisor {
    way: Option<(UnixDatagram, SocketAddr)>,
    watchdog: Option<Watchdog>,
}

/// It wants to hear at intervals that this process is alive.
#[derive(Debug)]
struct Watchdog {
    interval: Duration,
    said: Mutex<Option<Instant>>,
}

impl Supervisor {
    /// As `NOTIFY_SOCKET`, `WATCHDOG_USEC` and `WATCHDOG_PID` say.
    ///
    /// # Errors
    /// If there is a way and it cannot be gone: a service manager that waits for us would wait in vain.
    pub fn of_process() -> io::Result<Self> {
        let Some(name) = env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else {
            return Ok(Self::default());
        };
        let address = match name.as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
            _ => SocketAddr::from_pathname(&name)?,
        };
        let socket = UnixDatagram::unbound()?;
        // Nobody waits for a service manager that does not read.
        socket.set_nonblocking(true)?;
        let number = |name: &str| env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
        let is_ours = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
        let interval = number("WATCHDOG_USEC").filter(|micros| *micros > 0 && is_ours);
        let watchdog = interval
            .map(|micros| Watchdog { interval: Duration::from_micros(micros), said: Mutex::default() });
        Ok(Self { way: Some((socket, address)), watchdog })
    }

    /// This process serves, and is the main one: also after it has taken over from another.
    pub fn serves(&self, what: &str) {
        self.say(&format!("MAINPID={}\nREADY=1\nSTATUS={what}", std::process::id()));
    }

    /// It reads its configuration.
    pub fn reloads(&self) {
        self.say("RELOADING=1");
    }

    /// It has read it.
    pub fn has_reloaded(&self) {
        self.say("READY=1");
    }

    /// It ends, and nobody takes over.
    pub fn stops(&self) {
        self.say("STOPPING=1\nSTATUS=open requests end");
    }

    /// It has done what shows that it is alive; said once in half the interval.
    pub fn is_alive(&self, now: Instant) {
        let Some(watchdog) = &self.watchdog else { return };
        // One thread is alive here: nobody else holds it.
        let Ok(mut said) = watchdog.said.try_lock() else { return };
        if said.is_none_or(|said| now.saturating_duration_since(said) >= watchdog.interval / 2) {
            *said = Some(now);
            self.say("WATCHDOG=1");
        }
    }

    fn say(&self, what: &str) {
        if let Some((socket, address)) = &self.way {
            // A service manager that does not hear is none of our business.
            let _ = socket.send_to_addr(what.as_bytes(), address);
        }
    }
}
