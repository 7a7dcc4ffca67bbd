//! Conditions: what has to be true before and after a phase.
//!
//! Each kind asks one question and says what it found in a sentence or a few, with the cure. Whatever cannot be found out is a no: a check
//! never passes because nobody answered, or because an answer is not understood. Secrets are expanded only into what is sent, and what is
//! said is cleared of them once more at the end, because the other side may repeat what it was sent.

mod flags;
mod http_status;
mod image;
mod metric;
mod policy;
mod schema;
mod tcp;

use std::env;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};
use tokio::runtime::Builder;

use crate::admin::client::Client;
use crate::clock;
use crate::launch::{Check, CheckKind, Command, Launch, Outcome, Policy, SchemaCheck, Variable, Verdict};
use crate::traffic::Variant;

/// A shorter secret would be found in every other word.
const SECRET_BYTES_MIN: usize = 4;

/// What an outcome may say, in bytes.
const SAID_BYTES_MAX: usize = 4096;

/// Runs a command, with this on its standard input, for at most this long.
pub type Run<'a> = dyn FnMut(&Command, Option<Vec<u8>>, Duration) -> Outcome + 'a;

/// What a check may need.
pub struct Asking<'a> {
    /// The launch that asks.
    pub launch: &'a Launch,
    /// The place that it brings the new version to.
    pub candidate: Variant,
    /// A text with its `${VAR}` filled in, secrets too; or a sentence that says what has no value.
    pub expand: &'a dyn Fn(&str) -> Result<String, String>,
    /// The daemon; only `http_status` needs it.
    pub client: Option<&'a Client>,
    /// Runs commands, `${VAR}` still in them, so that they end with the runner. `said` is
    /// what it wrote; all of it, up to 4 KiB, if there is something on its standard input: then what it writes is read as an answer.
    pub run: &'a mut Run<'a>,
    /// What relative paths are relative to: the folder of the launch file.
    pub folder: &'a Path,
}

/// Asks. Blocks for at most the check's timeout, and is not to be called inside an asynchronous runtime.
pub fn ask(check: &Check, asking: &mut Asking<'_>) -> Outcome {
    let begun = clock::now();
    let outcome = asked(check, asking).unwrap_or_else(|why| answered(Err(why)));
    let took = clock::now().saturating_duration_since(begun).as_millis();
    Outcome {
        said: bounded(masked(outcome.said, asking)),
        took_ms: u64::try_from(took).unwrap_or(u64::MAX),
        ..outcome
    }
}

/// # Errors
/// Why it cannot be asked.
fn asked(check: &Check, asking: &mut Asking<'_>) -> Result<Outcome, String> {
    let (expand, timeout) = (asking.expand, check.timeout);
    let expand_if = |text: &Option<Arc<str>>| text.as_deref().map(expand).transpose();
    Ok(match &check.kind {
        CheckKind::HttpStatus(http) => answered(http_status::ask(http, timeout, asking)),
        CheckKind::ImageDigest { image, digest, plain_http } => {
            let (image, digest) = (expand(image)?, expand(digest)?);
            let docker = docker_folder();
            waited(timeout, image::ask(&image, &digest, *plain_http, docker.as_deref()))
        }
        CheckKind::FeatureFlagEvaluation { provider, flags, expect, context, token } => {
            let filled = context.iter().map(|(key, value)| Ok((key.clone(), filled_in(value, expand)?)));
            let mut context: Map<_, _> = filled.collect::<Result<_, String>>()?;
            context.entry("targetingKey").or_insert_with(|| Value::from(&*asking.launch.name));
            let question = flags::Question {
                provider: expand(provider)?,
                flags: flags.iter().map(|flag| expand(flag)).collect::<Result<_, _>>()?,
                expect: filled_in(expect, expand)?,
                context,
                token: expand_if(token)?,
            };
            waited(timeout, flags::ask(question))
        }
        CheckKind::Command { run } => (asking.run)(run, None, timeout),
        CheckKind::Prometheus { url, query, limit, token } => {
            let (url, query, token) = (expand(url)?, expand(query)?, expand_if(token)?);
            waited(timeout, metric::ask(&url, &query, *limit, token.as_deref()))
        }
        CheckKind::Tcp { address } => {
            let address = expand(address)?;
            waited(timeout, tcp::ask(&address))
        }
        CheckKind::Policy { asks: Policy::Run(command) } => {
            let input = policy::input(asking.launch)?;
            policy::ran((asking.run)(command, Some(input), timeout))
        }
        CheckKind::Policy { asks: Policy::Url(url) } => {
            let url = expand(url)?;
            waited(timeout, policy::ask(&url, asking.launch))
        }
        CheckKind::SchemaCompatibility(SchemaCheck::Run(command)) => (asking.run)(command, None, timeout),
        CheckKind::SchemaCompatibility(SchemaCheck::Files { paths, dialect, allow }) => {
            let all =
                |texts: &[Arc<str>]| texts.iter().map(|text| expand(text)).collect::<Result<Vec<_>, _>>();
            answered(schema::ask(&all(paths)?, &expand(dialect)?, &all(allow)?, asking.folder))
        }
    })
}

/// Texts within a value, with their variables filled in.
fn filled_in(value: &Value, expand: &dyn Fn(&str) -> Result<String, String>) -> Result<Value, String> {
    Ok(match value {
        Value::String(text) => Value::String(expand(text)?),
        Value::Array(items) => items.iter().map(|item| filled_in(item, expand)).collect::<Result<_, _>>()?,
        Value::Object(members) => {
            let members = members.iter().map(|(key, value)| Ok((key.clone(), filled_in(value, expand)?)));
            Value::Object(members.collect::<Result<_, String>>()?)
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
    })
}

/// Where Docker keeps credentials: `DOCKER_CONFIG`, else `~/.docker`.
fn docker_folder() -> Option<PathBuf> {
    let named = env::var_os("DOCKER_CONFIG").filter(|folder| !folder.is_empty()).map(PathBuf::from);
    named.or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".docker")))
}

/// A yes or a no with its sentence.
fn answered(answer: Result<String, String>) -> Outcome {
    let (verdict, said) = match answer {
        Ok(said) => (Verdict::Passed, said),
        Err(said) => (Verdict::Failed, said),
    };
    Outcome { verdict, said, took_ms: 0 }
}

/// Waits for an answer for so long.
fn waited(timeout: Duration, answer: impl Future<Output = Result<String, String>>) -> Outcome {
    let runtime = match Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return answered(Err(format!("start a runtime: {error}"))),
    };
    let answer = runtime.block_on(async { tokio::time::timeout(timeout, answer).await });
    // A name that is still being looked up would be waited for otherwise.
    runtime.shutdown_background();
    match answer {
        Ok(answer) => answered(answer),
        Err(_) => Outcome {
            verdict: Verdict::TimedOut,
            said: format!("no answer within {} s", timeout.as_secs_f64()),
            took_ms: 0,
        },
    }
}

/// The text without the values of the launch's secrets.
fn masked(mut text: String, asking: &Asking<'_>) -> String {
    let secret = |(name, variable): (&Arc<str>, &Variable)| match variable {
        Variable::Secret => (asking.expand)(&format!("${{{name}}}")).ok(),
        Variable::Value(_) => None,
    };
    let mut secrets: Vec<_> = asking.launch.variables.iter().filter_map(secret).collect();
    // One may be the beginning of another.
    secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    for secret in secrets.iter().filter(|secret| secret.len() >= SECRET_BYTES_MIN) {
        text = text.replace(secret.as_str(), "***");
    }
    text
}

/// The text, cut where it gets too long, without control characters other than line ends.
fn bounded(text: String) -> String {
    let mut text: String =
        text.trim().chars().map(|char| if char.is_control() && char != '\n' { ' ' } else { char }).collect();
    if text.len() > SAID_BYTES_MAX {
        let end = (0..=SAID_BYTES_MAX - "…".len()).rev().find(|at| text.is_char_boundary(*at));
        text.truncate(end.unwrap_or_default());
        text.push('…');
    }
    text
}
