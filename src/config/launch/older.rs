//! The older form: validators with a type and a config, actions as command lines, times in milliseconds.
//!
//! ```yaml
//! launch:
//!   environment: production
//!   rollback_threshold: {error_rate: 0.02, latency_p99_ms: 800, health_check_failures: 3}
//!   phases:
//!     - id: migrate
//!       name: Migrate the database
//!       timeout_ms: 30000
//!       rollback_on_failure: true
//!       validators: [{type: schema_compatibility, config: {command: "check_schema --both"}}]
//!       actions: {execute: "run_migration --direction up", rollback: "run_migration --direction down"}
//! ```
//!
//! A command line is split into words as a shell would, and no shell runs it. `shift_traffic --percent N`, `disable_traffic` and
//! `run_synthetic_tests` are Tidegate's own. What the form does not have (a window, a checklist) may stand beside `launch`.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::Deserialize;

use super::checks::{
    address, check_timeout, command, expected, flag_context, flag_value, image_check, path, policy_check,
    prometheus_check, schema_check, some_texts, tcp_check, text, token,
};
use super::file::{CommandFile, PrometheusFile, SchemaFile};
use super::phases::{
    Drafted, PHASE_TIMEOUT_MAX, PhasesFile, drafted_phase, listed_phases, timeout, usual_undo,
};
use super::shell;
use super::texts::Texts;
use super::words::{Argument, Dialect, Fraction, Millis, Retries, Text, Validator, Word};
use crate::config::plan::{Percent, Statuses};
use crate::config::scalar::{Count, Scalar};
use crate::config::units::show_duration;
use crate::config::written::{List, Named, Never, Short, Written};
use crate::launch::{Action, Breaker, Check, CheckKind, Command, HttpCheck, Undo};
use crate::traffic::Weight;

/// A launch with validators and actions.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct OlderFile {
    /// Its name. Default: the file's.
    pub(super) name: Option<Written<Word>>,
    /// The service that it releases. Default: what the command line says.
    pub(super) service: Option<Written<Word>>,
    /// The version that it brings.
    pub(super) version: Option<Written<Word>>,
    /// For instance production; only shown.
    pub(super) environment: Option<Written<Word>>,
    /// Limits that are watched from the start to the end; one that is crossed rolls the launch back.
    pub(super) rollback_threshold: Option<OlderThreshold>,
    /// What is done, in this order.
    pub(super) phases: Option<PhasesFile<OlderPhase>>,
}

/// Limits.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct OlderThreshold {
    /// The share of requests that failed, as a fraction: 0.02.
    error_rate: Option<Written<Fraction>>,
    /// The 99th percentile of time to the response head.
    latency_p99_ms: Option<Written<Millis>>,
    /// So many health checks of one endpoint in a row failed.
    health_check_failures: Option<Written<Count>>,
}

/// A phase with validators and actions.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct OlderPhase {
    /// Unique in the launch.
    id: Option<Written<Word>>,
    /// For people.
    name: Option<Written<Text>>,
    /// How long it may take. Default 600000.
    timeout_ms: Option<Written<Millis>>,
    /// How long its rollback may take. Default: as timeout_ms.
    rollback_timeout_ms: Option<Written<Millis>>,
    /// Whether its failure undoes the launch from here back. Default true.
    rollback_on_failure: Option<Written<bool>>,
    /// Phases that have to come before.
    needs: Option<List<Word>>,
    /// The same as needs.
    depends_on: Option<List<Word>>,
    /// What has to be true before and afterwards.
    validators: Option<Short<Never, OlderValidator, Never>>,
    /// What is done, and what undoes it.
    actions: Option<OlderActions>,
}

/// A condition.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct OlderValidator {
    /// What is asked.
    #[serde(rename = "type")]
    kind: Written<Validator>,
    /// How.
    #[serde(default)]
    config: OlderConfig,
    /// How long it may take. Default 30000.
    timeout_ms: Option<Written<Millis>>,
}

/// What a validator is asked about; each kind has its own keys.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct OlderConfig {
    /// http_status: what is asked for, at every endpoint of the candidate; of an address its path counts. policy, prometheus: who is
    /// asked.
    url: Option<Written<Text>>,
    /// http_status: what is asked for.
    path: Option<Written<Text>>,
    /// http_status: one status or a list. Default 200-399.
    expected_status: Option<List<Text>>,
    /// http_status: the same as expected_status. feature_flag_evaluation: what flags have to be.
    expected: Option<List<Text>>,
    /// The same as expected.
    expect: Option<List<Text>>,
    /// http_status: what the body has to hold.
    contains: Option<Written<Text>>,
    /// http_status: further attempts, a second apart.
    retries: Option<Written<Retries>>,
    /// How long it may take.
    timeout_ms: Option<Written<Millis>>,
    /// image_digest: HOST/NAME:TAG.
    image: Option<Written<Text>>,
    /// image_digest: sha256:HEX.
    expected_digest: Option<Written<Text>>,
    /// image_digest: the same as expected_digest.
    digest: Option<Written<Text>>,
    /// image_digest: whether the registry is spoken to without TLS. Default: only on loopback.
    plain_http: Option<Written<bool>>,
    /// command, schema_compatibility, policy: a command line or a list; exit code 0 is a yes.
    command: Option<CommandFile>,
    /// schema_compatibility: files, or folders with *.sql.
    migrations: Option<List<Text>>,
    /// schema_compatibility: generic, sqlite, postgresql or mysql. Default generic.
    dialect: Option<Written<Dialect>>,
    /// schema_compatibility: statements that are meant.
    allow: Option<List<Text>>,
    /// feature_flag_evaluation: who is asked.
    provider: Option<Written<Text>>,
    /// feature_flag_evaluation: their keys.
    flags: Option<List<Text>>,
    /// feature_flag_evaluation: a single key.
    flag: Option<Written<Text>>,
    /// feature_flag_evaluation: the evaluation context.
    context: Option<Named<Written<Text>, true>>,
    /// feature_flag_evaluation, prometheus: a variable, sent as Authorization: Bearer.
    token: Option<Written<Text>>,
    /// prometheus: PromQL.
    query: Option<Written<Text>>,
    /// prometheus: the value is at least this.
    min: Option<Written<Text>>,
    /// prometheus: the value is at most this.
    max: Option<Written<Text>>,
    /// tcp: HOST:PORT.
    address: Option<Written<Text>>,
}

/// What is done, and what undoes it.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct OlderActions {
    /// shift_traffic --percent N, disable_traffic, run_synthetic_tests, or a command.
    execute: Option<CommandFile>,
    /// What undoes it: the same, or none. Has to be written for commands.
    rollback: Option<CommandFile>,
}

/// What ends it at once.
pub(super) fn breaker(texts: &mut Texts<'_, '_>, file: &OlderThreshold) -> Breaker {
    let at = "launch.rollback_threshold";
    let place = format!("{at}.error_rate");
    let mut error_rate = None;
    if let Some(written) = &file.error_rate
        && let Some(Fraction(share)) = texts.read(&place, written)
    {
        if share > 0.0 && share < 1.0 {
            error_rate = Some(share);
        } else {
            texts.wrong(&place, written, "must be more than 0 and less than 1, such as 0.02");
        }
    }
    let latency = file.latency_p99_ms.as_ref();
    let failures = file.health_check_failures.as_ref();
    Breaker {
        error_rate,
        latency_p99: latency
            .and_then(|written| texts.read(&format!("{at}.latency_p99_ms"), written))
            .map(|Millis(time)| time),
        health_check_failures: failures
            .and_then(|written| texts.read(&format!("{at}.health_check_failures"), written))
            .map(|Count(count)| count),
        ..Breaker::default()
    }
}

/// All phases.
pub(super) fn phases(texts: &mut Texts<'_, '_>, file: PhasesFile<OlderPhase>) -> Vec<Drafted> {
    listed_phases(texts, "launch.phases", file, |phase: &OlderPhase| phase.id.as_ref(), phase)
}

fn phase(
    texts: &mut Texts<'_, '_>,
    place: &str,
    id: Arc<str>,
    file: OlderPhase,
    line: u64,
) -> Option<Drafted> {
    let below = |key: &str| format!("{place}.{key}");
    let title = file.name.as_ref().and_then(|name| texts.text(&below("name"), name));
    let check = match file.validators {
        Some(Short::List(items, _)) => {
            let read = |(at, file)| validator(texts, &format!("{place}.validators[{at}]"), file);
            items.into_iter().enumerate().filter_map(read).collect()
        }
        Some(Short::One(value)) => {
            let why = "a list of validators is expected here: [{type: http_status, config: {path: /up}}]";
            texts.wrong(&below("validators"), &value, why);
            Vec::new()
        }
        Some(Short::Mapping(never, _)) => match never {},
        None => Vec::new(),
    };
    let rollback_on_failure =
        texts.read_or(&below("rollback_on_failure"), file.rollback_on_failure.as_ref(), true);
    let mut millis = |key: &str, written: Option<&Written<Millis>>| {
        let written = written?;
        let Millis(time) = texts.read(&below(key), written)?;
        if time > PHASE_TIMEOUT_MAX {
            texts.wrong(&below(key), written, format!("is longer than {}", show_duration(PHASE_TIMEOUT_MAX)));
        }
        Some(Written::new(show_duration(time), written.line))
    };
    let timeout_written = millis("timeout_ms", file.timeout_ms.as_ref());
    let undo_timeout = millis("rollback_timeout_ms", file.rollback_timeout_ms.as_ref());
    let undo_timeout = undo_timeout.and_then(|written| std::time::Duration::read(&written.text).ok());
    let mut needs = Vec::new();
    for (key, list) in [("needs", file.needs), ("depends_on", file.depends_on)] {
        for written in list.map(Short::into_items).unwrap_or_default() {
            if let Some(Word(id)) = texts.read(&below(key), &written) {
                needs.push(Written::new(id.to_string(), written.line));
            }
        }
    }
    let actions = file.actions.unwrap_or_default();
    let action = match actions.execute {
        Some(execute) => action(texts, &below("actions.execute"), execute),
        None => {
            texts.wrong_at(place, line, "what does it do? Add actions: {execute: …, rollback: …}");
            None
        }
    };
    let undo = match (actions.rollback, &action) {
        (Some(rollback), _) => undo(texts, &below("actions.rollback"), rollback),
        (None, Some(Action::Command { .. })) => {
            let why = "what undoes it? Add rollback to actions, or rollback: none if nothing does and it harms nobody";
            texts.wrong_at(&below("actions"), line, why);
            None
        }
        (None, Some(action)) => Some(usual_undo(action)),
        (None, None) => None,
    };
    let action = action?;
    let timed = timeout_written.is_some() || !matches!(action, Action::Command { .. });
    let timeout = timeout(texts, &below("timeout_ms"), timeout_written.as_ref(), &action);
    let phase = drafted_phase(id, title, check, action, None, undo?, timeout, rollback_on_failure);
    Some(Drafted { phase, place: place.to_owned(), undo_timeout, timed, needs })
}

/// What a command line asks for.
enum Line {
    Shift(Weight),
    DisableTraffic,
    Synthetic,
    Nothing,
    Command(Command),
}

fn line(texts: &mut Texts<'_, '_>, place: &str, file: CommandFile) -> Option<Line> {
    let written = match file {
        Short::One(written) => written,
        other => return command(texts, place, other).map(Line::Command),
    };
    let words = match shell::split(&written.text) {
        Ok(words) => words,
        Err(why) => {
            texts.wrong(place, &written, why);
            return None;
        }
    };
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let (program, arguments) = words.split_first()?;
    let takes_nothing = match *program {
        "shift_traffic" => {
            let percent = match arguments {
                ["--percent" | "--weight" | "-p", percent] | [percent] => Some(*percent),
                _ => None,
            };
            let percent = percent.map(|percent| percent.strip_prefix("--percent=").unwrap_or(percent));
            let read = match percent.map(|percent| (percent, texts.expanded(percent))) {
                Some((percent, None)) => {
                    let value = Written::<Percent>::new(percent.to_owned(), written.line);
                    return texts.read(place, &value).map(|Percent(weight)| Line::Shift(weight));
                }
                Some((_, Some(percent))) => Percent::read(&percent),
                None => Err("to how much? Write shift_traffic --percent 25".to_owned()),
            };
            return read
                .map(|Percent(weight)| Line::Shift(weight))
                .map_err(|why| texts.wrong(place, &written, why))
                .ok();
        }
        "disable_traffic" => Line::DisableTraffic,
        "run_synthetic_tests" => Line::Synthetic,
        "none" => Line::Nothing,
        _ => {
            let read = |word: &&str| {
                texts.argument(place, &Written::<Argument>::new((*word).to_owned(), written.line))
            };
            let argv: Vec<_> = words.iter().map(read).collect();
            let argv = argv.into_iter().collect::<Option<Vec<_>>>()?;
            return Some(Line::Command(Command::Argv(argv)));
        }
    };
    if !arguments.is_empty() {
        texts.wrong(place, &written, format!("{program} takes no arguments; leave them out"));
        return None;
    }
    Some(takes_nothing)
}

fn action(texts: &mut Texts<'_, '_>, place: &str, file: CommandFile) -> Option<Action> {
    let at = file.line();
    Some(match line(texts, place, file)? {
        Line::Shift(Weight::ZERO) | Line::DisableTraffic => Action::DisableTraffic,
        Line::Shift(weight) => Action::Shift { weight },
        Line::Synthetic => Action::Synthetic,
        Line::Command(run) => Action::Command { run },
        Line::Nothing => {
            texts.wrong_at(place, at, "does nothing; leave the phase out");
            return None;
        }
    })
}

fn undo(texts: &mut Texts<'_, '_>, place: &str, file: CommandFile) -> Option<Undo> {
    let at = file.line();
    Some(match line(texts, place, file)? {
        Line::Shift(Weight::ZERO) | Line::DisableTraffic => Undo::DisableTraffic,
        Line::Shift(weight) => Undo::Shift { weight },
        Line::Nothing => Undo::None,
        Line::Command(run) => Undo::Command { run },
        Line::Synthetic => {
            texts.wrong_at(place, at, "tests undo nothing; write what does, or none");
            return None;
        }
    })
}

fn validator(texts: &mut Texts<'_, '_>, place: &str, file: OlderValidator) -> Option<Check> {
    let line = file.kind.line;
    let kind = texts.read(&format!("{place}.type"), &file.kind)?;
    let at = format!("{place}.config");
    let mut config = file.config;
    let millis = file.timeout_ms.or(config.timeout_ms.take());
    let millis = millis.and_then(|written| {
        let Millis(time) = texts.read(&format!("{place}.timeout_ms"), &written)?;
        Some(Written::new(show_duration(time), written.line))
    });
    let timeout = check_timeout(texts, place, millis.as_ref());
    let kind = match kind {
        Validator::HttpStatus => http(texts, &at, line, &mut config).map(CheckKind::HttpStatus),
        Validator::SchemaCompatibility => {
            let ran = config.command.take().map(|file| words_of(texts, &at, file));
            let file = SchemaFile {
                command: None,
                files: config.migrations.take(),
                dialect: config.dialect.take(),
                allow: config.allow.take(),
            };
            match ran {
                Some(ran) => schema_check(texts, &at, line, Some(ran?), file),
                None => schema_check(texts, &at, line, None, file),
            }
            .map(CheckKind::SchemaCompatibility)
        }
        Validator::ImageDigest => {
            let plain = config.plain_http.take();
            let plain = plain.and_then(|written| texts.read(&format!("{at}.plain_http"), &written));
            let (expected, digest) = (config.expected_digest.take(), config.digest.take());
            let (key, written) = match expected {
                Some(written) => ("expected_digest", Some(written)),
                None => ("digest", digest),
            };
            let image = config.image.take();
            let place = format!("{at}.{key}");
            image_check(texts, &at, line, image.as_ref(), (&place, written.as_ref()), plain)
        }
        Validator::FeatureFlagEvaluation => flags(texts, &at, line, &mut config),
        Validator::Command => match config.command.take() {
            Some(file) => words_of(texts, &at, file)
                .and_then(|file| command(texts, &format!("{at}.command"), file))
                .map(|run| CheckKind::Command { run }),
            None => {
                texts.wrong_at(&at, line, "which command? Add command");
                None
            }
        },
        Validator::Prometheus => {
            let file = PrometheusFile {
                url: config.url.take(),
                query: config.query.take(),
                min: config.min.take(),
                max: config.max.take(),
                token: config.token.take(),
            };
            prometheus_check(texts, &at, line, &file)
        }
        Validator::Tcp => match config.address.take() {
            Some(address) => tcp_check(texts, &format!("{at}.address"), &address),
            None => {
                texts.wrong_at(&at, line, "where to? Add address: HOST:PORT");
                None
            }
        },
        Validator::Policy => {
            let ran = config.command.take();
            let url = config.url.take();
            match ran {
                Some(ran) => {
                    let ran = words_of(texts, &at, ran);
                    ran.and_then(|ran| policy_check(texts, &at, line, Some(ran), url.as_ref()))
                }
                None => policy_check(texts, &at, line, None, url.as_ref()),
            }
        }
    };
    left_over(texts, &at, config, &file.kind.text);
    Some(Check { kind: kind?, timeout })
}

/// Keys that the kind of validator does not look at.
fn left_over(texts: &mut Texts<'_, '_>, at: &str, config: OlderConfig, kind: &str) {
    let of_list = |list: &Option<List<Text>>| list.as_ref().map(Short::line);
    let of_one = |one: &Option<Written<Text>>| one.as_ref().map(|written| written.line);
    let keys = [
        ("url", of_one(&config.url)),
        ("path", of_one(&config.path)),
        ("expected_status", of_list(&config.expected_status)),
        ("expected", of_list(&config.expected)),
        ("expect", of_list(&config.expect)),
        ("contains", of_one(&config.contains)),
        ("retries", config.retries.as_ref().map(|written| written.line)),
        ("image", of_one(&config.image)),
        ("expected_digest", of_one(&config.expected_digest)),
        ("digest", of_one(&config.digest)),
        ("plain_http", config.plain_http.as_ref().map(|written| written.line)),
        ("command", config.command.as_ref().map(Short::line)),
        ("migrations", of_list(&config.migrations)),
        ("dialect", config.dialect.as_ref().map(|written| written.line)),
        ("allow", of_list(&config.allow)),
        ("provider", of_one(&config.provider)),
        ("flags", of_list(&config.flags)),
        ("flag", of_one(&config.flag)),
        ("context", config.context.as_ref().and_then(|named| named.0.first()).map(|(key, _)| key.line)),
        ("token", of_one(&config.token)),
        ("query", of_one(&config.query)),
        ("min", of_one(&config.min)),
        ("max", of_one(&config.max)),
        ("address", of_one(&config.address)),
    ];
    for (key, line) in keys {
        if let Some(line) = line {
            let why = format!("means nothing to {kind}; leave it out");
            texts.wrong_at(&format!("{at}.{key}"), line, why);
        }
    }
}

/// A command line as a list.
fn words_of(texts: &mut Texts<'_, '_>, at: &str, file: CommandFile) -> Option<CommandFile> {
    let Short::One(written) = file else { return Some(file) };
    match shell::split(&written.text) {
        Ok(words) => {
            let words = words.into_iter().map(|word| Written::new(word, written.line)).collect();
            Some(Short::List(words, written.line))
        }
        Err(why) => {
            texts.wrong(&format!("{at}.command"), &written, why);
            None
        }
    }
}

fn http(texts: &mut Texts<'_, '_>, at: &str, line: u64, config: &mut OlderConfig) -> Option<HttpCheck> {
    let statuses = config.expected_status.take().or(config.expected.take()).or(config.expect.take());
    let statuses = statuses.map(|list| match list {
        Short::One(written) => List::<Statuses>::One(Written::new(written.text, written.line)),
        Short::List(items, line) => {
            let items = items.into_iter().map(|item| Written::new(item.text, item.line)).collect();
            Short::List(items, line)
        }
        Short::Mapping(never, _) => match never {},
    });
    let expected = expected(texts, &format!("{at}.expected_status"), statuses);
    let contains = text(texts, &format!("{at}.contains"), config.contains.take().as_ref());
    let retries = texts.read_or(&format!("{at}.retries"), config.retries.take().as_ref(), Retries(0)).0;
    let path = match (config.path.take(), config.url.take()) {
        (Some(written), _) => path(texts, &format!("{at}.path"), &written)?,
        (None, Some(written)) if written.text.starts_with('/') => {
            path(texts, &format!("{at}.url"), &written)?
        }
        (None, Some(written)) => path_of(texts, &format!("{at}.url"), &written)?,
        (None, None) => {
            texts.wrong_at(at, line, "what is asked for? Add path, such as /up");
            return None;
        }
    };
    Some(HttpCheck { path, expected, contains, retries })
}

/// The path of an address: every endpoint of the candidate is asked for it, whoever the address names.
fn path_of(texts: &mut Texts<'_, '_>, place: &str, written: &Written<Text>) -> Option<Arc<str>> {
    let Text(url) = texts.read(place, written)?;
    let path = match url.split_once("://") {
        Some(("http" | "https", rest)) => match rest.find(['/', '?']) {
            Some(at) if rest[at..].starts_with('/') => Some(rest[at..].to_owned()),
            Some(at) => Some(format!("/{}", &rest[at..])),
            None => Some("/".to_owned()),
        },
        _ => None,
    };
    let Some(path) = path.filter(|path| path.parse::<http::uri::PathAndQuery>().is_ok()) else {
        texts.wrong(place, written, format!("{url:?} cannot be asked for; write a path such as /up"));
        return None;
    };
    let why = format!(
        "every endpoint of the candidate is asked for {path}, whoever this names; write path: {path}"
    );
    texts.doubt(place, written, why);
    Some(path.into())
}

fn flags(texts: &mut Texts<'_, '_>, at: &str, line: u64, config: &mut OlderConfig) -> Option<CheckKind> {
    let expect = config.expected.take().or(config.expect.take());
    let expect = match expect.map(Short::into_items).as_deref() {
        None => Some(true.into()),
        Some([written]) => texts.text(&format!("{at}.expected"), written).map(|text| flag_value(&text)),
        Some(_) => {
            texts.wrong_at(
                &format!("{at}.expected"),
                line,
                "one value is expected here, for all of the flags",
            );
            None
        }
    };
    let context = flag_context(texts, &format!("{at}.context"), config.context.take());
    let token = token(texts, at, config.token.take().as_ref());
    let flags = config.flags.take().or(config.flag.take().map(Short::One));
    let flags = some_texts(texts, at, line, "flags", flags, "which flags? Add flags: [KEY]");
    let cure = "who is asked? Add provider, such as http://127.0.0.1:8016";
    let provider = address(texts, at, line, "provider", config.provider.take().as_ref(), cure)?;
    Some(CheckKind::FeatureFlagEvaluation { provider, flags: flags?, expect: expect?, context, token })
}
