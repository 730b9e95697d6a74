//! Reading through, while rows of a region move to other accounts: what is about to be read is brought over first, and promoted where it
//! is cold.
//!
//! So whoever reads a row of the line, to look at it, to deliver to it or to name what gives way, finds the one state that it has,
//! wherever a writer has put it that goes by older routes.

use std::collections::BTreeMap;

use futures::future::BoxFuture;

use super::gather::gather_all;
use super::rows::read_in;
use super::sight::VERSION_ALONE;
use crate::model::{AccountName, RowId};
use crate::planted::{Bug, planted};
use crate::stores::{Passage, RegionStore, StoreError, Tiering};

/// Brings over those of these rows that the routes have moved and that may not have come yet.
pub(super) async fn bring_over(store: &RegionStore, ids: &[&RowId]) -> Result<(), StoreError> {
    if !store.reads_through() || planted(Bug::PreviousPlaceForgotten) {
        return Ok(());
    }
    let passage = |id: &RowId| store.passage(&id.table, &id.partition);
    pass(ids.iter().filter_map(|id| Some((*id, passage(id)?))).collect(), false).await
}

/// Brings rows each along its passage; where they are `carried`, none of them stays behind.
pub(super) async fn pass(rows: Vec<(&RowId, Passage)>, carried: bool) -> Result<(), StoreError> {
    let mut brought: Vec<BoxFuture<'_, _>> = Vec::new();
    for (id, passage) in rows {
        brought.push(Box::pin(async move { if carried { passage.carry(id).await } else { passage.bring(id).await } }));
    }
    gather_all(brought).await.map(drop)
}

/// Promotes those of these rows that stand in their cold places, of which each has one at least.
pub(super) async fn promote(store: &RegionStore, ids: &[&RowId]) -> Result<(), StoreError> {
    // By cold place, so that rows of a partition are read together.
    let mut places: BTreeMap<AccountName, Vec<(&RowId, Tiering)>> = BTreeMap::new();
    for id in ids {
        for tiering in store.tierings(&id.table, &id.partition) {
            places.entry(tiering.cold.account().clone()).or_default().push((id, tiering));
        }
    }
    for rows in places.into_values() {
        let Some(cold) = rows.first().map(|(_, tiering)| tiering.cold.clone()) else { continue };
        let ids: Vec<&RowId> = rows.iter().map(|(id, _)| *id).collect();
        let standing = read_in(|_, _| cold.clone(), &ids, Some(&VERSION_ALONE)).await?;
        let mut promoted: Vec<BoxFuture<'_, _>> = Vec::new();
        for (id, tiering) in rows.iter().filter(|(id, _)| standing.contains_key(id)) {
            promoted.push(Box::pin(tiering.promote(id)));
        }
        gather_all(promoted).await?;
    }
    Ok(())
}
