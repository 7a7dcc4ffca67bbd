//! From the file to what has to be true before the start, and who is told.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::checks::{command, mapping, some_time};
use super::file::{CommsFile, ContactFile, GoNoGoFile, ItemFile, ItemLong, WindowFile};
use super::texts::Texts;
use super::words::{Evidence, Moment, Word};
use crate::config::meant::{did_you_mean, listed};
use crate::config::scalar::Nothing;
use crate::config::written::{List, Never, Short, Written};
use crate::launch::{Comms, Contact, GoNoGo, Item, ItemKind, Window};

/// Roles that a launch may ask without naming anybody.
const ROLES: [&str; 11] = [
    "pm",
    "tech-lead",
    "devops",
    "qa",
    "sponsor",
    "security",
    "support",
    "release-manager",
    "dba",
    "sre",
    "product",
];
const ITEM_TIMEOUT: Duration = Duration::from_secs(300);
const ITEM_TIMEOUT_MAX: Duration = Duration::from_secs(24 * 3600);
const ITEMS_MAX: usize = 200;
const BEFORE: Duration = Duration::from_secs(3600);
const EVERY: Duration = Duration::from_secs(30 * 60);

pub(super) fn window(texts: &mut Texts<'_, '_>, file: Short<Never, Never, WindowFile>) -> Option<Window> {
    let (file, line) = mapping(texts, "window", file)?;
    let lasts = match &file.lasts {
        Some(written) => texts.read("window.for", written).and_then(|lasts: Duration| {
            if lasts.is_zero() {
                texts.wrong("window.for", written, "never opens; write for instance 1h");
            }
            (!lasts.is_zero()).then_some(lasts)
        }),
        None => {
            texts.wrong_at("window", line, "how long is it open? Add for, such as 1h");
            None
        }
    };
    let Some(written) = &file.from else {
        texts.wrong_at("window", line, "when does it open? Add from, such as 2026-12-20 14:00 UTC");
        return None;
    };
    let Moment(from) = texts.read("window.from", written)?;
    let window = Window { from, lasts: lasts? };
    if window.closes() <= texts.around.at {
        let why = format!("it is over: the window closed at {}; write one that is to come", window.closes());
        texts.wrong("window.from", written, why);
        return None;
    }
    Some(window)
}

pub(super) fn contacts(
    texts: &mut Texts<'_, '_>,
    file: Option<Short<Never, ContactFile, Never>>,
) -> Vec<Contact> {
    let mut contacts = Vec::new();
    let place = |at: usize| format!("contacts[{at}]");
    let cure = "a list of people is expected here: [{role: dba, name: Ada, reach: \"#database\"}]";
    for (at, file) in list(texts, "contacts", file, cure).into_iter().enumerate() {
        let Some((file, line)) = mapping(texts, &place(at), file) else { continue };
        let (Some(role), Some(name)) = (&file.role, &file.name) else {
            texts.wrong_at(&place(at), line, "who is it? Add role and name");
            continue;
        };
        let role = texts.read(&format!("{}.role", place(at)), role);
        let name = texts.text(&format!("{}.name", place(at)), name);
        let reach = file.reach.as_ref();
        let reach = reach.and_then(|reach| texts.text(&format!("{}.reach", place(at)), reach));
        if let (Some(Word(role)), Some(name)) = (role, name) {
            contacts.push(Contact { role, name, reach });
        }
    }
    contacts
}

/// An item's role, and where it stands: known only when all of them are.
pub(super) fn items(
    texts: &mut Texts<'_, '_>,
    file: Option<Short<Never, ItemFile, Never>>,
    has_window: bool,
) -> Vec<Item> {
    let cure = "a list of items is expected here: [{id: db-backup, sign: devops}]";
    let files = list(texts, "checklist", file, cure);
    let mut items: Vec<Item> = Vec::new();
    let mut seen: Vec<(Arc<str>, u64)> = Vec::new();
    for (at, file) in files.into_iter().enumerate() {
        let place = format!("checklist[{at}]");
        let Some((file, line)) = mapping(texts, &place, file) else { continue };
        if at == ITEMS_MAX {
            texts.wrong_at("checklist", line, format!("nobody goes through more than {ITEMS_MAX} items"));
            break;
        }
        let id = match &file.id {
            Some(written) => texts.read(&format!("{place}.id"), written).map(|Word(id)| (id, written)),
            None => {
                texts.wrong_at(&place, line, "an item needs a name; add id, such as db-backup");
                None
            }
        };
        if let Some((id, written)) = &id {
            if let Some((_, first)) = seen.iter().find(|(other, _)| other == id) {
                let why = format!("stands here twice (line {first}); give each item an id of its own");
                texts.wrong(&format!("{place}.id"), written, why);
            }
            seen.push((id.clone(), written.line));
        }
        let id = id.map(|(id, _)| id);
        let title = file.title.as_ref();
        let title = title.and_then(|title| texts.text(&format!("{place}.title"), title));
        if let Some((id, kind)) = id.zip(item_kind(texts, &place, file, line, has_window)) {
            items.push(Item { id, title, kind });
        }
    }
    items
}

fn item_kind(
    texts: &mut Texts<'_, '_>,
    place: &str,
    file: ItemLong,
    line: u64,
    has_window: bool,
) -> Option<ItemKind> {
    let below = |key: &str| format!("{place}.{key}");
    match (&file.sign, file.auto) {
        (Some(sign), None) => {
            if let Some(timeout) = &file.timeout {
                texts.wrong(
                    &below("timeout"),
                    timeout,
                    "is for auto; write due for when it has to be signed",
                );
            }
            let due = file.due.as_ref().and_then(|written| {
                doubt_due(texts, &below("due"), written, has_window);
                texts.read(&below("due"), written).map(|due| due.0)
            });
            let evidence = texts.read_or(&below("evidence"), file.evidence.as_ref(), Evidence(false)).0;
            let Word(role) = texts.read(&below("sign"), sign)?;
            Some(ItemKind::Person { role, due, evidence })
        }
        (None, Some(auto)) => {
            if let Some(due) = &file.due {
                texts.wrong(&below("due"), due, "is for people; a command is run at the start");
            }
            if let Some(evidence) = &file.evidence {
                texts.wrong(&below("evidence"), evidence, "is for people; what a command says is kept");
            }
            let timeout =
                some_time(texts, &below("timeout"), file.timeout.as_ref(), ITEM_TIMEOUT, ITEM_TIMEOUT_MAX);
            command(texts, &below("auto"), auto).map(|run| ItemKind::Command { run, timeout })
        }
        (Some(sign), Some(_)) => {
            texts.wrong(
                &below("sign"),
                sign,
                "auto checks it already; leave one out, or make two items of it",
            );
            None
        }
        (None, None) => {
            texts.wrong_at(place, line, "who checks it? Add sign: ROLE, or auto: [PROGRAM]");
            None
        }
    }
}

fn doubt_due<T>(texts: &mut Texts<'_, '_>, place: &str, written: &Written<T>, has_window: bool) {
    if !has_window {
        texts.doubt(
            place,
            written,
            "counts back from the opening of a window, and there is none; add window",
        );
    }
}

/// Every role that a vote may be asked of.
pub(super) fn known_roles(
    texts: &mut Texts<'_, '_>,
    listed: Option<List<Word>>,
    contacts: &[Contact],
    items: &[Item],
) -> BTreeSet<Arc<str>> {
    let signing = items.iter().filter_map(|item| match &item.kind {
        ItemKind::Person { role, .. } => Some((&item.id, role)),
        ItemKind::Command { .. } => None,
    });
    let Some(listed) = listed else {
        let of_contacts = contacts.iter().map(|contact| contact.role.clone());
        let well_known =
            ROLES.iter().map(|role| Arc::from(*role)).chain(of_contacts).collect::<BTreeSet<_>>();
        return well_known.into_iter().chain(signing.map(|(_, role)| role.clone())).collect();
    };
    let line = listed.line();
    let items = listed.into_items();
    let roles: BTreeSet<Arc<str>> =
        items.iter().filter_map(|role| texts.read("roles", role)).map(|Word(role)| role).collect();
    for (item, role) in signing {
        if !roles.contains(role) {
            let why = format!(
                "{item} of the checklist is signed by {role}, which is none of them; add it, or correct {item}"
            );
            texts.wrong_at("roles", line, why);
        }
    }
    roles
}

pub(super) fn go_nogo(
    texts: &mut Texts<'_, '_>,
    file: Short<Never, Never, GoNoGoFile>,
    known: &BTreeSet<Arc<str>>,
    has_window: bool,
) -> Option<GoNoGo> {
    let (file, line) = mapping(texts, "go_nogo", file)?;
    let due = file.due.as_ref().and_then(|written| {
        doubt_due(texts, "go_nogo.due", written, has_window);
        texts.read("go_nogo.due", written).map(|due| due.0)
    });
    let items = file.roles.map(Short::into_items).unwrap_or_default();
    if items.is_empty() {
        texts.wrong_at("go_nogo", line, "who votes? Add roles, such as [pm, tech-lead]");
        return None;
    }
    let mut roles: Vec<Arc<str>> = Vec::new();
    for written in &items {
        let Some(Word(role)) = texts.read("go_nogo.roles", written) else { continue };
        if roles.contains(&role) {
            texts.wrong("go_nogo.roles", written, "stands here twice; leave one out");
        } else if known.contains(&role) {
            roles.push(role);
        } else {
            let names = known.iter().map(|known| &**known);
            let why = match did_you_mean(&role, names.clone()) {
                Some(meant) => format!("nobody has the role {role}; did you mean {meant}?"),
                None => {
                    format!("nobody has the role {role}; known are {}, or name it under roles", listed(names))
                }
            };
            texts.wrong("go_nogo.roles", written, why);
        }
    }
    Some(GoNoGo { roles, due })
}

pub(super) fn comms(
    texts: &mut Texts<'_, '_>,
    file: Option<Short<Nothing, Never, CommsFile>>,
    has_window: bool,
) -> Comms {
    let before = if has_window { vec![BEFORE] } else { Vec::new() };
    let default = Comms { channels: Vec::new(), before, every: Some(EVERY) };
    let file = match file {
        None => return default,
        Some(Short::One(word)) => {
            texts.read("comms", &word);
            return Comms::default();
        }
        Some(Short::Mapping(file, _)) => file,
        Some(Short::List(never, _)) => match never.into_iter().next() {
            Some(never) => match never {},
            None => return default,
        },
    };
    let channels = file.channels.map(Short::into_items).unwrap_or_default();
    let channels =
        channels.iter().filter_map(|channel| texts.read("comms.channels", channel)).map(|Word(name)| name);
    let channels = channels.collect();
    let mut before = default.before;
    if let Some(list) = file.before {
        before.clear();
        for written in list.into_items() {
            if !has_window {
                texts.doubt("comms.before", &written, "there is no window to be before; add window");
            }
            match texts.read("comms.before", &written) {
                Some(Duration::ZERO) => {
                    texts.wrong("comms.before", &written, "the start is told anyway; write for instance 1h");
                }
                Some(time) => before.push(time),
                None => {}
            }
        }
        before.sort_unstable_by(|a, b| b.cmp(a));
        before.dedup();
    }
    let mut every = default.every;
    if let Some(written) = &file.every
        && let Some(read) = texts.read("comms.every", written)
    {
        every = read.0;
        if every.is_some_and(|every| every < Duration::from_secs(60)) {
            texts.wrong("comms.every", written, "nobody reads that often; write at least 1m, or none");
        }
    }
    Comms { channels, before, every }
}

/// The items of what has to be a list.
fn list<T>(
    texts: &mut Texts<'_, '_>,
    place: &str,
    file: Option<Short<Never, T, Never>>,
    cure: &str,
) -> Vec<T> {
    match file {
        Some(Short::List(items, _)) => items,
        Some(Short::One(value)) => {
            texts.wrong(place, &value, cure);
            Vec::new()
        }
        Some(Short::Mapping(never, _)) => match never {},
        None => Vec::new(),
    }
}
