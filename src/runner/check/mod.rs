//! Conditions: what has to be true before and after a phase.
//!
//! Each kind asks one question and says what it found in a sentence or a few, with the cure. Whatever cannot be found out is a no: a check
//! never passes because nobody answered, or because an answer is not understood. Secrets are expanded only into what is sent, and what is
//! said is cleared of them once more at the end, because the other side may repeat what it was sent.

mod tcp;

use std::future::Future;
use std::path::Path;
use std::time::Duration;

use crate::admin::client::Client;
use crate::clock;
use crate::launch::{Check, CheckKind, Command, Launch, Outcome, Variable, Verdict};
use crate::traffic::Variant;

/// What an outcome may say, in bytes.
const SAID_BYTES_MAX: usize = 4096;

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
    /// Runs a command, `${VAR}` still in it, with this on its standard input, for at most this long, so that it ends with the runner. `said` is
    /// what it wrote.
    pub run: &'a mut dyn FnMut(&Command, Option<Vec<u8>>, Duration) -> Outcome,
    /// What relative paths are relative to: the folder of the launch file.
    pub folder: &'a Path,
}

/// Asks. Blocks for at most the check's timeout, and is not to be called inside an asynchronous runtime.
pub fn ask(check: &Check, asking: &mut Asking<'_>) -> Outcome {
    let begun = clock::now();
    let outcome = match &check.kind {
        CheckKind::Command { run } => (asking.run)(run, None, check.timeout),
        CheckKind::Tcp { address } => {
            let address = (asking.expand)(address);
            answered(address.and_then(|address| blocking(check.timeout, tcp::ask(&address))))
        }
        kind => answered(Err(format!("{} is not known to this runner", kind.as_str()))),
    };
    let took = clock::now().saturating_duration_since(begun).as_millis();
    Outcome {
        said: bounded(masked(outcome.said, asking)),
        took_ms: u64::try_from(took).unwrap_or(u64::MAX),
        ..outcome
    }
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
fn blocking(
    timeout: Duration,
    answer: impl Future<Output = Result<String, String>>,
) -> Result<String, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("start a runtime: {error}"))?;
    let answer = runtime.block_on(async { tokio::time::timeout(timeout, answer).await });
    // A name that is still being looked up would be waited for otherwise.
    runtime.shutdown_background();
    answer.unwrap_or_else(|_| Err(format!("no answer within {} s", timeout.as_secs_f64())))
}

/// The text without the values of the launch's secrets.
fn masked(mut text: String, asking: &Asking<'_>) -> String {
    for (name, variable) in &asking.launch.variables {
        if *variable == Variable::Secret
            && let Ok(secret) = (asking.expand)(&format!("${{{name}}}"))
            && !secret.is_empty()
            && text.contains(&secret)
        {
            text = text.replace(&secret, "***");
        }
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
