//! Announce and write in one call: part 3 of the protocol, for Rust applications.
//!
//! A [`Writer`] issues a version, announces it in the feed of the account that holds the partition, and then writes the
//! rows with it. It carries rows as they are ([`RowBody`](crate::model::RowBody)), takes Azure's conditions, and passes on the service's status
//! and code ([`WriteError::status`]).
//!
//! What the protocol asks of a writer stands here and nowhere else:
//!
//! - Both steps are sent within half the settle window, or they begin again with a new version; a reply that comes later
//!   than that makes it announce again.
//! - A delete raises its tombstones in the transaction of its record. One that stands there already is replaced on its
//!   ETag by a higher one, never lowered.
//! - The second step is sent once. Refused with a 4xx, it takes its record out of the feed; of unknown outcome, the rows
//!   are read back and their versions compared before it answers.
//! - A future that is dropped between the steps leaves an announcement with nothing behind it, as a crash does: it costs
//!   a wait in Last Sync Time.
//!
//! After a write to a synchronous table it looks for copies of it in other regions, and says how many it saw
//! ([`Writer::with_destinations`], [`Written::copies`]).
//!
//! The steps are there to be used alone by whatever else writes by the protocol: [`announce`], [`relay`],
//! [`raise_tombstone`], [`look_at_tombstones`].

mod announce;
mod announced;
mod copies;
mod error;
mod operations;
mod outcome;
mod over;
mod patience;
mod plan;
mod reader;
mod relay;
mod steps;
#[cfg(test)]
mod tests;
mod tier;
mod tombstones;

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::model::{Etag, HybridClock, Version, WriterId};
use crate::runtime::Runtime;
use crate::stores::RegionStore;

pub use announce::{AnnounceError, Announced, announce};
pub use copies::{Copies, Stands, Unconfirmed, reached};
pub use error::WriteError;
pub use over::Over;
pub(crate) use over::is_below;
pub use reader::read_routed;
pub use relay::{RaiseError, Raised, Relayed, raise_tombstone, relay};
pub use tier::{Demoted, Promoted};
pub use tombstones::{LookError, Standing, look_at_tombstones};

/// How a [`Writer`] keeps to the protocol. Settle window and skew must be those of the daemons' configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WriterOptions {
    /// `replication.settle_window`: both steps of a write are done within half of it.
    pub settle_window: Duration,
    /// `replication.max_clock_skew`: how far ahead of this clock a version may lie to be overwritten.
    pub max_clock_skew: Duration,
    /// Whether a write that may create a row looks at the row's tombstone, to take a version above it.
    ///
    /// Without that look, an insert after a delete that came from a region whose clock is ahead would carry the lower
    /// version and lose. The look goes out beside the announcement, so it costs a read and no time. A writer needs none
    /// for deletes of its own, since its clock never goes back.
    pub look_at_tombstones: bool,
}

impl Default for WriterOptions {
    /// The configuration's defaults: 60 s, 60 s, and tombstones are looked at.
    fn default() -> Self {
        let minute = Duration::from_secs(60);
        Self { settle_window: minute, max_clock_skew: minute, look_at_tombstones: true }
    }
}

/// A write that took effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// The version that the rows or tombstones carry: what `tablerelay wait --version` takes.
    pub version: Version,
    /// The new ETag per operation, in order; `None` for a delete, and for a row that somebody else wrote again before the
    /// outcome was read back.
    pub etags: Vec<Option<Etag>>,
    /// Who else has it already, where the table is synchronous.
    pub copies: Copies,
}

impl Written {
    /// The ETag of a single write.
    pub fn etag(&self) -> Option<&Etag> {
        self.etags.first().and_then(Option::as_ref)
    }
}

/// A writer of one region: share one in a process, since it holds the clock that versions are issued from.
#[derive(Debug)]
pub struct Writer {
    store: RegionStore,
    options: WriterOptions,
    runtime: Runtime,
    clock: Mutex<HybridClock>,
    destinations: Option<copies::Destinations>,
}

impl Writer {
    /// A writer to the accounts of a region, with a writer id of its own. Not to be carried over a fork.
    pub fn new(store: RegionStore, options: WriterOptions, runtime: Runtime) -> Self {
        let clock = HybridClock::new(store.region().clone(), runtime.writer_id(), options.max_clock_skew);
        Self { store, options, runtime, clock: Mutex::new(clock), destinations: None }
    }

    /// The id in the versions that it issues.
    pub fn id(&self) -> WriterId {
        self.clock.lock().unwrap_or_else(PoisonError::into_inner).writer()
    }
}
