//! The trait of a region's cache.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::model::Version;

/// How a cache is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CacheMode {
    /// Every changed row is put into the cache.
    WriteThrough,
    /// Only what is in the cache already is refreshed.
    RefreshExisting,
    /// What is in the cache and older is taken out, for the next reader to fill.
    Invalidate,
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

/// What became of one refresh.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RefreshOutcome {
    /// The cache holds the row now.
    Stored,
    /// The cache holds the mark of a deleted row now.
    Marked,
    /// The entry was taken out.
    Invalidated,
    /// The cache holds this version or a newer one already.
    Current,
    /// The key is not in the cache, and the mode does not put it there.
    Absent,
}

/// What a cache holds of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CachedRow {
    /// Field `v`: the version.
    pub version: String,
    /// Field `e`: the row as JSON; `None` for the mark of a deleted row.
    pub entry: Option<String>,
    /// Time to live, where it has one.
    pub ttl: Option<Duration>,
}

/// A request to a cache that failed. Refreshes are idempotent and guarded by the version: try again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct CacheError(pub String);

/// A region's cache.
#[async_trait]
pub trait Cache: fmt::Debug + Send + Sync + 'static {
    /// Refreshes many keys, each by the version-guarded script: an outcome per refresh, in order.
    async fn refresh(&self, refreshes: &[Refresh]) -> Result<Vec<RefreshOutcome>, CacheError>;

    /// What the cache holds of one key.
    async fn get(&self, key: &str) -> Result<Option<CachedRow>, CacheError>;
}
