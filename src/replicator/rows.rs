//! Reading rows by their keys, in as few requests as they can be had.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::future::BoxFuture;

use super::gather::gather_all;
use super::over::{bring_over, promote};
use crate::model::{PartitionKey, Row, RowId, RowKey, TableName};
use crate::planted::{Bug, planted};
use crate::stores::{ErrorKind, Query, RegionStore, StoreError, Tables};

/// One row; a table that is not there holds no rows.
pub(super) async fn read_row(store: &RegionStore, id: &RowId) -> Result<Option<Row>, StoreError> {
    Ok(read_rows(store, &[id]).await?.remove(id))
}

fn none_where_no_table<T>(result: Result<Option<T>, StoreError>) -> Result<Option<T>, StoreError> {
    match result {
        Err(error) if error.kind == ErrorKind::NoTable => Ok(None),
        other => other,
    }
}

/// Many rows: those of one partition by one bounded range, single ones by point reads. `or` over keys would be a
/// partition scan at the server.
///
/// The result has an entry for every row that is present, and for none that is absent.
pub(super) async fn read_rows(store: &RegionStore, ids: &[&RowId]) -> Result<BTreeMap<RowId, Row>, StoreError> {
    read_selected(store, ids, None).await
}

/// As [`read_rows`], of each row only these properties.
///
/// What is not at its home is looked for in its cold place, and promoted where it stands there, so that whoever reads on meets one state
/// of it. It may have been promoted by somebody else between the two, so its home has the last word.
pub(crate) async fn read_selected(
    store: &RegionStore,
    ids: &[&RowId],
    select: Option<&[&str]>,
) -> Result<BTreeMap<RowId, Row>, StoreError> {
    bring_over(store, ids).await?;
    let mut found = read_homes(store, ids, select).await?;
    if store.has_cold_places() && !planted(Bug::ColdPlaceForgotten) {
        let mut absent: Vec<&RowId> = ids.iter().filter(|id| !found.contains_key(id)).copied().collect();
        absent.retain(|id| !store.tierings(&id.table, &id.partition).is_empty());
        if !absent.is_empty() {
            promote(store, &absent).await?;
            found.append(&mut read_homes(store, &absent, select).await?);
        }
    }
    Ok(found)
}

async fn read_homes(
    store: &RegionStore,
    ids: &[&RowId],
    select: Option<&[&str]>,
) -> Result<BTreeMap<RowId, Row>, StoreError> {
    read_in(|table, partition| store.holding(table, partition), ids, select).await
}

/// Of many rows, those that an account has, which is said for each partition.
pub(crate) async fn read_in(
    place: impl Fn(&TableName, &PartitionKey) -> Arc<dyn Tables>,
    ids: &[&RowId],
    select: Option<&[&str]>,
) -> Result<BTreeMap<RowId, Row>, StoreError> {
    let mut partitions: BTreeMap<(&TableName, &PartitionKey), Vec<&RowKey>> = BTreeMap::new();
    for id in ids {
        partitions.entry((&id.table, &id.partition)).or_default().push(&id.row);
    }
    let mut reads: Vec<BoxFuture<'_, Result<_, StoreError>>> = Vec::new();
    for ((table, partition), mut keys) in partitions {
        keys.sort();
        keys.dedup();
        let tables = place(table, partition);
        reads.push(Box::pin(async move {
            Ok((table, partition, read_partition(tables.as_ref(), (table, partition), &keys, select).await?))
        }));
    }
    let mut found = BTreeMap::new();
    for (table, partition, rows) in gather_all(reads).await? {
        for row in rows {
            found.insert(RowId::new(table.clone(), partition.clone(), row.body.row().clone()), row);
        }
    }
    Ok(found)
}

/// `keys` are sorted and distinct.
async fn read_partition(
    tables: &dyn Tables,
    (table, partition): (&TableName, &PartitionKey),
    keys: &[&RowKey],
    select: Option<&[&str]>,
) -> Result<Vec<Row>, StoreError> {
    let (mut rows, mut rest) = (Vec::with_capacity(keys.len()), keys);
    let range = |first: &RowKey, last: &RowKey, most| Query {
        top: Some(most),
        select: select.map(|names| names.iter().map(|name| (*name).to_owned()).collect()),
        ..Query::rows(partition.clone(), first.clone(), last.clone())
    };
    // How Azure orders keys beyond ASCII could not be checked, and a row that is missed is a row taken for absent: points.
    if let [first, .., last] = keys
        && keys.iter().all(|key| key.as_str().is_ascii())
    {
        // Rows between the keys come along. Beyond a few for each key, points are cheaper than the next page.
        let most = (keys.len() * 4).clamp(16, 1_000) as u16;
        let page = match tables.query(table, &range(first, last, most)).await {
            Err(error) if error.kind == ErrorKind::NoTable => return Ok(rows),
            page => page?,
        };
        let reached = page.rows.last().map(|row| row.body.row().clone());
        rest = match (&page.continuation, &reached) {
            (None, _) => &[],
            (Some(_), None) => keys,
            (Some(_), Some(reached)) => &keys[keys.partition_point(|key| *key <= reached)..],
        };
        rows.extend(page.rows.into_iter().filter(|row| keys.binary_search(&row.body.row()).is_ok()));
    }
    let mut points: Vec<BoxFuture<'_, _>> = Vec::new();
    for key in rest {
        let one = select.is_some().then(|| range(key, key, 1));
        points.push(Box::pin(async move {
            let row = match one {
                None => tables.get(table, partition, key).await,
                Some(query) => first_row(tables, table, query).await,
            };
            none_where_no_table(row)
        }));
    }
    rows.extend(gather_all(points).await?.into_iter().flatten());
    Ok(rows)
}

/// The first row of a range: its first page may be empty and have a continuation.
async fn first_row(tables: &dyn Tables, table: &TableName, mut query: Query) -> Result<Option<Row>, StoreError> {
    loop {
        let page = tables.query(table, &query).await?;
        query.continuation = page.continuation;
        match page.rows.into_iter().next() {
            None if query.continuation.is_some() => {}
            row => return Ok(row),
        }
    }
}
