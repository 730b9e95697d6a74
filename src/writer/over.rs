//! Bringing a row over: from the account where the routes had it to the one where they have it now.
//!
//! Both accounts are of one region, so this is no delivery: nobody is told, nothing is lifted, and the higher version is right
//! wherever it was written. What has to be kept is what R4 and R5 keep between regions: every write depends on an ETag or on absence,
//! none goes out long after its look, and a row that came in below a newer tombstone is taken out again. So any number of
//! programs may bring the same row at the same time, and each may die in the middle: who comes next finds what is left to do.
//!
//! A row that stands below a tombstone of its own account (its delete was refused, or is yet to come) comes over with it, as it is.

use std::time::Duration;

use tokio::time::Instant;

use super::announced::{Announced, Wanted};
use super::relay::relay;
use crate::feed::{Shard, decode_tombstone, encode_tombstone, tombstone_key};
use crate::model::{Change, Etag, Region, Row, RowBody, RowId, SystemTable, TableName, Time, Tombstone, Version};
use crate::planted::{Bug, planted};
use crate::stores::{Condition, ErrorKind, Mirrors, Operation, Passage, Remedy, StoreError, Tables};

/// How often a row that others keep writing is tried.
const ATTEMPTS: usize = 8;

/// What became of a row that was to be brought over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Over {
    /// There is nothing where it was.
    Nothing,
    /// Where it is now had all of it, or newer.
    Had,
    /// It was written where it is now.
    Brought,
}

impl Over {
    fn and(self, other: Self) -> Self {
        if self == Self::Brought { self } else { other }
    }
}

/// What an account has of a row.
struct Stand {
    row: Option<Row>,
    tomb: Option<Tomb>,
}

pub(super) struct Tomb {
    /// `None` where it cannot be read: any may replace it.
    pub version: Option<Version>,
    etag: Etag,
    /// When it was raised, by the clock of its account.
    pub raised: Time,
}

impl Stand {
    /// Whether the row came there after its tombstone.
    fn is_put_over(&self) -> bool {
        self.row.as_ref().zip(self.tomb.as_ref()).is_some_and(|(row, tomb)| row.timestamp > tomb.raised)
    }

    /// Whether the row stands below a tombstone that was raised over it.
    fn is_below(&self, region: &Region) -> bool {
        self.row
            .as_ref()
            .zip(self.tomb.as_ref())
            .is_some_and(|(row, tomb)| is_below(row, region, self.deleted(), tomb.raised))
    }

    fn deleted(&self) -> Option<&Version> {
        self.tomb.as_ref().and_then(|tomb| tomb.version.as_ref())
    }
}

/// Whether a row stands below a tombstone that was raised over it: its delete was refused, or is yet to come.
pub(crate) fn is_below(row: &Row, region: &Region, deleted: Option<&Version>, raised: Time) -> bool {
    row.timestamp <= raised && deleted.is_some_and(|deleted| row.version(region) < *deleted)
}

impl Passage {
    /// Has where a row is hold all that is newer where it was: the row, and its tombstone.
    ///
    /// # Errors
    /// Whatever a store answers; [`ErrorKind::Precondition`] where others go on writing it.
    pub async fn bring(&self, id: &RowId) -> Result<Over, StoreError> {
        for _ in 0..ATTEMPTS {
            let began = Instant::now();
            let was = stand(self.from.as_ref(), id).await?;
            if was.row.is_none() && was.deleted().is_none() {
                return Ok(Over::Nothing);
            }
            match self.bring_stand(id, &was, began).await {
                Err(error) if error.remedy() == Remedy::StartOver => {}
                done => return done,
            }
        }
        Err(StoreError::new(ErrorKind::Precondition, format!("{id} is written over and over while it is brought over")))
    }

    /// As [`bring`](Self::bring); and what stays behind where it was is deleted there, once its place has it.
    ///
    /// # Errors
    /// As [`bring`](Self::bring).
    pub async fn carry(&self, id: &RowId) -> Result<Over, StoreError> {
        let over = self.bring(id).await?;
        let began = Instant::now();
        let was = stand(self.from.as_ref(), id).await?;
        let Some(behind) = &was.row else { return Ok(over) };
        let is = stand(self.to.as_ref(), id).await?;
        let there = is.row.as_ref().map(|row| row.version(self.to.region()));
        if there.as_ref().max(is.deleted()).is_none_or(|there| *there < behind.version(self.from.region())) {
            return Ok(over);
        }
        // Its delete was refused, or is yet to come. Left alone, the tombstone would be taken for a delete that was carried out.
        if let Some(tomb) = was.tomb.as_ref().filter(|_| was.is_below(self.from.region())) {
            if is.deleted() < tomb.version.as_ref() || self.may_be_under_way(tomb) {
                return Ok(over);
            }
            check((began, self.fresh))?;
            match remove_tombstone(self.from.as_ref(), id, tomb.etag.clone()).await {
                Err(error) if error.remedy() == Remedy::StartOver => return Ok(over),
                removed => removed?,
            }
        }
        check((began, self.fresh))?;
        match remove(self.from.as_ref(), id, behind.etag.clone()).await {
            // Written there once more: whoever did so has announced it there.
            Err(error) if error.remedy() == Remedy::StartOver => Ok(over),
            removed => removed.map(|()| over),
        }
    }

    /// Whether whoever raised this tombstone may yet delete the row: that takes half a settle window, and its request may be late by as much;
    /// another half lies between them and us.
    fn may_be_under_way(&self, tomb: &Tomb) -> bool {
        self.from.clock().at(Instant::now()).is_none_or(|now| now < tomb.raised + self.fresh * 3)
    }

    async fn bring_stand(&self, id: &RowId, was: &Stand, began: Instant) -> Result<Over, StoreError> {
        let is = stand(self.to.as_ref(), id).await?;
        // In the order in which they came there, which tells a put over a tombstone from a delete that is not through.
        let mut over = match was.is_put_over() {
            true => self.bring_tombstone(id, was, &is, began).await?,
            false => Over::Had,
        };
        if let Some(row) = &was.row {
            let version = row.version(self.from.region());
            let (etag, written) = self.put(id, &row.body.stamped(&version), &version, (was, &is), began).await?;
            if written {
                over = Over::Brought;
            }
            if let Some(etag) = etag {
                self.look_back(id, was, (&version, etag)).await?;
            }
        }
        if !was.is_put_over() {
            over = over.and(self.bring_tombstone(id, was, &is, began).await?);
        }
        Ok(over)
    }

    async fn bring_tombstone(&self, id: &RowId, was: &Stand, is: &Stand, began: Instant) -> Result<Over, StoreError> {
        let (mut over, Some(deleted)) = (Over::Had, was.deleted()) else { return Ok(Over::Had) };
        if is.deleted().is_none_or(|there| there < deleted) {
            self.raise(id, deleted, is.tomb.as_ref(), began).await?;
            over = Over::Brought;
        }
        if was.row.is_none() {
            let removed = match &self.mirrors {
                Some(mirrors) => self.remove_copy(id, (mirrors, deleted), began).await?,
                None => self.remove_older(id, deleted, began).await?,
            };
            over = if removed { Over::Brought } else { over };
        }
        Ok(over)
    }

    /// Writes the row where what stands there is older; with the ETag of this very version there, if it stands there then, and whether it
    /// was written.
    async fn put(
        &self,
        id: &RowId,
        body: &RowBody,
        version: &Version,
        (was, is): (&Stand, &Stand),
        began: Instant,
    ) -> Result<(Option<Etag>, bool), StoreError> {
        // One that was put over this very tombstone was so by the store of its region.
        let overruled = was.is_put_over() && is.deleted() <= was.deleted();
        let operation = match &is.row {
            None if is.deleted().is_some_and(|deleted| deleted >= version) && !overruled => {
                if let Some(mirrors) = self.mirrors.as_ref().filter(|_| is.deleted() > was.deleted()) {
                    self.is_announced(&Wanted { id, version: is.deleted(), delete: true }, mirrors).await?;
                }
                return Ok((None, false));
            }
            None => Operation::Insert(body.clone()),
            Some(_) if planted(Bug::MovedBlindly) => Operation::InsertOrReplace(body.clone()),
            Some(there) => {
                let replace = || Operation::Replace(body.clone(), Condition::Matches(there.etag.clone()));
                match there.version(self.to.region()).cmp(version) {
                    std::cmp::Ordering::Less => replace(),
                    std::cmp::Ordering::Equal => return Ok((Some(there.etag.clone()), false)),
                    // A copy of what was overwritten since, by a clock that is behind: the region's store decides. What a writer has put there
                    // by other routes is announced there, until it was brought to where it belongs.
                    std::cmp::Ordering::Greater => match &self.mirrors {
                        Some(mirrors) if self.is_copy(id, there, mirrors).await? => replace(),
                        _ => return Ok((None, false)),
                    },
                }
            }
        };
        Ok((self.write(&id.table, &operation, began).await?, true))
    }

    /// Whether what was read of a row where it is to be can but be a copy of what was where it is written. Asked after that was read:
    /// routes that are in force by then had nobody write it there.
    async fn is_copy(&self, id: &RowId, there: &Row, mirrors: &Mirrors) -> Result<bool, StoreError> {
        if self.is_announced(&Wanted { id, version: there.body.version(), delete: false }, mirrors).await? {
            return Ok(false);
        }
        self.are_in_force(mirrors).await.map(|()| true)
    }

    async fn are_in_force(&self, mirrors: &Mirrors) -> Result<(), StoreError> {
        if planted(Bug::CopiedByOldRoutes) || mirrors.are_in_force().await? {
            return Ok(());
        }
        Err(StoreError::new(ErrorKind::Precondition, "the routes have changed meanwhile"))
    }

    /// Whether this is announced where the row is to be. What is from the future, and was put or deleted there, must not come into force
    /// with the routes: it would win over whatever is written where the row is now. A tombstone does so whether it is announced or not.
    async fn is_announced(&self, wanted: &Wanted<'_>, mirrors: &Mirrors) -> Result<bool, StoreError> {
        let announced = wanted.announced(self.to.as_ref(), &mirrors.region).await?;
        let counts = wanted.delete || announced != Announced::Nowhere;
        if let Some(version) = wanted.version.filter(|_| counts) {
            // What is in the feed may not have been looked at, and a clock that is a little ahead is not to stop anybody.
            let allowed = if announced == Announced::InQuarantine { Duration::ZERO } else { self.fresh };
            let now = self.to.clock().at(Instant::now());
            if now.is_none_or(|now| version.time() > now + allowed) {
                return Err(StoreError::ahead(self.to.account(), version));
            }
        }
        Ok(announced != Announced::Nowhere)
    }

    /// A tombstone that where it was knows nothing of, and that is newer: the row goes again if it came in below it. One that stood there when
    /// the tombstone was raised is a matter of whoever deletes: where the delete is refused, it stays.
    async fn look_back(&self, id: &RowId, was: &Stand, (version, etag): (&Version, Etag)) -> Result<(), StoreError> {
        let tomb = tombstone(self.to.as_ref(), id).await?;
        let known = was.deleted().map_or(version, |deleted| deleted.max(version));
        let Some(tomb) = tomb.filter(|tomb| tomb.version.as_ref().is_some_and(|version| version > known)) else {
            return Ok(());
        };
        let row = row(self.to.as_ref(), id).await?;
        if row.is_none_or(|row| row.etag != etag || row.timestamp <= tomb.raised) {
            return Ok(());
        }
        remove(self.to.as_ref(), id, etag).await?;
        Err(StoreError::new(ErrorKind::Precondition, "it was deleted meanwhile"))
    }

    async fn raise(&self, id: &RowId, to: &Version, there: Option<&Tomb>, began: Instant) -> Result<(), StoreError> {
        let body = encode_tombstone(&Tombstone { id: id.clone(), version: to.clone() });
        let operation = match there {
            None => Operation::Insert(body),
            Some(tomb) => Operation::Replace(body, Condition::Matches(tomb.etag.clone())),
        };
        self.write(&SystemTable::Feed.name(), &operation, began).await.map(drop)
    }

    /// R5, once the tombstone stands: announced here, since no record of it may be open. Says whether there was such a row. What was put
    /// over the tombstone stays, as R10 has it: the region's store has decided so, and whoever follows that put lifts it.
    async fn remove_older(&self, id: &RowId, deleted: &Version, began: Instant) -> Result<bool, StoreError> {
        let Stand { row, tomb } = stand(self.to.as_ref(), id).await?;
        let Some(row) = row.filter(|row| row.version(self.to.region()) < *deleted) else { return Ok(false) };
        if tomb.is_some_and(|tomb| row.timestamp > tomb.raised) {
            return Ok(false);
        }
        // Where it was, the row may have been missing when a conditional delete of it was refused, whose announcement has gone.
        if !planted(Bug::BroughtDeleteUnannounced) {
            relay(self.to.as_ref(), &Change::of_row(id, deleted, true), self.to.clock().at(began)).await?;
        }
        check((began, self.fresh))?;
        remove(self.to.as_ref(), id, row.etag).await?;
        Ok(true)
    }

    /// A copy of what was deleted since, maybe by a clock that is behind; says whether there was one. What is older than its tombstone
    /// goes whatever it is.
    async fn remove_copy(
        &self,
        id: &RowId,
        (mirrors, deleted): (&Mirrors, &Version),
        began: Instant,
    ) -> Result<bool, StoreError> {
        let Some(row) = row(self.to.as_ref(), id).await? else { return Ok(false) };
        match row.version(self.to.region()) < *deleted {
            true => self.are_in_force(mirrors).await?,
            false if self.is_copy(id, &row, mirrors).await? => {}
            false => return Ok(false),
        }
        check((began, self.fresh))?;
        remove(self.to.as_ref(), id, row.etag).await?;
        Ok(true)
    }

    async fn write(
        &self,
        table: &TableName,
        operation: &Operation,
        began: Instant,
    ) -> Result<Option<Etag>, StoreError> {
        write(self.to.as_ref(), (table, operation), (began, self.fresh)).await
    }
}

async fn remove(tables: &dyn Tables, id: &RowId, etag: Etag) -> Result<(), StoreError> {
    let (partition, row) = (id.partition.clone(), id.row.clone());
    let operation = Operation::Delete { partition, row, condition: Condition::Matches(etag) };
    match tables.write(&id.table, &operation).await {
        Err(error) if error.kind == ErrorKind::NotFound => Ok(()),
        done => done.map(drop),
    }
}

async fn remove_tombstone(tables: &dyn Tables, id: &RowId, etag: Etag) -> Result<(), StoreError> {
    let partition = Shard::of(&id.table, &id.partition).partition();
    let operation = Operation::Delete { partition, row: tombstone_key(id), condition: Condition::Matches(etag) };
    tables.write(&SystemTable::Feed.name(), &operation).await.map(drop)
}

/// Writes on a look that is fresh, and makes the table where it is missing.
pub(super) async fn write(
    tables: &dyn Tables,
    (table, operation): (&TableName, &Operation),
    look: (Instant, Duration),
) -> Result<Option<Etag>, StoreError> {
    check(look)?;
    match tables.write(table, operation).await {
        Err(error) if error.kind == ErrorKind::NoTable => {
            tables.create_table(table).await?;
            tables.write(table, operation).await
        }
        done => done,
    }
}

/// R9, within a region: nothing is written so long after its look began.
pub(super) fn check((began, fresh): (Instant, Duration)) -> Result<(), StoreError> {
    if began.elapsed() < fresh {
        return Ok(());
    }
    Err(StoreError::stale_look())
}

/// The row first, then its tombstone, as by every look.
async fn stand(tables: &dyn Tables, id: &RowId) -> Result<Stand, StoreError> {
    Ok(Stand { row: row(tables, id).await?, tomb: tombstone(tables, id).await? })
}

pub(super) async fn row(tables: &dyn Tables, id: &RowId) -> Result<Option<Row>, StoreError> {
    none_where_no_table(tables.get(&id.table, &id.partition, &id.row).await)
}

pub(super) async fn tombstone(tables: &dyn Tables, id: &RowId) -> Result<Option<Tomb>, StoreError> {
    let shard = Shard::of(&id.table, &id.partition).partition();
    let row = none_where_no_table(tables.get(&SystemTable::Feed.name(), &shard, &tombstone_key(id)).await)?;
    let tomb = |row: Row| Tomb {
        version: decode_tombstone(&row).ok().map(|tomb| tomb.version),
        etag: row.etag,
        raised: row.timestamp,
    };
    Ok(row.map(tomb))
}

/// The version of a row's tombstone.
pub(super) async fn deleted(tables: &dyn Tables, id: &RowId) -> Result<Option<Version>, StoreError> {
    Ok(tombstone(tables, id).await?.and_then(|tomb| tomb.version))
}

/// A table that is missing holds no rows.
pub(super) fn none_where_no_table<T: Default>(read: Result<T, StoreError>) -> Result<T, StoreError> {
    match read {
        Err(error) if error.kind == ErrorKind::NoTable => Ok(T::default()),
        read => read,
    }
}
