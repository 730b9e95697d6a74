//! Reading through, while rows of a region move to other accounts: what is about to be read is brought over first, and promoted where it
//! is cold.
//!
//! So whoever reads a row of the line, to look at it, to deliver to it or to name what gives way, finds the one state that it has,
//! wherever a writer has put it that goes by older routes.

use futures::future::BoxFuture;

use super::gather::gather_all;
use super::rows::read_in;
use super::sight::VERSION_ALONE;
use crate::model::{PartitionKey, RowId, TableName};
use crate::planted::{Bug, planted};
use crate::stores::{Passage, RegionStore, StoreError};

/// Brings over those of these rows that the routes have moved and that may not have come yet.
pub(super) async fn bring_over(store: &RegionStore, ids: &[&RowId]) -> Result<(), StoreError> {
    if !store.reads_through() || planted(Bug::PreviousPlaceForgotten) {
        return Ok(());
    }
    let of = |id: &RowId| store.passages(&id.table, &id.partition);
    pass(ids.iter().flat_map(|id| of(id).into_iter().map(|passage| (*id, passage))).collect()).await
}

/// Brings rows each along its passage.
pub(super) async fn pass(rows: Vec<(&RowId, Passage)>) -> Result<(), StoreError> {
    let mut brought: Vec<BoxFuture<'_, _>> = Vec::new();
    for (id, passage) in rows {
        brought.push(Box::pin(async move { passage.bring(id).await }));
    }
    gather_all(brought).await.map(drop)
}

/// Promotes those of these rows that stand in their cold places. All of them have one.
pub(super) async fn promote(store: &RegionStore, ids: &[&RowId]) -> Result<(), StoreError> {
    let cold = |table: &TableName, partition: &PartitionKey| match store.tiering(table, partition) {
        Some(tiering) => tiering.cold,
        // The routes have changed since they were asked: the caller looks again by those of now.
        None => store.holding(table, partition),
    };
    let standing = read_in(cold, ids, Some(&VERSION_ALONE)).await?;
    let mut promoted: Vec<BoxFuture<'_, _>> = Vec::new();
    for id in standing.keys() {
        if let Some(tiering) = store.tiering(&id.table, &id.partition) {
            promoted.push(Box::pin(async move { tiering.promote(id).await }));
        }
    }
    gather_all(promoted).await.map(drop)
}
