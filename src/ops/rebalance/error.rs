//! Why rows are not where they are wanted yet.

use crate::feed::Shard;
use crate::model::{AccountName, Region, RowId};
use crate::stores::StoreError;

/// Why a rebalance did not come to its end. What it has done stays, and the next one goes on from there.
#[derive(Debug, thiserror::Error)]
pub enum RebalanceError {
    /// No daemon has ever said where rows are.
    #[error("region {0} has not published its routes: its daemon does that when it runs; start it first")]
    Unpublished(Region),
    /// Rows are in an account that cannot be reached by this configuration.
    #[error(
        "rows are in account {0}, or are copied to it, and the configuration does not have it: put it back until they have moved"
    )]
    AccountGone(AccountName),
    /// Nobody reads the feed of an account.
    #[error(
        "{carried} of {} shards of account {account} are carried by a daemon of the region: start all of its daemons, and those of the \
         other regions, with the configuration that names it",
        Shard::COUNT
    )]
    NotCarried {
        /// The account.
        account: AccountName,
        /// How many of its shards are carried.
        carried: usize,
    },
    /// Writers do not follow the routes.
    #[error(
        "rows are still written where the old routes lead; see that all applications read the routes, then run this again"
    )]
    StillWritten,
    /// Another command goes on with it.
    #[error("the region's routes were changed meanwhile; run it again, and one at a time")]
    Overtaken,
    /// Rows are there already that the region knows nothing of.
    #[error(
        "account {account} holds rows where the new routes would have them that the region has not: {rows} of them, {first} for one. \
         They are left from before, or somebody else's, and would come to life. Delete them there, or write those that are wanted to \
         the region; then run this again. What `tablerelay quarantine list` names waits for its time: run this again after that"
    )]
    Strays {
        /// The account.
        account: AccountName,
        /// How many rows.
        rows: u64,
        /// One of them.
        first: RowId,
    },
    /// A row is refused where it is to be.
    #[error("row {row} cannot be moved: {error}; see to it that it has room for a RelayVersion, then run this again")]
    Row {
        /// The row.
        row: Box<RowId>,
        /// What is wrong with it.
        error: StoreError,
    },
    /// What was written to where a row is to be is from the future.
    #[error(
        "row {row} cannot be moved yet: {error}. Somebody wrote it there who went by other routes. Run this again once the clock has passed it. \
         Of a row that waits in quarantine, `tablerelay quarantine drop ID` has what is written now win, and `replay ID --restamp` that version"
    )]
    Ahead {
        /// The row.
        row: Box<RowId>,
        /// What waits.
        error: StoreError,
    },
    /// It was asked to stop.
    #[error("stopped; `tablerelay rebalance` goes on from here")]
    Stopped,
    /// The region's storage failed.
    #[error("region {region}: {error}")]
    Store {
        /// The region.
        region: Region,
        /// What is wrong.
        error: StoreError,
    },
}
