//! What stands in front of the instances: Tidegate, or HAProxy with the same settings.

use std::fs;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::daemon::Daemon;
use crate::{Outcome, Setup};

const STARTS_WITHIN: Duration = Duration::from_secs(10);

pub enum Front {
    Tidegate(Box<Daemon>),
    Haproxy { child: Child, address: String },
}

impl Front {
    /// `service` is the configuration of a service named shop.
    pub fn tidegate(setup: &Setup, name: &str, service: &str) -> Outcome<Self> {
        let services = format!("  shop:\n{service}");
        Ok(Self::Tidegate(Box::new(Daemon::start(setup, name, &services, "shop")?)))
    }

    /// `backend` is what stands in its backend. `None` if there is no HAProxy here.
    pub fn haproxy(setup: &Setup, name: &str, backend: &str) -> Outcome<Option<Self>> {
        let Some(haproxy) = &setup.haproxy else { return Ok(None) };
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let address = format!("127.0.0.1:{port}");
        let config = setup.folder.join(format!("{name}.cfg"));
        let threads = thread::available_parallelism()?;
        fs::write(
            &config,
            format!(
                "global\n  nbthread {threads}\n  maxconn 4000\ndefaults\n  mode http\n  option http-keep-alive\n  \
                 http-reuse always\n  timeout client 30s\n  timeout http-keep-alive 60s\n\
                 frontend front\n  bind {address}\n  default_backend shop\nbackend shop\n{backend}"
            ),
        )?;
        let log = fs::File::create(setup.folder.join(format!("{name}.log")))?;
        let child = Command::new(haproxy)
            .arg("-db")
            .arg("-f")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        let mut front = Self::Haproxy { child, address };
        let begun = Instant::now();
        while TcpStream::connect(front.address()).is_err() {
            let Self::Haproxy { child, .. } = &mut front else { break };
            if child.try_wait()?.is_some() || begun.elapsed() > STARTS_WITHIN {
                let log = fs::read_to_string(setup.folder.join(format!("{name}.log"))).unwrap_or_default();
                return Err(format!("HAProxy did not start:\n{log}").into());
            }
            thread::sleep(Duration::from_millis(5));
        }
        Ok(Some(front))
    }

    pub fn address(&self) -> &str {
        match self {
            Self::Tidegate(daemon) => &daemon.address,
            Self::Haproxy { address, .. } => address,
        }
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        if let Self::Haproxy { child, .. } = self {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
