//! The verbs of rollouts: start, plan, status, pause and so on, log, replay; and what belongs to them: rollback,
//! freeze, signal, metric.

pub(super) mod args;
mod compiled;
mod replay;
pub(super) mod show;
mod story;
mod words;

use std::fs::File;
use std::io::{self, BufReader, Read as _, Write};
use std::path::Path;
use std::time::Duration;

use self::args::{
    Act, Freeze, Log, Metric, MetricVerb, OnOff, Plan, Push, Replay, Rollout, RolloutVerb, Signal, Start,
    Status, What,
};
use super::args::{Change, Claim, Once, Reach};
use super::change::{moved, reply, tell};
use super::failure::Failure;
use super::look::{colored, width};
use super::paint::{Line, Style};
use super::watch::{self, Form, Scene};
use super::{json, only_service, reach};
use crate::admin::api::{
    ActRequest, Changed, Compiled, FreezeRequest, PLAN_BYTES_MAX, PlanFile, PlanRequest, ReadingRequest,
    RolloutStatus, RolloutView, ServiceChange, SignalRequest, StartRequest,
};
use crate::admin::client::{Client, ClientError, Terms, printable};
use crate::clock;
use crate::config::{self, Overrides, Planner};
use crate::rollout::{Ending, Phase, Stop};

/// How many audit entries a story is made of, at most: as many as the API gives at once.
const STORY_MAX: u32 = 1000;

/// From one look at a rollout that is waited for to the next.
const LOOK_EVERY: Duration = Duration::from_secs(1);

pub(super) fn rollout(order: Rollout, out: &mut dyn Write) -> Result<(), Failure> {
    match order.verb {
        RolloutVerb::Start(order) => start(order, out),
        RolloutVerb::Plan(order) => plan(order, out),
        RolloutVerb::Status(order) => status(order, out),
        RolloutVerb::Pause(order) => act("pause", order, out),
        RolloutVerb::Resume(order) => act("resume", order, out),
        RolloutVerb::Advance(order) => act("advance", order, out),
        RolloutVerb::Promote(order) => act("promote", order, out),
        RolloutVerb::Rollback(order) => rollback(order, out),
        RolloutVerb::Log(order) => log(order, out),
        RolloutVerb::Replay(order) => replay_file(&order, out),
    }
}

pub(super) fn rollback(order: Act, out: &mut dyn Write) -> Result<(), Failure> {
    act("rollback", order, out)
}

fn start(order: Start, out: &mut dyn Write) -> Result<(), Failure> {
    let Start { service, what, take_over, wait, change, reach: how } = order;
    let What { schedule, file, name, version } = what;
    let plan = file.as_deref().map(plan_file).transpose()?;
    let client = reach(&how, wait)?;
    let service = service.map_or_else(|| only_service(&client), Ok)?;
    let (reason, claimed, terms) = said(change);
    let request = StartRequest { schedule, plan, name, version, take_over, reason, claimed };
    let changed = client.start_rollout(&service, &request, &terms)?;
    tell(out, how.json, &changed, acted)?;
    if wait { until_it_ended(&client, &service, &how, out) } else { Ok(()) }
}

fn act(verb: &str, order: Act, out: &mut dyn Write) -> Result<(), Failure> {
    let Act { service, change, reach: how } = order;
    let client = reach(&how, false)?;
    let service = service.map_or_else(|| only_service(&client), Ok)?;
    let (reason, claimed, terms) = said(change);
    let changed = client.act(&service, verb, &ActRequest { reason, claimed }, &terms)?;
    tell(out, how.json, &changed, acted)
}

fn said(change: Change) -> (Option<String>, Option<String>, Terms) {
    let Change { reason, claim: Claim { claimed }, once: Once { idempotency_key } } = change;
    (reason, claimed, Terms { if_generation: None, idempotency_key })
}

/// What came of something that was done to a rollout, in lines.
pub fn reply_to_act(changed: &Changed) -> String {
    reply(changed, acted)
}

/// `rollout 2.0.1 started: green 0 % → 1 %`.
fn acted(change: &ServiceChange) -> String {
    let Some(rollout) = &change.rollout else { return format!("no rollout, {}", moved(change)) };
    let (name, done) = (&rollout.name, &rollout.done);
    match &rollout.phase {
        _ if !change.changed => format!("rollout {name}: nothing to do, {}", moved(change)),
        // The roles have swapped, so the candidate is another place now, at 0 %.
        Phase::Ended { how: Ending::Promoted } => format!("rollout {name} {done}: everybody is on it"),
        Phase::Waiting if done == "started" => {
            format!("rollout {name} started and waits for its first stage: {}", moved(change))
        }
        // Of one that was promoted, the roles swap back.
        Phase::Ended { how: Ending::RolledBack { .. } } if change.from == change.to => {
            format!("rollout {name} {done}: everybody is on {}", change.candidate.other())
        }
        _ => format!("rollout {name} {done}: {}", moved(change)),
    }
}

/// Tells each transition, until there will be no other by itself.
fn until_it_ended(client: &Client, service: &str, how: &Reach, out: &mut dyn Write) -> Result<(), Failure> {
    let begin = clock::now();
    let mut told = None;
    loop {
        let view = client.rollout(service)?;
        let line = progress(&view);
        if told.as_ref() != Some(&line) {
            if how.json {
                json(out, &view)?
            } else {
                writeln!(out, "{line}")?
            }
            out.flush()?;
            told = Some(line);
        }
        if let Some(end) = end(&view) {
            return end;
        }
        if how.timeout.is_some_and(|limit| clock::now() - begin >= limit) {
            let text = format!("{service}: the rollout goes on; it did not end in time");
            return Err(Failure::NotInTime(printable(&text)));
        }
        client.rest(LOOK_EVERY);
    }
}

fn progress(view: &RolloutView) -> String {
    let rollout = RolloutStatus::of(view);
    let said = show::remark(&rollout).map_or_else(|| rollout.phase.to_string(), |(_, text)| text);
    printable(&format!("{}: {said}", view.service))
}

/// How a rollout that is waited for has come out; `None` while it goes on by itself.
fn end(view: &RolloutView) -> Option<Result<(), Failure>> {
    let failed = |why: &str| {
        let text = format!("{}: rollout {}: {why}", view.service, view.rollout.plan.name);
        Some(Err(Failure::NotInTime(printable(&text))))
    };
    match &view.rollout.phase {
        Phase::Ended { how: Ending::Promoted } => Some(Ok(())),
        Phase::Ended { how } => failed(&how.to_string()),
        Phase::Paused { why: Stop::Gate { sentence, .. }, .. } => failed(&format!("paused: {sentence}")),
        Phase::Waiting | Phase::Holding | Phase::Paused { .. } | Phase::Keeping => None,
    }
}

fn plan(order: Plan, out: &mut dyn Write) -> Result<(), Failure> {
    let Plan { service, what, config, reach: how } = order;
    let What { schedule, file, name, version } = what;
    let plan = file.as_deref().map(plan_file).transpose()?;
    let needs_names = schedule.is_none() && plan.is_none();
    let request = |service| PlanRequest { service, schedule, plan, name, version };
    let compiled = match config {
        Some(config) => {
            let config = config::load(&config, &Overrides::default())?;
            let service = service.map_or_else(|| only_configured(&config), Ok)?;
            let live = reach(&how, false).and_then(|client| Ok(client.service(&service)?)).ok();
            let rate = live.map(|live| live.variants.blue.rate + live.variants.green.rate);
            Compiled { rate, ..offline(&config.planner, request(service))? }
        }
        None => match reach(&how, false) {
            Ok(client) => {
                let service = service.map_or_else(|| only_service(&client), Ok)?;
                client.plan(&request(service))?
            }
            // Schedules and files mean something without anybody who runs.
            Err(Failure::Client(ClientError::NotRunning { .. })) if !needs_names => {
                let service = service.unwrap_or_else(|| "service".to_owned());
                offline(&Planner::standalone(&service), request(service.clone()))?
            }
            Err(failure) => return Err(failure),
        },
    };
    if how.json {
        return json(out, &compiled);
    }
    Ok(out.write_all(compiled::told(&compiled, width(), colored()).as_bytes())?)
}

fn offline(planner: &Planner, request: PlanRequest) -> Result<Compiled, Failure> {
    let PlanRequest { service, schedule, plan, name, version } = request;
    let file = plan.map(|file| (file.name, file.text));
    let (wanted, at) = (service.clone(), clock::wall());
    let request = config::PlanRequest { service: wanted, name, schedule, file, version, at };
    let (plan, warnings) = planner.compile(&request).map_err(Failure::Usage)?;
    let warnings = warnings.iter().map(ToString::to_string).collect();
    Ok(Compiled { service, plan, warnings, rate: None, failure_ratio: None })
}

fn only_configured(config: &config::Config) -> Result<String, Failure> {
    match config.control.services.as_slice() {
        [only] => Ok(only.settings.name.to_string()),
        many => {
            let names: Vec<&str> = many.iter().map(|service| &*service.settings.name).take(5).collect();
            let more = if many.len() > names.len() { ", …" } else { "" };
            Err(Failure::Usage(format!("which service? there are: {}{more}", names.join(", "))))
        }
    }
}

/// A plan from a file, or from standard input.
fn plan_file(path: &Path) -> Result<PlanFile, Failure> {
    let name = if path == Path::new("-") { "standard input".to_owned() } else { path.display().to_string() };
    let unreadable = |error: &dyn std::fmt::Display| Failure::Usage(format!("read {name}: {error}"));
    let mut bytes = Vec::new();
    let limit = PLAN_BYTES_MAX as u64 + 1;
    open(path)
        .and_then(|file| file.take(limit).read_to_end(&mut bytes))
        .map_err(|error| unreadable(&error))?;
    if bytes.len() > PLAN_BYTES_MAX {
        return Err(unreadable(&format!("it is longer than {} KiB", PLAN_BYTES_MAX / 1024)));
    }
    let text = String::from_utf8(bytes).map_err(|error| unreadable(&error.utf8_error()))?;
    Ok(PlanFile { name, text })
}

fn open(path: &Path) -> io::Result<Box<dyn io::Read>> {
    if path == Path::new("-") { Ok(Box::new(io::stdin())) } else { Ok(Box::new(File::open(path)?)) }
}

fn status(order: Status, out: &mut dyn Write) -> Result<(), Failure> {
    let Status { service, watch: again, reach: how } = order;
    let client = reach(&how, false)?;
    let views = || match &service {
        Some(service) => Ok::<_, Failure>(vec![client.rollout(service)?]),
        None => Ok(client.rollouts()?),
    };
    let mut look = |form: Form| {
        let views = views()?;
        Ok(match form {
            Form::Screen { width, color } => rendered(&views, width, color),
            Form::Plain => views.iter().map(plain).collect(),
        })
    };
    match (again, how.json) {
        (true, true) => loop {
            json(out, &views()?)?;
            out.flush()?;
            client.rest(LOOK_EVERY);
        },
        (true, false) if watch::can_redraw() => watch::redraw(out, colored(), Scene::of(&mut look)),
        (true, false) => watch::print(out, |pause| client.rest(pause), Scene::of(&mut look)),
        (false, true) if service.is_some() => json(out, &views()?.first()),
        (false, true) => json(out, &views()?),
        (false, false) => {
            let text = look(Form::Screen { width: width(), color: colored() })?;
            Ok(out.write_all(text.as_bytes())?)
        }
    }
}

fn rendered(views: &[RolloutView], width: usize, color: bool) -> String {
    if views.is_empty() {
        return "no rollout is running; `tidegate rollout log` tells of those that were\n".to_owned();
    }
    let mut text = String::new();
    for view in views {
        let mut head = Line::new().then(Style::Bold, &view.service);
        if let Some(version) = &view.versions[view.candidate] {
            head = head.then(Style::Place(view.candidate), &format!("  {} {version}", view.candidate));
        }
        head = head.then(Style::Plain, &format!("  at {}", super::figures::share(view.weight)));
        if !text.is_empty() {
            text.push('\n');
        }
        head.paint(width, color, &mut text);
        let status = RolloutStatus::of(view);
        let mut lines = show::lines(&view.service, view.candidate, &status, width);
        if lines.is_empty() {
            lines.push(Line::new().then(Style::Plain, &format!("  {}", status.phase)));
        }
        lines.into_iter().for_each(|line| line.paint(width, color, &mut text));
    }
    text
}

fn plain(view: &RolloutView) -> String {
    let status = RolloutStatus::of(view);
    let sentence = show::sentence(&status);
    let sentence = if sentence.is_empty() { sentence } else { format!("; {sentence}") };
    let weight = super::figures::share(view.weight);
    format!("{}, {} {weight}{}\n", progress(view), view.candidate, printable(&sentence))
}

fn log(order: Log, out: &mut dyn Write) -> Result<(), Failure> {
    let Log { service, reach: how } = order;
    let client = reach(&how, false)?;
    let service = service.map_or_else(|| only_service(&client), Ok)?;
    // A name that is none is told as such.
    client.service(&service)?;
    let story = story::of(&service, client.events(STORY_MAX)?);
    if how.json { json(out, &story) } else { Ok(out.write_all(story::told(&service, &story).as_bytes())?) }
}

fn replay_file(order: &Replay, out: &mut dyn Write) -> Result<(), Failure> {
    let name = order.file.display().to_string();
    let file = open(&order.file).map_err(|error| Failure::Usage(format!("read {name}: {error}")))?;
    let replayed = replay::replay(BufReader::new(file), &name)?;
    if order.json {
        return json(out, &replayed);
    }
    Ok(writeln!(out, "{}", printable(&replay::told(&replayed, &name)))?)
}

pub(super) fn freeze(order: Freeze, out: &mut dyn Write) -> Result<(), Failure> {
    let Freeze { state, services, all, change, reach: how } = order;
    let client = reach(&how, false)?;
    let services = if services.is_empty() && !all { vec![only_service(&client)?] } else { services };
    let (reason, claimed, terms) = said(change);
    let on = state == OnOff::On;
    let changed = client.freeze(&FreezeRequest { services, all, on, reason, claimed }, &terms)?;
    tell(out, how.json, &changed, if on { frozen } else { thawed })
}

fn frozen(change: &ServiceChange) -> String {
    let already = if change.changed { "" } else { " already" };
    format!("frozen{already}, {}", moved(change))
}

fn thawed(change: &ServiceChange) -> String {
    let how = if change.changed { "may advance again" } else { "was not frozen" };
    format!("{how}, {}", moved(change))
}

pub(super) fn signal(order: Signal, out: &mut dyn Write) -> Result<(), Failure> {
    let Signal { words, critical, claim: Claim { claimed }, reach: how } = order;
    let client = reach(&how, false)?;
    let (service, name) = service_and(&client, words, "NAME")?;
    let request = SignalRequest { name, critical, claimed };
    client.signal(&service, &request)?;
    if how.json {
        return json(out, &request);
    }
    let then = if critical {
        "what is on trial rolls back and locks".to_owned()
    } else {
        format!("no advances until `tidegate freeze off {service}`")
    };
    Ok(writeln!(out, "{}", printable(&format!("{service}: {} taken in; {then}", request.name)))?)
}

pub(super) fn metric(order: Metric, out: &mut dyn Write) -> Result<(), Failure> {
    let MetricVerb::Push(Push { words, candidate, stable, reach: how }) = order.verb;
    let client = reach(&how, false)?;
    let (service, gate) = service_and(&client, words, "GATE")?;
    let reading = ReadingRequest { stable, candidate: Some(candidate) };
    client.push(&service, &gate, &reading)?;
    if how.json {
        return json(out, &reading);
    }
    let than = stable.map(|stable| format!(", stable {stable}")).unwrap_or_default();
    Ok(writeln!(out, "{}", printable(&format!("{service}: {gate} is {candidate}{than}")))?)
}

/// `[SERVICE] WORD`.
fn service_and(client: &Client, words: Vec<String>, what: &str) -> Result<(String, String), Failure> {
    match <[String; 2]>::try_from(words) {
        Ok([service, word]) => Ok((service, word)),
        Err(mut words) => match words.pop() {
            Some(word) => Ok((only_service(client)?, word)),
            None => Err(Failure::Usage(format!("write SERVICE {what}"))),
        },
    }
}

#[cfg(test)]
mod tests;
