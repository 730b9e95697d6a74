//! Why a verification was not begun, or did not come to its end.

use crate::model::{Region, TableName};
use crate::stores::StoreError;

/// A verification that was refused or that failed. What was judged by then stands in its ledger.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
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
    /// The table is not replicated, or in neither region.
    #[error("neither region has a table {table} that is replicated; there are: {known}")]
    NoTable {
        /// What was asked for.
        table: TableName,
        /// Those that there are.
        known: String,
    },
    /// Something of one region cannot be read.
    #[error("{table} of {region} cannot be read: {error}")]
    Table {
        /// Whose.
        region: Region,
        /// What.
        table: String,
        /// Why not.
        error: Box<StoreError>,
    },
    /// The rows of a table cannot be read.
    #[error(
        "{table} of {from} and {to} cannot be compared: {error}; --resume goes on where everything before is judged"
    )]
    Rows {
        /// The first region.
        from: Region,
        /// The other one.
        to: Region,
        /// Which table.
        table: String,
        /// Why not.
        error: Box<StoreError>,
    },
    /// It cannot be mended.
    #[error("nothing can be mended: {region}: {error}; --resume goes on where everything before is mended")]
    Mend {
        /// Which region failed.
        region: Region,
        /// With what.
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
    /// Somebody asked for the end.
    #[error("ended as asked; --resume goes on where everything before is judged")]
    Stopped,
}

impl VerifyError {
    /// Whether what was typed is at fault.
    pub fn is_usage(&self) -> bool {
        matches!(self, Self::NoRegion { .. } | Self::SameRegion { .. } | Self::NoTable { .. })
    }
}
