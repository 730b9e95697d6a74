//! Reading through, while rows of a region move to other accounts: what is about to be read is brought over first.
//!
//! So whoever reads a row of the line, to look at it, to deliver to it or to name what gives way, finds the one state that it has,
//! wherever a writer has put it that goes by older routes.

use futures::future::BoxFuture;

use super::gather::gather_all;
use crate::model::RowId;
use crate::planted::{Bug, planted};
use crate::stores::{Passage, RegionStore, StoreError};

/// Brings over those of these rows that the routes have moved and that may not have come yet.
pub(super) async fn bring_over(store: &RegionStore, ids: &[&RowId]) -> Result<(), StoreError> {
    if !store.reads_through() || planted(Bug::PreviousPlaceForgotten) {
        return Ok(());
    }
    let passage = |id: &RowId| store.passage(&id.table, &id.partition);
    pass(ids.iter().filter_map(|id| Some((*id, passage(id)?))).collect()).await
}

/// Brings rows each along its passage.
pub(super) async fn pass(rows: Vec<(&RowId, Passage)>) -> Result<(), StoreError> {
    let mut brought: Vec<BoxFuture<'_, _>> = Vec::new();
    for (id, passage) in rows {
        brought.push(Box::pin(async move { passage.bring(id).await }));
    }
    gather_all(brought).await.map(drop)
}
