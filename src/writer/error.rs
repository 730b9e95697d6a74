//! What a write can fail with, and what is known of the rows then.

use super::{AnnounceError, LookError};
use crate::feed::{EncodeError, Malformed};
use crate::model::{AheadOfClock, RowId, Version};
use crate::stores::{StoreError, TransactionError};

/// A write that did not succeed, or of which that is not known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// No such change can be announced. Nothing was sent.
    #[error("the write cannot be announced: {0}")]
    Change(#[from] EncodeError),
    /// The row or its tombstone has a version from the future. Nothing was written.
    #[error("row {row}: {source}")]
    AheadOfClock {
        /// The row.
        row: RowId,
        /// By how much.
        source: AheadOfClock,
    },
    /// A tombstone of the row cannot be read, so that it is not known what to be above. Nothing was written.
    #[error("a tombstone has to be mended first: {0}")]
    Tombstone(Malformed),
    /// The region's routes could not be read, so that it is not known where the row belongs. Nothing was written.
    #[error("the region's routes could not be read, and nothing was sent: {0}")]
    Routes(StoreError),
    /// The feed could not be written or its tombstones not read, not within half the settle window, several times over.
    /// Nothing was written.
    #[error("the write could not be announced, and was not sent: {0}")]
    Announce(StoreError),
    /// The store refused the write, with its status and code. Nothing was written, the announcement is taken back.
    #[error("{0}")]
    Refused(TransactionError),
    /// The outcome is unknown: the write was not seen when it was read back, but may still take effect, and will be
    /// replicated if it does. To write again is safe: it takes a new version.
    #[error("the outcome of the write with version {version} is unknown, it was not seen yet: {error}")]
    Unknown {
        /// The version that it carries.
        version: Version,
        /// What the write was answered with.
        error: Box<TransactionError>,
    },
    /// Others deleted the same rows over and over, so that no version was above their tombstones for long enough to be
    /// announced. Nothing was written.
    #[error("gave up after {attempts} announcements: others delete the same rows over and over")]
    Contended {
        /// How often it was announced.
        attempts: u32,
    },
    /// The write took effect, or may have, so late that it had to be announced again, and that failed: it may not be
    /// replicated. Write again.
    #[error("the write with version {version} was answered late and could not be announced again: {error}")]
    Unannounced {
        /// The version that it carries.
        version: Version,
        /// What the announcement failed with.
        error: StoreError,
    },
}

impl WriteError {
    /// The store's error, where one is behind it.
    pub fn store_error(&self) -> Option<&StoreError> {
        match self {
            Self::Routes(error) | Self::Announce(error) | Self::Unannounced { error, .. } => Some(error),
            Self::Refused(failed) => Some(&failed.error),
            Self::Unknown { error: failed, .. } => Some(&failed.error),
            Self::Change(_) | Self::AheadOfClock { .. } | Self::Tombstone(_) | Self::Contended { .. } => None,
        }
    }

    /// The HTTP status that the store answered the failed request with.
    pub fn status(&self) -> Option<u16> {
        self.store_error().and_then(|error| error.status)
    }
}

impl From<LookError> for WriteError {
    fn from(err: LookError) -> Self {
        match err {
            LookError::Store(error) => Self::Announce(error),
            LookError::Malformed(malformed) => Self::Tombstone(malformed),
        }
    }
}

impl From<AnnounceError> for WriteError {
    fn from(err: AnnounceError) -> Self {
        match err {
            AnnounceError::Change(err) => Self::Change(err),
            AnnounceError::Store(error) | AnnounceError::TombstoneStands(error) | AnnounceError::TooLate(error) => {
                Self::Announce(error)
            }
        }
    }
}
