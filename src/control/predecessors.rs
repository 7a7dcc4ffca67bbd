//! Processes from before an upgrade that still hold tunnels and streams.
//!
//! They accept nothing any more, but a kill means what they hold, too. So each of them is told what is in force and
//! confirms it, and whoever acknowledges a change asks here whether all of them have. Who does not confirm is waited
//! for only shortly, and named.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::watch;

use crate::clock::Timestamp;

/// How long a change waits for all of them to confirm it before it is acknowledged without.
const CONFIRM_WAIT: Duration = Duration::from_secs(1);

/// A process from before an upgrade.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Predecessor {
    /// Its id.
    pub pid: u32,
    /// Tidegate's version.
    pub version: String,
    /// When it passed everything on.
    pub since: Timestamp,
    /// The generation that is in force there.
    pub confirmed: u64,
    /// What it still holds.
    pub holds: Holds,
}

/// What a process still holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Holds {
    /// Open tunnels.
    pub tunnels: u64,
    /// Open requests that are no tunnels.
    pub requests: u64,
}

/// All of them that are there.
#[derive(Debug, Default)]
pub struct Predecessors(watch::Sender<BTreeMap<u32, Predecessor>>);

impl Predecessors {
    /// From now on this one has to confirm changes.
    pub fn join(&self, predecessor: Predecessor) {
        self.0.send_modify(|all| drop(all.insert(predecessor.pid, predecessor)));
    }

    /// This generation is in force there.
    pub fn confirms(&self, pid: u32, generation: u64, holds: Holds) {
        self.0.send_if_modified(|all| {
            let Some(known) = all.get_mut(&pid) else { return false };
            let news = known.confirmed < generation || known.holds != holds;
            known.confirmed = known.confirmed.max(generation);
            known.holds = holds;
            news
        });
    }

    /// It is gone, or somebody else's.
    pub fn leave(&self, pid: u32) {
        self.0.send_if_modified(|all| all.remove(&pid).is_some());
    }

    /// Those there are, by process.
    pub fn all(&self) -> Vec<Predecessor> {
        self.0.borrow().values().cloned().collect()
    }

    /// Waits until all have confirmed a generation, for a second at most: who has not.
    pub async fn confirmed(&self, generation: u64) -> Vec<u32> {
        let behind = |all: &BTreeMap<u32, Predecessor>| -> Vec<u32> {
            all.values().filter(|one| one.confirmed < generation).map(|one| one.pid).collect()
        };
        let mut news = self.0.subscribe();
        let all_have = news.wait_for(|all| behind(all).is_empty());
        // The sender is ours: it cannot be gone.
        match tokio::time::timeout(CONFIRM_WAIT, all_have).await {
            Ok(_) => Vec::new(),
            Err(_) => behind(&self.0.borrow()),
        }
    }

    /// Waits until there are none.
    pub async fn gone(&self) {
        let _ = self.0.subscribe().wait_for(BTreeMap::is_empty).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn old(pid: u32) -> Predecessor {
        Predecessor {
            pid,
            version: "0".to_owned(),
            since: Timestamp::from_millis(0),
            confirmed: 5,
            holds: Holds::default(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_not_confirmed_is_waited_for_shortly_and_named() {
        let all = Predecessors::default();
        assert!(all.confirmed(9).await.is_empty());
        all.join(old(1));
        all.join(old(2));
        assert!(all.confirmed(5).await.is_empty());
        let holds = Holds { tunnels: 3, requests: 1 };
        all.confirms(2, 6, holds);
        all.confirms(2, 4, holds);
        assert_eq!(all.confirmed(6).await, [1]);
        assert_eq!((all.all()[1].confirmed, all.all()[1].holds), (6, holds));
        let (behind, ()) = tokio::join!(all.confirmed(6), async { all.confirms(1, 6, holds) });
        assert!(behind.is_empty());
        all.confirms(3, 9, holds);
        all.leave(1);
        assert_eq!(all.confirmed(7).await, [2]);
        let ((), ()) = tokio::join!(all.gone(), async { all.leave(2) });
    }
}
