//! The verbs that need no daemon: run, check.

use std::io::Write;
use std::path::Path;

use super::args::{Check, Overrides, Run};
use super::failure::Failure;
use crate::app::{self, RunOptions};
use crate::config::{self, Config};

pub(super) fn run(order: Run) -> Result<(), Failure> {
    Ok(app::run(RunOptions { config: order.config, overrides: order.overrides.into() })?)
}

pub(super) fn check(order: Check, out: &mut dyn Write) -> Result<(), Failure> {
    let config = config::load(&order.config, &order.overrides.into())?;
    Ok(out.write_all(valid(&order.config, &config).as_bytes())?)
}

fn valid(path: &Path, config: &Config) -> String {
    const NAMED_MAX: usize = 20;
    let names: Vec<&str> =
        config.control.services.iter().map(|service| &*service.settings.name).take(NAMED_MAX).collect();
    let count = config.control.services.len();
    let services = if count == 1 { "service" } else { "services" };
    let more = if count > NAMED_MAX { ", …" } else { "" };
    let mut text = format!("{} is valid: {count} {services}, {}{more}\n", path.display(), names.join(", "));
    for warning in &config.warnings {
        text.push_str(&format!("  warning: {warning}\n"));
    }
    text
}

impl From<Overrides> for config::Overrides {
    fn from(flags: Overrides) -> Self {
        let Overrides { listen, state, socket, group, telemetry, threads, access_log } = flags;
        Self { listen, threads, state, socket, group, telemetry, access_log }
    }
}
