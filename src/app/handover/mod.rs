//! Upgrades without a lost request: one process passes its sockets, its state and its say on to another.
//!
//! ```text
//!   old                                new
//!   starts the binary anew ──────────▶ reads the configuration, binds what is missing
//!   Hello, and every socket ─────────▶
//!                          ◀────────── Ready        (or Refused, or nothing: the old one goes on)
//!   refuses changes, saves the last
//!   Yours, the folder's lock, and
//!   the ends toward those before ────▶ takes over the state, accepts on the same sockets
//!                          ◀────────── Serving      (or it ends: the old one takes everything back)
//!   Gone ────────────────────────────▶ makes changes, ticks rollouts, tells the service manager
//!   keeps what is open     ◀────────── Open
//!                          ◀────────── Follow …     what it changes, as long as the old one holds something
//!   Followed …             ──────────▶
//!                          ◀────────── Leave        the service stops
//! ```
//!
//! Both ends of the conversation are a pair of sockets without a name; the new process has its end as standard input,
//! the one descriptor that can be found without knowing its number. The listening sockets are the same open ones in both
//! processes, so at every moment somebody accepts what waits on them. The lock of the state folder is the same open
//! file, too: it is never free in between, and nobody else can slip in. Until `Gone`, no change is acknowledged by
//! either, so that whoever goes on knows everything there is to know; that is why changes are refused meanwhile.
//!
//! The old process accepts nothing any more and keeps what is open: tunnels and long streams, until they end, are
//! killed from the new one, or `timeouts.handover` is over. If nobody speaks to it any more it drains.
//!
//! If the old process dies before `Yours`, the new one ends, too; afterwards it goes on alone. If the new one dies before
//! `Gone`, the old one goes on. If both die, the state folder is as one of them left it, and the lock is free.

mod binary;
mod giver;
mod relay;
mod taker;
mod wire;

pub(super) use binary::Origin;
pub(super) use giver::{Failed, Giver, Upgrading};
pub(super) use relay::{Link, Links};
pub use taker::TakeOverError;
pub(super) use taker::{Elders, Inherited, InheritedAdmin, Taken, Taker};
