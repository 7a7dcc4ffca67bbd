//! Blue and green side by side.
//!
//! Pure: a status goes in, text comes out, the same for `status`, `status -w` and the demo. Few services
//! get a table each; many get one line each. Red is for trouble only.

use super::figures::{self, NOTHING};
use super::launch;
use super::paint::{Line, Span, Style};
use super::rollout::show;
use super::watch::Form;
use crate::admin::api::{
    Ejection, EndpointStatus, MirrorStatus, Predecessor, ServiceStatus, Status, VariantStatus,
};
use crate::traffic::{By, Lock, PerVariant, Role, Variant, Weight};

/// More services than this are listed with one line each.
const TABLES_MAX: usize = 5;

/// From this failure ratio on, it is shown as trouble.
const TROUBLE: f64 = 0.01;

const LABEL_WIDTH: usize = 15;

/// What of a table is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Detail {
    Full,
    /// What a rollout is about, for small screens.
    Brief,
}

/// The status as it is shown in one form or the other.
pub fn shown(status: &Status, form: Form) -> String {
    match form {
        Form::Screen { width, color } => render(status, width, color),
        Form::Plain => plain_lines(status).into_iter().map(|line| line + "\n").collect(),
    }
}

/// The whole status in lines at most `width` columns wide, with escape sequences if `color`.
pub fn render(status: &Status, width: usize, color: bool) -> String {
    rendered(status, Detail::Full, width, color)
}

/// The same without what can be done without on a small screen.
pub fn render_briefly(status: &Status, width: usize, color: bool) -> String {
    rendered(status, Detail::Brief, width, color)
}

fn rendered(status: &Status, detail: Detail, width: usize, color: bool) -> String {
    let mut lines = vec![head(status)];
    if !status.saved {
        lines.extend(note(Style::Trouble, "not saved", "a restart now would undo changes", width));
    }
    if status.draining {
        lines.extend(note(Style::Trouble, "stopping", "open requests may end, no new ones are taken", width));
    }
    lines.extend(
        status.predecessors.iter().flat_map(|old| note(Style::Bold, "before", &still_holds(old), width)),
    );
    lines.extend(status.drift.iter().flat_map(|drift| note(Style::Bold, "drift", drift, width)));
    if status.services.len() > TABLES_MAX {
        lines.push(Line::new());
        lines.extend(list(&status.services));
    } else {
        for service in &status.services {
            lines.push(Line::new());
            lines.extend(table(service, detail, width));
        }
    }
    let mut text = String::new();
    for line in lines {
        line.paint(width, color, &mut text);
    }
    text
}

/// `process 812 (tidegate 0.1.0) has held 3 tunnels and 1 request since 2026-01-01T00:00:00Z`.
fn still_holds(old: &Predecessor) -> String {
    let Predecessor { pid, version, since, tunnels, requests } = old;
    let count = |count: u64, noun: &str| format!("{count} {noun}{}", if count == 1 { "" } else { "s" });
    let held = format!("{} and {}", count(*tunnels, "tunnel"), count(*requests, "request"));
    format!("process {pid} (tidegate {version}) gave over at {since} and still holds {held}")
}

/// The same in one plain line a service: for logs, and for terminals that are none.
pub fn plain_lines(status: &Status) -> Vec<String> {
    status.services.iter().map(plain_line).collect()
}

fn plain_line(service: &ServiceStatus) -> String {
    let PerVariant { blue, green } = &service.variants;
    let mut text = format!(
        "{}: {} {} ({} of requests), {} requests/s, failures blue {} green {}, p95 blue {} green {}",
        service.name,
        service.candidate,
        figures::share(service.weight),
        figures::ratio(service.variants[service.candidate].share_of_requests),
        figures::rate(blue.rate + green.rate),
        figures::ratio(blue.failure_ratio),
        figures::ratio(green.failure_ratio),
        figures::millis(blue.p95_ms),
        figures::millis(green.p95_ms),
    );
    for (_, remark) in remarks(service) {
        text.push_str(", ");
        text.push_str(&remark);
    }
    crate::admin::client::printable(&text)
}

fn head(status: &Status) -> Line {
    let mut line = Line::new()
        .then(Style::Bold, &status.host)
        .then(Style::Dim, &format!("  tidegate {}", status.version))
        .then(Style::Dim, &format!("  generation {}", status.generation))
        .then(Style::Dim, "  last 60 s");
    if !status.listen.is_empty() {
        line = line.then(Style::Dim, &format!("  on {}", status.listen.join(", ")));
    }
    line = line.then(Style::Dim, &format!("  since {}", seconds(&status.started.to_string())));
    line
}

fn table(service: &ServiceStatus, detail: Detail, width: usize) -> Vec<Line> {
    const BRIEF: [&str; 8] =
        ["", "version", "share", "of requests", "requests/s", "failures", "p99", "endpoints"];
    let mut rows = rows(service);
    rows.retain(|row| detail == Detail::Full || BRIEF.contains(&row.label));
    // What is left beside labels and differences is shared by both variants.
    let widest =
        rows.iter().flat_map(|row| [row.cells.blue.width(), row.cells.green.width()]).max().unwrap_or(0);
    let room = width.saturating_sub(LABEL_WIDTH) / 2;
    let column = (widest + 3).min(room.max(12));
    let cut = |cell: Span| cell.clipped(column - 2);

    let mut lines = vec![title(service)];
    for Row { label, cells, difference } in rows {
        lines.push(
            Line::new()
                .column(Span::new(Style::Dim, &format!("  {label}")), LABEL_WIDTH)
                .column(cut(cells.blue), column)
                .column(cut(cells.green), column)
                .then(Style::Dim, &difference.unwrap_or_default()),
        );
    }
    lines.extend(endpoint_troubles(service, width));
    if let Some(mirror) = &service.mirror {
        let story = mirror_story(service.candidate, mirror);
        lines.extend(note(Style::Bold, "mirroring", &story, width));
    }
    if let Some(lock) = &service.lock {
        lines.extend(note(Style::Trouble, "locked", &lock_story(&service.name, lock), width));
    }
    if let Some(launch) = &service.launch {
        let (style, text) = launch::show::remark(launch);
        lines.push(Line::new().then(Style::Plain, "  ").then(style, &text));
    }
    // A lock says itself why a rollout ended.
    if let Some(rollout) =
        service.rollout.as_ref().filter(|rollout| service.lock.is_none() || !rollout.has_ended())
    {
        lines.extend(show::lines(&service.name, service.candidate, rollout, width));
    }
    if let Some(since) = service.split_expired {
        let since = seconds(&since.to_string());
        let story = format!(
            "nothing moves {} from {} since {since}; shift it on, or back",
            service.candidate, service.weight
        );
        lines.extend(note(Style::Trouble, "expired", &story, width));
    }
    lines.extend(service.drift.iter().flat_map(|drift| note(Style::Bold, "drift", drift, width)));
    lines
}

fn title(service: &ServiceStatus) -> Line {
    let by = match service.by {
        By::Request => "each request drawn",
        By::Cookie => "by cookie",
        By::User => "by user",
    };
    let ratchet = if service.ratchet { ", ratchet" } else { "" };
    Line::new()
        .then(Style::Bold, &service.name)
        .then(Style::Dim, &format!("  {}", service.routes.join(", ")))
        .then(Style::Dim, &format!("  {by}{ratchet}"))
}

struct Row {
    label: &'static str,
    cells: PerVariant<Span>,
    /// Green against blue.
    difference: Option<String>,
}

fn rows(service: &ServiceStatus) -> Vec<Row> {
    let variants = &service.variants;
    let PerVariant { blue, green } = variants;
    let row = |label, cell: &dyn Fn(Variant, &VariantStatus) -> Span, difference| Row {
        label,
        cells: PerVariant::from_fn(|place| cell(place, &variants[place])),
        difference,
    };
    let plain = |text: &str| Span::new(Style::Plain, text);
    let mut rows = vec![
        row("", &|place, _| Span::new(Style::Place(place), place.as_str()), None),
        row("role", &|_, v| role(v.role), None),
        row("version", &|_, v| plain(v.version.as_deref().unwrap_or(NOTHING)), None),
        row("share", &|_, v| Span::new(Style::Bold, &figures::share(v.share)), None),
        row("of requests", &|_, v| plain(&figures::ratio(v.share_of_requests)), None),
        row("of visitors", &|_, v| plain(&figures::ratio(v.share_of_visitors)), None),
        row("requests/s", &|_, v| plain(&figures::rate(v.rate)), None),
        row("failures", &|_, v| failures(v), figures::more(blue.failure_ratio, green.failure_ratio)),
        row(
            "4xx",
            &|_, v| plain(&figures::ratio(v.client_error_ratio)),
            figures::more(blue.client_error_ratio, green.client_error_ratio),
        ),
        row("p50", &|_, v| plain(&figures::millis(v.p50_ms)), figures::slower(blue.p50_ms, green.p50_ms)),
        row("p95", &|_, v| plain(&figures::millis(v.p95_ms)), figures::slower(blue.p95_ms, green.p95_ms)),
        row("p99", &|_, v| plain(&figures::millis(v.p99_ms)), figures::slower(blue.p99_ms, green.p99_ms)),
        row("in flight", &|_, v| plain(&figures::count(v.in_flight)), None),
        row("spilled", &|_, v| plain(&figures::count(v.spilled)), None),
    ];
    for index in 0..blue.endpoints.len().max(green.endpoints.len()) {
        let label = if index == 0 { "endpoints" } else { "" };
        rows.push(row(label, &|_, v| v.endpoints.get(index).map_or_else(|| plain(""), endpoint), None));
    }
    rows
}

fn role(role: Role) -> Span {
    Span::new(Style::Dim, role.as_str())
}

fn failures(variant: &VariantStatus) -> Span {
    let bad = variant.failure_ratio.is_some_and(|ratio| ratio >= TROUBLE);
    Span::new(if bad { Style::Trouble } else { Style::Plain }, &figures::ratio(variant.failure_ratio))
}

fn endpoint(endpoint: &EndpointStatus) -> Span {
    let url = endpoint.url.strip_prefix("http://").unwrap_or(&endpoint.url);
    let (style, mark) = match endpoint.health.as_str() {
        "unhealthy" => (Style::Trouble, "✗"),
        _ if endpoint.ejected.is_some() => (Style::Trouble, "◌"),
        "healthy" => (Style::Plain, "●"),
        _ => (Style::Dim, "○"),
    };
    let weight = if endpoint.weight == 1 { String::new() } else { format!(" ×{}", endpoint.weight) };
    let (style, rest) = match (endpoint.standing.as_str(), endpoint.in_flight) {
        (standing @ ("draining" | "leaving"), count) => {
            (Style::Dim, format!(" {standing}, {} under way", figures::count(count)))
        }
        (_, 0) => (style, String::new()),
        (_, count) => (style, format!(", {} in flight", figures::count(count))),
    };
    Span::new(style, &format!("{mark} {url}{weight}{rest}"))
}

fn endpoint_troubles(service: &ServiceStatus, width: usize) -> Vec<Line> {
    let mut lines = Vec::new();
    for (place, variant) in service.variants.iter() {
        for EndpointStatus { url, health, error, ejected, ejections, .. } in &variant.endpoints {
            if let Some(Ejection { until, why }) = ejected {
                let until = seconds(&until.to_string());
                let times =
                    if *ejections > 1 { format!(" ({ejections} times by now)") } else { String::new() };
                let story = format!("{place} {url}: {why}; until {until}{times}");
                lines.extend(note(Style::Trouble, "ejected", &story, width));
            }
            if let Some(error) = error.as_ref().filter(|_| health != "healthy") {
                lines.extend(note(Style::Trouble, health, &format!("{place} {url}: {error}"), width));
            }
        }
    }
    lines
}

fn mirror_story(candidate: Variant, mirror: &MirrorStatus) -> String {
    let stable = candidate.other();
    let mut story = format!(
        "{} of {stable}'s visitors, to {candidate}; {} compared, {} different",
        figures::share(mirror.share),
        figures::count(mirror.compared),
        figures::count(mirror.different),
    );
    let parts = [
        (mirror.status_differs, "by status".to_owned()),
        (mirror.body_differs, "by body".to_owned()),
        (mirror.only_candidate_failed, format!("failed by {candidate} alone")),
        (mirror.only_stable_failed, format!("failed by {stable} alone")),
    ];
    let parts: Vec<_> = parts
        .into_iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("{} {what}", figures::count(count)))
        .collect();
    if !parts.is_empty() {
        story.push_str(&format!(" ({})", parts.join(", ")));
    }
    let dropped: u64 = mirror.dropped.values().sum();
    story.push_str(&format!(", {} dropped", figures::count(dropped)));
    if mirror.candidate_p99_ms.is_some() {
        story.push_str(&format!(
            "; {candidate} p50 {} p99 {}, {stable} p50 {} p99 {}",
            figures::millis(mirror.candidate_p50_ms),
            figures::millis(mirror.candidate_p99_ms),
            figures::millis(mirror.stable_p50_ms),
            figures::millis(mirror.stable_p99_ms),
        ));
    }
    story
}

fn lock_story(service: &str, lock: &Lock) -> String {
    let reason = lock.reason.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default();
    let at = seconds(&lock.at.to_string());
    format!(
        "{} by {}, {at}{reason}; when all is well again: tidegate arm {service} --note \"…\"",
        lock.cause, lock.actor
    )
}

/// A sentence, in as many lines as it takes: what it is about must not be clipped away.
pub(super) fn note(style: Style, head: &str, text: &str, width: usize) -> Vec<Line> {
    let mut lines = Vec::new();
    let mut line = Line::new().then(style, &format!("  {head}")).then(Style::Plain, ":");
    for word in text.split_whitespace() {
        let word = Span::new(Style::Plain, &format!(" {word}"));
        if line.width() + word.width() > width {
            lines.push(std::mem::replace(&mut line, Line::new().then(Style::Plain, "   ")));
        }
        line = line.span(word);
    }
    lines.push(line);
    lines
}

fn list(services: &[ServiceStatus]) -> Vec<Line> {
    const HEADS: [&str; 7] =
        ["service", "candidate", "share", "of requests", "requests/s", "failures", "p95"];
    let heads = HEADS.map(|head| Span::new(Style::Dim, head));
    let rows: Vec<[Span; 7]> = services.iter().map(cells).collect();
    let mut widths = heads.each_ref().map(Span::width);
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.width());
        }
    }
    let line = |row: [Span; 7]| {
        let [name, candidate, figures @ ..] = row;
        let line = Line::new().column(name, widths[0] + 2).column(candidate, widths[1]);
        figures.into_iter().zip(&widths[2..]).fold(line, |line, (cell, width)| line.right(cell, width + 2))
    };
    let mut lines = vec![line(heads)];
    for (row, service) in rows.into_iter().zip(services) {
        lines.push(
            remarks(service)
                .into_iter()
                .fold(line(row), |line, (style, remark)| line.then(Style::Plain, "  ").then(style, &remark)),
        );
    }
    lines
}

/// Name, candidate, its share, its part of the requests, all requests a second, its failures, its p95.
fn cells(service: &ServiceStatus) -> [Span; 7] {
    const NAME_WIDTH_MAX: usize = 40;
    let plain = |text: &str| Span::new(Style::Plain, text);
    let variant = &service.variants[service.candidate];
    let version = variant.version.as_ref().map(|version| format!(" {version}")).unwrap_or_default();
    [
        Span::new(Style::Bold, &service.name).clipped(NAME_WIDTH_MAX),
        Span::new(Style::Place(service.candidate), &format!("{}{version}", service.candidate)).clipped(24),
        plain(&figures::share(service.weight)),
        plain(&figures::ratio(variant.share_of_requests)),
        plain(&figures::rate(service.variants.blue.rate + service.variants.green.rate)),
        failures(variant),
        plain(&figures::millis(variant.p95_ms)),
    ]
}

/// What is not as it should be, worst first.
fn remarks(service: &ServiceStatus) -> Vec<(Style, String)> {
    let mut remarks = Vec::new();
    if let Some(lock) = &service.lock {
        remarks.push((Style::Trouble, format!("locked: {}", lock.cause)));
    }
    if let Some(mirror) = service.mirror.as_ref().filter(|mirror| mirror.share > Weight::ZERO) {
        remarks.push((Style::Plain, format!("mirroring {}", figures::share(mirror.share))));
    }
    remarks.extend(service.launch.as_ref().map(launch::show::remark));
    remarks.extend(service.rollout.as_ref().and_then(show::remark));
    for (place, variant) in service.variants.iter() {
        let is_down =
            |endpoint: &&EndpointStatus| endpoint.health == "unhealthy" && endpoint.standing != "draining";
        let down = variant.endpoints.iter().filter(is_down).count();
        if down > 0 {
            remarks
                .push((Style::Trouble, format!("{place}: {down} of {} unhealthy", variant.endpoints.len())));
        }
        let out = variant.endpoints.iter().filter(|endpoint| endpoint.ejected.is_some()).count();
        if out > 0 {
            remarks.push((Style::Trouble, format!("{place}: {out} of {} ejected", variant.endpoints.len())));
        }
    }
    if service.split_expired.is_some() {
        remarks.push((Style::Trouble, "split expired".to_owned()));
    }
    if !service.drift.is_empty() {
        remarks.push((Style::Plain, "drift".to_owned()));
    }
    remarks
}

/// `2026-01-31T23:59:59.123Z` without its fraction, and with a space.
fn seconds(timestamp: &str) -> String {
    let whole = timestamp.split_once('.').map_or(timestamp, |(whole, _)| whole).trim_end_matches('Z');
    format!("{} UTC", whole.replace('T', " "))
}

#[cfg(test)]
pub(super) use tests::example;

#[cfg(test)]
mod tests;
