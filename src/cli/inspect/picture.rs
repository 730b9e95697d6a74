//! What is known of one row in every region: what `inspect --output json` prints.

use serde::Serialize;

use super::super::regions::Unreachable;
use crate::model::{AccountName, Region, RowId, Time, Version};
use crate::settle::LinkState;

/// One row, as all regions have it.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Picture {
    #[serde(flatten)]
    pub id: RowId,
    /// When it was looked at.
    pub at: Time,
    /// Whether the configuration replicates the table.
    pub replicated: bool,
    /// Regions that could be read, in the order of the configuration.
    pub regions: Vec<Column>,
    pub unreachable: Vec<Unreachable>,
}

/// One row in one region.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Column {
    pub region: Region,
    /// The account that holds the row, its records and its tombstone.
    pub account: AccountName,
    pub row: Option<Stands>,
    /// The version of its tombstone.
    pub tombstone: Option<Version>,
    /// Announcements in this region's feed that name the row and have not ended, oldest first.
    pub records: Vec<Open>,
    /// What waits in this region for others.
    pub hints: Vec<Waits>,
    /// Entries of this region's quarantine that name the row.
    pub quarantine: Vec<Held>,
    /// Entries of this region's conflict journal, newest first.
    pub conflicts: Vec<Conflict>,
    pub cache: Cache,
    /// The links out of this region, as its daemon published them last.
    pub links: Vec<Link>,
    /// What could not be read besides, each with its error.
    pub unread: Vec<String>,
}

/// A row that is present.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Stands {
    pub version: Version,
    /// It carries no version that can be read; this one is made of its `Timestamp`.
    pub implicit: bool,
    /// Its `Timestamp`.
    pub written: Time,
}

/// A record that names the row.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Open {
    pub version: Version,
    pub deletes: bool,
    /// When the storage server took it in.
    pub announced: Time,
}

/// A hint of the row.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Waits {
    /// The region that it waits for, or `cache@` and this region: its cache.
    pub destination: String,
    pub version: Version,
    /// When the oldest change was announced that it stands for.
    pub since: Time,
}

/// An entry in quarantine that names the row.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Held {
    pub id: String,
    pub reason: &'static str,
    pub remedy: &'static str,
    /// `None` where no destination can take it.
    pub destination: Option<Region>,
    /// `None` where it has none that can be read.
    pub version: Option<Version>,
    pub at: Option<Time>,
}

/// An entry of the conflict journal.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Conflict {
    pub winner: String,
    pub loser: String,
    pub destination: Option<String>,
    pub at: Option<String>,
}

/// What a region's cache holds of the row.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case", tag = "state")]
pub(super) enum Cache {
    /// The region has none.
    None,
    Absent,
    Entry {
        version: String,
        /// It is the mark of a deleted row.
        deleted: bool,
    },
    Unreachable {
        error: String,
    },
}

/// A link out of a region.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Link {
    pub destination: Region,
    pub state: LinkState,
    pub last_error: Option<String>,
    pub published: Time,
}

/// Where a region stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Standing {
    Nothing,
    Row(Version),
    Deleted(Version),
    /// The row stands yet, under a tombstone that is newer.
    Deleting(Version),
}

impl Standing {
    pub fn version(&self) -> Option<&Version> {
        match self {
            Self::Nothing => None,
            Self::Row(version) | Self::Deleted(version) | Self::Deleting(version) => Some(version),
        }
    }
}

impl Column {
    pub fn standing(&self) -> Standing {
        match (&self.row, &self.tombstone) {
            (Some(row), Some(tombstone)) if row.version < *tombstone => Standing::Deleting(tombstone.clone()),
            (Some(row), _) => Standing::Row(row.version.clone()),
            (None, Some(tombstone)) => Standing::Deleted(tombstone.clone()),
            (None, None) => Standing::Nothing,
        }
    }

    pub fn link_to(&self, region: &Region) -> Option<&Link> {
        self.links.iter().find(|link| link.destination == *region)
    }
}
