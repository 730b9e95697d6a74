//! Writers without our library: what any program may do that keeps to the protocol, or half of it.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tablerelay::feed::{
    Shard, decode_tombstone, encode_change, encode_message, encode_numbered, encode_tombstone, tombstone_key,
};
use tablerelay::model::{Change, Etag, RowBody, RowId, SystemTable, Tombstone, Version, WriterId};
use tablerelay::stores::{Condition, Operation, StoreError, Tables};
use tokio::time::Instant;

use super::Work;
use crate::kinds::Kind;

/// The property that names the region which refuses a row.
pub const POISON: &str = "Poison";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deed {
    /// Without looking at what it overwrites.
    Put,
    /// Its library sends the second step again although it took effect.
    PutTwice,
    /// Announced, but the row carries no version.
    Unversioned,
    /// By a clock that is far ahead.
    Future,
    Delete,
    /// On an ETag that is no longer the row's: its tombstone stays.
    RefusedDelete,
    /// One region will not take it.
    Poison,
    QueuedPut,
    QueuedDelete,
    MalformedRecord,
    MalformedMessage,
}

impl Work {
    pub(super) async fn raw(&self, deed: Deed, id: RowId) {
        match deed {
            Deed::Put | Deed::PutTwice | Deed::Unversioned | Deed::Future | Deed::Poison => self.put(deed, id).await,
            Deed::Delete | Deed::RefusedDelete => self.delete(deed, id).await,
            Deed::QueuedPut | Deed::QueuedDelete => self.queued(deed, id).await,
            Deed::MalformedRecord => self.malformed_record().await,
            Deed::MalformedMessage => self.malformed_message().await,
        }
    }

    /// Where a row is written, from the first step to the last: where the published routes lead, in a region whose rows move. They are read again
    /// after half the time for which they may be gone by, and nothing is written by older ones; but by a program that goes on by the first ones.
    async fn place(&self, id: &RowId) -> Option<Arc<dyn Tables>> {
        if let Some(lagging) = self.author.lagging.as_ref().filter(|_| self.dice.chance(700)) {
            return Some(lagging.holding(&id.table, &id.partition));
        }
        let store = &self.author.store;
        if let Some(hold) = self.hold {
            let fresh = |heard: &Instant| heard.elapsed() < hold / 2;
            if !store.routes_heard().is_some_and(|heard| fresh(&heard)) {
                store.follow_routes().await.ok()?;
            }
            store.published()?;
        }
        Some(store.holding(&id.table, &id.partition))
    }

    /// A version by this author's clock alone, knowing nothing of the row.
    fn blind_version(&self) -> Version {
        let back = if self.dice.chance(300) { self.dice.time(Duration::from_millis(700)) } else { Duration::ZERO };
        let now = self.author.clock.now() - back;
        Version::new(now, self.author.store.region(), WriterId(0xa000_0000 + self.dice.below(0x0fff_ffff) as u32))
    }

    /// Up to half a window, less what the rest of the way may take.
    fn slow(&self) -> Duration {
        if self.dice.chance(500) { Duration::ZERO } else { self.dice.time(self.window / 4) }
    }

    async fn put(&self, deed: Deed, id: RowId) {
        let mut version = self.blind_version();
        if deed == Deed::Future {
            let ahead = Duration::from_secs(6 + self.dice.below(10) as u64);
            version = Version::new(version.time() + ahead, self.author.store.region(), WriterId(0xa9));
            self.chronicle.fault(Kind::FutureVersion, &format!("{id} at {version}"));
        }
        let Some(tables) = self.place(&id).await else { return };
        if self.announce(&tables, &id, &version, false, None).await.is_err() {
            return;
        }
        tokio::time::sleep(self.slow()).await;
        let plain = RowBody::builder(&id.partition, &id.row).string("Value", version.as_str()).finish();
        let body = match deed {
            Deed::Poison => self.poisoned(&id, &version),
            Deed::Unversioned => {
                self.chronicle.count(Kind::Unversioned);
                plain
            }
            _ => plain.stamped(&version),
        };
        let operation = Operation::InsertOrReplace(body);
        let _ = tables.write(&id.table, &operation).await;
        if deed == Deed::PutTwice {
            self.chronicle.fault(Kind::BlindRepeat, &format!("{id} at {version}"));
            tokio::time::sleep(self.dice.time(self.window / 8)).await;
            let _ = tables.write(&id.table, &operation).await;
            // What was sent twice may have landed on top of a newer row: it is announced again.
            let _ = self.announce_again(&tables, &id, &version).await;
        }
    }

    /// The row names the region that refuses it.
    fn poisoned(&self, id: &RowId, version: &Version) -> RowBody {
        let refuses = self.others[self.dice.below(self.others.len())].clone();
        self.chronicle.fault(Kind::RefusedRow, &format!("{id} at {version} by {refuses}"));
        self.told.lock().unwrap_or_else(PoisonError::into_inner).poisoned.push((self.author.region, id.clone()));
        let body = RowBody::builder(&id.partition, &id.row).string("Value", version.as_str());
        body.string(POISON, &refuses).finish().stamped(version)
    }

    async fn delete(&self, deed: Deed, id: RowId) {
        let Some(tables) = self.place(&id).await else { return };
        let (feed, version) = (SystemTable::Feed.name(), self.blind_version());
        let stale = match deed {
            Deed::RefusedDelete => self.stale_etag(&tables, &id).await,
            _ => None,
        };
        if stale.is_some() {
            tokio::time::sleep(self.slow() / 4).await;
        }
        let shard = Shard::of(&id.table, &id.partition).partition();
        let Ok(there) = tables.get(&feed, &shard, &tombstone_key(&id)).await else { return };
        let standing = there.as_ref().and_then(|row| decode_tombstone(row).ok());
        if standing.is_some_and(|tombstone| tombstone.version >= version) {
            return;
        }
        if self.announce(&tables, &id, &version, true, there.map(|row| row.etag)).await.is_err() {
            return;
        }
        tokio::time::sleep(self.slow()).await;
        let condition = match (deed, stale) {
            (Deed::RefusedDelete, Some(etag)) => Condition::Matches(etag),
            (Deed::RefusedDelete, None) => return,
            _ => Condition::Present,
        };
        let gone = Operation::Delete { partition: id.partition.clone(), row: id.row.clone(), condition };
        let refused = tables.write(&id.table, &gone).await.is_err_and(|error| error.status == Some(412));
        if refused && self.dice.chance(700) {
            self.withdraw(&tables, &id, &version).await;
        }
    }

    /// What it read of the row now, or a while ago.
    async fn stale_etag(&self, tables: &Arc<dyn Tables>, id: &RowId) -> Option<Etag> {
        let row = tables.get(&id.table, &id.partition, &id.row).await.ok().flatten();
        let mut read = self.author.read.lock().unwrap_or_else(PoisonError::into_inner);
        let before = read.get(id).cloned();
        let now = row.map(|row| row.etag);
        if let Some(etag) = &now {
            read.insert(id.clone(), etag.clone());
        }
        if self.dice.chance(500) { before.or(now) } else { now.or(before) }
    }

    /// Its first and only attempt was refused, so the record may go; the tombstone stays.
    async fn withdraw(&self, tables: &Arc<dyn Tables>, id: &RowId, version: &Version) {
        for record in encode_change(&change(id, version, true)).expect("one row") {
            let (partition, row) = (record.partition().clone(), record.row().clone());
            let gone = Operation::Delete { partition, row, condition: Condition::Present };
            let _ = tables.write(&SystemTable::Feed.name(), &gone).await;
        }
    }

    /// The same change by a record of the next number.
    async fn announce_again(&self, tables: &Arc<dyn Tables>, id: &RowId, version: &Version) -> Result<(), StoreError> {
        let record = Operation::Insert(encode_numbered(&change(id, version, false), 1));
        loop {
            match tables.write(&SystemTable::Feed.name(), &record).await {
                Err(error) if error.status != Some(409) => tokio::time::sleep(Duration::from_millis(200)).await,
                _ => return Ok(()),
            }
        }
    }

    /// Announces one row; a delete beside its tombstone, which replaces one that stands.
    async fn announce(
        &self,
        tables: &Arc<dyn Tables>,
        id: &RowId,
        version: &Version,
        delete: bool,
        standing: Option<tablerelay::model::Etag>,
    ) -> Result<(), StoreError> {
        let mut operations: Vec<_> =
            encode_change(&change(id, version, delete)).expect("one row").into_iter().map(Operation::Insert).collect();
        if delete {
            let body = encode_tombstone(&Tombstone { id: id.clone(), version: version.clone() });
            operations.push(match standing {
                Some(etag) => Operation::Replace(body, Condition::Matches(etag)),
                None => Operation::Insert(body),
            });
        }
        let shard = Shard::of(&id.table, &id.partition).partition();
        let feed = SystemTable::Feed.name();
        tables.transact(&feed, &shard, &operations).await.map(drop).map_err(|failure| failure.error)
    }

    /// Written first, told after.
    async fn queued(&self, deed: Deed, id: RowId) {
        let Some(tables) = self.place(&id).await else { return };
        let version = self.blind_version();
        let operation = match deed {
            Deed::QueuedDelete => {
                let mut book = self.chronicle.book();
                book.queued_deletes.insert((self.author.region, id.clone()), version.to_string());
                drop(book);
                Operation::Delete {
                    partition: id.partition.clone(),
                    row: id.row.clone(),
                    condition: Condition::Present,
                }
            }
            _ => {
                let body = RowBody::builder(&id.partition, &id.row).string("Value", version.as_str()).finish();
                Operation::InsertOrReplace(body.stamped(&version))
            }
        };
        if let Err(error) = tables.write(&id.table, &operation).await
            && error.status != Some(404)
        {
            // Of unknown outcome: it tells of it all the same, as it must.
        }
        let late = self.slow();
        tokio::time::sleep(late).await;
        if late > self.window / 8 {
            self.chronicle.fault(Kind::MessageLate, &format!("{id} at {version}"));
        }
        let message = encode_message(&change(&id, &version, deed == Deed::QueuedDelete));
        let times = 1 + usize::from(self.dice.chance(300));
        if times > 1 {
            self.chronicle.fault(Kind::MessageTwice, &format!("{id} at {version}"));
        }
        for _ in 0..times {
            self.send(&message).await;
        }
    }

    /// Until it is sent: what a writer loses by crashing before is lost.
    async fn send(&self, message: &str) {
        let accounts = self.author.store.accounts();
        let Some(queue) = &accounts[self.dice.below(accounts.len())].queue else { return };
        for _ in 0..500 {
            if queue.send(message).await.is_ok() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        self.chronicle.note("a message was never sent");
    }

    async fn malformed_record(&self) {
        let mark = format!("broken{}", self.dice.below(1_000_000));
        let key = format!("c:{}", self.dice.pick(&["nonsense", "2026-13-01T00:00:00.0000000Z@east.00000001", ""]));
        // Some stand where no reader of a shard looks.
        let (partition, key) = match self.dice.below(8) {
            0 => ("99", format!("{key}{mark}")),
            1 => ("0", format!("{key}{mark}")),
            2 => ("05", mark.clone()),
            3 => ("0f", format!("zzz{mark}")),
            _ => ("00", format!("{key}{mark}")),
        };
        let body = RowBody::builder(&partition.into(), &key.as_str().into()).string("Puts", "{").finish();
        self.chronicle.fault(Kind::MalformedRecord, &key);
        let tables = &self.author.store.accounts()[0].tables;
        if tables.write(&SystemTable::Feed.name(), &Operation::Insert(body)).await.is_ok() {
            self.told.lock().unwrap_or_else(PoisonError::into_inner).malformed.push(mark);
        }
    }

    async fn malformed_message(&self) {
        let mark = format!("garbled{}", self.dice.below(1_000_000));
        self.chronicle.fault(Kind::MalformedMessage, &mark);
        let accounts = self.author.store.accounts();
        let Some(queue) = &accounts[0].queue else { return };
        if queue.send(&format!("{{\"table\":\"{mark}\"")).await.is_ok() {
            self.told.lock().unwrap_or_else(PoisonError::into_inner).malformed.push(mark);
        }
    }
}

fn change(id: &RowId, version: &Version, delete: bool) -> Change {
    let (puts, deletes) = if delete { (vec![], vec![id.row.clone()]) } else { (vec![id.row.clone()], vec![]) };
    let (table, partition) = (id.table.clone(), id.partition.clone());
    Change { table, partition, puts, deletes, version: version.clone(), base: None }
}
