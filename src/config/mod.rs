//! One YAML file becomes the settings of every part.
//!
//! In two passes, so that whoever made three mistakes reads of three. The first reads the YAML into the
//! types of `file`: every value stays the text that it is, with its line. What is no YAML or no known key
//! ends here, with line and column. The second gives each text its meaning and compares what belongs
//! together; it never stops at a problem, but notes it, goes on with the default, and only at the end
//! there is either a [`Config`] or the list of all [`Problem`]s.
//!
//! YAML's anchors, aliases and merge keys are refused, as are duplicate keys: a file that decides where
//! traffic goes should say each thing once, where one looks for it, and a small file cannot become a large
//! one. Nothing is looked up in the network, and nothing is opened but secrets and certificates.
//!
//! Plans of rollouts are read the same way, from the file or from one of their own ([`Planner`]).

mod endpoint_tls;
mod endpoints;
mod file;
pub mod launch;
mod launches;
#[cfg(any(test, fuzzing))]
pub(crate) mod laws;
mod lint;
mod listen;
mod meant;
mod mirror;
mod outside;
mod plan;
mod planner;
mod problem;
mod process;
mod retries;
mod scalar;
mod secret;
mod service;
mod settings;
mod units;
mod written;
mod yaml;

use std::fs::File;
use std::io::Read;
use std::path::Path;

pub use lint::{Linted, lint_file};
pub use planner::{PlanRequest, Planner};
pub use problem::{ConfigError, Problem};
pub use settings::{AdminSettings, Config, CookieSettings, Overrides, TelemetrySettings};
pub use units::{parse_duration, show_duration};

use self::file::ConfigFile;
use self::plan::Known;
use self::problem::{Findings, below};
use self::service::Built;
use crate::control::ControlSettings;
use crate::routing::{Matcher, Overlap};

const FILE_BYTES_MAX: u64 = 16 << 20;

/// Reads the file at `path`. Relative paths in it start from its folder.
///
/// # Errors
///
/// As [`parse`], and when the file cannot be read.
pub fn load(path: &Path, flags: &Overrides) -> Result<Config, ConfigError> {
    let name = path.display().to_string();
    let unreadable = |source| ConfigError::Read { name: name.clone(), source };
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes))
        .map_err(unreadable)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(too_large(name));
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = 1 + valid.iter().filter(|byte| **byte == b'\n').count();
        ConfigError::NotText { name: name.clone(), line }
    })?;
    let base = path.parent().unwrap_or(Path::new(""));
    parse(&text, &name, base, flags)
}

/// Reads `text`. `name` is what errors call it, `base` where its relative paths start. Only secrets and
/// certificates are opened.
///
/// # Errors
///
/// The first thing that is not YAML or no known key; else all problems at once.
pub fn parse(text: &str, name: &str, base: &Path, flags: &Overrides) -> Result<Config, ConfigError> {
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(too_large(name.to_owned()));
    }
    let mut file: ConfigFile = yaml::read(text, name)?;
    let mut findings = Findings::default();
    let proxy = process::proxy(&mut findings, &mut file, base, flags);
    let telemetry = process::telemetry(&mut findings, &file, base, flags, &proxy.listen);
    let admin = process::admin(&mut findings, &file, base, flags);
    let state = process::state(&mut findings, &file, base, flags);
    let cookie = process::cookie(&mut findings, file.cookie.take(), base);
    let (hooks, known) = outside::read(&mut findings, &mut file, base);
    let roles = launches::roles(&mut findings, &mut file);
    let services = services(&mut findings, file, base, &known, proxy.live.limits.requests_max);
    let Findings { mut problems, mut warnings } = findings;
    problems.sort_by_key(|problem| problem.line);
    warnings.sort_by_key(|warning| warning.line);
    if !problems.is_empty() {
        return Err(ConfigError::Problems { name: name.to_owned(), problems });
    }
    let mut planner = Planner::new(known);
    let mut configured = Vec::with_capacity(services.len());
    for Built { service, plans, .. } in services {
        planner.add(service.settings.name.clone(), plans);
        configured.push(service);
    }
    let control = ControlSettings { state, services: configured };
    Ok(Config { proxy, control, admin, telemetry, cookie, hooks, roles, planner, warnings })
}

fn too_large(name: String) -> ConfigError {
    ConfigError::TooLarge { name, most: "16 MiB", kind: "configuration" }
}

/// The JSON Schema of the file, for editors. What it cannot say (which services overlap, say) only
/// [`parse`] knows.
pub fn schema() -> serde_json::Value {
    schemars::schema_for!(ConfigFile).to_value()
}

fn services(
    findings: &mut Findings,
    file: ConfigFile,
    base: &Path,
    known: &Known,
    requests_max: Option<u32>,
) -> Vec<Built> {
    let mut built: Vec<Built> = Vec::new();
    let entries = file.services.map(|services| services.0).unwrap_or_default();
    if entries.is_empty() {
        let why = "there is no service; add one, such as shop: {blue: http://127.0.0.1:3001}";
        findings.wrong_at("services", None, 1, why);
    }
    for (name, service) in entries {
        built.push(service::build(findings, &name, service.unwrap_or_default(), base, known, requests_max));
    }
    built.sort_by(|a, b| a.service.settings.name.cmp(&b.service.settings.name));
    let routes = built.iter().map(|built| built.service.settings.routes.as_slice());
    for Overlap { route, first, second } in Matcher::new(routes).err().unwrap_or_default() {
        let (Some(first), Some(second)) = (built.get(first), built.get(second)) else { continue };
        // The later one in the file is to blame.
        let (first, second) =
            if first.routes_line <= second.routes_line { (first, second) } else { (second, first) };
        let why = format!(
            "services.{} is for it already (line {}); give one of them another host or path",
            first.service.settings.name, first.routes_line
        );
        let place = below("services", &second.service.settings.name);
        let claimed = format!("{}{}", route.host, route.path);
        findings.wrong_at(&place, Some(&claimed), second.routes_line, why);
    }
    built
}
