//! What was found where.

use crate::model::{RowBody, Version};

/// What a look at the source found of a row: the state that is delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// The row, with its version (explicit or implicit).
    Row {
        /// Its version.
        version: Version,
        /// What it says, carrying that version.
        body: RowBody,
    },
    /// The row is absent and was deleted at this version: its tombstone's, or that of an announced delete (R3).
    Deleted(Version),
    /// Neither a row nor a trace of one.
    Nothing,
    /// A version from the future (R7): in quarantine by now, not to be delivered.
    Future(Version),
}

impl Finding {
    /// The version found, where there is one.
    pub fn version(&self) -> Option<&Version> {
        match self {
            Self::Row { version, .. } | Self::Deleted(version) | Self::Future(version) => Some(version),
            Self::Nothing => None,
        }
    }

    /// Whether there is something to deliver.
    pub fn is_deliverable(&self) -> bool {
        matches!(self, Self::Row { .. } | Self::Deleted(_))
    }

    /// Bytes that it holds in memory, to bound what waits for a destination.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Row { body, .. } => body.json().len(),
            _ => 0,
        }
    }
}

/// What stands of a row in a store: its version where it is present, its tombstone's version where there is one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standing {
    /// The row's version.
    pub row: Option<Version>,
    /// The tombstone's version. One older than a present row says nothing.
    pub tombstone: Option<Version>,
}
