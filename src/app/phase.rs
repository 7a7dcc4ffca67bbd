//! How far a process is on its way out.

use tokio::sync::watch;

/// What has been asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    /// Nothing: it serves.
    Serving,
    /// To go when what is open has ended: another process serves.
    Leaving,
    /// To stop after open requests.
    Draining,
    /// To stop at once.
    Stopping,
    /// Traffic has ended; the other threads may go.
    Ending,
}

/// Goes on to `wanted`, never back.
pub(super) fn raise(phase: &watch::Sender<Phase>, wanted: Phase) {
    phase.send_if_modified(|phase| {
        let later = wanted > *phase;
        *phase = wanted.max(*phase);
        later
    });
}
