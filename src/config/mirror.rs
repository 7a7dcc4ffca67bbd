//! From the file to how requests are mirrored.

use super::file::MirrorFile;
use super::problem::{Findings, below};
use super::process::some_time;
use super::scalar::{Bytes, Compared, Count, MirrorMethod};
use super::written::{List, Never, Short};
use crate::routing::{MirrorMethods, MirrorSettings};
use crate::traffic::Weight;

/// Copies hold their bodies in memory, each up to the bound.
const BODY_BYTES_MAX: u64 = 16 * 1024 * 1024;
const IN_FLIGHT_MAX: u32 = 10_000;

/// The settings, and the share to begin with. `objection`: why no request could be copied anywhere, if that is so.
pub(super) fn mirror(
    findings: &mut Findings,
    at: &str,
    file: Option<Short<Weight, Never, MirrorFile>>,
    objection: impl FnOnce(Weight) -> Option<String>,
) -> (MirrorSettings, Weight) {
    let file = match file {
        None => MirrorFile::default(),
        Some(Short::One(share)) => {
            let share_alone = MirrorFile { share: Some(share), ..MirrorFile::default() };
            return mirror_long(findings, at, at, share_alone, objection);
        }
        Some(Short::List(_, line)) => {
            findings.wrong_at(at, Some("[]"), line, "a share or all about mirroring is expected here");
            MirrorFile::default()
        }
        Some(Short::Mapping(file, _)) => file,
    };
    mirror_long(findings, at, &below(at, "share"), file, objection)
}

fn mirror_long(
    findings: &mut Findings,
    at: &str,
    share_at: &str,
    file: MirrorFile,
    objection: impl FnOnce(Weight) -> Option<String>,
) -> (MirrorSettings, Weight) {
    let default = MirrorSettings::default();
    let share = file.share.as_ref().and_then(|share| findings.read(share_at, share)).unwrap_or(Weight::ZERO);
    if let Some(written) = &file.share
        && let Some(why) = objection(share)
    {
        findings.wrong(share_at, written, why);
    }
    let mut body_bytes_max = default.body_bytes_max;
    if let Some(written) = &file.body {
        let place = below(at, "body");
        match findings.read(&place, written) {
            Some(Bytes(bytes)) if bytes > BODY_BYTES_MAX => {
                let why = "must be at most 16MiB; each copy under way holds its body in memory";
                findings.wrong(&place, written, why);
            }
            Some(Bytes(bytes)) => body_bytes_max = usize::try_from(bytes).unwrap_or(body_bytes_max),
            None => {}
        }
    }
    let mut in_flight_max = default.in_flight_max;
    if let Some(written) = &file.max_in_flight {
        let place = below(at, "max_in_flight");
        match findings.read(&place, written) {
            Some(Count(count)) if count > IN_FLIGHT_MAX => {
                let why =
                    format!("must be 1 to {IN_FLIGHT_MAX}; what does not fit is dropped, and no user waits");
                findings.wrong(&place, written, why);
            }
            Some(Count(count)) => in_flight_max = count,
            None => {}
        }
    }
    let compared = compared(findings, &below(at, "compare"), file.compare);
    let settings = MirrorSettings {
        methods: methods(findings, &below(at, "methods"), file.methods),
        body_bytes_max,
        timeout: some_time(findings, at, "timeout", file.timeout.as_ref(), default.timeout),
        in_flight_max,
        compares_latency: compared.as_ref().map_or(default.compares_latency, |(latency, _)| *latency),
        compares_body: compared.map_or(default.compares_body, |(_, body)| body),
    };
    (settings, share)
}

fn methods(findings: &mut Findings, at: &str, written: Option<List<MirrorMethod>>) -> MirrorMethods {
    let Some(written) = written else { return MirrorMethods::default() };
    if let Short::List(items, line) = &written
        && items.is_empty()
    {
        findings.wrong_at(
            at,
            Some("[]"),
            *line,
            "no method is left; write safe, or share: 0% to mirror nothing",
        );
    }
    let items = written.into_items();
    let alone = items.len() == 1;
    let mut listed = Vec::new();
    for item in &items {
        match findings.read(at, item) {
            None => {}
            Some(MirrorMethod::Safe) if alone => return MirrorMethods::Safe,
            Some(MirrorMethod::All) if alone => {
                let why =
                    "what changes something happens twice, unless the candidate's side effects go nowhere";
                findings.doubt(at, item, why);
                return MirrorMethods::All;
            }
            Some(MirrorMethod::Safe | MirrorMethod::All) => {
                findings.wrong(at, item, "stands alone or not at all; list methods, or write safe or all");
            }
            Some(MirrorMethod::Named(method)) => {
                let methods = MirrorMethods::Listed(vec![method.clone()]);
                if !methods.are_safe() {
                    let why = "may change something, which happens twice then, unless the candidate's side effects go nowhere";
                    findings.doubt(at, item, why);
                }
                listed.push(method);
            }
        }
    }
    MirrorMethods::Listed(listed)
}

/// Whether latencies and bodies are compared. Statuses always are.
fn compared(findings: &mut Findings, at: &str, written: Option<List<Compared>>) -> Option<(bool, bool)> {
    let written = written?;
    let line = written.line();
    let items: Vec<_> = written.into_items();
    let read: Vec<_> = items.iter().filter_map(|item| findings.read(at, item)).collect();
    if read.len() == items.len() && !read.contains(&Compared::Status) {
        findings.doubt_at(at, line, "statuses are always compared; list status, too");
    }
    Some((read.contains(&Compared::Latency), read.contains(&Compared::Body)))
}
