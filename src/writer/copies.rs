//! Whether other regions have a write already: for synchronous tables, and for whoever waits for a write of their own.
//!
//! The rows themselves are read where they are wanted, since nothing else says sooner what a region has: link state is
//! published every few seconds, and the record in the own feed tells of all destinations at once or of none. It costs a read for
//! each row that is not there yet, a second one where the row is absent, since then its tombstone may be what is waited for.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures::future::join_all;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::over::none_where_no_table;
use super::patience::no_reply;
use super::tombstones::{LookError, look_at_tombstones};
use super::{Writer, Written};
use crate::model::{Consistency, PartitionKey, Region, Row, RowKey, TableConsistency, TableName, Version};
use crate::stores::{Query, RegionStore, StoreError, Tables};

/// The pause before the first look at a destination, which doubles, and the longest one.
const FIRST_PAUSE: Duration = Duration::from_millis(40);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// After so many looks at as many destinations as are wanted, the others are asked too.
const WIDEN_AFTER: u32 = 3;
/// How long routes may be gone by where none say so.
const HOLD: Duration = Duration::from_secs(60);
/// Up to so many rows are read one by one; more by one bounded range of their partition.
const POINT_READS: usize = 3;
/// The property that a look reads, beside the keys.
const VERSION: &str = "RelayVersion";

/// What stands in a region of a row that is waited for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stands {
    /// The row, with this version.
    Row(Version),
    /// It is absent, with a tombstone of this version.
    Deleted(Version),
}

/// Those of some rows of one partition that a region has at `version` or above: present with such a version, or absent with such a
/// tombstone. A row that is still there below its tombstone is about to go, and is not counted yet. What its home does not have is looked
/// for in the other places where a row may be, as by [`read_routed`](super::read_routed).
///
/// # Errors
/// [`LookError`]; a table that is missing holds no rows, and is no failure.
pub async fn reached(
    store: &RegionStore,
    table: &TableName,
    partition: &PartitionKey,
    rows: &BTreeSet<RowKey>,
    version: &Version,
) -> Result<Vec<(RowKey, Stands)>, LookError> {
    let tables = store.holding(table, partition);
    let found = none_where_no_table(read(tables.as_ref(), table, partition, rows).await)?;
    let (mut there, mut absent) = (Vec::new(), rows.clone());
    let high_enough = |row: &Row| Some(row.version(store.region())).filter(|stands| stands >= version);
    for row in found {
        absent.remove(row.body.row());
        there.extend(high_enough(&row).map(|stands| (row.body.row().clone(), Stands::Row(stands))));
    }
    for other in store.other_places(table, partition) {
        if absent.is_empty() {
            break;
        }
        // One that is older there may have been deleted at home.
        for row in none_where_no_table(read(other.as_ref(), table, partition, &absent).await)? {
            if let Some(stands) = high_enough(&row) {
                absent.remove(row.body.row());
                there.push((row.body.row().clone(), Stands::Row(stands)));
            }
        }
    }
    if !absent.is_empty() {
        let absent: Vec<RowKey> = absent.into_iter().collect();
        let standing = look_at_tombstones(tables.as_ref(), table, partition, &absent).await?;
        let high = standing.into_iter().filter(|(_, standing)| standing.tombstone.version >= *version);
        there.extend(high.map(|(row, standing)| (row, Stands::Deleted(standing.tombstone.version))));
    }
    Ok(there)
}

async fn read(
    tables: &dyn Tables,
    table: &TableName,
    partition: &PartitionKey,
    rows: &BTreeSet<RowKey>,
) -> Result<Vec<Row>, StoreError> {
    let mut found = Vec::new();
    if rows.len() <= POINT_READS {
        for row in rows {
            found.extend(tables.get(table, partition, row).await?);
        }
        return Ok(found);
    }
    let (Some(from), Some(through)) = (rows.first(), rows.last()) else { return Ok(found) };
    let mut query = Query::rows(partition.clone(), from.clone(), through.clone());
    query.select = Some(vec![VERSION.to_owned()]);
    loop {
        let page = tables.query(table, &query).await?;
        found.extend(page.rows.into_iter().filter(|row| rows.contains(row.body.row())));
        query.continuation = page.continuation;
        if query.continuation.is_none() {
            return Ok(found);
        }
    }
}

/// How far a write had come beyond its own region when the call returned. That is no error: the write stands where it was
/// written, and reaches every region whatever this says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Copies {
    /// How many destinations were to have it: none where the table is not synchronous.
    pub wanted: u32,
    /// Those that were seen to have it, or something newer, in the order in which that was seen.
    pub confirmed: Vec<Region>,
    /// Those that were asked and were not seen to have it in time.
    pub unconfirmed: Vec<Unconfirmed>,
}

/// A destination that was not seen to have a write in time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unconfirmed {
    /// Which one.
    pub region: Region,
    /// What the last look at it failed with; `None` where it answered, and had not got the write.
    pub error: Option<LookError>,
}

impl Copies {
    /// Whether as many destinations have it as were wanted.
    pub fn is_met(&self) -> bool {
        self.confirmed.len() >= usize::try_from(self.wanted).unwrap_or(usize::MAX)
    }
}

impl std::fmt::Display for Copies {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "written, confirmed by {} of {} destinations", self.confirmed.len(), self.wanted)
    }
}

/// Where copies of a write are looked for.
#[derive(Debug)]
pub(super) struct Destinations {
    consistency: TableConsistency,
    stores: Vec<RegionStore>,
    /// Their numbers, the one first that was first to have a write lately.
    order: Mutex<Vec<usize>>,
}

/// A destination while it is asked.
struct Asked<'a> {
    number: usize,
    store: &'a RegionStore,
    /// The rows that it has not been seen to have.
    lacking: BTreeSet<RowKey>,
    asked: bool,
    error: Option<LookError>,
}

impl Destinations {
    pub fn new(consistency: TableConsistency, stores: Vec<RegionStore>) -> Self {
        let order = Mutex::new((0..stores.len()).collect());
        Self { consistency, stores, order }
    }

    fn in_order(&self) -> Vec<usize> {
        self.order.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// This one had a write before others: it is asked first next time.
    fn prefer(&self, number: usize) {
        let mut order = self.order.lock().unwrap_or_else(PoisonError::into_inner);
        order.retain(|each| *each != number);
        order.insert(0, number);
    }
}

impl Writer {
    /// The same writer, which after a write to a synchronous table waits until as many of these regions have it as the table
    /// wants, or says that they have not ([`Written::copies`]).
    #[must_use]
    pub fn with_destinations(mut self, consistency: TableConsistency, destinations: Vec<RegionStore>) -> Self {
        self.destinations = Some(Destinations::new(consistency, destinations));
        self
    }

    /// Waits for the copies that a table wants. Whatever comes of it, the write took place.
    pub(super) async fn confirm(
        &self,
        table: &TableName,
        partition: &PartitionKey,
        rows: impl IntoIterator<Item = RowKey>,
        written: Written,
    ) -> Written {
        let Some(destinations) = &self.destinations else { return written };
        let Consistency::Synchronous { copies: wanted, within } = destinations.consistency.of(table) else {
            return written;
        };
        let rows: BTreeSet<RowKey> = rows.into_iter().collect();
        let deadline = self.runtime.instant() + within;
        let mut copies = Copies { wanted, ..Copies::default() };
        let mut left: Vec<Asked<'_>> = destinations
            .in_order()
            .into_iter()
            .map(|number| (number, &destinations.stores[number]))
            .map(|(number, store)| Asked { number, store, lacking: rows.clone(), asked: false, error: None })
            .collect();
        for look in 0.. {
            if copies.is_met() || left.is_empty() || !self.pause(look, deadline).await {
                break;
            }
            let missing = usize::try_from(wanted).unwrap_or(usize::MAX) - copies.confirmed.len();
            let most = if look < WIDEN_AFTER { missing } else { left.len() };
            let asked =
                left.iter_mut().take(most).map(|asked| asked.look(table, partition, &written.version, deadline));
            join_all(asked).await;
            for done in left.extract_if(.., |asked| asked.lacking.is_empty()) {
                if copies.confirmed.is_empty() {
                    destinations.prefer(done.number);
                }
                copies.confirmed.push(done.store.region().clone());
            }
        }
        let unconfirmed = left.into_iter().filter(|asked| asked.asked);
        copies.unconfirmed =
            unconfirmed.map(|asked| Unconfirmed { region: asked.store.region().clone(), error: asked.error }).collect();
        Written { copies, ..written }
    }

    /// Waits before a look; `false` where the deadline comes first.
    async fn pause(&self, look: u32, deadline: Instant) -> bool {
        let pause = FIRST_PAUSE.saturating_mul(1 << look.min(8)).min(LONGEST_PAUSE);
        let until = self.runtime.instant() + pause / 2 + self.runtime.jitter(pause / 2);
        if until >= deadline {
            return false;
        }
        sleep_until(until).await;
        true
    }
}

impl Asked<'_> {
    async fn look(&mut self, table: &TableName, partition: &PartitionKey, version: &Version, deadline: Instant) {
        self.asked = true;
        let look = async {
            self.store.keep_up(HOLD).await?;
            reached(self.store, table, partition, &self.lacking, version).await
        };
        let looked = timeout_at(deadline, look).await;
        match looked.unwrap_or_else(|_| Err(no_reply().into())) {
            Ok(there) => {
                self.lacking.retain(|row| there.iter().all(|(has, _)| has != row));
                self.error = None;
            }
            Err(error) => self.error = Some(error),
        }
    }
}
