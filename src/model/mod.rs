//! The nouns: region, account, table, keys, time, version, row, change, tombstone.
//!
//! Nothing here waits, reads a clock or knows where a row is stored. Every other room imports this one; it
//! imports none of them.

mod addressee;
mod change;
mod clock;
mod consistency;
mod key;
mod list;
mod region;
mod row;
mod table;
mod time;
mod version;

pub use addressee::Addressee;
pub use change::{Change, Tombstone};
pub use clock::{AheadOfClock, HybridClock};
pub use consistency::{Consistency, TableConsistency};
pub use key::{KeyError, PartitionKey, RowId, RowKey};
pub use list::ClosedList;
#[cfg(test)]
pub(crate) use list::assert_well_formed;
pub use region::{AccountName, NameError, Region};
pub use row::{BodyBuilder, Etag, Row, RowBody, RowError};
pub use table::{SystemTable, TableName, TableNameError};
pub use time::{Time, TimeError};
pub use version::{Version, VersionError, WriterId};
