//! What a person may do about an entry in quarantine: announce it again, give its row a new version, or drop it.
//!
//! An entry is taken out on the ETag that it was read with, and after the deed: where the daemon meets the same thing again
//! meanwhile, it renews the entry, which therefore stays.

use super::removal::removal;
use super::rows::read_row;
use crate::feed::{Entry, Reason, Source};
use crate::model::{ClosedList, PartitionKey, Row, RowBody, RowId, SystemTable, TableName, Version};
use crate::model::{Region, Time};
use crate::planted::{Bug, planted};
use crate::runtime::Runtime;
use crate::stores::{Account, Condition, ErrorKind, Operation, Passage, RegionStore, StoreError};
use crate::writer::{WriteError, Writer, WriterOptions};

/// Why an entry could not be dealt with. It is still there.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// A store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The row could not be given a new version.
    #[error("the row {row} could not be given a new version: {error}")]
    Restamp {
        /// Which row.
        row: RowId,
        /// What the write was answered with.
        error: Box<WriteError>,
    },
    /// There is nothing in it that could be announced.
    #[error(
        "it cannot be announced as it is: {why}. Mend whoever wrote it, write or delete the rows once more, then drop the entry"
    )]
    NothingToAnnounce {
        /// Why not.
        why: String,
    },
    /// A delete from the future is nobody's to do sooner: its tombstone stands, and nothing may be written below that.
    #[error(
        "it deletes rows at version {version}, which is from the future: that is done everywhere once the clock has passed it, so leave the \
         entry until then. {stamped} other rows of it have new versions"
    )]
    DeletesWait {
        /// The entry's version.
        version: String,
        /// How many of its rows were given new versions.
        stamped: usize,
    },
    /// Nothing that it is about stands where it stood.
    #[error(
        "none of its rows stands at version {version} any more, so there is nothing to give a new version. If its rows are \
         right as they are now, drop the entry"
    )]
    NothingStands {
        /// The entry's version.
        version: String,
    },
}

/// Whether the entry is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// It is, whoever took it out.
    Out,
    /// It was met again meanwhile, and is there as it was met then.
    Again,
}

/// Deals with entries in quarantine.
#[derive(Debug)]
pub struct Replay {
    /// Every region.
    pub regions: Vec<RegionStore>,
    /// How rows are written.
    pub options: WriterOptions,
    /// Clock and randomness.
    pub runtime: Runtime,
}

impl Replay {
    /// Announces what the entry of `region` holds again: its record in the feed, or its message in the queue.
    ///
    /// # Errors
    /// [`ReplayError`]
    pub async fn replay(&self, region: &RegionStore, entry: &Entry, row: &Row) -> Result<Taken, ReplayError> {
        if entry.change().is_none() || !announce_again(region, entry).await? {
            return Err(nothing_to_announce(entry));
        }
        Ok(take_out(region, row).await?)
    }

    /// Gives the rows of the entry that stand at its version a new one of the region that holds them, by the protocol.
    ///
    /// # Errors
    /// [`ReplayError`]
    pub async fn restamp(
        &self,
        region: &RegionStore,
        entry: &Entry,
        row: &Row,
    ) -> Result<(Vec<(Region, Version)>, Taken), ReplayError> {
        let change = entry.change().ok_or_else(|| nothing_to_announce(entry))?;
        let mut stamped = Vec::new();
        // No row of a delete stands at its version, and a tombstone from the future takes none out (R7).
        for (id, _) in change.rows().filter(|(_, delete)| !delete) {
            self.bring_home(region, entry, &id).await?;
            stamped.extend(self.restamp_row(&id, &change.version, entry.reason).await?);
        }
        if entry.reason == Reason::FutureVersion && !change.deletes.is_empty() {
            return Err(ReplayError::DeletesWait { version: change.version.to_string(), stamped: stamped.len() });
        }
        if stamped.is_empty() {
            return Err(ReplayError::NothingStands { version: change.version.to_string() });
        }
        Ok((stamped, take_out(region, row).await?))
    }

    /// What was found in an account that no route leads to stands there, and nobody looks for it there.
    async fn bring_home(&self, region: &RegionStore, entry: &Entry, id: &RowId) -> Result<(), StoreError> {
        let to = region.holding(&id.table, &id.partition);
        match found_in(region, entry).filter(|from| from.tables.account() != to.account()) {
            Some(from) => {
                let (from, fresh) = (from.tables.clone(), self.options.settle_window / 2);
                // Readers may go by the routes before while those are told of; and what is cold may be there alone by the time.
                let stays = region.reads_through() || region.is_cold_place(from.account(), &id.table, &id.partition);
                let passage = Passage { from, to, fresh, mirrors: None };
                let over = if stays { passage.bring(id).await } else { passage.carry(id).await };
                over.map(drop)
            }
            None => Ok(()),
        }
    }

    /// In the region that issued the version, if it stands there; else wherever it does. A row without a version may have been announced under
    /// any of its region.
    async fn restamp_row(
        &self,
        id: &RowId,
        version: &Version,
        reason: Reason,
    ) -> Result<Option<(Region, Version)>, ReplayError> {
        let mut regions: Vec<&RegionStore> = self.regions.iter().collect();
        regions.sort_by_key(|store| !version.is_of(store.region()));
        for store in regions {
            let found = read_row(store, id).await?;
            let stands = |stands: Version| {
                let without = reason == Reason::FutureVersion && version.is_of(store.region());
                stands == *version || without && stands == Version::implicit(stands.time(), store.region())
            };
            let Some(found) = found.filter(|found| stands(found.version(store.region()))) else { continue };
            let failed = |error| ReplayError::Restamp { row: id.clone(), error: Box::new(error) };
            // What is above the clock is not to be kept above: that is what the new version is for.
            let low = Version::implicit(Time::EPOCH, store.region());
            let over = (reason != Reason::FutureVersion).then_some(version);
            let (body, condition) = (found.body.stamped(over.unwrap_or(&low)), Condition::Matches(found.etag));
            let writer = Writer::new(store.clone(), self.options, self.runtime.clone());
            let written = writer.replace(&id.table, &body, condition, over).await.map_err(failed)?;
            return Ok(Some((store.region().clone(), written.version)));
        }
        Ok(None)
    }
}

fn nothing_to_announce(entry: &Entry) -> ReplayError {
    let why = match (entry.cut, entry.source) {
        (1.., _) => "it was too long to be kept whole".to_owned(),
        (0, Source::Hint) => "a hint is no announcement".to_owned(),
        (0, _) => entry.reason.meaning().to_owned(),
    };
    ReplayError::NothingToAnnounce { why }
}

/// The account that an entry was found in, while the region has it.
fn found_in<'r>(region: &'r RegionStore, entry: &Entry) -> Option<&'r Account> {
    region.accounts().iter().find(|own| Some(own.tables.account()) == entry.account.as_ref())
}

/// Takes an entry out of quarantine, as it was read.
///
/// # Errors
/// [`StoreError`]
pub async fn take_out(region: &RegionStore, row: &Row) -> Result<Taken, StoreError> {
    match region.home().write(&SystemTable::Quarantine.name(), &removal(row)).await {
        Ok(_) => Ok(Taken::Out),
        Err(error) if error.kind == ErrorKind::NotFound => Ok(Taken::Out),
        Err(error) if error.kind == ErrorKind::Precondition => Ok(Taken::Again),
        Err(error) => Err(error),
    }
}

/// Puts the record of an entry back into the feed, or its message back into its queue, since there is more to that than a
/// record. Says whether there was anything to put.
///
/// A record is put back where it was found: whoever announced it there went by routes that led there, and so did the row, which is
/// brought to where it belongs when the record is looked at.
pub(super) async fn announce_again(region: &RegionStore, entry: &Entry) -> Result<bool, StoreError> {
    let found_in = found_in(region, entry);
    match entry.source {
        _ if entry.cut > 0 => Ok(false),
        Source::Hint => Ok(false),
        Source::Message => {
            let Some(queue) = found_in.and_then(|account| account.queue.as_ref()) else { return Ok(false) };
            queue.send(&entry.whole).await?;
            Ok(true)
        }
        Source::Record | Source::Row => {
            let Ok(record) = RowBody::parse(&entry.whole) else { return Ok(false) };
            let table = entry.table.as_deref().and_then(|table| TableName::new(table).ok());
            let (Some(table), Some(partition)) = (table, entry.partition.as_deref()) else { return Ok(false) };
            let found_in = found_in.filter(|_| !planted(Bug::ReplayedElsewhere)).map(|account| account.tables.clone());
            let tables = found_in.unwrap_or_else(|| region.holding(&table, &PartitionKey::from(partition)));
            match tables.write(&SystemTable::Feed.name(), &Operation::Insert(record)).await {
                Err(error) if error.kind != ErrorKind::AlreadyExists => Err(error),
                _ => Ok(true),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::feed::{Malformed, encode_change, encode_tombstone, is_record_key};
    use crate::model::{AccountName, Change, Tombstone};
    use crate::stores::Tables;
    use crate::stores::memory::MemoryTables;
    use crate::topology::Routes;

    fn east() -> Region {
        Region::new("east").unwrap()
    }

    fn id() -> RowId {
        RowId::new(TableName::new("orders").unwrap(), "p".into(), "a".into())
    }

    fn version(second: i64) -> Version {
        Version::implicit(Time::from_unix_seconds(second), &east())
    }

    /// A region with two accounts, of which the routes lead to the first.
    async fn two() -> (RegionStore, [Arc<MemoryTables>; 2], Runtime) {
        let (region, runtime) = (east(), Runtime::simulated(Time::from_unix_seconds(1_000), 1));
        let [one, two] = ["one", "two"].map(|name| AccountName::new(name).unwrap());
        let stores = [&one, &two].map(|name| MemoryTables::new(region.clone(), name.clone(), runtime.clone()));
        for store in &stores {
            for table in [SystemTable::Feed.name(), SystemTable::Quarantine.name(), id().table] {
                store.create_table(&table).await.unwrap();
            }
        }
        let accounts = stores.iter().map(|tables| Account { tables: tables.clone(), queue: None }).collect();
        (RegionStore::routed(region, accounts, Routes::new(Vec::new(), [one]).unwrap()), stores, runtime)
    }

    /// A record from the future that was found in this account, in quarantine.
    async fn quarantined(region: &RegionStore, second: i64, delete: bool, account: &str) -> (Entry, Row) {
        let whole = encode_change(&Change::of_row(&id(), &version(second), delete)).unwrap()[0].json().to_string();
        let why = Malformed::new(Reason::FutureVersion, "it was ahead");
        let mut entry = Entry::new(Source::Record, &why, Time::EPOCH, whole);
        (entry.table, entry.partition) = (Some("orders".to_owned()), Some("p".to_owned()));
        entry.account = Some(AccountName::new(account).unwrap());
        let entry = entry.identified();
        let (table, body) = (SystemTable::Quarantine.name(), entry.encode());
        region.home().write(&table, &Operation::Insert(body.clone())).await.unwrap();
        let row = region.home().get(&table, body.partition(), body.row()).await.unwrap().unwrap();
        (entry, row)
    }

    #[tokio::test(start_paused = true)]
    async fn a_record_is_put_back_where_it_was_found() {
        let (store, stores, _) = two().await;
        let records = |store: &Arc<MemoryTables>| {
            let feed = store.snapshot(&SystemTable::Feed.name());
            feed.iter().filter(|row| is_record_key(row.body.row())).count()
        };
        // No route leads to the second; a third is no longer in the configuration.
        assert!(announce_again(&store, &quarantined(&store, 1, false, "two").await.0).await.unwrap());
        assert_eq!(stores.each_ref().map(&records), [0, 1]);
        assert!(announce_again(&store, &quarantined(&store, 2, false, "gone").await.0).await.unwrap());
        assert_eq!(stores.each_ref().map(&records), [1, 1], "by the routes, where nothing else is to be had");
    }

    #[tokio::test(start_paused = true)]
    async fn a_row_without_a_version_is_restamped_where_it_belongs_whatever_it_was_announced_with() {
        let (store, stores, runtime) = two().await;
        let body = RowBody::builder(&id().partition, &id().row).string("A", "kept").finish();
        stores[1].write(&id().table, &Operation::Insert(body)).await.unwrap();
        let (entry, row) = quarantined(&store, 9_000, false, "two").await;
        let replay = Replay { regions: vec![store.clone()], options: WriterOptions::default(), runtime };
        let (stamped, taken) = replay.restamp(&store, &entry, &row).await.unwrap();
        assert_eq!((stamped.len(), taken), (1, Taken::Out));
        let at_home = stores[0].snapshot(&id().table);
        assert_eq!(at_home[0].body.version(), Some(&stamped[0].1));
        assert!(stamped[0].1 < version(2_000), "{stamped:?}");
        assert!(stores[1].snapshot(&id().table).is_empty(), "nothing stays behind to come back");
    }

    #[tokio::test(start_paused = true)]
    async fn a_delete_from_the_future_takes_nothing_out_where_it_is_restamped() {
        let (store, stores, runtime) = two().await;
        let body = RowBody::builder(&id().partition, &id().row).string("A", "kept").finish();
        stores[0].write(&id().table, &Operation::Insert(body)).await.unwrap();
        let tomb = encode_tombstone(&Tombstone { id: id(), version: version(9_000) });
        stores[1].write(&SystemTable::Feed.name(), &Operation::Insert(tomb)).await.unwrap();
        let (entry, row) = quarantined(&store, 9_000, true, "two").await;
        let replay = Replay { regions: vec![store.clone()], options: WriterOptions::default(), runtime };
        let refused = replay.restamp(&store, &entry, &row).await.unwrap_err();
        assert!(matches!(refused, ReplayError::DeletesWait { stamped: 0, .. }), "{refused}");
        assert_eq!(stores[0].snapshot(&id().table).len(), 1);
        assert_eq!(stores[0].snapshot(&SystemTable::Quarantine.name()).len(), 1, "the entry stays");
    }
}
