//! The verbs that need no daemon: run, check.

use std::io::Write;
use std::path::Path;

use serde_json::json;

use super::args::{Check, Overrides, Run};
use super::failure::Failure;
use super::json;
use crate::app::{self, RunOptions};
use crate::config::{self, Config};

pub(super) fn run(order: Run) -> Result<(), Failure> {
    Ok(app::run(RunOptions { config: order.config, overrides: order.overrides.into() })?)
}

pub(super) fn check(order: Check, out: &mut dyn Write) -> Result<(), Failure> {
    let checked = config::load(&order.config, &order.overrides.into());
    if !order.json {
        return Ok(out.write_all(valid(&order.config, &checked?).as_bytes())?);
    }
    match checked {
        Ok(config) => {
            let services: Vec<&str> =
                config.control.services.iter().map(|service| &*service.settings.name).collect();
            let warnings: Vec<String> = config.warnings.iter().map(ToString::to_string).collect();
            json(out, &json!({ "valid": true, "services": services, "warnings": warnings }))
        }
        Err(error) => {
            let failure = Failure::from(error);
            json(out, &json!({ "valid": false, "error": failure.story() }))?;
            Err(failure)
        }
    }
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
