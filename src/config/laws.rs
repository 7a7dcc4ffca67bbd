//! What holds for every configuration, every plan and every launch.

use std::path::Path;

use super::launch::{self, Around};
use super::{ConfigError, Overrides, PlanRequest, Planner, Problem, parse};
use crate::clock::Timestamp;
use crate::launch::lint;

const NAME: &str = "tidegate.yaml";

/// Whatever is wrong has a place, and what is said about it obeys no terminal.
pub fn config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let lines = text.split(['\n', '\r']).count() as u64;
    let read = || parse(text, NAME, Path::new("/nowhere"), &Overrides::default());
    let is_placed = |problem: &Problem| {
        let line = problem.line.unwrap_or_default();
        assert!((1..=lines).contains(&line), "line {line} of {lines}: {problem}");
        assert!(!problem.place.is_empty() && !problem.why.is_empty(), "{problem}");
    };
    match read() {
        Ok(config) => {
            config.warnings.iter().for_each(is_placed);
            assert!(!config.control.services.is_empty() && !config.proxy.listen.is_empty());
        }
        Err(error) => {
            says_where(&error.to_string(), NAME);
            assert_eq!(Some(error.to_string()), read().err().map(|error| error.to_string()), "read twice");
            match &error {
                ConfigError::Yaml { line, column, why, .. } => {
                    assert!((1..=lines).contains(line) && *column >= 1 && !why.is_empty(), "{error}");
                }
                ConfigError::Problems { problems, .. } => {
                    assert!(!problems.is_empty() && problems.is_sorted_by_key(|problem| problem.line));
                    problems.iter().for_each(is_placed);
                }
                ConfigError::Read { .. } | ConfigError::TooLarge { .. } | ConfigError::NotText { .. } => {
                    panic!("{error} of a text")
                }
            }
        }
    }
}

/// A plan is complete, the same each time, and survives being saved; or it is said where it is wrong.
pub fn plan(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let planner = Planner::standalone("shop");
    let request = PlanRequest {
        service: "shop".to_owned(),
        file: Some((NAME.to_owned(), text.to_owned())),
        ..PlanRequest::default()
    };
    match planner.compile(&request) {
        Ok((plan, warnings)) => {
            for warning in warnings {
                assert!(!warning.place.is_empty() && !warning.why.is_empty(), "{warning}");
            }
            let saved = serde_json::to_string(&plan).unwrap_or_else(|error| panic!("{error}: {plan:?}"));
            let again = serde_json::from_str(&saved).unwrap_or_else(|error| panic!("{error}: {saved}"));
            assert_eq!(*plan, again);
            assert_eq!(planner.compile(&request).map(|(plan, _)| plan), Ok(plan), "read twice");
        }
        Err(why) => says_where(&why, NAME),
    }
}

/// A launch is complete, the same each time, and survives being saved, without its secrets; or it is said where it is wrong.
pub fn launch(data: &[u8]) {
    const SECRET: &str = "do-not-tell-anybody";
    let Ok(text) = std::str::from_utf8(data) else { return };
    let variable = |name: &str| match name {
        "TOKEN" => Some(SECRET.to_owned()),
        "IMAGE" | "IMAGE_TAG" | "DIGEST" | "PREVIOUS" | "A" => Some("2.0.1".to_owned()),
        _ => None,
    };
    let at = Timestamp::from_millis(1_795_000_000_000);
    let around = Around { variable: &variable, service: None, at, folder: Path::new("/nowhere") };
    let read = || launch::read(text, NAME, &around);
    match read() {
        Ok(read_once) => {
            let launch = &read_once.launch;
            assert!(!launch.phases.is_empty() && !launch.name.is_empty() && !launch.service.is_empty());
            for mistake in lint(launch) {
                assert!(!mistake.place.is_empty() && !mistake.cure.is_empty(), "{mistake}");
            }
            let saved =
                serde_json::to_string(&**launch).unwrap_or_else(|error| panic!("{error}: {launch:?}"));
            assert!(text.contains(SECRET) || !saved.contains(SECRET), "{saved}");
            let again = serde_json::from_str(&saved).unwrap_or_else(|error| panic!("{error}: {saved}"));
            assert_eq!(**launch, again);
            assert_eq!(read().map(|read| read.launch).ok().as_ref(), Some(launch), "read twice");
        }
        Err(error) => {
            says_where(&error.to_string(), NAME);
            if let ConfigError::Problems { problems, .. } = error {
                assert!(!problems.is_empty() && problems.is_sorted_by_key(|problem| problem.line));
                let is_placed = |p: &Problem| !p.place.is_empty() && !p.why.is_empty() && p.line.is_some();
                assert!(problems.iter().all(is_placed), "{problems:?}");
            }
        }
    }
}

fn says_where(why: &str, name: &str) {
    assert!(why.contains(name), "{why}");
    assert!(!why.chars().any(|c| c.is_control() && c != '\n'), "{why:?}");
}
