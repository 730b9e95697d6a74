//! One finding per row, for one consumer.

use std::collections::BTreeMap;

use tokio::time::Instant;

use super::Limits;
use crate::model::{PartitionKey, RowId, TableName, Time, Version};
use crate::resolve::Finding;

/// A finding on its way to one consumer.
#[derive(Debug, Clone)]
pub struct Parcel {
    /// Which row.
    pub id: RowId,
    /// The number of the look; the newest wins.
    pub look: u64,
    /// When the look began: what R9 counts from.
    pub began: Instant,
    /// When the oldest change was announced that this stands for, by the storage clock.
    pub announced: Time,
    /// What it overwrote where it was written, if its writer said so.
    pub base: Option<Version>,
    /// What was found.
    pub finding: Finding,
}

impl Parcel {
    fn version(&self) -> Option<&Version> {
        self.finding.version()
    }
}

/// What waits for one consumer: one parcel per row, by partition.
#[derive(Debug, Default)]
pub struct Pending {
    parcels: BTreeMap<RowId, Parcel>,
    bytes: usize,
}

impl Pending {
    /// Takes a parcel in. An older look of the same row gives way; an older look than the one that waits is dropped.
    pub fn offer(&mut self, mut parcel: Parcel) {
        if let Some(waiting) = self.parcels.get_mut(&parcel.id) {
            // Whichever stays stands for what both were announced by.
            let announced = waiting.announced.min(parcel.announced);
            (waiting.announced, parcel.announced) = (announced, announced);
            if waiting.look > parcel.look {
                return;
            }
        }
        self.bytes += parcel.finding.bytes();
        if let Some(older) = self.parcels.insert(parcel.id.clone(), parcel) {
            self.bytes -= older.finding.bytes();
        }
    }

    /// Rows that wait.
    pub fn rows(&self) -> usize {
        self.parcels.len()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.parcels.is_empty()
    }

    /// Bytes of row bodies that wait.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes the next batch: whole partitions while they fit, and of a partition that does not fit alone, whole
    /// versions. Rows of one writer's transaction share partition and version, so they stay together.
    pub fn take(&mut self, limits: Limits) -> Vec<Parcel> {
        let mut batch: Vec<Parcel> = Vec::new();
        let mut taken = (0, 0);
        while let Some(first) = self.parcels.keys().next() {
            let (table, partition) = (first.table.clone(), first.partition.clone());
            let rows = self.of_partition(&table, &partition);
            let bytes: usize = rows.iter().map(|id| self.parcels[id].finding.bytes()).sum();
            if limits.admit(taken, rows.len(), bytes) && rows.len() <= limits.rows && bytes <= limits.bytes {
                taken = (taken.0 + rows.len(), taken.1 + bytes);
                batch.extend(rows.iter().filter_map(|id| self.remove(id)));
                continue;
            }
            if taken.0 == 0 {
                batch = self.take_versions(rows, limits);
            }
            break;
        }
        batch
    }

    fn of_partition(&self, table: &TableName, partition: &PartitionKey) -> Vec<RowId> {
        let first = RowId::new(table.clone(), partition.clone(), "".into());
        let same = |id: &&RowId| id.table == *table && id.partition == *partition;
        self.parcels.range(first..).map(|(id, _)| id).take_while(same).cloned().collect()
    }

    fn take_versions(&mut self, rows: Vec<RowId>, limits: Limits) -> Vec<Parcel> {
        let mut by_version: BTreeMap<Option<Version>, Vec<RowId>> = BTreeMap::new();
        for id in rows {
            by_version.entry(self.parcels[&id].version().cloned()).or_default().push(id);
        }
        let (mut batch, mut taken) = (Vec::new(), (0, 0));
        for ids in by_version.into_values() {
            let bytes: usize = ids.iter().map(|id| self.parcels[id].finding.bytes()).sum();
            if !limits.admit(taken, ids.len(), bytes) {
                break;
            }
            taken = (taken.0 + ids.len(), taken.1 + bytes);
            batch.extend(ids.iter().filter_map(|id| self.remove(id)));
        }
        batch
    }

    fn remove(&mut self, id: &RowId) -> Option<Parcel> {
        let parcel = self.parcels.remove(id)?;
        self.bytes -= parcel.finding.bytes();
        Some(parcel)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Region, RowBody, WriterId};
    use proptest::prelude::*;

    fn parcel(partition: u8, row: u8, tick: i64, look: u64) -> Parcel {
        let (partition, row) =
            (PartitionKey::new(format!("p{partition}")), crate::model::RowKey::new(format!("r{row}")));
        let version = Version::new(Time::from_ticks(tick), &Region::new("west").unwrap(), WriterId(1));
        let body = RowBody::builder(&partition, &row).string("A", "x").finish();
        Parcel {
            id: RowId::new(TableName::new("orders").unwrap(), partition, row),
            look,
            began: Instant::now(),
            announced: Time::from_ticks(tick),
            base: None,
            finding: Finding::Row { version, body },
        }
    }

    const ROOMY: Limits = Limits { rows: 1_000, bytes: 1 << 20 };

    #[test]
    fn a_newer_look_replaces_an_older_one_and_never_the_other_way() {
        let mut pending = Pending::default();
        pending.offer(parcel(0, 0, 5, 2));
        pending.offer(parcel(0, 0, 6, 3));
        pending.offer(parcel(0, 0, 5, 2));
        let batch = pending.take(ROOMY);
        assert_eq!(batch.iter().map(|p| p.look).collect::<Vec<_>>(), [3]);
        assert_eq!(batch[0].announced, Time::from_ticks(5), "the oldest announcement of all");
        assert_eq!((pending.rows(), pending.bytes()), (0, 0));
    }

    #[test]
    fn a_partition_too_large_for_a_batch_is_cut_between_versions() {
        let mut pending = Pending::default();
        for row in 0..6 {
            pending.offer(parcel(0, row, i64::from(row % 2), u64::from(row)));
        }
        let batch = pending.take(Limits { rows: 4, bytes: 1 << 20 });
        assert_eq!(batch.iter().map(|p| p.id.row.as_str()).collect::<Vec<_>>(), ["r0", "r2", "r4"]);
        assert_eq!(pending.take(ROOMY).len(), 3);
    }

    proptest! {
        #[test]
        fn everything_comes_out_once_and_transactions_stay_together(
            offers in proptest::collection::vec((0u8..4, 0u8..20, 0i64..5), 1..120), rows in 1usize..30,
        ) {
            let mut pending = Pending::default();
            let mut expected = BTreeMap::new();
            for (look, (partition, row, tick)) in offers.into_iter().enumerate() {
                let parcel = parcel(partition, row, tick, look as u64);
                expected.insert(parcel.id.clone(), parcel.version().cloned());
                pending.offer(parcel);
            }
            let mut batches = Vec::new();
            while !pending.is_empty() {
                batches.push(pending.take(Limits { rows, bytes: 1 << 20 }));
                prop_assert!(!batches.last().unwrap().is_empty());
            }
            let mut home = BTreeMap::new();
            for (n, batch) in batches.iter().enumerate() {
                for parcel in batch {
                    prop_assert_eq!(expected.remove(&parcel.id), Some(parcel.version().cloned()));
                    let group = (parcel.id.partition.clone(), parcel.version().cloned());
                    prop_assert_eq!(*home.entry(group).or_insert(n), n);
                }
            }
            prop_assert!(expected.is_empty());
            prop_assert_eq!(pending.bytes(), 0);
        }
    }
}
