//! What holds for every configuration and every plan.

use std::path::Path;

use super::{ConfigError, Overrides, PlanRequest, Planner, Problem, parse};

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

fn says_where(why: &str, name: &str) {
    assert!(why.contains(name), "{why}");
    assert!(!why.chars().any(|c| c.is_control() && c != '\n'), "{why:?}");
}
