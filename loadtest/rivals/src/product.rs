//! The proxies: where their programs are, how they are configured and how they are started.
//!
//! Configurations stand in `config/`, with `{{names}}` for what differs from run to run.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::{Outcome, machine};

#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Product {
    Tidegate,
    Nginx,
    Haproxy,
    Envoy,
    Caddy,
    Pingora,
    /// The forwarder that understands nothing: no rival, but what the kernel takes.
    Floor,
}

pub const ALL: [Product; 7] = [
    Product::Tidegate,
    Product::Nginx,
    Product::Haproxy,
    Product::Envoy,
    Product::Caddy,
    Product::Pingora,
    Product::Floor,
];

impl Product {
    pub fn name(self) -> &'static str {
        match self {
            Self::Tidegate => "Tidegate",
            Self::Nginx => "nginx",
            Self::Haproxy => "HAProxy",
            Self::Envoy => "Envoy",
            Self::Caddy => "Caddy",
            Self::Pingora => "Pingora",
            Self::Floor => "raw forwarder",
        }
    }

    /// Where the script has found it; `None` if it has not, and has said so.
    pub fn program(self) -> Option<PathBuf> {
        let variable = match self {
            Self::Tidegate => "COMPARE_TIDEGATE",
            Self::Nginx => "COMPARE_NGINX",
            Self::Haproxy => "COMPARE_HAPROXY",
            Self::Envoy => "COMPARE_ENVOY",
            Self::Caddy => "COMPARE_CADDY",
            Self::Pingora => "COMPARE_PINGORA",
            Self::Floor => return std::env::current_exe().ok(),
        };
        std::env::var_os(variable).filter(|path| !path.is_empty()).map(PathBuf::from)
    }

    pub fn version(self) -> String {
        let Some(program) = self.program() else { return "not here".to_owned() };
        let program = program.display().to_string();
        match self {
            Self::Tidegate => machine::first_line(&[&program, "--version"]),
            // It begins with its own path.
            Self::Envoy => {
                machine::first_line(&[&program, "--version"]).replace(&program, "").trim().to_owned()
            }
            Self::Nginx | Self::Haproxy => machine::first_line(&[&program, "-v"]),
            Self::Caddy => machine::first_line(&[&program, "version"]),
            Self::Pingora => std::env::var("COMPARE_PINGORA_VERSION").unwrap_or_default(),
            Self::Floor => "loadtest/rivals/src/forward.rs".to_owned(),
        }
    }

    /// The name of its configuration, and what is in it.
    pub fn config(self) -> Option<(&'static str, &'static str)> {
        match self {
            Self::Tidegate => Some(("tidegate.yaml", include_str!("../config/tidegate.yaml"))),
            Self::Nginx => Some(("nginx.conf", include_str!("../config/nginx.conf"))),
            Self::Haproxy => Some(("haproxy.cfg", include_str!("../config/haproxy.cfg"))),
            Self::Envoy => Some(("envoy.yaml", include_str!("../config/envoy.yaml"))),
            Self::Caddy => Some(("Caddyfile", include_str!("../config/Caddyfile"))),
            Self::Pingora | Self::Floor => None,
        }
    }

    /// Writes its configuration to `folder` and says how it is started from there.
    pub fn command(self, folder: &Path, values: &BTreeMap<&'static str, String>) -> Outcome<Vec<String>> {
        let program = self.program().ok_or("not here")?.display().to_string();
        if let Some((name, template)) = self.config() {
            let mut config = template.to_owned();
            for (key, value) in values {
                config = config.replace(&format!("{{{{{key}}}}}"), value);
            }
            fs::write(folder.join(name), config)?;
        }
        let value = |key: &str| values.get(key).cloned().unwrap_or_default();
        let words = |words: &[&str]| words.iter().map(ToString::to_string).collect::<Vec<_>>();
        let mut command = vec![program];
        command.extend(match self {
            Self::Tidegate => words(&["run", "--config", "tidegate.yaml"]),
            Self::Nginx => words(&["-p", &folder.display().to_string(), "-c", "nginx.conf"]),
            Self::Haproxy => words(&["-db", "-q", "-f", "haproxy.cfg"]),
            Self::Envoy => {
                let threads = value("threads");
                words(&[
                    "-c",
                    "envoy.yaml",
                    "--concurrency",
                    &threads,
                    "--disable-hot-restart",
                    "-l",
                    "critical",
                ])
            }
            Self::Caddy => words(&["run", "--config", "Caddyfile", "--adapter", "caddyfile"]),
            Self::Pingora => {
                ["threads", "plain", "tls", "certificate", "key", "blue", "green", "blue_h2", "green_h2"]
                    .map(value)
                    .to_vec()
            }
            Self::Floor => words(&["forward", &value("plain"), &value("blue")]),
        });
        if self == Self::Caddy {
            // Go's threads are said by its environment, and so is where Caddy keeps what it should not keep.
            let go =
                ["env".to_owned(), format!("GOMAXPROCS={}", value("threads")), "XDG_DATA_HOME=.".to_owned()];
            command.splice(0..0, go);
        }
        Ok(command)
    }
}
