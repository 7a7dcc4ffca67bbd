//! How many connections fit into the process.
//!
//! Each takes a file descriptor, and whoever takes the last one takes it from the admin socket, the state file
//! and the health checks, too. So clients and endpoints get a share each and the rest is kept free: strangers
//! may fill their share, and a kill still works.

use rustix::process::{Resource, getrlimit};

/// Descriptors that connections leave alone: files, listeners, health checks, operators.
const RESERVE: u64 = 256;
/// What stands for no limit: what the kernel allows a process at most unless told otherwise (`fs.nr_open`).
const UNLIMITED: u64 = 1 << 20;

/// How many connections a worker may have open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Room {
    /// From clients.
    pub(super) clients: usize,
    /// To endpoints, busy and idle.
    pub(super) endpoints: usize,
    /// Requests at once on all workers together, unless the configuration says: as many as there are descriptors.
    /// HTTP/2 on both sides needs fewer of these than it has requests, and memory for each of them.
    pub(super) in_flight: u32,
}

impl Room {
    /// By the process's soft limit at the moment.
    pub(super) fn of_process(threads: usize) -> Self {
        Self::within(getrlimit(Resource::Nofile).current.unwrap_or(UNLIMITED), threads)
    }

    /// Each of `threads` workers gets the same, and of that half for either side.
    fn within(descriptors: u64, threads: usize) -> Self {
        let reserve = RESERVE.min(descriptors / 4);
        let each = (descriptors - reserve) / 2 / threads.max(1) as u64;
        let each = usize::try_from(each).unwrap_or(usize::MAX).max(1);
        let in_flight = u32::try_from(descriptors).unwrap_or(u32::MAX).max(1);
        Self { clients: each, endpoints: each, in_flight }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_descriptors_for_everything_else() {
        #[track_caller]
        fn check(descriptors: u64, threads: usize, expected: usize) {
            let room = Room::within(descriptors, threads);
            assert_eq!((room.clients, room.endpoints), (expected, expected), "{descriptors}/{threads}");
            assert_eq!(u64::from(room.in_flight), descriptors.max(1));
        }
        check(1024, 1, 384);
        check(1024, 2, 192);
        check(20_000, 4, 2468);
        check(256, 2, 48);
        check(8, 2, 1);
        check(0, 2, 1);
        check(UNLIMITED, 8, 65_520);
    }
}
