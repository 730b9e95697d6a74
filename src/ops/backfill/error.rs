//! Why a backfill was not begun, or did not come to its end.

use super::ledger::BackfillState;
use crate::model::{Region, TableName};
use crate::stores::StoreError;

/// A backfill that was refused or that failed. What was copied by then stands in its ledger.
#[derive(Debug, thiserror::Error)]
pub enum BackfillError {
    /// The region is not in the configuration.
    #[error("there is no region {region}; the configuration has {known}")]
    NoRegion {
        /// What was asked for.
        region: Region,
        /// Those that there are.
        known: String,
    },
    /// Both are the same.
    #[error("--from and --to should be two regions, but both are {region}")]
    SameRegion {
        /// Which.
        region: Region,
    },
    /// The table is not replicated, or not there.
    #[error("{region} has no table {table} that is replicated; there are: {known}")]
    NoTable {
        /// Whose.
        region: Region,
        /// What was asked for.
        table: TableName,
        /// Those that there are.
        known: String,
    },
    /// There is nothing to go on with.
    #[error("no backfill of {what} from {from} to {to} was ever begun; `tablerelay backfill start` begins one")]
    NoLedger {
        /// A table, or all of them.
        what: String,
        /// From where.
        from: Region,
        /// To where.
        to: Region,
    },
    /// It has come to its end before.
    #[error(
        "the backfill of {what} from {from} to {to} is done; `tablerelay backfill start` begins another one, which writes nothing that is there"
    )]
    Done {
        /// A table, or all of them.
        what: String,
        /// From where.
        from: Region,
        /// To where.
        to: Region,
    },
    /// Another one is at work on it.
    #[error(
        "{table} is being copied to {to} by {owner}; `tablerelay backfill status` says how far that is, `tablerelay backfill pause` ends it"
    )]
    Held {
        /// Which table.
        table: TableName,
        /// To where.
        to: Region,
        /// By whom.
        owner: String,
    },
    /// It was begun before and is not done.
    #[error(
        "a backfill of {table} from {from} to {to} is {state}; `tablerelay backfill resume` goes on with it, `tablerelay backfill start --again` begins anew"
    )]
    Unfinished {
        /// Which table.
        table: TableName,
        /// From where.
        from: Region,
        /// To where.
        to: Region,
        /// How it is.
        state: BackfillState,
    },
    /// Another one has taken it over.
    #[error("{owner} has taken over the backfill of {table}; `tablerelay backfill status` says how far it is")]
    Lost {
        /// Which table.
        table: TableName,
        /// By whom.
        owner: String,
    },
    /// Something of the region that is copied from cannot be read.
    #[error(
        "{table} of {region} cannot be read: {error}; `tablerelay backfill resume` goes on where everything before is copied"
    )]
    Read {
        /// Whose.
        region: Region,
        /// What.
        table: String,
        /// Why not.
        error: Box<StoreError>,
    },
    /// Nothing gets through.
    #[error(
        "nothing of {table} came to {to} for {minutes} minutes: {why}; `tablerelay backfill resume` goes on where everything before is copied"
    )]
    Stuck {
        /// Which table.
        table: TableName,
        /// To where.
        to: Region,
        /// For how long it was tried.
        minutes: u64,
        /// What it failed with last.
        why: String,
    },
    /// What was copied differs, and stays so.
    #[error(
        "{rows} rows differ and could not be mended, as {row}: {why}; everything is copied, `tablerelay backfill resume` compares what is not verified again"
    )]
    Differs {
        /// How many.
        rows: u64,
        /// One of them.
        row: String,
        /// Why it could not be mended.
        why: String,
    },
    /// One of the two regions cannot be prepared.
    #[error("{region} cannot be asked: {error}; nothing was begun")]
    Region {
        /// Which.
        region: Region,
        /// Why not.
        error: Box<StoreError>,
    },
    /// How far it is cannot be kept.
    #[error("how far it is cannot be read or written in RelayControl of {region}: {error}")]
    Ledger {
        /// Whose.
        region: Region,
        /// Why not.
        error: Box<StoreError>,
    },
    /// Who is at work on it does not say that it has heard.
    #[error("{owner} is at work on {table} and has not heard of the pause yet; it will, or its hold runs out")]
    NotHeard {
        /// Which table.
        table: TableName,
        /// Who.
        owner: String,
    },
    /// Somebody asked for the end.
    #[error("ended as asked; `tablerelay backfill resume` goes on where everything before is copied")]
    Stopped,
}

impl BackfillError {
    /// Whether what was typed is at fault.
    pub fn is_usage(&self) -> bool {
        matches!(self, Self::NoRegion { .. } | Self::SameRegion { .. } | Self::NoTable { .. })
    }
}
