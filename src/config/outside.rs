//! What the configuration names of the world outside: hooks, sources, channels, alerts. Only here, never in a plan: whoever may
//! start a rollout cannot make Tidegate run a program or call an address that its owner did not choose.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use schemars::{JsonSchema, Schema, json_schema};
use serde::Deserialize;

use super::file::ConfigFile;
use super::plan::{Known, Name, Reader, Text, layered, unknown};
use super::problem::{Findings, below};
use super::process::some_time;
use super::scalar::{Event, Scalar, SecretSource};
use super::secret::read_secret;
use super::written::{List, Short, Written};
use crate::hooks::{
    AlertAction, AlertSettings, Call, Channel, Escalation, HookSettings, Source, Style, Token,
};
use crate::rollout::Gates;

const TIMEOUT: Duration = Duration::from_secs(10);
const SECRET_BYTES_MIN: usize = 16;
const EVERY_MIN: Duration = Duration::from_secs(60);
/// All but the one that comes with `every`.
const EVENTS: [&str; 8] =
    ["start", "stage", "suspect", "pause", "rollback", "promotion", "keep-over", "launch"];
const PROGRESS: &str = "progress";

/// What can be asked for a yes: a URL or a program.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct HookFile {
    /// Where JSON is posted to; a 2xx is a yes.
    url: Option<Written<Url>>,
    /// Where the secret is that signs the body, file:PATH or env:NAME; at least 16 bytes.
    secret: Option<Written<SecretSource>>,
    /// A program and its arguments, as a list; JSON on its standard input, exit code 0 is a yes. No shell runs it.
    command: Option<List<Text>>,
    /// How long an answer may take. Default 10s.
    timeout: Option<Written<Duration>>,
}

/// A Prometheus, or what speaks its query API.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SourceFile {
    /// Its address: http://prometheus:9090. /api/v1/query is added.
    prometheus: Option<Written<Url>>,
    /// Where the bearer token is, file:PATH or env:NAME.
    token: Option<Written<SecretSource>>,
    /// How long an answer may take. Default 10s.
    timeout: Option<Written<Duration>>,
}

/// Somebody who is told.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ChannelFile {
    /// An incoming webhook of Slack, Mattermost or Rocket.Chat; file:PATH or env:NAME if it is to be kept secret.
    slack: Option<Written<SlackUrl>>,
    /// Where JSON is posted to.
    url: Option<Written<Url>>,
    /// Where the secret is that signs the body, file:PATH or env:NAME; at least 16 bytes.
    secret: Option<Written<SecretSource>>,
    /// A program and its arguments, as a list; JSON on its standard input. No shell runs it.
    command: Option<List<Text>>,
    /// How long an answer may take. Default 10s.
    timeout: Option<Written<Duration>>,
    /// What about: start, stage, suspect, pause, rollback, promotion, keep-over, progress; launch for what somebody has to know of
    /// launches, or launch-soon, launch-start, launch-progress, launch-overdue, launch-unattended, launch-unwatched,
    /// launch-flags, launch-stop, launch-end one by one, and launch-plan, launch-sign, launch-vote, launch-attended,
    /// launch-phase. Default start to keep-over, and launch.
    on: Option<List<Event>>,
    /// How often progress is told while a rollout runs, at least 1m. Default never.
    every: Option<Written<Duration>>,
    /// Who else is told when nobody acts on a pause or a rollback.
    escalate: Option<EscalateFile>,
}

/// Who else is told.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct EscalateFile {
    /// After so long.
    after: Written<Duration>,
    /// The other channel.
    to: Written<Name>,
}

/// What Alertmanager's notifications do.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AlertsFile {
    /// Where the bearer token is that senders have to show, file:PATH or env:NAME; at least 16 bytes.
    token: Written<SecretSource>,
    /// freeze (nothing starts or advances until somebody says so) or rollback. Default freeze.
    action: Option<Written<AlertAction>>,
}

/// An address to call.
#[derive(Clone, Debug)]
pub(super) struct Url(Arc<str>);

impl Scalar for Url {
    fn read(text: &str) -> Result<Self, String> {
        let not_one = || format!("{text:?} is no address; write one such as https://example.com/hook");
        if !text.contains("://") {
            return Err(match text.contains(['.', ':']) {
                true => format!("lacks its scheme; did you mean http://{text}?"),
                false => not_one(),
            });
        }
        let uri: http::Uri = text.parse().map_err(|_| not_one())?;
        if !matches!(uri.scheme_str(), Some("http" | "https")) {
            return Err("is called over http:// or https:// only".to_owned());
        }
        let authority =
            uri.authority().filter(|authority| !authority.host().is_empty()).ok_or_else(not_one)?;
        if authority.as_str().contains('@') {
            return Err(
                "has a password in it; leave that out, and write secret or token: file:PATH".to_owned()
            );
        }
        Ok(Self(text.into()))
    }

    fn schema() -> Schema {
        json_schema!({ "type": "string", "pattern": "^https?://" })
    }
}

/// An address that is a secret by itself, so that it may stand elsewhere.
#[derive(Clone, Debug)]
pub(super) enum SlackUrl {
    Plain(Arc<str>),
    Kept,
}

impl Scalar for SlackUrl {
    fn read(text: &str) -> Result<Self, String> {
        match SecretSource::read(text) {
            Ok(_) => Ok(Self::Kept),
            Err(_) => Url::read(text).map(|Url(url)| Self::Plain(url)),
        }
    }

    fn schema() -> Schema {
        json_schema!({ "type": "string", "pattern": "^(https?://|file:.|env:.)" })
    }
}

/// The settings, and what plans may refer to.
pub(super) fn read(findings: &mut Findings, file: &mut ConfigFile, base: &Path) -> (HookSettings, Known) {
    let (mut settings, mut known) = (HookSettings::default(), Known::default());
    for (name, hook) in file.hooks.take().map(|named| named.0).unwrap_or_default() {
        let Some((at, label)) = label(findings, "hooks", &name) else { continue };
        let hook = hook.unwrap_or_default();
        known.hooks.insert(label.clone());
        let how = How { url: hook.url, secret: hook.secret, command: hook.command, timeout: hook.timeout };
        settings.hooks.extend(how.call(findings, &at, name.line, base).map(|call| (label, call)));
    }
    for (name, source) in file.sources.take().map(|named| named.0).unwrap_or_default() {
        let Some((at, label)) = label(findings, "sources", &name) else { continue };
        known.sources.insert(label.clone());
        let source = self::source(findings, &at, name.line, source.unwrap_or_default(), base);
        settings.sources.extend(source.map(|source| (label, source)));
    }
    settings.channels = channels(findings, file, base, &mut known);
    settings.alerts = file.alerts.take().and_then(|alerts| {
        let token = token(findings, "alerts.token", Some(&alerts.token), base, SECRET_BYTES_MIN);
        let action = findings.read_or("alerts", "action", alerts.action.as_ref(), AlertAction::default());
        Some(AlertSettings { token: token?, action })
    });
    for (name, gates) in file.tiers.take().map(|named| named.0).unwrap_or_default() {
        let Some((at, label)) = label(findings, "tiers", &name) else { continue };
        let mut reader = Reader::new(findings, &at, name.line);
        let gates = layered(&mut reader, "", Some(gates), &Gates::standard(), &known);
        known.tiers.insert(label, gates);
    }
    (settings, known)
}

/// The place of something named, and its name.
fn label(findings: &mut Findings, section: &str, name: &Written<String>) -> Option<(String, Arc<str>)> {
    let at = below(section, &name.text);
    match Name::read(&name.text) {
        Ok(Name(label)) => Some((at, label)),
        Err(why) => {
            findings.wrong_at(&at, None, name.line, why);
            None
        }
    }
}

fn source(findings: &mut Findings, at: &str, line: u64, file: SourceFile, base: &Path) -> Option<Source> {
    let timeout = some_time(findings, at, "timeout", file.timeout.as_ref(), TIMEOUT);
    let token = token(findings, &below(at, "token"), file.token.as_ref(), base, 1);
    if file.prometheus.is_none() {
        let why = "where is it? Add prometheus, such as http://prometheus:9090";
        findings.wrong_at(at, None, line, why);
    }
    let place = below(at, "prometheus");
    let url = url(findings, &place, file.prometheus.as_ref()?)?;
    Some(Source { url: url.trim_end_matches('/').into(), token, timeout })
}

fn channels(
    findings: &mut Findings,
    file: &mut ConfigFile,
    base: &Path,
    known: &mut Known,
) -> BTreeMap<Arc<str>, Channel> {
    let mut channels = BTreeMap::new();
    let mut escalations = Vec::new();
    for (name, file) in file.notify.take().map(|named| named.0).unwrap_or_default() {
        let Some((at, label)) = label(findings, "notify", &name) else { continue };
        known.channels.insert(label.clone());
        let mut file = file.unwrap_or_default();
        if let Some(escalate) = file.escalate.take() {
            escalations.push((at.clone(), label.clone(), escalate));
        }
        channels.extend(channel(findings, &at, name.line, file, base).map(|channel| (label, channel)));
    }
    for (at, label, file) in escalations {
        let at = below(&at, "escalate");
        let after = some_time(findings, &at, "after", Some(&file.after), Duration::from_secs(900));
        let place = below(&at, "to");
        let Some(Name(to)) = findings.read(&place, &file.to) else { continue };
        if to == label {
            findings.wrong(&place, &file.to, "is this channel itself; name another one");
        } else if !known.channels.contains(&to) {
            let others = known.channels.iter().map(|name| &**name).filter(|name| *name != &*label);
            findings.wrong(&place, &file.to, unknown(&to, "channel", "notify", others));
        } else if let Some(channel) = channels.get_mut(&label) {
            channel.escalate = Some(Escalation { after, to });
        }
    }
    channels
}

fn channel(findings: &mut Findings, at: &str, line: u64, file: ChannelFile, base: &Path) -> Option<Channel> {
    let every_place = below(at, "every");
    let every = file.every.as_ref().and_then(|written| findings.read(&every_place, written));
    if let (Some(written), Some(time)) = (&file.every, every)
        && time < EVERY_MIN
    {
        findings.wrong(&every_place, written, "must be at least 1m; nobody reads more");
    }
    let on_place = below(at, "on");
    let mut on: Vec<Arc<str>> = match file.on {
        None => EVENTS.iter().map(|event| Arc::from(*event)).collect(),
        Some(list) => {
            let line = list.line();
            let items = list.into_items();
            if items.is_empty() {
                let why = "this channel would be told nothing; add what about, or leave on out";
                findings.wrong_at(&on_place, Some("[]"), line, why);
            }
            items
                .iter()
                .filter_map(|item| findings.read(&on_place, item))
                .map(|Event(event)| event.into())
                .collect()
        }
    };
    if every.is_some() && !on.iter().any(|event| &**event == PROGRESS) {
        on.push(PROGRESS.into());
    }
    let (call, style) = match file.slack {
        Some(slack) => {
            let others = [
                ("url", file.url.as_ref().map(|written| written.line)),
                ("secret", file.secret.as_ref().map(|written| written.line)),
                ("command", file.command.as_ref().map(Short::line)),
            ];
            for (key, line) in others {
                if let Some(line) = line {
                    let why = "slack says already where; leave one out";
                    findings.wrong_at(&below(at, key), None, line, why);
                }
            }
            let timeout = some_time(findings, at, "timeout", file.timeout.as_ref(), TIMEOUT);
            let url = slack_url(findings, &below(at, "slack"), &slack, base)?;
            (Call::Webhook { url, secret: None, timeout }, Style::Slack)
        }
        None => {
            let how =
                How { url: file.url, secret: file.secret, command: file.command, timeout: file.timeout };
            (how.call(findings, at, line, base)?, Style::Json)
        }
    };
    Some(Channel { call, style, on, every, escalate: None })
}

/// The keys that say how something is called.
struct How {
    url: Option<Written<Url>>,
    secret: Option<Written<SecretSource>>,
    command: Option<List<Text>>,
    timeout: Option<Written<Duration>>,
}

impl How {
    fn call(self, findings: &mut Findings, at: &str, line: u64, base: &Path) -> Option<Call> {
        let timeout = some_time(findings, at, "timeout", self.timeout.as_ref(), TIMEOUT);
        match (self.url, self.command) {
            (Some(written), None) => {
                let url = url(findings, &below(at, "url"), &written);
                let secret =
                    token(findings, &below(at, "secret"), self.secret.as_ref(), base, SECRET_BYTES_MIN);
                Some(Call::Webhook { url: url?, secret, timeout })
            }
            (None, Some(command)) => {
                if let Some(secret) = &self.secret {
                    findings.wrong(
                        &below(at, "secret"),
                        secret,
                        "signs what is posted to a url; leave it out",
                    );
                }
                Some(Call::Command { argv: argv(findings, &below(at, "command"), command, base)?, timeout })
            }
            (Some(_), Some(command)) => {
                let why = "url says already what is called; leave one out";
                findings.wrong_at(&below(at, "command"), None, command.line(), why);
                None
            }
            (None, None) => {
                findings.wrong_at(
                    at,
                    None,
                    line,
                    "what is called? Add url: https://… or command: [PROGRAM, …]",
                );
                None
            }
        }
    }
}

/// A program and its arguments. A path with a slash starts from the folder of the file.
fn argv(findings: &mut Findings, place: &str, command: List<Text>, base: &Path) -> Option<Vec<Arc<str>>> {
    let line = command.line();
    let is_one = matches!(command, Short::One(_));
    let items = command.into_items();
    let mut argv = Vec::new();
    for item in &items {
        let Text(text) = findings.read(place, item)?;
        argv.push(text);
    }
    let Some(program) = argv.first_mut() else {
        findings.wrong_at(place, Some("[]"), line, "there is no program; write [PROGRAM, ARGUMENT, …]");
        return None;
    };
    if let (true, Some(written)) = (is_one && program.contains(char::is_whitespace), items.first()) {
        let list = program.split_whitespace().collect::<Vec<_>>().join(", ");
        findings.wrong(place, written, format!("no shell runs it; write a list: [{list}]"));
        return None;
    }
    if program.contains('/') {
        *program = base.join(&**program).display().to_string().into();
    }
    Some(argv)
}

fn url(findings: &mut Findings, place: &str, written: &Written<Url>) -> Option<Arc<str>> {
    match Url::read(&written.text) {
        Ok(Url(url)) => Some(url),
        Err(why) => {
            // What stands before an @ is a password.
            let value = if written.text.contains('@') { "(hidden)" } else { &written.text };
            findings.wrong_at(place, Some(value), written.line, why);
            None
        }
    }
}

fn slack_url(
    findings: &mut Findings,
    place: &str,
    written: &Written<SlackUrl>,
    base: &Path,
) -> Option<Arc<str>> {
    match SlackUrl::read(&written.text) {
        Ok(SlackUrl::Plain(url)) => Some(url),
        Ok(SlackUrl::Kept) => {
            let source = Written::new(written.text.clone(), written.line);
            let text = token(findings, place, Some(&source), base, 1)?;
            match Url::read(text.reveal()) {
                Ok(Url(url)) => Some(url),
                Err(_) => {
                    findings.wrong(
                        place,
                        written,
                        "what is kept there is no address; it begins with https://",
                    );
                    None
                }
            }
        }
        Err(why) => {
            findings.wrong_at(place, Some("(hidden)"), written.line, why.replace(&written.text, "…"));
            None
        }
    }
}

/// A secret that is sent or signed with: text in one line.
fn token(
    findings: &mut Findings,
    place: &str,
    written: Option<&Written<SecretSource>>,
    base: &Path,
    min: usize,
) -> Option<Token> {
    let written = written?;
    let secret = read_secret(findings, place, written, base, min)?;
    match String::from_utf8(secret) {
        Ok(text) if text.chars().all(|c| c.is_ascii_graphic()) => Some(Token::new(text)),
        _ => {
            let why =
                "is no plain line of ASCII letters, digits and signs; make one with: openssl rand -hex 32";
            findings.wrong(place, written, why);
            None
        }
    }
}
