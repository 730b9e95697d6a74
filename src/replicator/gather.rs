//! Many requests side by side, a bounded number at a time.

use futures::future::BoxFuture;
use futures::stream::{self, StreamExt};

/// Most requests that one call has under way.
pub(super) const IN_FLIGHT: usize = 32;

/// Waits for all of them, at most [`IN_FLIGHT`] at a time; the results come in the order in which they end.
pub(super) async fn gather<T>(requests: Vec<BoxFuture<'_, T>>) -> Vec<T> {
    stream::iter(requests).buffer_unordered(IN_FLIGHT).collect().await
}

/// As [`gather`], where each may fail: the first failure in the order of their ending, after all have ended.
pub(super) async fn gather_all<T, E>(requests: Vec<BoxFuture<'_, Result<T, E>>>) -> Result<Vec<T>, E> {
    gather(requests).await.into_iter().collect()
}
