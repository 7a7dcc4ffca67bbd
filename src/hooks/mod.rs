//! The world outside, as far as rollouts and launches deal with it: who is told, who is asked, and where values come from.
//!
//! Nothing here decides. Whatever answers late, wrongly or never is no evidence, and no decision waits for it. Everything has a
//! deadline and a bound, and each receiver a queue and places of its own, so one that is slow or dead delays nobody else.
//!
//! ```text
//!   events ──▶ notices ──▶ an outbox per channel ──▶ webhook or program
//!   a beat ──▶ reminders ──┘
//!     ├──────▶ confirming hooks ──▶ Control::confirm
//!     ├──────▶ queries ───────────▶ Control::push_reading
//!     └──────▶ launches: people, flags ──▶ Control::note_launch
//!   Alertmanager ──▶ alerts::receive ──▶ freeze or signal
//! ```

pub mod alerts;
mod call;
mod confirm;
mod desk;
mod launches;
mod notice;
mod outbox;
mod post;
mod query;
mod reminders;
mod rounds;
mod settings;
mod signature;
#[cfg(test)]
mod tests;

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::MissedTickBehavior;

use crate::clock;
use crate::control::Control;
use crate::rollout::View;
use crate::store::AuditEntry;

pub use settings::{
    AlertAction, AlertSettings, Call, Channel, Escalation, HookSettings, Source, Style, Token,
};
pub use signature::{SIGNATURE, TIMESTAMP};

use call::Caller;
use confirm::Confirming;
use desk::Desk;
use launches::{Book, Errands};
use post::Post;
use query::Querying;

/// How often running rollouts are looked at.
const BEAT: Duration = Duration::from_secs(1);
/// How long what is still to be told is waited for at the end.
const LAST_WORDS: Duration = Duration::from_secs(3);

/// Tells, asks and reads until `until`, then for at most 3 s tells what is still to be told.
///
/// Needs a tokio runtime with its I/O, time and process drivers, best one of its own on a thread of its own. `settings` may be
/// swapped at any time; it is looked at for each call. `seed` spreads retries.
pub async fn run(
    control: Control,
    settings: Arc<ArcSwap<HookSettings>>,
    seed: u64,
    until: impl Future<Output = ()>,
) {
    let events = control.events().follow();
    let host: Arc<str> = rustix::system::uname().nodename().to_string_lossy().into();
    let (desk, book) = (Desk::of(&control), Book::of(&control));
    let post = Post::new(settings.clone(), Caller::new(), desk.clone(), host, seed);
    let views = {
        let settings = settings.clone();
        move || if is_quiet(&settings.load()) { Vec::new() } else { control.rollouts() }
    };
    work(events, post, (desk, book), settings, views, until).await;
}

/// The loop of [`run`].
async fn work(
    mut events: broadcast::Receiver<AuditEntry>,
    mut post: Post,
    (desk, book): (Desk, Book),
    settings: Arc<ArcSwap<HookSettings>>,
    views: impl Fn() -> Vec<View>,
    until: impl Future<Output = ()>,
) {
    let (mut confirming, mut querying) = (Confirming::default(), Querying::default());
    let mut errands = Errands::default();
    let caller = post.caller().clone();
    let mut beat = tokio::time::interval(BEAT);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut until = pin!(until);
    loop {
        tokio::select! {
            () = until.as_mut() => break,
            event = events.recv() => match event {
                Ok(entry) => post.tell(clock::now(), &entry),
                Err(RecvError::Lagged(missed)) => post.lagged(missed),
                Err(RecvError::Closed) => break,
            },
            _ = beat.tick() => {
                let (now, settings, views) = (clock::now(), settings.load_full(), views());
                post.remind(now, &views);
                confirming.ask(now, &settings, &views, &caller, &desk);
                querying.ask(now, &settings, &views, &caller, &desk);
                errands.run(now, clock::wall(), &settings, &book, &caller, &desk);
            }
        }
    }
    while let Ok(entry) = events.try_recv() {
        post.tell(clock::now(), &entry);
    }
    let _ = tokio::time::timeout(LAST_WORDS, post.emptied()).await;
}

/// Whether nothing is configured that has to look at running rollouts.
fn is_quiet(settings: &HookSettings) -> bool {
    settings.hooks.is_empty()
        && settings.sources.is_empty()
        && settings.channels.values().all(|channel| channel.every.is_none())
}
