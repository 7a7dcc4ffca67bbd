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

/// How many connections there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Room {
    /// From clients, to all workers together: how many of them come to which worker is the kernel's choice.
    pub(super) clients: usize,
    /// To endpoints from each worker, busy and idle.
    pub(super) endpoints: usize,
    /// Requests at once on all workers together, unless the configuration says: as many as there are descriptors.
    /// HTTP/2 on both sides needs fewer of these than it has requests, and memory for each of them.
    pub(super) requests: u32,
}

impl Room {
    /// By the process's soft limit at the moment.
    pub(super) fn of_process(threads: usize) -> Self {
        Self::within(getrlimit(Resource::Nofile).current.unwrap_or(UNLIMITED), threads)
    }

    /// Clients get a little more than half: a tunnel takes one on either side, an idle client none of an endpoint.
    fn within(descriptors: u64, threads: usize) -> Self {
        let reserve = RESERVE.min(descriptors / 4);
        let left = descriptors - reserve;
        let clients = left / 20 * 11 + left % 20 / 2;
        let within = |count: u64| usize::try_from(count).unwrap_or(usize::MAX).max(1);
        let requests = u32::try_from(descriptors).unwrap_or(u32::MAX).max(1);
        let endpoints = within((left - clients) / threads.max(1) as u64);
        Self { clients: within(clients), endpoints, requests }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_descriptors_for_everything_else() {
        #[track_caller]
        fn check(descriptors: u64, threads: usize, clients: usize, endpoints: usize) {
            let room = Room::within(descriptors, threads);
            assert_eq!((room.clients, room.endpoints), (clients, endpoints), "{descriptors}/{threads}");
            assert_eq!(u64::from(room.requests), descriptors.max(1));
        }
        check(1024, 1, 422, 346);
        check(1024, 2, 422, 173);
        check(20_000, 4, 10_859, 2221);
        check(256, 2, 105, 43);
        check(8, 2, 3, 1);
        check(0, 2, 1, 1);
        check(UNLIMITED, 8, 576_576, 58_968);
    }
}
