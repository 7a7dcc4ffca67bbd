//! The state folder: what must still be true after `kill -9`, a power cut, a full or a bad disk.
//!
//! | file | what | when it is written |
//! |---|---|---|
//! | `lock` | held for as long as a process owns the folder | at start |
//! | `state`, `state.previous` | the newest state and the one before | temp, fsync, rename, fsync of the folder |
//! | `kills` | two preallocated slots, overwritten in place by turns | needs no free block on the disk |
//! | `audit.log`, `audit.log.1` … | JSON lines, rotated by size | appended |
//! | `guards` | the running evidence of all rollouts | every few seconds: temp, fsync, rename |
//! | `rollouts/SERVICE-ID.jsonl` | what a rollout saw, two parts by size, the newest 20 of a service | appended |
//! | `launches/NAME.jsonl` | what happened in a launch, the newest 200 | appended, each line waited for |
//! | `state.damaged-1`, … | what could not be read, kept for a person to look at | at start |
//! | secrets | made once, readable by the owner alone | at first use |
//!
//! The store moves bytes and knows nothing of their meaning; what they say is control's business.
//! It never guesses: [`StateFolder::recover`] says where the bytes come from ([`Origin`]), and whoever
//! asked decides what a fallback means. Nothing here locks or retries; one thread owns each writer,
//! and a failed write is tried again by who knows what is newest by then.

mod audit_entry;
mod audit_log;
mod checkpoint_file;
mod disk;
mod folder;
mod journal;
mod record_log;
mod recover;
mod secret;
mod slot_file;
mod state_file;

pub use audit_entry::AuditEntry;
pub use audit_log::{AuditLimits, AuditLog, AuditReader};
pub use checkpoint_file::CheckpointFile;
pub use folder::{OpenError, StateFolder};
pub use journal::{JournalReader, Journals};
pub use record_log::{RecordLimits, RecordLog, RecordReader};
pub use recover::{Origin, RecoverError, Recovered};
pub use secret::SecretError;
pub use slot_file::{Found, SlotFile};
pub use state_file::StateFile;
