//! What the daemon's book says of launches, and what people write into it.

use std::io::Write;
use std::time::Duration;

use super::args::{List, Sign, Status, Vote};
use super::progress::form;
use super::{Meant, name_or_only, show};
use crate::admin::api::{LaunchSummary, LaunchView, SignRequest, VoteRequest};
use crate::admin::client::{Client, printable};
use crate::cli::failure::Failure;
use crate::cli::look::{colored, width};
use crate::cli::watch::{self, Form, Scene};
use crate::cli::{json, reach};
use crate::clock;

pub(super) fn status(order: &Status, out: &mut dyn Write) -> Result<(), Failure> {
    let Status { name, watch: again, local, reach: how } = order;
    let client = reach(how, false)?;
    let name = name_or_only(&client, name.as_deref(), Meant::Any)?;
    let over = std::cell::Cell::new(false);
    let mut look = |shape: Form| {
        let view = client.launch(&name)?;
        over.set(view.ledger.run.state.is_over());
        let form = form(&view.ledger.launch, *local);
        Ok(match shape {
            Form::Screen { width, color } => show::view(&view, clock::wall(), &form, width, color),
            Form::Plain => show::line(&view) + "\n",
        })
    };
    let has_ended = || over.get();
    match (*again, how.json) {
        (true, true) => loop {
            let view = client.launch(&name)?;
            json(out, &view)?;
            out.flush()?;
            if view.ledger.run.state.is_over() {
                return Ok(());
            }
            client.rest(Duration::from_secs(1));
        },
        (true, false) if watch::can_redraw() => {
            let scene = Scene { has_ended: &has_ended, ..Scene::of(&mut look) };
            watch::redraw(out, colored(), scene)
        }
        (true, false) => {
            let scene = Scene { has_ended: &has_ended, ..Scene::of(&mut look) };
            watch::print(out, |pause| client.rest(pause), scene)
        }
        (false, true) => json(out, &client.launch(&name)?),
        (false, false) => {
            let text = look(Form::Screen { width: width(), color: colored() })?;
            Ok(out.write_all(text.as_bytes())?)
        }
    }
}

pub(super) fn sign(order: Sign, out: &mut dyn Write) -> Result<(), Failure> {
    let Sign { words, role, evidence, claim, reach: how } = order;
    let client = reach(&how, false)?;
    let (name, item) = launch_and(&client, words, "ITEM")?;
    let evidence = evidence.map(Into::into);
    let request = SignRequest {
        item: item.as_str().into(),
        role: role.as_str().into(),
        evidence,
        claimed: claim.claimed,
    };
    let view = client.sign(&name, &request)?;
    written(out, how.json, &view, &format!("{item} signed as {role}"))
}

pub(super) fn vote(order: Vote, out: &mut dyn Write) -> Result<(), Failure> {
    let Vote { mut words, role, note, claim, reach: how } = order;
    let word = words.last().cloned().unwrap_or_default();
    let go = match word.as_str() {
        "go" => true,
        "no-go" => false,
        other => return Err(Failure::Usage(printable(&format!("{other:?} is no vote; say go or no-go")))),
    };
    words.truncate(words.len().saturating_sub(1));
    let client = reach(&how, false)?;
    let name = name_or_only(&client, words.first().map(String::as_str), Meant::Idle)?;
    let note = note.map(Into::into);
    let view =
        client.vote(&name, &VoteRequest { role: role.as_str().into(), go, note, claimed: claim.claimed })?;
    written(out, how.json, &view, &format!("{role} says {word}"))
}

/// What was written into the book, and what is left to do.
fn written(out: &mut dyn Write, as_json: bool, view: &LaunchView, what: &str) -> Result<(), Failure> {
    if as_json { json(out, view) } else { Ok(writeln!(out, "{}", reply(view, what))?) }
}

fn reply(view: &LaunchView, what: &str) -> String {
    let name = &view.ledger.launch.name;
    let left: Vec<String> = view.unmet.iter().map(ToString::to_string).collect();
    let left = match left.as_slice() {
        [] => format!("nothing is left; tidegate launch start {name}"),
        left => format!("left: {}", left.join("; ")),
    };
    printable(&format!("{name}: {what}; {left}"))
}

pub(super) fn list(order: &List, out: &mut dyn Write) -> Result<(), Failure> {
    let client = reach(&order.reach, false)?;
    let launches: Vec<LaunchSummary> = client.launches()?;
    if order.reach.json {
        return json(out, &launches);
    }
    Ok(out.write_all(show::list(&launches, width(), colored()).as_bytes())?)
}

/// `[NAME] WORD`.
fn launch_and(client: &Client, words: Vec<String>, what: &str) -> Result<(String, String), Failure> {
    match <[String; 2]>::try_from(words) {
        Ok([name, word]) => Ok((name, word)),
        Err(mut words) => match words.pop() {
            Some(word) => Ok((name_or_only(client, None, Meant::Idle)?, word)),
            None => Err(Failure::Usage(format!("write NAME {what}"))),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::ledger;
    use super::*;
    use crate::launch::Unmet;

    #[test]
    fn a_signature_is_answered_by_what_is_left() {
        let unmet = vec![Unmet::NoVote { role: "qa".into(), overdue: true }];
        let mut view =
            LaunchView { ledger: ledger(&[]), unmet, unattended: false, figures: None, warnings: Vec::new() };
        let text = "shop-2.0.2: backup signed as devops; left: qa has not voted (overdue)";
        assert_eq!(reply(&view, "backup signed as devops"), text);
        view.unmet.clear();
        let text = "shop-2.0.2: qa says go; nothing is left; tidegate launch start shop-2.0.2";
        assert_eq!(reply(&view, "qa says go"), text);
    }
}
