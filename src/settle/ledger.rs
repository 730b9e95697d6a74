//! One shard's open records, and when each may end (R1).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;

use super::Consumers;
use super::open::{OpenRecord, OpenRow, Sig};
use crate::model::{Change, Etag, RowId, RowKey, Time, Version};
use crate::planted::{Bug, planted};
use crate::resolve::{Finding, Meaning, meaning};

/// The times that a ledger goes by.
#[derive(Debug, Clone, Copy)]
pub struct SettleRules {
    /// How long a write may still be under way after its announcement.
    pub window: Duration,
    /// How much later than the storage clock's estimate the server may be: its `Date` has whole seconds.
    pub date_resolution: Duration,
    /// How soon to look again for a write that was announced and not seen; doubles each time.
    pub first_retry: Duration,
    /// The longest wait between two such looks.
    pub last_retry: Duration,
}

impl SettleRules {
    /// When nothing that began before the second step of a change can take effect any more.
    ///
    /// A put settles a window after its announcement. A row that is deleted stands until the second step, up to half a
    /// window later: a look that found it then may send its insert as late as a window and a half after the announcement,
    /// into the gap that the delete leaves behind at a destination.
    fn end_of_window(&self, announced: Time, delete: bool) -> Time {
        let late = if delete { self.window / 2 } else { Duration::ZERO };
        announced + self.window + late + self.date_resolution
    }
}

/// A look that is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DueLook {
    /// Which row to look at.
    pub row: RowId,
    /// The number of this look; later looks have higher ones.
    pub look: u64,
    /// The highest delete of the row that is announced and has not ended.
    pub delete: Option<Version>,
}

/// A look that was made.
#[derive(Debug, Clone)]
pub struct Looked {
    /// Which row.
    pub row: RowId,
    /// The look's number.
    pub look: u64,
    /// When it began, by the monotonic clock.
    pub began: Instant,
    /// When it began, by the storage clock (or a little before); `None` before the clock is known.
    pub began_storage: Option<Time>,
    /// What it found.
    pub finding: Finding,
}

/// A finding for consumers to deliver.
#[derive(Debug, Clone)]
pub struct Offer {
    /// What was found, and when.
    pub looked: Looked,
    /// Who has yet to get it.
    pub consumers: Consumers,
}

/// The open records of one shard of one account, the rows that they name, and who has what.
///
/// It decides when a row is looked at, what is offered to whom, and when a record ends: once every consumer has what a
/// look showed at exactly the announced version, or what a look showed that began after the settle window; and never
/// before a higher version of one of its rows. A delete always waits for its window, which is half as long again: an
/// absent row carries no version, so no look can tell a delete that was carried out from one under way that has yet to
/// remove the next put.
///
/// A shard that another daemon carried within the last window is not carried alone. That daemon may have something under way
/// that it saw before, and that would land on what was delivered here after the record of it has ended. Until it no longer
/// can, no record ends because exactly its version was seen, and what a settled look finds is delivered anew.
#[derive(Debug)]
pub struct Ledger {
    rules: SettleRules,
    all: Consumers,
    records: BTreeMap<RowKey, OpenRecord>,
    rows: BTreeMap<RowId, OpenRow>,
    due: BTreeSet<(Instant, RowId)>,
    done: BTreeSet<(Version, RowKey)>,
    ended: BTreeSet<RowKey>,
    pass: u64,
    looks: u64,
    alone: bool,
    pass_began: Option<Time>,
    read_through: Option<Time>,
}

impl Ledger {
    /// An empty ledger for `consumers` consumers.
    pub fn new(rules: SettleRules, consumers: usize) -> Self {
        Self {
            rules,
            all: Consumers::first(consumers),
            records: BTreeMap::new(),
            rows: BTreeMap::new(),
            due: BTreeSet::new(),
            done: BTreeSet::new(),
            ended: BTreeSet::new(),
            pass: 0,
            looks: 0,
            alone: true,
            pass_began: None,
            read_through: None,
        }
    }

    /// From now on another daemon may have something of these rows under way.
    pub fn begin_shared(&mut self) {
        self.alone = false;
    }

    /// From now on nobody else has. What was delivered before may have been overtaken, so it counts no more.
    pub fn begin_alone(&mut self, now: Instant) {
        self.alone = true;
        let rows: Vec<RowId> = self.rows.keys().cloned().collect();
        rows.iter().for_each(|row| self.begin_anew(row, now));
    }

    /// How many records are open.
    pub fn open_records(&self) -> usize {
        self.records.len()
    }

    /// How many rows they name.
    pub fn open_rows(&self) -> usize {
        self.rows.len()
    }

    /// Whether a record is known.
    pub fn knows(&self, key: &RowKey) -> bool {
        self.records.contains_key(key)
    }

    /// Whether the shard was read whole at least once.
    pub fn was_read(&self) -> bool {
        self.read_through.is_some()
    }

    /// Begins to read the shard. `storage_now` is the storage clock before the first request was sent.
    pub fn begin_pass(&mut self, storage_now: Option<Time>) {
        self.pass += 1;
        self.pass_began = storage_now;
        // Whatever was deleted before this pass began cannot turn up in it.
        self.ended.clear();
    }

    /// Ends a pass that read the whole shard: what it did not see is gone, ended by somebody else. What that daemon delivered
    /// for it may have come to a destination after ours, so what was delivered of the same rows counts no more.
    pub fn complete_pass(&mut self, now: Instant) {
        self.read_through = self.read_through.max(self.pass_began);
        let pass = self.pass;
        let gone: Vec<RowKey> =
            self.records.iter().filter(|(_, r)| r.pass < pass && !r.ending).map(|(key, _)| key.clone()).collect();
        for key in gone {
            let Some(record) = self.remove(&key).filter(|_| !planted(Bug::EndedByOthers)) else { continue };
            for part in record.parts {
                self.begin_anew(&part.row, now);
            }
        }
    }

    /// Looks at a row again, as if nothing of it had been looked at and delivered.
    fn begin_anew(&mut self, row: &RowId, now: Instant) {
        let Some(open) = self.rows.get_mut(row) else { return };
        (open.since, open.tries, open.latest) = (self.looks, 0, None);
        for (version, key) in &open.records {
            let Some(record) = self.records.get_mut(key).filter(|record| !record.ending) else { continue };
            if let Some(part) = record.part_mut(row) {
                part.begin_anew(self.looks);
            }
            self.done.remove(&(version.clone(), key.clone()));
        }
        self.schedule(row, Some(now));
    }

    /// Takes in a record that was read; `false` where it is known or was ended just now.
    pub fn admit(&mut self, key: &RowKey, etag: Etag, inserted: Time, change: &Change, now: Instant) -> bool {
        if let Some(known) = self.records.get_mut(key) {
            known.pass = self.pass;
            return false;
        }
        if self.ended.contains(key) {
            return false;
        }
        for (row, _) in change.rows() {
            let open = self.rows.entry(row.clone()).or_insert_with(|| OpenRow::new(self.all.len()));
            open.records.insert((change.version.clone(), key.clone()));
            open.tries = 0;
            open.since = self.looks;
            self.schedule(&row, Some(now));
        }
        self.records.insert(key.clone(), OpenRecord::new(change, etag, inserted, self.pass, self.looks));
        true
    }

    /// The looks that are due at `now`, `most` or a few more: rows of one partition that fell due together stay
    /// together, so that a writer's transaction is looked at as a whole.
    pub fn take_due(&mut self, now: Instant, most: usize) -> Vec<DueLook> {
        let mut taken: Vec<(Instant, DueLook)> = Vec::new();
        while let Some((at, row)) = self.due.first() {
            let together = taken.last().is_some_and(|(last_at, last)| {
                last_at == at && last.row.partition == row.partition && last.row.table == row.table
            });
            if *at > now || (taken.len() >= most && !together) {
                break;
            }
            let (at, row) = (*at, row.clone());
            self.schedule(&row, None);
            self.looks += 1;
            let delete = self.announced_delete(&row, self.looks).cloned();
            taken.push((at, DueLook { row, look: self.looks, delete }));
        }
        taken.into_iter().map(|(_, look)| look).collect()
    }

    /// These looks failed: they are due again at `at`.
    pub fn look_failed(&mut self, due: Vec<DueLook>, at: Instant) {
        for DueLook { row, .. } in due {
            let Some(open) = self.rows.get(&row) else { continue };
            let at = open.next.map_or(at, |next| next.min(at));
            self.schedule(&row, Some(at));
        }
    }

    /// When the next look is due.
    pub fn next_due(&self) -> Option<Instant> {
        self.due.first().map(|(at, _)| *at)
    }

    /// Takes in what looks found; returns what is to be delivered to whom.
    pub fn looked(&mut self, found: Vec<Looked>, now: Instant, storage_now: Option<Time>) -> Vec<Offer> {
        let held = self.held(&found);
        let mut offers = Vec::new();
        for looked in found {
            let row = looked.row.clone();
            let Some(open) = self.rows.get_mut(&row) else { continue };
            open.tries = open.tries.saturating_add(1);
            let overtaken = open.latest.as_ref().is_some_and(|(latest, _)| *latest > looked.look);
            if overtaken || held.contains(&row) {
                continue;
            }
            offers.extend(self.take_in(looked));
            self.reschedule(&row, now, storage_now);
        }
        for row in held {
            self.schedule(&row, Some(now + self.rules.first_retry));
        }
        offers
    }

    /// Rows of a transaction of which this look saw one part written and another not yet: its writes are atomic, so the
    /// reads fell around it. They are looked at again at once, lest the destination sees half of it.
    fn held(&self, found: &[Looked]) -> BTreeSet<RowId> {
        let by_row: BTreeMap<&RowId, &Looked> = found.iter().map(|looked| (&looked.row, looked)).collect();
        let mut held = BTreeSet::new();
        let mut judged = BTreeSet::new();
        for looked in found {
            let Some(version) = looked.finding.version() else { continue };
            let Some(open) = self.rows.get(&looked.row) else { continue };
            for (_, key) in open.records.range((version.clone(), RowKey::from(""))..).take_while(|(v, _)| v == version)
            {
                let Some(record) = self.records.get(key) else { continue };
                if record.parts.len() < 2 || !judged.insert(key) || self.is_past_window(record, looked) {
                    continue;
                }
                let torn = record.parts.iter().any(|part| {
                    part.seen.is_none()
                        && by_row
                            .get(&part.row)
                            .is_none_or(|l| meaning(&record.version, part.delete, &l.finding) == Meaning::NotYet)
                });
                if torn {
                    held.extend(record.parts.iter().map(|part| part.row.clone()));
                }
            }
        }
        held
    }

    fn is_past_window(&self, record: &OpenRecord, looked: &Looked) -> bool {
        looked.began_storage.is_some_and(|began| began >= self.rules.end_of_window(record.inserted, false))
    }

    /// Notes what a look says of each record of the row; offers it to those who have something else.
    fn take_in(&mut self, mut looked: Looked) -> Option<Offer> {
        self.deepen(&mut looked);
        let open = self.rows.get_mut(&looked.row)?;
        let (sig, alone) = (Sig::of(&looked.finding), self.alone);
        let (mut tell, mut anew) = (false, false);
        for (version, key) in &open.records {
            let Some(record) = self.records.get_mut(key) else { continue };
            let inserted = record.inserted;
            let Some(part) = record.part_mut(&looked.row).filter(|part| part.concerns(looked.look)) else { continue };
            let end = self.rules.end_of_window(inserted, part.delete);
            let end = if planted(Bug::LookBeforeWindow) { inserted } else { end };
            let settled = looked.began_storage.is_some_and(|began| began >= end);
            let says = meaning(version, part.delete, &looked.finding);
            // A delete that was late may have removed what another daemon brought there after our delivery.
            anew |= (part.delete || !alone) && settled && part.settled.is_none();
            part.note(looked.look, says, settled, alone);
            if says == Meaning::NotYet {
                // Another region's row may land where the row has just been deleted, for as long as it takes to find that out. One of the
                // region that deleted it was put there by that region's own store.
                let landed = |found: &Version| !found.is_of(&version.issued_in());
                part.not_yet(looked.began_storage, part.delete && looked.finding.version().is_some_and(landed));
            }
            tell |= settled || says != Meaning::NotYet;
        }
        open.latest = Some((looked.look, sig.clone()));
        if !tell {
            return None;
        }
        let mut waiting = Consumers::default();
        if anew {
            open.since = looked.look - 1;
        }
        for consumer in self.all.iter() {
            let state = &mut open.consumers[consumer];
            if !looked.finding.is_deliverable() || state.has(&sig, open.since) || state.is_offered(&sig, open.since) {
                continue;
            }
            if planted(Bug::EndBeforeApply) {
                state.delivered = Some((sig.clone(), looked.look));
            }
            state.offered = Some((sig.clone(), looked.look));
            waiting.insert(consumer);
        }
        let row = looked.row.clone();
        self.settle_delivered(&row);
        (!waiting.is_empty()).then_some(Offer { looked, consumers: waiting })
    }

    /// An absent row was deleted at the highest announced delete, at the least, whoever removed it (R3).
    fn deepen(&self, looked: &mut Looked) {
        let found = match &looked.finding {
            Finding::Nothing => None,
            Finding::Deleted(version) => Some(version),
            Finding::Row { .. } | Finding::Future(_) => return,
        };
        let announced = self.announced_delete(&looked.row, looked.look);
        if let Some(version) = announced
            && found.is_none_or(|found| found < version)
        {
            looked.finding = Finding::Deleted(version.clone());
        }
    }

    /// The highest open delete of a row that a look says something of.
    fn announced_delete(&self, row: &RowId, look: u64) -> Option<&Version> {
        let open = self.rows.get(row)?;
        let announced = open.records.iter().rev().find(|(_, key)| {
            let part = self.records.get(key).and_then(|record| record.part(row));
            part.is_some_and(|part| part.delete && part.concerns(look))
        });
        announced.map(|(version, _)| version)
    }

    /// When the oldest change of a row was announced that a consumer does not have. Where it has them all and what was found
    /// is brought once more, the youngest of them.
    pub fn announced(&self, row: &RowId, consumer: usize) -> Option<Time> {
        let open = self.rows.get(row)?;
        let records = || open.records.iter().filter_map(|(_, key)| self.records.get(key));
        let lacking = records().filter(|record| record.part(row).is_some_and(|part| !part.is_at(consumer)));
        lacking.map(|record| record.inserted).min().or_else(|| records().map(|record| record.inserted).max())
    }

    /// What the version that a look found overwrote where it was written, as far as an open record says.
    pub fn base(&self, looked: &Looked) -> Option<&Version> {
        let (open, version) = (self.rows.get(&looked.row)?, looked.finding.version()?);
        let same = open.records.range((version.clone(), RowKey::from(""))..).take_while(|(found, _)| found == version);
        same.filter_map(|(_, key)| self.records.get(key)?.base.as_ref()).next()
    }

    /// A consumer has what look `look` found, or something newer that will find its own way.
    pub fn delivered(&mut self, row: &RowId, consumer: usize, look: u64, finding: &Finding) {
        let Some(open) = self.rows.get_mut(row) else { return };
        let sig = Sig::of(finding);
        let state = &mut open.consumers[consumer];
        if state.offered.as_ref().is_some_and(|(offered, at)| *offered == sig && *at <= look) {
            state.offered = None;
        }
        state.delivered = Some((sig, look));
        let keys: Vec<RowKey> = open.records.iter().map(|(_, key)| key.clone()).collect();
        for key in keys {
            if let Some(part) = self.records.get_mut(&key).and_then(|record| record.part_mut(row)) {
                part.delivered(consumer, look);
            }
        }
        self.settle_delivered(row);
    }

    /// A consumer could not use a look (too old, or the destination changed meanwhile): look again at `at`.
    pub fn look_again(&mut self, row: &RowId, consumer: usize, at: Instant) {
        let Some(open) = self.rows.get_mut(row) else { return };
        open.consumers[consumer].offered = None;
        open.consumers[consumer].delivered = None;
        let at = open.next.map_or(at, |next| next.min(at));
        self.schedule(row, Some(at));
    }

    /// Credits the latest look to every consumer that has its finding, and files the records that are done.
    fn settle_delivered(&mut self, row: &RowId) {
        let Some(open) = self.rows.get(row) else { return };
        let Some((look, sig)) = open.latest.clone() else { return };
        let have = self.all.iter().filter(|c| sig.needs_no_delivery() || open.consumers[*c].has(&sig, open.since));
        let have: Vec<usize> = have.collect();
        for (version, key) in &open.records {
            let Some(record) = self.records.get_mut(key) else { continue };
            if let Some(part) = record.part_mut(row) {
                for consumer in &have {
                    part.delivered(*consumer, look);
                }
            }
            if !record.ending && record.parts.iter().all(|part| part.is_done(self.all)) {
                self.done.insert((version.clone(), key.clone()));
            }
        }
    }

    /// Records that may end now, the highest versions first, `most` at a time. They are to be deleted in one
    /// transaction and reported by [`ended`](Self::ended) or [`not_ended`](Self::not_ended) before more are taken.
    pub fn take_ending(&mut self, most: usize) -> Vec<(RowKey, Etag)> {
        let mut ending: BTreeSet<&RowKey> = BTreeSet::new();
        let mut taken = Vec::new();
        for (version, key) in self.done.iter().rev() {
            if taken.len() >= most {
                break;
            }
            let Some(record) = self.records.get(key) else { continue };
            let free = record.parts.iter().all(|part| {
                let out_of_turn = planted(Bug::LowestFirst);
                self.rows.get(&part.row).is_none_or(|open| {
                    out_of_turn
                        || open.records.iter().rev().take_while(|(v, _)| v > version).all(|(_, k)| ending.contains(k))
                })
            });
            if free {
                ending.insert(key);
                taken.push((version.clone(), key.clone(), record.etag.clone()));
            }
        }
        for (version, key, _) in &taken {
            self.done.remove(&(version.clone(), key.clone()));
            if let Some(record) = self.records.get_mut(key) {
                record.ending = true;
            }
        }
        taken.into_iter().map(|(_, key, etag)| (key, etag)).collect()
    }

    /// These records were deleted.
    pub fn ended(&mut self, keys: impl IntoIterator<Item = RowKey>) {
        for key in keys {
            self.remove(&key);
            self.ended.insert(key);
        }
    }

    /// These records could not be deleted: they are still there, and still done.
    pub fn not_ended(&mut self, keys: impl IntoIterator<Item = RowKey>) {
        for key in keys {
            if let Some(record) = self.records.get_mut(&key) {
                record.ending = false;
                self.done.insert((record.version.clone(), key));
            }
        }
    }

    /// Last Sync Time of a consumer as far as this shard knows: everything announced before it is there, or was never
    /// written, or is in quarantine. `None` until the whole shard was read once.
    pub fn last_sync(&self, consumer: usize) -> Option<Time> {
        if planted(Bug::SyncedTooSoon) {
            return self.read_through;
        }
        let held_back = self.records.values().filter(|record| !record.is_clear(consumer)).map(|record| record.inserted);
        let through = self.read_through?;
        Some(held_back.min().map_or(through, |inserted| inserted.min(through)))
    }

    /// Up to when a consumer has everything that was *written* here: an announcement whose write was not seen holds this back
    /// no further than to the last look for it, and so a writer that crashed between its steps makes nobody stale.
    pub fn fresh_to(&self, consumer: usize) -> Option<Time> {
        let behind = self.records.values().filter_map(|record| record.behind_since(consumer));
        let through = self.read_through?;
        Some(behind.min().map_or(through, |since| since.min(through)))
    }

    /// The oldest change that was seen and that a consumer does not have yet: when it was announced.
    pub fn oldest_waiting(&self, consumer: usize) -> Option<Time> {
        self.records.values().filter(|record| record.is_waiting(consumer)).map(|record| record.inserted).min()
    }

    /// How many rows were seen changed and are not at a consumer yet.
    pub fn waiting_rows(&self, consumer: usize) -> usize {
        self.rows.values().filter(|open| open.consumers[consumer].offered.is_some()).count()
    }

    fn remove(&mut self, key: &RowKey) -> Option<OpenRecord> {
        let record = self.records.remove(key)?;
        self.done.remove(&(record.version.clone(), key.clone()));
        for part in &record.parts {
            let Some(open) = self.rows.get_mut(&part.row) else { continue };
            open.records.remove(&(record.version.clone(), key.clone()));
            if open.records.is_empty() {
                self.schedule(&part.row, None);
                self.rows.remove(&part.row);
            }
        }
        Some(record)
    }

    /// When the row must be looked at next, by what its records still want.
    fn reschedule(&mut self, row: &RowId, now: Instant, storage_now: Option<Time>) {
        let Some(open) = self.rows.get(row) else { return };
        let doublings = open.tries.saturating_sub(1).min(16);
        let backoff = self.rules.first_retry.saturating_mul(1 << doublings).min(self.rules.last_retry);
        let latest = open.latest.as_ref().map(|(look, _)| *look);
        let mut next = open.next;
        for (_, key) in &open.records {
            let Some(record) = self.records.get(key) else { continue };
            let Some(part) = record.part(row) else { continue };
            if part.settled.is_some() || part.is_done(self.all) || part.is_exact_at(latest) {
                continue;
            }
            let end = self.rules.end_of_window(record.inserted, part.delete);
            let settles = storage_now.map_or(now + self.rules.last_retry, |storage| now + end.since(storage));
            let at = if part.stands.is_none() { settles.min(now + backoff) } else { settles };
            // Never in the same instant again: an estimate a tick short would spin.
            let at = at.max(now + Duration::from_millis(1));
            next = Some(next.map_or(at, |next| next.min(at)));
        }
        self.schedule(row, next);
    }

    fn schedule(&mut self, row: &RowId, at: Option<Instant>) {
        let Some(open) = self.rows.get_mut(row) else { return };
        if let Some(before) = open.next.take() {
            self.due.remove(&(before, row.clone()));
        }
        open.next = at;
        if let Some(at) = at {
            self.due.insert((at, row.clone()));
        }
    }
}
