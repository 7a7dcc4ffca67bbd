//! From the file to the conditions of a phase.

use std::sync::Arc;
use std::time::Duration;

use super::file::{
    CheckFile, ChecksFile, CommandFile, FlagCheckFile, HttpFile, HttpLong, ImageFile, PolicyFile,
    PrometheusFile, SchemaFile, TcpFile,
};
use super::shell::as_list;
use super::texts::Texts;
use super::words::{Dialect, Retries, Script, Text};
use crate::config::plan::Statuses;
use crate::config::scalar::{CheckPath, Scalar};
use crate::config::units::show_duration;
use crate::config::written::{List, Named, Never, Short, Written};
use crate::launch::{Check, CheckKind, Command, HttpCheck, Limit, Policy, SchemaCheck};

const CHECK_TIMEOUT: Duration = Duration::from_secs(30);
const CHECK_TIMEOUT_MAX: Duration = Duration::from_secs(3600);
const CHECKS_MAX: usize = 100;
const KINDS: &str = "http_status, schema_compatibility, image_digest, feature_flag_evaluation, command, prometheus, tcp or policy";

/// All conditions of a list.
pub(super) fn checks(texts: &mut Texts<'_, '_>, place: &str, file: ChecksFile) -> Vec<Check> {
    let items = match file {
        Short::List(items, line) => {
            if items.len() > CHECKS_MAX {
                texts.wrong_at(place, line, format!("{} are more than {CHECKS_MAX}", items.len()));
                return Vec::new();
            }
            items
        }
        Short::Mapping(file, line) => vec![Short::Mapping(file, line)],
        Short::One(value) => {
            texts.wrong(place, &value, "a list of checks is expected here: [{http_status: {path: /up}}]");
            return Vec::new();
        }
    };
    let mut checks = Vec::new();
    for (at, item) in items.into_iter().enumerate() {
        let place = format!("{place}[{at}]");
        match item {
            Short::Mapping(file, line) => checks.extend(check(texts, &place, *file, line)),
            Short::One(value) => {
                texts.wrong(&place, &value, format!("a check is a mapping from its kind, one of {KINDS}"));
            }
            Short::List(_, line) => {
                texts.wrong_at(&place, line, format!("a check is a mapping from its kind, one of {KINDS}"));
            }
        }
    }
    checks
}

fn check(texts: &mut Texts<'_, '_>, place: &str, file: CheckFile, line: u64) -> Option<Check> {
    let timeout = check_timeout(texts, place, file.timeout.as_ref());
    let below = |kind: &str| format!("{place}.{kind}");
    let mut found: Vec<Option<CheckKind>> = Vec::new();
    if let Some(file) = file.http_status {
        found.push(http_check(texts, &below("http_status"), file, line).map(CheckKind::HttpStatus));
    }
    if let Some(file) = file.schema_compatibility {
        found.push(schema(texts, &below("schema_compatibility"), file));
    }
    if let Some(file) = file.image_digest {
        found.push(image(texts, &below("image_digest"), file));
    }
    if let Some(file) = file.feature_flag_evaluation {
        found.push(flags(texts, &below("feature_flag_evaluation"), file));
    }
    if let Some(file) = file.command {
        found.push(command(texts, &below("command"), file).map(|run| CheckKind::Command { run }));
    }
    if let Some(file) = file.prometheus {
        found.push(prometheus(texts, &below("prometheus"), file));
    }
    if let Some(file) = file.tcp {
        found.push(tcp(texts, &below("tcp"), file));
    }
    if let Some(file) = file.policy {
        found.push(policy(texts, &below("policy"), file));
    }
    if found.len() != 1 {
        let why = match found.len() {
            0 => format!("what is checked? Add one of {KINDS}"),
            _ => "checks more than one thing; make each a check of its own".to_owned(),
        };
        texts.wrong_at(place, line, why);
        return None;
    }
    Some(Check { kind: found.pop()??, timeout })
}

/// How long a check may take.
pub(super) fn check_timeout(
    texts: &mut Texts<'_, '_>,
    place: &str,
    written: Option<&Written<Duration>>,
) -> Duration {
    some_time(texts, &format!("{place}.timeout"), written, CHECK_TIMEOUT, CHECK_TIMEOUT_MAX)
}

/// A time that is more than none.
pub(super) fn some_time(
    texts: &mut Texts<'_, '_>,
    place: &str,
    written: Option<&Written<Duration>>,
    default: Duration,
    most: Duration,
) -> Duration {
    let Some(written) = written else { return default };
    let Some(time) = texts.read(place, written) else { return default };
    if time.is_zero() || time > most {
        let why = match time.is_zero() {
            true => "no time at all; write for instance 30s".to_owned(),
            false => format!("is too long; write at most {}", show_duration(most)),
        };
        texts.wrong(place, written, why);
        return default;
    }
    time
}

/// A program with its arguments, or a line for a shell.
pub(super) fn command(texts: &mut Texts<'_, '_>, place: &str, file: CommandFile) -> Option<Command> {
    match file {
        Short::List(items, line) => {
            let is_nameless = items.first().is_none_or(|program| program.text.trim().is_empty());
            if is_nameless {
                texts.wrong_at(place, line, "which program? Write [PROGRAM, ARGUMENT, …]");
                return None;
            }
            let words: Vec<_> = items.iter().map(|item| texts.argument(place, item)).collect();
            words.into_iter().collect::<Option<Vec<_>>>().map(Command::Argv)
        }
        Short::Mapping(file, line) => shell(texts, place, file.sh.as_ref(), line),
        Short::One(value) => {
            let why = format!(
                "no shell runs it; write a list: {}, or {{sh: \"…\"}} for a shell",
                as_list(&value.text)
            );
            texts.wrong(place, &value, why);
            None
        }
    }
}

pub(super) fn shell(
    texts: &mut Texts<'_, '_>,
    place: &str,
    written: Option<&Written<Script>>,
    line: u64,
) -> Option<Command> {
    match written {
        Some(written) => texts.script(&format!("{place}.sh"), written).map(Command::Shell),
        None => {
            texts.wrong_at(place, line, "what is run? Add sh, or write a list: [PROGRAM, ARGUMENT, …]");
            None
        }
    }
}

/// A request to every endpoint of the candidate.
pub(super) fn http_check(
    texts: &mut Texts<'_, '_>,
    place: &str,
    file: HttpFile,
    line: u64,
) -> Option<HttpCheck> {
    let (long, path_place, line) = match file {
        Short::One(path) => (HttpLong { path: Some(path), ..HttpLong::default() }, place.to_owned(), line),
        Short::Mapping(long, line) => (long, format!("{place}.path"), line),
        Short::List(never, _) => match never.into_iter().next()? {},
    };
    let retries = texts.read_or(&format!("{place}.retries"), long.retries.as_ref(), Retries(0)).0;
    let expected = expected(texts, &format!("{place}.expected"), long.expected);
    let contains = text(texts, &format!("{place}.contains"), long.contains.as_ref());
    let Some(written) = &long.path else {
        texts.wrong_at(place, line, "what is asked for? Add path, such as /up");
        return None;
    };
    let path = self::path(texts, &path_place, written)?;
    Some(HttpCheck { path, expected, contains, retries })
}

/// A path that can be asked for.
pub(super) fn path(texts: &mut Texts<'_, '_>, place: &str, written: &Written<Text>) -> Option<Arc<str>> {
    let path = texts.text(place, written)?;
    if let Some(expanded) = texts.expanded(&path)
        && let Err(why) = CheckPath::read(&expanded)
    {
        texts.wrong(place, written, why);
        return None;
    }
    Some(path)
}

/// Status codes; what is not written is anything that is no error.
pub(super) fn expected(
    texts: &mut Texts<'_, '_>,
    place: &str,
    written: Option<List<Statuses>>,
) -> Vec<(u16, u16)> {
    let Some(list) = written else { return vec![(200, 399)] };
    let line = list.line();
    let items = list.into_items();
    if items.is_empty() {
        texts.wrong_at(place, line, "no answer would do; write statuses such as 200, or leave it out");
    }
    items.iter().filter_map(|item| texts.read(place, item).map(|Statuses(from, to)| (from, to))).collect()
}

pub(super) fn text(
    texts: &mut Texts<'_, '_>,
    place: &str,
    written: Option<&Written<Text>>,
) -> Option<Arc<str>> {
    written.and_then(|written| texts.text(place, written))
}

/// A text that has to be there.
pub(super) fn needed(
    texts: &mut Texts<'_, '_>,
    place: &str,
    line: u64,
    key: &str,
    written: Option<&Written<Text>>,
    cure: &str,
) -> Option<Arc<str>> {
    match written {
        Some(written) => texts.text(&format!("{place}.{key}"), written),
        None => {
            texts.wrong_at(place, line, cure);
            None
        }
    }
}

/// A list of texts that is not empty.
pub(super) fn some_texts(
    texts: &mut Texts<'_, '_>,
    place: &str,
    line: u64,
    key: &str,
    written: Option<List<Text>>,
    cure: &str,
) -> Option<Vec<Arc<str>>> {
    let items = written.map(Short::into_items).unwrap_or_default();
    if items.is_empty() {
        texts.wrong_at(place, line, cure);
        return None;
    }
    let place = format!("{place}.{key}");
    let read: Vec<_> = items.iter().map(|item| texts.text(&place, item)).collect();
    read.into_iter().collect()
}

fn schema(
    texts: &mut Texts<'_, '_>,
    place: &str,
    file: Short<Never, Never, SchemaFile>,
) -> Option<CheckKind> {
    let (mut file, line) = mapping(texts, place, file)?;
    let ran = file.command.take();
    schema_check(texts, place, line, ran, file).map(CheckKind::SchemaCompatibility)
}

pub(super) fn schema_check(
    texts: &mut Texts<'_, '_>,
    place: &str,
    line: u64,
    ran: Option<CommandFile>,
    file: SchemaFile,
) -> Option<SchemaCheck> {
    let dialect = texts.read_or(&format!("{place}.dialect"), file.dialect.as_ref(), Dialect("generic")).0;
    let allow = file.allow.map(Short::into_items).unwrap_or_default();
    let allow: Vec<_> = allow.iter().filter_map(|item| texts.text(&format!("{place}.allow"), item)).collect();
    match (ran, file.files) {
        (Some(_), Some(files)) => {
            let why = "a command or files; make two checks of it".to_owned();
            texts.wrong_at(place, files.line(), why);
            None
        }
        (Some(ran), None) => {
            if file.dialect.is_some() || !allow.is_empty() {
                texts.wrong_at(
                    place,
                    line,
                    "dialect and allow are for files; the command says what it looks at",
                );
            }
            command(texts, &format!("{place}.command"), ran).map(SchemaCheck::Run)
        }
        (None, files) => {
            let cure = "what is looked at? Add command: [./check-schema], or files: [migrations/]";
            let paths = some_texts(texts, place, line, "files", files, cure)?;
            Some(SchemaCheck::Files { paths, dialect: dialect.into(), allow })
        }
    }
}

fn image(texts: &mut Texts<'_, '_>, place: &str, file: Short<Never, Never, ImageFile>) -> Option<CheckKind> {
    let (file, line) = mapping(texts, place, file)?;
    let plain_http = file.plain_http.as_ref().and_then(|w| texts.read(&format!("{place}.plain_http"), w));
    let digest_place = format!("{place}.digest");
    image_check(texts, place, line, file.image.as_ref(), (&digest_place, file.digest.as_ref()), plain_http)
}

pub(super) fn image_check(
    texts: &mut Texts<'_, '_>,
    place: &str,
    line: u64,
    image: Option<&Written<Text>>,
    digest: (&str, Option<&Written<Text>>),
    plain_http: Option<bool>,
) -> Option<CheckKind> {
    let image_place = format!("{place}.image");
    let read = needed(texts, place, line, "image", image, "which image? Add image: HOST/NAME:TAG");
    if let Some((written, read)) = image.zip(read.as_ref())
        && let Some(why) = texts.expanded(read).and_then(|image| image_objection(&image))
    {
        texts.wrong(&image_place, written, why);
    }
    let (digest_place, digest) = digest;
    let Some(written) = digest else {
        texts.wrong_at(place, line, "which digest is it pinned to? Add digest: sha256:HEX");
        return None;
    };
    let digest = texts.text(digest_place, written)?;
    if let Some(why) = texts.expanded(&digest).and_then(|digest| digest_objection(&digest)) {
        texts.wrong(digest_place, written, why);
        return None;
    }
    Some(CheckKind::ImageDigest { image: read?, digest, plain_http })
}

fn image_objection(image: &str) -> Option<String> {
    if image.contains("://") {
        return Some(format!("{image} has a scheme; write HOST/NAME:TAG"));
    }
    if image.is_empty() || image.contains(char::is_whitespace) {
        return Some(format!("{image:?} is no image; write HOST/NAME:TAG"));
    }
    let host = image.split_once('/').map(|(host, _)| host).unwrap_or_default();
    let is_host = host.contains(['.', ':']) || host == "localhost";
    (!is_host).then(|| {
        let name = if image.contains('/') { image.to_owned() } else { format!("library/{image}") };
        format!("{image} lacks its registry; did you mean docker.io/{name}?")
    })
}

fn digest_objection(digest: &str) -> Option<String> {
    let is_hex = |hex: &str, length| hex.len() == length && hex.bytes().all(|b| b.is_ascii_hexdigit());
    let is_digest = match digest.split_once(':') {
        Some(("sha256", hex)) => is_hex(hex, 64),
        Some(("sha512", hex)) => is_hex(hex, 128),
        _ => false,
    };
    if is_digest {
        return None;
    }
    Some(match is_hex(digest, 64) {
        true => format!("did you mean sha256:{digest}?"),
        false => format!("{digest:?} is no digest; write sha256: and 64 hexadecimal digits"),
    })
}

fn flags(
    texts: &mut Texts<'_, '_>,
    place: &str,
    file: Short<Never, Never, FlagCheckFile>,
) -> Option<CheckKind> {
    let (file, line) = mapping(texts, place, file)?;
    let expect = match &file.expect {
        Some(written) => texts.text(&format!("{place}.expect"), written).map(|text| flag_value(&text)),
        None => Some(true.into()),
    };
    let context = flag_context(texts, &format!("{place}.context"), file.context);
    let token = token(texts, place, file.token.as_ref());
    let cure = "which flags? Add flags: [KEY]";
    let flags = some_texts(texts, place, line, "flags", file.flags, cure);
    let cure = "who is asked? Add provider, such as http://127.0.0.1:8016";
    let provider = address(texts, place, line, "provider", file.provider.as_ref(), cure)?;
    Some(CheckKind::FeatureFlagEvaluation { provider, flags: flags?, expect: expect?, context, token })
}

/// `on` and `off` are truth values, numbers are numbers, and all else is a text.
pub(super) fn flag_value(text: &str) -> serde_json::Value {
    match text {
        "on" | "true" => true.into(),
        "off" | "false" => false.into(),
        _ => match text.parse::<serde_json::Number>() {
            Ok(number) => number.into(),
            Err(_) => text.into(),
        },
    }
}

pub(super) fn flag_context(
    texts: &mut Texts<'_, '_>,
    place: &str,
    file: Option<Named<Written<Text>, true>>,
) -> serde_json::Map<String, serde_json::Value> {
    let entries = file.map(|named| named.0).unwrap_or_default();
    let mut context = serde_json::Map::new();
    for (key, written) in entries {
        if let Some(text) = texts.text(&format!("{place}.{}", key.text), &written) {
            context.insert(key.text, flag_value(&text));
        }
    }
    context
}

pub(super) fn token(
    texts: &mut Texts<'_, '_>,
    place: &str,
    written: Option<&Written<Text>>,
) -> Option<Arc<str>> {
    written.and_then(|written| texts.secret(&format!("{place}.token"), written))
}

fn prometheus(
    texts: &mut Texts<'_, '_>,
    place: &str,
    file: Short<Never, Never, PrometheusFile>,
) -> Option<CheckKind> {
    let (file, line) = mapping(texts, place, file)?;
    prometheus_check(texts, place, line, &file)
}

pub(super) fn prometheus_check(
    texts: &mut Texts<'_, '_>,
    place: &str,
    line: u64,
    file: &PrometheusFile,
) -> Option<CheckKind> {
    let mut bound = |key: &str, written: Option<&Written<Text>>| {
        let written = written?;
        let place = format!("{place}.{key}");
        let text = texts.read::<Text>(&place, written)?.0;
        let bound = text.trim().parse::<f64>().ok().filter(|bound| bound.is_finite());
        if bound.is_none() {
            texts.wrong(&place, written, format!("{text:?} is no number; write it without a unit"));
        }
        bound
    };
    let (min, max) = (bound("min", file.min.as_ref()), bound("max", file.max.as_ref()));
    if file.min.is_none() && file.max.is_none() {
        texts.wrong_at(place, line, "what has the value to be? Add max, min, or both");
    } else if let (Some(min), Some(max), Some(written)) = (min, max, &file.max)
        && max < min
    {
        texts.wrong(&format!("{place}.max"), written, "is below min: no value would do");
    }
    let token = token(texts, place, file.token.as_ref());
    let cure = "what is asked? Add query, in PromQL";
    let query = needed(texts, place, line, "query", file.query.as_ref(), cure);
    let cure = "who is asked? Add url, such as http://prometheus:9090";
    let url = address(texts, place, line, "url", file.url.as_ref(), cure)?;
    Some(CheckKind::Prometheus { url, query: query?, limit: Limit { min, max }, token })
}

fn tcp(texts: &mut Texts<'_, '_>, place: &str, file: Short<Text, Never, TcpFile>) -> Option<CheckKind> {
    let (place, written) = match file {
        Short::One(written) => (place.to_owned(), written),
        Short::Mapping(TcpFile { address: Some(written) }, _) => (format!("{place}.address"), written),
        Short::Mapping(TcpFile { address: None }, line) => {
            texts.wrong_at(place, line, "where to? Add address: HOST:PORT");
            return None;
        }
        Short::List(never, _) => match never.into_iter().next()? {},
    };
    tcp_check(texts, &place, &written)
}

pub(super) fn tcp_check(
    texts: &mut Texts<'_, '_>,
    place: &str,
    written: &Written<Text>,
) -> Option<CheckKind> {
    let address = texts.text(place, written)?;
    let is_address = |address: &str| {
        address.rsplit_once(':').is_some_and(|(host, port)| {
            !host.is_empty() && !host.contains("//") && port.parse::<u16>().is_ok_and(|port| port > 0)
        })
    };
    if texts.expanded(&address).is_some_and(|address| !is_address(&address)) {
        texts.wrong(place, written, "is not HOST:PORT; write for instance db.internal:5432");
        return None;
    }
    Some(CheckKind::Tcp { address })
}

fn policy(
    texts: &mut Texts<'_, '_>,
    place: &str,
    file: Short<Never, Never, PolicyFile>,
) -> Option<CheckKind> {
    let (file, line) = mapping(texts, place, file)?;
    policy_check(texts, place, line, file.command, file.url.as_ref())
}

pub(super) fn policy_check(
    texts: &mut Texts<'_, '_>,
    place: &str,
    line: u64,
    ran: Option<CommandFile>,
    url: Option<&Written<Text>>,
) -> Option<CheckKind> {
    let asks = match (ran, url) {
        (Some(_), Some(url)) => {
            texts.wrong(&format!("{place}.url"), url, "command is there, too; make two checks of it");
            return None;
        }
        (Some(ran), None) => Policy::Run(command(texts, &format!("{place}.command"), ran)?),
        (None, url) => {
            let cure = "who is asked? Add command: [conftest, test, -], or url: https://…";
            Policy::Url(address(texts, place, line, "url", url, cure)?)
        }
    };
    Some(CheckKind::Policy { asks })
}

/// The address of something that speaks HTTP.
pub(super) fn address(
    texts: &mut Texts<'_, '_>,
    place: &str,
    line: u64,
    key: &str,
    written: Option<&Written<Text>>,
    cure: &str,
) -> Option<Arc<str>> {
    let address = needed(texts, place, line, key, written, cure)?;
    let expanded = texts.expanded(&address);
    let place = format!("{place}.{key}");
    let why = match expanded.as_deref().map(|url| (url, url.parse::<http::Uri>())) {
        None => return Some(address),
        Some((_, Ok(uri))) => match (uri.scheme_str(), uri.authority()) {
            (Some("http" | "https"), Some(authority)) if authority.as_str().contains('@') => {
                let why = "has a password in it, and this is recorded; leave that out";
                texts.findings.wrong_at(&place, Some("(hidden)"), written.map_or(line, |w| w.line), why);
                return None;
            }
            (Some("http" | "https"), Some(_)) => return Some(address),
            (Some(scheme), _) => format!("{scheme} is not spoken; write http:// or https://"),
            (None, _) => "lacks its scheme; write http:// or https:// before it".to_owned(),
        },
        Some((url, Err(_))) => format!("{url:?} is no address; write for instance http://127.0.0.1:8016"),
    };
    if let Some(written) = written {
        texts.wrong(&place, written, why);
    }
    None
}

/// A mapping where nothing else may stand.
pub(super) fn mapping<T>(
    texts: &mut Texts<'_, '_>,
    place: &str,
    file: Short<Never, Never, T>,
) -> Option<(T, u64)> {
    match file {
        Short::Mapping(file, line) => Some((file, line)),
        Short::One(value) => {
            texts.wrong(place, &value, "a mapping (key: value) is expected here");
            None
        }
        Short::List(_, line) => {
            texts.wrong_at(place, line, "a mapping (key: value) is expected here");
            None
        }
    }
}
