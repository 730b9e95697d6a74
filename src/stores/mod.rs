//! The shore: traits of what is stored elsewhere, and their adapters.
//!
//! [`Tables`] is one storage account's tables, [`Queue`] its `relay-changes` queue, [`Cache`] a region's Redis. Every
//! adapter folder has the same anatomy: `mod.rs` says what it talks to, then a file per trait. What a failure means is
//! decided once, in [`StoreError`]. [`conformance`] is the suite that all adapters pass, so that a test on the memory
//! store is worth what a test on the real one is worth.
//!
//! [`RegionStore`] is a region's accounts and the rule that says which of them holds a row: above it nobody says "the
//! account".

// The adapter for Azure Storage.
pub mod azure;
mod cache;
// The suite that all adapters of a trait pass.
pub mod conformance;
mod error;
// Azure's limits, checked before anything is sent.
pub mod limits;
// The embedded store: accounts in memory, with Azure's limits, errors and manners.
pub mod memory;
mod metered;
// Transactions as they stand on the wire, for whoever sends them and whoever serves them.
pub(crate) mod multipart;
mod operation;
mod paced;
mod query;
mod queue;
// A region's cache on Redis.
mod places;
pub mod redis;
mod region;
mod retrying;
mod routing;
mod severable;
mod shared_key;
mod storage_clock;
mod tables;
mod throttled;
mod unknown;
// Which cryptography TLS is made of.
pub mod tls;

pub use crate::cache::{CacheMode, CachedRow, Loss, Refresh, RefreshOutcome};
pub use cache::{Cache, CacheError};
pub use error::{ErrorKind, Remedy, StoreError, TransactionError};
pub use metered::{Metered, MeteredQueue};
pub use operation::{Condition, Operation};
pub use paced::{Paced, Pacer};
pub use places::{Mirrors, Passage, Tiering};
pub use query::{Continuation, Page, Query, Scope};
pub use queue::{CHANGES_QUEUE, Message, Queue};
pub use region::{Account, RegionStore};
pub use retrying::Retrying;
pub use routing::RoutesCopy;
pub use severable::{Severable, Severed};
pub use shared_key::SharedKey;
pub use storage_clock::{DATE_RESOLUTION, StorageClock};
pub use tables::Tables;
pub use throttled::{Gate, Throttled, ThrottledAccount, ThrottledQueue};
pub use unknown::UnknownAccount;
