//! What a region that is back had not sent when a forced failover took its role away: found out once, before any of it is
//! brought anywhere, and added to the trail of that failover in every region.
//!
//! What was not sent is in the region's feed, or waits as a hint: nothing acknowledged is anywhere else. Of each row that they
//! name with a version of this region it is asked whether the write took place, and whether any of the others has it or had
//! it when the role was taken, by its row, its tombstone, or its applied log (the rule is [`is_unsent`]). Until that is done, whatever may be late waits:
//! else it would be sent by the time that it is counted. Every daemon of the region counts; the first that is done has the
//! word, and by that word the others begin.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::Roles;
use super::late::{Gate, PATIENCE};
use super::look::{look, look_when};
use super::roles::read_beside;
use super::tombstones::Tombstones;
use crate::feed::{Shard, arrival_of, arrivals, decode_hint, decode_record, record_prefix};
use crate::model::{ClosedList, PartitionKey, Region, Row, RowId, RowKey, SystemTable, Time, Version};
use crate::resolve::{Finding, is_unsent};
use crate::runtime::Runtime;
use crate::stores::{Condition, ErrorKind, Operation, Page, Query, RegionStore, Scope, StoreError};
use crate::telemetry::Event;
use crate::topology::{Assignment, Mark, MoveKind, RolesRow, Unsent};

/// Rows of one look.
const LOOK_ROWS: usize = 200;
/// How much earlier than the oldest unsent change a log is read.
const MARGIN: Duration = Duration::from_secs(10);
/// The wait between two tries, and between two rounds to regions that could not be told.
const AGAIN: Duration = Duration::from_secs(2);
const LATER: Duration = Duration::from_secs(10);
/// How long what may be late waits for the count at most. Then it is brought uncounted.
const GIVE_UP: Duration = Duration::from_secs(60);
/// How long regions that do not answer are asked again before it is counted without them.
const ASK: Duration = Duration::from_secs(20);
/// How long one of them is asked at a time.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// Finds out what had not been sent.
#[derive(Debug)]
pub(super) struct Residual {
    pub local: RegionStore,
    pub others: Vec<RegionStore>,
    pub roles: Arc<Roles>,
    pub gate: Arc<Gate>,
    pub tombstone_scan: u16,
    pub runtime: Runtime,
}

/// The rows of the trails that tell of a failover from this region.
type Losses = BTreeMap<Mark, Loss>;
/// When each version of a row came in somewhere, by its [`arrival_of`].
type Arrived = BTreeMap<(RowId, String), Time>;

/// A failover that took this region's role, as the trails of all regions tell of it.
#[derive(Debug)]
struct Loss {
    moved: Assignment,
    unsent: Option<Unsent>,
    /// It went on uncounted, so that nobody can count it any more.
    unknown: bool,
    /// Where the trail lacks it.
    lacking: BTreeSet<Region>,
}

/// A change that was announced here and has not ended.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Open {
    version: Version,
    delete: bool,
}

/// A row that is named by something open, as it stands here.
struct Seen {
    id: RowId,
    open: Open,
    here: Finding,
    /// When the change came to each of the other regions that has it, or had it.
    came: Vec<Time>,
}

impl Loss {
    fn is_settled(&self) -> bool {
        self.unsent.is_some() || self.unknown
    }
}

impl Seen {
    fn is_unsent(&self, lost: Time) -> bool {
        is_unsent(&self.open.version, self.open.delete, &self.here, &self.came, lost)
    }
}

impl Residual {
    /// Looks whenever the roles change, until it is stopped.
    pub async fn run(self, stop: CancellationToken) {
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = self.follow() => {}
        }
    }

    /// For who counts nothing: lets what may be late go on where a daemon has counted.
    pub async fn open_where_counted(&self) -> Result<(), StoreError> {
        let mark = self.roles.present().mark.clone();
        if !self.gate.is_open(&mark) && self.losses().await?.0.values().all(Loss::is_settled) {
            self.gate.open(&mark);
        }
        Ok(())
    }

    async fn follow(&self) {
        self.roles.until_confirmed().await;
        loop {
            let mark = self.roles.present().mark.clone();
            let (began, mut told) = (self.runtime.instant(), false);
            loop {
                let done = match self.round(&mark, began.elapsed() > ASK).await {
                    Ok(done) => done,
                    Err(error) => {
                        debug!(%error, "what this region had not sent could not be found out yet");
                        false
                    }
                };
                if !done && !told && began.elapsed() > GIVE_UP && !self.gate.is_open(&mark) {
                    told = true;
                    warn!(event = Event::UnsentUnknown.as_str(), region = %self.local.region(),
                        "what this region had not sent could not be counted in time, and is brought uncounted");
                    self.gate.open(&mark);
                }
                if done {
                    break;
                }
                // What moves a role is not slept through: from then on, others overwrite what had not been sent.
                let wait = if self.gate.is_open(&mark) { LATER } else { AGAIN };
                if timeout(wait, self.roles.until_moved(&mark)).await.is_ok() {
                    break;
                }
            }
            self.roles.until_moved(&mark).await;
        }
    }

    /// Whether nothing is left to do under these roles. Where it is `late`, regions that do not answer are done without.
    async fn round(&self, mark: &Mark, late: bool) -> Result<bool, StoreError> {
        let (mut losses, all_asked) = self.losses().await?;
        let uncounted = losses.values().any(|loss| !loss.is_settled());
        if uncounted && self.gate.is_open(mark) {
            self.settle_unknown(&losses).await?;
        } else if uncounted {
            let (seen, unasked) = self.see().await?;
            if !unasked.is_empty() && !late {
                return Err(StoreError::new(ErrorKind::Unreachable, "regions that may have it do not answer"));
            }
            for (mark, loss) in losses.iter_mut().filter(|(_, loss)| !loss.is_settled()) {
                let lost = loss.moved.at;
                let rows = seen.iter().filter(|seen| seen.is_unsent(lost));
                let rows = rows.map(|Seen { id, open, .. }| (id.clone(), open.version.time())).collect();
                let unsent = Unsent::new(rows, lost, unasked.clone(), self.runtime.now());
                loss.unsent = Some(self.settle(mark, loss, unsent).await?);
            }
        }
        self.gate.open(mark);
        let mut done = all_asked;
        for (mark, loss) in &losses {
            done &= self.tell(mark, loss).await;
        }
        Ok(done)
    }

    /// The forced failovers that took this region's role, by the trails of all that answer; and whether all did.
    async fn losses(&self) -> Result<(Losses, bool), StoreError> {
        let mut trails = vec![(self.local.region(), read_beside(&self.local, RolesRow::TRAIL).await?)];
        let others = self.others.iter().map(|store| timeout(PATIENCE, read_beside(store, RolesRow::TRAIL)));
        let read = futures::future::join_all(others).await;
        for (store, rows) in self.others.iter().zip(read) {
            if let Ok(Ok(rows)) = rows {
                trails.push((store.region(), rows));
            }
        }
        let regions: BTreeSet<Region> = trails.iter().map(|(region, _)| (*region).clone()).collect();
        let mut losses = Losses::new();
        for (region, row) in trails.iter().flat_map(|(region, rows)| rows.iter().map(move |row| (*region, row))) {
            let Ok(RolesRow { assignment: moved, .. }) = RolesRow::decode(&row.body) else { continue };
            if moved.kind != MoveKind::Forced || moved.from.as_ref() != Some(self.local.region()) {
                continue;
            }
            let fresh = || Loss { moved: moved.clone(), unsent: None, unknown: false, lacking: regions.clone() };
            let loss = losses.entry(moved.mark.clone()).or_insert_with(fresh);
            loss.unknown |= Unsent::is_unknown(&row.body);
            if let Some(unsent) = Unsent::decode(&row.body) {
                loss.unsent.get_or_insert(unsent);
                loss.lacking.remove(region);
            }
        }
        Ok((losses, trails.len() == self.others.len() + 1))
    }

    /// Writes it into the own trail, unless another daemon of the region was faster; returns what stands there.
    async fn settle(&self, mark: &Mark, loss: &Loss, unsent: Unsent) -> Result<Unsent, StoreError> {
        let (table, partition) = (SystemTable::Control.name(), PartitionKey::from(RolesRow::PARTITION));
        let home = self.local.home();
        let key = RolesRow::trail_key(mark);
        let mut there = home.get(&table, &partition, &key).await?;
        if there.is_none() {
            // The roles came here without their trail: it is written first, if nobody else has done so by now.
            let row = Operation::Insert(RolesRow::still(loss.moved.clone()).encode_trail());
            match home.write(&table, &row).await {
                Err(error) if error.kind != ErrorKind::AlreadyExists => return Err(error),
                _ => there = home.get(&table, &partition, &key).await?,
            }
        }
        let Some(row) = there else {
            return Err(StoreError::new(ErrorKind::NotFound, "the trail is gone again"));
        };
        if let Some(unsent) = Unsent::decode(&row.body) {
            return Ok(unsent);
        }
        home.write(&table, &Operation::Merge(unsent.encode(mark), Condition::Matches(row.etag))).await?;
        info!(event = Event::UnsentCounted.as_str(), region = %self.local.region(), epoch = mark.epoch, rows = unsent.rows,
            later = unsent.later, "what this region had not sent when it lost its role is counted, and stands in the trail");
        Ok(unsent)
    }

    /// What went on uncounted is never counted: that stands in the own trail, for the next daemon and for who repairs.
    async fn settle_unknown(&self, losses: &Losses) -> Result<(), StoreError> {
        for (mark, loss) in losses.iter().filter(|(_, loss)| !loss.is_settled()) {
            for row in [RolesRow::still(loss.moved.clone()).encode_trail(), Unsent::unknown(mark)] {
                let merge = Operation::InsertOrMerge(row);
                self.local.home().write(&SystemTable::Control.name(), &merge).await?;
            }
        }
        Ok(())
    }

    /// Brings it to the regions whose trail lacks it; says whether all have it.
    async fn tell(&self, mark: &Mark, loss: &Loss) -> bool {
        let Some(unsent) = &loss.unsent else { return true };
        let mut done = true;
        for store in self.others.iter().filter(|store| loss.lacking.contains(store.region())) {
            // Both merged: the trail of that region may lack the failover itself.
            let rows = [RolesRow::still(loss.moved.clone()).encode_trail(), unsent.encode(mark)];
            for row in rows {
                let (table, merge) = (SystemTable::Control.name(), Operation::InsertOrMerge(row));
                done &= matches!(timeout(PATIENCE, store.home().write(&table, &merge)).await, Ok(Ok(_)));
            }
        }
        done
    }

    /// What is open here, as it stands here and elsewhere, and the regions that could not be asked.
    async fn see(&self) -> Result<(Vec<Seen>, Vec<Region>), StoreError> {
        let open: Vec<(RowId, Open)> = self.open().await?.into_iter().collect();
        let Some(oldest) = open.iter().map(|(_, open)| open.version.time()).min() else {
            return Ok(Default::default());
        };
        let (mut asked, mut unasked) = (Vec::new(), Vec::new());
        for store in &self.others {
            match timeout(ANSWER_WITHIN, self.arrived(store, oldest)).await {
                Ok(Ok(arrived)) => asked.push((store, Tombstones::new(store.clone(), self.tombstone_scan), arrived)),
                Ok(Err(_)) | Err(_) => unasked.push(store.region().clone()),
            }
        }
        let here = Tombstones::new(self.local.clone(), self.tombstone_scan);
        let mut seen = Vec::new();
        for chunk in open.chunks(LOOK_ROWS) {
            let ids: Vec<&RowId> = chunk.iter().map(|(id, _)| id).collect();
            let here = look(&self.local, &here, &ids).await?;
            let mut came = vec![Vec::new(); chunk.len()];
            for (store, tombstones, arrived) in &asked {
                let found = look_when(store, tombstones, &ids).await?;
                for ((all, found), (id, open)) in came.iter_mut().zip(found).zip(chunk) {
                    all.extend(came_in(arrived, id, &open.version, &found));
                }
            }
            let all = chunk.iter().cloned().zip(here).zip(came);
            seen.extend(all.map(|(((id, open), here), came)| Seen { id, open, here, came }));
        }
        Ok((seen, unasked))
    }

    /// The highest change of this region of every row that its feed or its backlog names.
    async fn open(&self) -> Result<BTreeMap<RowId, Open>, StoreError> {
        let mut all: BTreeMap<RowId, Open> = BTreeMap::new();
        let mut note = |id: RowId, open: Open| {
            if open.version.is_of(self.local.region()) && all.get(&id).is_none_or(|known| *known < open) {
                all.insert(id, open);
            }
        };
        for account in self.local.accounts() {
            for shard in Shard::all() {
                let query = Query::prefix(shard.partition(), record_prefix());
                for row in rows(account.tables.as_ref(), &SystemTable::Feed, query).await? {
                    let Ok(record) = decode_record(&row) else { continue };
                    for (id, delete) in record.change.rows() {
                        note(id, Open { version: record.change.version.clone(), delete });
                    }
                }
            }
        }
        for row in rows(self.local.home().as_ref(), &SystemTable::Backlog, Query::new(Scope::Table)).await? {
            // A hint does not say what it was that it names: what stands does.
            if let Ok(hint) = decode_hint(&row) {
                note(hint.id, Open { version: hint.version, delete: false });
            }
        }
        Ok(all)
    }

    /// What a region's applied log tells of what came in from here, and when it first did by the clock of that storage.
    async fn arrived(&self, store: &RegionStore, oldest: Time) -> Result<Arrived, StoreError> {
        let from = Some(RowKey::new((oldest - MARGIN).to_string()));
        let partition = PartitionKey::from(self.local.region().as_str());
        let query = Query::new(Scope::Partition { partition, from, through: None });
        let log = rows(store.home().as_ref(), &SystemTable::Applied, query).await?;
        let mut arrived = Arrived::new();
        for row in &log {
            for arrival in arrivals(&row.body) {
                arrived.entry(arrival).and_modify(|first| *first = row.timestamp.min(*first)).or_insert(row.timestamp);
            }
        }
        Ok(arrived)
    }
}

/// When a change came to a region, if it did: by its applied log, or by what stands where the log does not tell of it. Of what
/// was taken over it is told only after it was written, and what was told may have been collected.
fn came_in(
    arrived: &Arrived,
    id: &RowId,
    version: &Version,
    (finding, stored): &(Finding, Option<Time>),
) -> Option<Time> {
    let told = arrived.get(&(id.clone(), arrival_of(version))).copied();
    told.or_else(|| stored.filter(|_| finding.version() == Some(version)))
}

/// All rows of a query; a table that is not there holds none.
async fn rows(
    tables: &dyn crate::stores::Tables,
    table: &SystemTable,
    mut query: Query,
) -> Result<Vec<Row>, StoreError> {
    let mut rows = Vec::new();
    loop {
        let page = match tables.query(&table.name(), &query).await {
            Err(error) if error.kind == ErrorKind::NoTable => Page::default(),
            page => page?,
        };
        rows.extend(page.rows);
        query.continuation = page.continuation;
        if query.continuation.is_none() {
            return Ok(rows);
        }
    }
}
