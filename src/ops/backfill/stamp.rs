//! Rows without a version given theirs where they stand, after they were copied with it: on their ETag, so that what somebody
//! writes meanwhile stays as it is. It is the version that everybody reads out of such a row anyhow, and no change.

use std::collections::VecDeque;

use tokio::time::Instant;
use tracing::debug;

use crate::model::{PartitionKey, Row, RowBody, TableName, Version};
use crate::resolve::Freshness;
use crate::stores::limits::MAX_OPERATIONS;
use crate::stores::{Condition, Operation, RegionStore, Remedy};

/// Stamps those of a page that carry no version; says how many were. The page was read at `began`.
pub(super) async fn stamp(
    store: &RegionStore,
    table: &TableName,
    rows: &[Row],
    began: Instant,
    fresh: Freshness,
) -> u64 {
    let mut stamped = 0;
    let bare = rows.iter().filter(|row| row.body.version().is_none());
    let mut partitions: VecDeque<(&PartitionKey, Vec<&Row>)> = VecDeque::new();
    for row in bare {
        match partitions.back_mut() {
            Some((partition, rows)) if *partition == row.body.partition() && rows.len() < MAX_OPERATIONS => {
                rows.push(row)
            }
            _ => partitions.push_back((row.body.partition(), vec![row])),
        }
    }
    while let Some((partition, mut rows)) = partitions.pop_front() {
        while !rows.is_empty() && fresh.allows(began, Instant::now()) {
            let operations: Vec<Operation> = rows.iter().map(|row| merge(store, row)).collect();
            let Err(failure) = store.holding(table, partition).transact(table, partition, &operations).await else {
                stamped += rows.len() as u64;
                break;
            };
            match failure.index.filter(|index| *index < rows.len()) {
                // Somebody has written or deleted that one: it needs none any more, or is met by the next backfill.
                Some(index) if failure.error.remedy() == Remedy::StartOver => drop(rows.remove(index)),
                _ => {
                    debug!(%table, error = %failure, rows = rows.len(), "rows were not given their versions");
                    break;
                }
            }
        }
    }
    stamped
}

fn merge(store: &RegionStore, row: &Row) -> Operation {
    let version = row.version(store.region());
    let bare = RowBody::builder(row.body.partition(), row.body.row());
    let body = bare.string(Version::PROPERTY, version.as_str()).finish();
    Operation::Merge(body, Condition::Matches(row.etag.clone()))
}
