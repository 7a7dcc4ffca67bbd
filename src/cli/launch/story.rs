//! What happened, from the journal: as lines, and as a report.

use std::fs;
use std::io::{IsTerminal, Write};
use std::time::Duration;

use super::args::{Format, Log, Report};
use super::progress::{form, painted};
use super::{Meant, name_or_only};
use crate::admin::api::RECORDS_MAX;
use crate::admin::client::Client;
use crate::cli::failure::Failure;
use crate::cli::look::colored;
use crate::cli::{json, reach};
use crate::clock;
use crate::launch::{Entry, Record, Story};

/// How long the daemon keeps a question for more open.
const WAIT: Duration = Duration::from_secs(30);

pub(super) fn log(order: &Log, out: &mut dyn Write) -> Result<(), Failure> {
    let Log { name, follow, told, reach: how } = order;
    let client = reach(how, false)?;
    let name = name_or_only(&client, name.as_deref(), Meant::Any)?;
    let form = form(&client.launch(&name)?.ledger.launch, told.local);
    let color = std::io::stdout().is_terminal() && colored();
    let mut story = Story::new();
    let mut after = 0;
    let mut wait = Duration::ZERO;
    loop {
        let records = client.records(&name, after, wait)?;
        for record in &records {
            let sentence = story.tell(record);
            if how.json {
                json(out, record)?;
            } else if told.all || !sentence.is_quiet {
                out.write_all(painted(&sentence, &form, color).as_bytes())?;
            }
            after = record.seq;
        }
        out.flush()?;
        let is_over = records.iter().any(|record| matches!(record.entry, Entry::Finished { .. }));
        if records.len() < RECORDS_MAX && (is_over || !follow) {
            return Ok(());
        }
        if records.len() < RECORDS_MAX {
            // Of one that is over there will be no more.
            if wait.is_zero() && client.launch(&name)?.ledger.run.state.is_over() {
                return Ok(());
            }
            wait = WAIT;
        }
    }
}

pub(super) fn report(order: &Report, out: &mut dyn Write) -> Result<(), Failure> {
    let Report { name, format, output, reach: how } = order;
    let client = reach(how, false)?;
    let name = name_or_only(&client, name.as_deref(), Meant::Any)?;
    let records = journal(&client, &name)?;
    let report = crate::launch::Report::of(&records, clock::wall()).map_err(|misfit| {
        Failure::Failed(format!("the journal of {name} does not fit together: {misfit}"))
    })?;
    let text = match format {
        _ if how.json => as_json(&report)?,
        Format::Json => as_json(&report)?,
        Format::Markdown => report.markdown(),
        Format::Html => report.html(),
    };
    let Some(path) = output else { return Ok(out.write_all(text.as_bytes())?) };
    fs::write(path, text).map_err(|error| Failure::Failed(format!("write {}: {error}", path.display())))
}

fn as_json(report: &crate::launch::Report) -> Result<String, Failure> {
    let text = serde_json::to_string_pretty(report).map_err(|error| Failure::Failed(error.to_string()))?;
    Ok(text + "\n")
}

/// All records.
fn journal(client: &Client, name: &str) -> Result<Vec<Record>, Failure> {
    let mut records: Vec<Record> = Vec::new();
    loop {
        let after = records.last().map_or(0, |last| last.seq);
        let more = client.records(name, after, Duration::ZERO)?;
        let is_last = more.len() < RECORDS_MAX;
        records.extend(more);
        if is_last {
            return Ok(records);
        }
    }
}
