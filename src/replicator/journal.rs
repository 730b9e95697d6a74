//! The conflict journal: what was lost to whom, written down before it is overwritten.
//!
//! Which overwritten change is a conflict is a rule ([`resolve`](crate::resolve)); here it is given its evidence. That
//! costs requests, but only where a version of one region is brought over one that the destination itself issued: one or two
//! reads there, and where the loser still waits for the winner's region, a range of that region's applied log.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::join_all;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use super::board::StatusBoard;
use super::conflict::{Conflict, Side};
use super::links::last_syncs;
use super::removal::{removal, remove};
use super::rows::read_row;
use super::single::Stand;
use super::tombstones::{Tomb, Tombstones};
use crate::feed::{Shard, decode_hint, decode_record, encode_arrivals, hint_keys, record_prefix, tells_of};
use crate::model::{ClosedList, PartitionKey, Region, Row, RowId, RowKey, SystemTable, Time, Version};
use crate::planted::{Bug, planted};
use crate::resolve::{Decision, Evidence, Finding, decision, is_conflict, may_conflict};
use crate::runtime::Runtime;
use crate::stores::{ErrorKind, Operation, Page, Query, RegionStore, Scope, StoreError};
use crate::telemetry::{Event, metrics};
use crate::topology::LateWrites;

/// How much earlier than the loser was stored a log is read, and how much later its hint may have been announced: storage clocks
/// are kept well, and estimated to a second.
const MARGIN: Duration = Duration::from_secs(10);
/// How long a third region is asked at most; what it does not answer by then is not known.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long one that did not answer is not asked again.
const SILENT: Duration = Duration::from_secs(10);
/// Most pages of one partition of a log. Beyond them nothing is known.
const PAGES: usize = 20;
/// Entries that one transaction takes out.
const TOGETHER: usize = 100;

/// Writes `RelayConflicts` of the region whose daemon finds the conflict.
#[derive(Debug)]
pub(super) struct Journal {
    pub store: RegionStore,
    /// The other regions.
    pub others: Vec<RegionStore>,
    pub board: Arc<StatusBoard>,
    /// How late a write may be that was announced.
    pub window: Duration,
    /// How long a row of an applied log outlives the Last Sync Time of its link.
    pub log_outlives: Duration,
    pub late_writes: LateWrites,
    /// When regions did not say how far their links are.
    pub silent: Mutex<BTreeMap<Region, Instant>>,
    pub runtime: Runtime,
}

/// What is about to be overwritten.
#[derive(Debug, Clone)]
pub(super) struct Lost {
    pub version: Version,
    /// The row as it was read; `None` where it is a delete, or was not read.
    pub row: Option<Row>,
    /// When a delete was stored.
    pub deleted: Option<Time>,
}

impl Lost {
    /// What stands in a region and gives way to `winner`.
    pub fn of(stand: &Stand, region: &Region, winner: &Finding) -> Option<Self> {
        match (&stand.row, &stand.tomb, winner) {
            (Some(row), _, _) => Some(Self { version: row.version(region), row: Some(row.clone()), deleted: None }),
            (None, Some(tomb), Finding::Row { .. }) => Self::delete(tomb),
            _ => None,
        }
    }
}

impl Lost {
    /// The delete that a tombstone tells of.
    pub fn delete(tomb: &Tomb) -> Option<Self> {
        Some(Self { version: tomb.version.clone()?, row: None, deleted: Some(tomb.raised) })
    }
}

/// A change that is about to be brought over another one.
#[derive(Debug)]
pub(super) struct Case<'a> {
    pub id: &'a RowId,
    pub winner: &'a Finding,
    /// What the winner overwrote where it was written, as far as that is known.
    pub base: Option<&'a Version>,
    pub lost: Lost,
    /// The region that the winner is brought from.
    pub source: &'a Region,
    /// The region where the loser stands.
    pub home: &'a Region,
}

impl Journal {
    /// Names the loser in the journal if this is a conflict. The same conflict met again is the same entry.
    pub async fn weigh(&self, mut case: Case<'_>) -> Result<(), StoreError> {
        let Some(winner) = case.winner.version().cloned() else { return Ok(()) };
        let loser = case.lost.version.clone();
        if !may_conflict(&winner, &loser, case.home, case.base) || self.overrules(&winner, &loser, case.home) {
            return Ok(());
        }
        let Some(home) = self.region(case.home) else { return Ok(()) };
        if case.lost.row.is_none() && case.lost.deleted.is_none() {
            case.lost.row = read_row(home, case.id).await?.filter(|row| row.version(case.home) == loser);
            // Gone meanwhile: the write will be refused, and what stands then is weighed anew.
            if case.lost.row.is_none() {
                return Ok(());
            }
        }
        let by = winner.issued_in();
        let stored = case.lost.row.as_ref().map(|row| row.timestamp).or(case.lost.deleted);
        if !self.waits(home, case.id, (&case.lost, stored), &by).await? {
            return Ok(());
        }
        let told =
            self.told(case.id, &winner, (&loser, case.lost.deleted.is_some()), stored.unwrap_or(loser.time())).await?;
        let ignored = planted(Bug::TwoWaysIgnored);
        if !is_conflict(Evidence { waits: true, told: told.unwrap_or(false) && !ignored }) {
            return Ok(());
        }
        let forgotten = planted(Bug::LoserForgotten) && case.source == self.store.region();
        if forgotten { Ok(()) } else { self.note(case, &winner, stored, told.is_some()).await }
    }

    async fn note(
        &self,
        case: Case<'_>,
        winner: &Version,
        stored: Option<Time>,
        asked: bool,
    ) -> Result<(), StoreError> {
        let loser = &case.lost;
        let lost = loser.row.as_ref().map(|row| row.body.stamped(&loser.version).json().to_string());
        let taken_in = self.stored_at(case.source, case.id, winner).await;
        let conflict = Conflict {
            row: case.id.clone(),
            decision: decision(winner, &loser.version),
            winner: Side { version: winner.clone(), row: json_of(case.winner), cut: 0, stored: taken_in },
            loser: Side { version: loser.version.clone(), row: lost, cut: 0, stored },
            source: case.source.clone(),
            destination: case.home.clone(),
            asked,
            at: self.runtime.now(),
        };
        if !self.enter(&conflict).await? {
            return Ok(());
        }
        metrics::conflict(case.home, &winner.issued_in());
        let other = if case.home == self.store.region() { case.source } else { case.home };
        self.board.conflict(other);
        info!(event = Event::Conflict.as_str(), id = conflict.id(), destination = %case.home, table = %case.id.table,
            %winner, loser = %loser.version, "two regions changed a row at the same time; the higher version stands");
        Ok(())
    }

    /// Writes an entry down; says whether it is new.
    async fn enter(&self, conflict: &Conflict) -> Result<bool, StoreError> {
        let entry = Operation::Insert(conflict.encode());
        match self.store.home().write(&SystemTable::Conflicts.name(), &entry).await {
            Ok(_) => Ok(true),
            Err(error) if error.kind == ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Names a late write of `home`, and what stands in its place in the region of the writer; says whether that is new.
    pub async fn note_late(
        &self,
        id: &RowId,
        (late, home): (&Finding, &Region),
        (stand, writer): (&Stand, &Region),
    ) -> Result<bool, StoreError> {
        let Some(version) = late.version() else { return Ok(false) };
        let stands = stand.newest(writer);
        // Where the writer has nothing of the row, a delete above the late write is what will stand.
        let above = || version.above(writer, self.runtime.writer_id());
        let winner = Side {
            version: stands.version().cloned().unwrap_or_else(above),
            row: json_of(&stands),
            cut: 0,
            stored: stand.row.as_ref().map(|row| row.timestamp),
        };
        let conflict = Conflict {
            row: id.clone(),
            decision: Decision::LateWrite,
            winner,
            loser: Side { version: version.clone(), row: json_of(late), cut: 0, stored: None },
            source: writer.clone(),
            destination: home.clone(),
            asked: true,
            at: self.runtime.now(),
        };
        self.enter(&conflict).await
    }

    /// Whether `winner` is what was lifted above a late write (see [`LateDesk`](super::late::LateDesk)), which is named by then.
    fn overrules(&self, winner: &Version, loser: &Version, home: &Region) -> bool {
        let over = self.board.roles().writer_over(home);
        self.late_writes == LateWrites::Journal
            && over.is_some_and(|writer| winner.is_of(&writer))
            && winner.time() == loser.time().next()
    }

    /// When the winner was stored, where it still stands in the region that it is brought from.
    async fn stored_at(&self, source: &Region, id: &RowId, version: &Version) -> Option<Time> {
        let read = timeout(self.patience(), read_row(self.region(source)?, id)).await.ok()?;
        read.ok().flatten().filter(|row| row.version(source) == *version).map(|row| row.timestamp)
    }

    /// What is about to be written may be sent for half a settle window after it was looked at (R9). Were that spent on asking, it
    /// would be looked at again and asked about again, without end.
    fn patience(&self) -> Duration {
        PATIENCE.min(self.window / 8)
    }

    fn region(&self, region: &Region) -> Option<&RegionStore> {
        self.others.iter().chain([&self.store]).find(|store| store.region() == region)
    }

    /// Whether the loser's announcement is open in its own region, or a hint of it waits for the winner's region. A hint whose
    /// oldest announcement is younger than what was stored is of a later change alone.
    ///
    /// A tombstone may stand for a delete below it: a conditional one that was refused leaves the tombstone that it raised, and
    /// takes its own announcement back.
    async fn waits(
        &self,
        home: &RegionStore,
        id: &RowId,
        (lost, stored): (&Lost, Option<Time>),
        by: &Region,
    ) -> Result<bool, StoreError> {
        let (loser, deleted) = (&lost.version, lost.deleted.is_some());
        let shard = Shard::of(&id.table, &id.partition).partition();
        let (from, through) = match loser.as_str().ends_with(".00000000") {
            // A row without a version is announced by one of about the time at which it was stored.
            true => ((loser.time() - self.window).to_string(), (loser.time() + self.window).to_string()),
            // An announced delete ends within a window and a half.
            false if deleted => ((loser.time() - self.window * 2).to_string(), format!("{loser}~~")),
            false => (loser.to_string(), format!("{loser}~~")),
        };
        let key = |text: String| RowKey::new(format!("{}{text}", record_prefix()));
        let first = Query::rows(shard, key(from), key(through));
        // While rows move, one that was written by other routes is announced where these lead.
        let mut places = vec![home.holding(&id.table, &id.partition)];
        places.extend(home.other_home(&id.table, &id.partition));
        let (mut query, mut at) = (first.clone(), 0);
        while let Some(tables) = places.get(at) {
            let page = none_where_no_table(tables.query(&SystemTable::Feed.name(), &query).await)?;
            let records = page.rows.iter().filter_map(|row| decode_record(row).ok());
            let mut named = records.flat_map(|record| record.change.rows().collect::<Vec<_>>());
            if named.any(|(row, deletes)| row == *id && (deletes || !deleted)) {
                return Ok(true);
            }
            query.continuation = page.continuation;
            if query.continuation.is_none() {
                (query, at) = (first.clone(), at + 1);
            }
        }
        let (partition, row) = hint_keys(by.as_str(), id);
        let hint = match home.home().get(&SystemTable::Backlog.name(), &partition, &row).await {
            Err(error) if error.kind == ErrorKind::NoTable => return Ok(false),
            hint => hint?,
        };
        // One that cannot be read may stand for anything.
        let since = hint.map(|row| decode_hint(&row).map_or(Time::EPOCH, |hint| hint.since));
        Ok(since.is_some_and(|since| stored.is_none_or(|stored| since <= stored + MARGIN)))
    }

    /// Whether the winner's region was told of the loser; `None` where a third region does not say. Nobody waits for that one
    /// for long: it may be down, and is not what this is about.
    async fn told(
        &self,
        id: &RowId,
        winner: &Version,
        (loser, deleted): (&Version, bool),
        stored: Time,
    ) -> Result<Option<bool>, StoreError> {
        let by = &winner.issued_in();
        // A region that is no longer in the configuration.
        let Some(store) = self.region(by) else { return Ok(None) };
        let asked = async {
            match self.told_in(store, id, loser, stored).await? {
                Some(true) if deleted => self.came_before(store, id, loser, winner).await,
                // The log may be gone, or not be written yet; the tombstone stands.
                Some(false) if deleted && self.came_before(store, id, loser, winner).await? == Some(true) => {
                    Ok(Some(true))
                }
                Some(false) if self.may_be_collected(by, loser).await => Ok(None),
                told => Ok(told),
            }
        };
        if by == self.store.region() {
            return asked.await;
        }
        Ok(timeout(self.patience(), asked).await.ok().and_then(Result::ok).flatten())
    }

    /// Whether what the log of `by` told of the loser may be collected. A record may be open for longer than a log outlives its
    /// link's Last Sync Time, where it is the end of the record that does not get through, or another consumer that waits. Nor is it
    /// the loser's own region alone that may have brought it: whoever has taken it over brings it to the others, by a link of its own.
    async fn may_be_collected(&self, by: &Region, loser: &Version) -> bool {
        let sources = self.others.iter().chain([&self.store]).filter(|store| store.region() != by);
        let collected = sources.map(|store| async {
            // One that has just been silent is not waited for again for each of many rows.
            let silent = |at: &Instant| at.elapsed() < SILENT;
            if self.silent().get(store.region()).is_some_and(silent) {
                return true;
            }
            // Its Last Sync Times are the word of its own region, which may be another one than that of this daemon.
            match timeout(self.patience(), last_syncs(store)).await {
                Ok(Ok(passed)) => {
                    let passed = passed.get(by).copied().flatten();
                    passed.is_some_and(|last_sync| loser.time() + self.log_outlives <= last_sync)
                }
                Ok(Err(_)) | Err(_) => {
                    self.silent().insert(store.region().clone(), Instant::now());
                    true
                }
            }
        });
        self.region(&loser.issued_in()).is_none() || join_all(collected).await.into_iter().any(|collected| collected)
    }

    fn silent(&self) -> MutexGuard<'_, BTreeMap<Region, Instant>> {
        self.silent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A tombstone is raised below a newer row as well, and told: what counts is which of the two that store took in first.
    /// `None` where both are not to be seen any more.
    async fn came_before(
        &self,
        store: &RegionStore,
        id: &RowId,
        loser: &Version,
        winner: &Version,
    ) -> Result<Option<bool>, StoreError> {
        let tomb = Tombstones::new(store.clone(), 1).of_row(id).await?;
        let tomb = tomb.filter(|tomb| tomb.version.as_ref() == Some(loser));
        Ok(match read_row(store, id).await?.zip(tomb) {
            Some((row, tomb)) if tomb.raised > row.timestamp => Some(false),
            Some((row, _)) if row.version(store.region()) == *winner => Some(true),
            _ => None,
        })
    }

    async fn told_in(
        &self,
        store: &RegionStore,
        id: &RowId,
        loser: &Version,
        stored: Time,
    ) -> Result<Option<bool>, StoreError> {
        let from = RowKey::new((stored - MARGIN).to_string());
        let mut known = Some(false);
        for source in self.others.iter().chain([&self.store]).filter(|source| source.region() != store.region()) {
            let partition = PartitionKey::from(source.region().as_str());
            let mut query = Query::new(Scope::Partition { partition, from: Some(from.clone()), through: None });
            for page in 0.. {
                let found = none_where_no_table(store.home().query(&SystemTable::Applied.name(), &query).await)?;
                if found.rows.iter().any(|row| tells_of(&row.body, id, loser)) {
                    return Ok(Some(true));
                }
                query.continuation = found.continuation;
                if query.continuation.is_none() {
                    break;
                }
                if page == PAGES {
                    known = None;
                    break;
                }
            }
        }
        Ok(known)
    }

    /// What was taken over from another region came in like what is brought: it is told in the applied log of this region.
    pub async fn tell(&self, source: &Region, id: &RowId, version: &Version) -> Result<(), StoreError> {
        let home = self.store.home();
        let now = home.clock().at(Instant::now()).unwrap_or_else(|| self.runtime.now());
        for body in encode_arrivals(source, now, self.runtime.writer_id(), 0, &[(id.clone(), version.clone())]) {
            home.write(&SystemTable::Applied.name(), &Operation::Insert(body)).await?;
        }
        Ok(())
    }

    /// Collects until it is stopped.
    pub async fn run(&self, every: Duration, (keep, most): (Duration, usize), stop: CancellationToken) {
        loop {
            let round = async {
                tokio::time::sleep(every).await;
                if let Err(error) = self.collect(keep, most).await {
                    debug!(%error, "old conflicts could not be collected; trying again");
                }
            };
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = round => {}
            }
        }
    }

    /// Takes out what is older than `keep`, and the oldest of what is more than `most`. Another daemon may do the same.
    pub async fn collect(&self, keep: Duration, most: usize) -> Result<(), StoreError> {
        let home = self.store.home();
        let now = home.clock().at(Instant::now()).unwrap_or_else(|| self.runtime.now());
        let mut query = Query { select: Some(vec!["At".to_owned()]), ..Query::new(Scope::Table) };
        let mut entries = Vec::new();
        loop {
            let page = home.query(&SystemTable::Conflicts.name(), &query).await?;
            entries.extend(page.rows.iter().map(|row| (row.timestamp, row.body.partition().clone(), removal(row))));
            query.continuation = page.continuation;
            if query.continuation.is_none() {
                break;
            }
        }
        entries.sort_by_key(|(stored, ..)| *stored);
        let surplus = entries.len().saturating_sub(most);
        let old = entries.iter().take_while(|(stored, ..)| *stored + keep < now).count();
        let mut partitions: BTreeMap<PartitionKey, Vec<Operation>> = BTreeMap::new();
        for (_, partition, removal) in entries.into_iter().take(surplus.max(old)) {
            partitions.entry(partition).or_default().push(removal);
        }
        for (partition, removals) in partitions {
            for chunk in removals.chunks(TOGETHER) {
                remove(home.as_ref(), &SystemTable::Conflicts.name(), &partition, chunk).await?;
            }
        }
        Ok(())
    }
}

fn json_of(finding: &Finding) -> Option<String> {
    match finding {
        Finding::Row { body, .. } => Some(body.json().to_string()),
        _ => None,
    }
}

fn none_where_no_table(page: Result<Page, StoreError>) -> Result<Page, StoreError> {
    match page {
        Err(error) if error.kind == ErrorKind::NoTable => Ok(Page::default()),
        page => page,
    }
}
