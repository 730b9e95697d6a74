//! Reading through, while rows of a region move to other accounts: what is about to be read is brought over first, and promoted where it
//! is cold.
//!
//! So whoever reads a row of the line, to look at it, to deliver to it or to name what gives way, finds the one state that it has,
//! wherever a writer has put it that goes by older routes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::time::Instant;

use super::gather::gather_all;
use super::rows::read_in;
use super::sight::VERSION_ALONE;
use crate::model::{AccountName, RowId};
use crate::planted::{Bug, planted};
use crate::stores::{ErrorKind, Passage, RegionStore, StoreError, Tables, Tiering};

/// Brings over those of these rows that the routes have moved and that may not have come yet.
pub(super) async fn bring_over(store: &RegionStore, ids: &[&RowId]) -> Result<(), StoreError> {
    if !store.reads_through() || planted(Bug::PreviousPlaceForgotten) {
        return Ok(());
    }
    let passage = |id: &RowId| store.passage(&id.table, &id.partition);
    pass(store, ids.iter().filter_map(|id| Some((*id, passage(id)?, false))).collect()).await
}

/// The epoch of the routes that a look may go by which begins at `began`: in a region with several accounts, only of some that are not `stale`.
/// By older ones a row is looked for where it is no more.
pub(super) fn routes_of(store: &RegionStore, began: Instant, stale: Duration) -> Result<u64, StoreError> {
    let late = |heard: Instant| began.saturating_duration_since(heard) > stale;
    if store.accounts().len() > 1 && store.routes_heard().is_none_or(late) {
        return Err(StoreError::new(ErrorKind::Unreachable, "the region's routes have not been read of late"));
    }
    Ok(store.routes_epoch())
}

/// Brings those of these rows home that lie in this account and belong into another one; where they are `carried`, none of them stays
/// behind but in its cold place, where a copy may be all that is left by the time. Nothing is written longer than `fresh` after its look.
pub(super) async fn bring_home(
    store: &RegionStore,
    (from, ids): (&Arc<dyn Tables>, &[&RowId]),
    fresh: Duration,
    carried: bool,
) -> Result<(), StoreError> {
    if store.accounts().len() == 1 || planted(Bug::PreviousPlaceForgotten) {
        return Ok(());
    }
    let astray = |id: &RowId| {
        let to = store.holding(&id.table, &id.partition);
        (to.account() != from.account()).then(|| Passage { from: from.clone(), to, fresh, mirrors: None })
    };
    let rows = ids.iter().filter_map(|id| Some((*id, astray(id)?)));
    let rows = rows.map(|(id, passage)| {
        let carried = carried && !store.is_cold_place(from.account(), &id.table, &id.partition);
        (id, passage, carried)
    });
    pass(store, rows.collect()).await
}

/// Brings rows each along its passage, or carries them, while the routes are those by which these were found.
async fn pass(store: &RegionStore, rows: Vec<(&RowId, Passage, bool)>) -> Result<(), StoreError> {
    let (epoch, mut brought) = (store.routes_epoch(), Vec::<BoxFuture<'_, _>>::new());
    for (id, passage, carried) in rows {
        brought.push(Box::pin(async move {
            if store.routes_epoch() != epoch {
                return Err(StoreError::new(ErrorKind::Precondition, "the region's routes have changed"));
            }
            if carried { passage.carry(id).await } else { passage.bring(id).await }
        }));
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
