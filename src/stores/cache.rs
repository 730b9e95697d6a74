//! The trait of a region's cache.

use std::fmt;

use async_trait::async_trait;

use super::StoreError;
use crate::cache::{CachedRow, Refresh, RefreshOutcome};

/// A request to a cache that failed. Refreshes are idempotent and guarded by the version: try again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct CacheError(pub String);

impl From<StoreError> for CacheError {
    fn from(error: StoreError) -> Self {
        Self(error.to_string())
    }
}

/// A region's cache.
#[async_trait]
pub trait Cache: fmt::Debug + Send + Sync + 'static {
    /// Refreshes many keys, each by the version-guarded script: an outcome per refresh, in order. Where several are of
    /// one key they may take effect in any order; the newest stands.
    ///
    /// # Errors
    /// Where it fails, some of them may have taken effect. A cache that is down says so within its timeouts, and works
    /// again once it is back.
    async fn refresh(&self, refreshes: &[Refresh]) -> Result<Vec<RefreshOutcome>, CacheError>;

    /// What the cache holds of one key; `None` also where it holds something that is no entry of ours.
    async fn get(&self, key: &str) -> Result<Option<CachedRow>, CacheError>;
}
