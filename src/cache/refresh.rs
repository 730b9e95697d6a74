//! The words of a refresh: how a cache is kept, what is put into it, what became of that.

use std::sync::Arc;
use std::time::Duration;

use crate::model::Version;

/// How a cache is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CacheMode {
    /// Every changed row is put into the cache.
    WriteThrough,
    /// Only what is in the cache already is refreshed. It leaves when the reader who put it there wanted it to.
    RefreshExisting,
    /// What is in the cache and older is taken out, for the next reader to fill.
    Invalidate,
}

impl CacheMode {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::WriteThrough, Self::RefreshExisting, Self::Invalidate];

    /// Its name in the configuration and in the script.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::WriteThrough => "write-through",
            Self::RefreshExisting => "refresh-existing",
            Self::Invalidate => "invalidate",
        }
    }
}

/// One key to refresh.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refresh {
    /// The cache key.
    pub key: String,
    /// The version that was found; a newer one in the cache stays.
    pub version: Version,
    /// The row as JSON; `None` for a deleted row.
    pub entry: Option<Arc<str>>,
}

/// What became of one refresh. In every mode the cache then knows the version, as an entry or as a mark, and takes no
/// older row for five minutes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RefreshOutcome {
    /// The cache holds the row now.
    Stored,
    /// The cache holds the mark of a deleted row now.
    Marked,
    /// An older entry was taken out, and a mark left.
    Invalidated,
    /// No entry was there and the mode puts none there; a mark was left.
    Absent,
    /// The cache held this very version already.
    Current,
    /// The cache holds a newer version: either this refresh was overtaken, or the row's store has fallen behind what it
    /// once held (R10 of the protocol).
    Newer,
    /// The cache is out of memory. It held nothing of the row, and still does not.
    Full,
    /// The key holds something that is no entry of ours; it was left alone.
    Foreign,
}

impl RefreshOutcome {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Stored,
        Self::Marked,
        Self::Invalidated,
        Self::Absent,
        Self::Current,
        Self::Newer,
        Self::Full,
        Self::Foreign,
    ];

    /// What the script returns for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stored => "stored",
            Self::Marked => "marked",
            Self::Invalidated => "invalidated",
            Self::Absent => "absent",
            Self::Current => "current",
            Self::Newer => "newer",
            Self::Full => "full",
            Self::Foreign => "foreign",
        }
    }

    /// The outcome that the script returned.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|outcome| outcome.as_str() == text)
    }
}

/// What a cache holds of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CachedRow {
    /// Field `v`: the version.
    pub version: String,
    /// Field `e`: the row as JSON; `None` for a mark.
    pub entry: Option<String>,
    /// Time to live, where it has one.
    pub ttl: Option<Duration>,
}
