//! A look: one reading of rows and, where they are absent, of their tombstones.

use super::rows::read_rows;
use super::tombstones::Tombstones;
use crate::model::{RowId, Time};
use crate::planted::{Bug, planted};
use crate::resolve::Finding;
use crate::stores::{RegionStore, StoreError};

/// Looks at rows of a region: a finding for each, in the order asked.
pub(super) async fn look(
    store: &RegionStore,
    tombstones: &Tombstones,
    ids: &[&RowId],
) -> Result<Vec<Finding>, StoreError> {
    Ok(look_when(store, tombstones, ids).await?.into_iter().map(|(finding, _)| finding).collect())
}

/// As [`look`], with when what stands was stored by the clock of that storage; never, where nothing stands.
///
/// The row is read first and the tombstone after it: read the other way round, a delete between the two would look like
/// a row that never was.
pub(super) async fn look_when(
    store: &RegionStore,
    tombstones: &Tombstones,
    ids: &[&RowId],
) -> Result<Vec<(Finding, Option<Time>)>, StoreError> {
    let rows = read_rows(store, ids).await?;
    let absent: Vec<&RowId> = ids.iter().filter(|id| !rows.contains_key(id)).copied().collect();
    let deleted = if absent.is_empty() { Default::default() } else { tombstones.of_rows(&absent).await? };
    let finding = |id: &&RowId| match rows.get(*id) {
        Some(row) => {
            let version = row.version(store.region());
            (Finding::Row { body: row.body.stamped(&version), version }, Some(row.timestamp))
        }
        None if planted(Bug::TombstoneIgnored) => (Finding::Nothing, None),
        None => match deleted.get(*id).and_then(|tomb| Some((tomb.version.clone()?, tomb.raised))) {
            Some((version, raised)) => (Finding::Deleted(version), Some(raised)),
            None => (Finding::Nothing, None),
        },
    };
    Ok(ids.iter().map(finding).collect())
}
