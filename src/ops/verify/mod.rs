//! Two regions compared row by row, and what differs named by its kind.
//!
//! A merge of both in the order of keys, a page of each account in memory, by versions alone unless more is asked for. What differs
//! then is a suspect: it is [judged](judge) before it counts, and [mended](repair) where that was asked for. A table is gone through in stretches; at the end of each
//! everything up to its last key is judged and mended, and the [ledger] says so, so that another run can go on from there.

mod error;
mod judge;
mod ledger;
mod named;
mod narrow;
mod part;
mod passes;
mod repair;
mod report;
mod rows;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::time::Duration;

use futures::future::try_join_all;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use self::judge::{Judge, Judged};
use self::ledger::Entry;
use self::narrow::Narrowed;
use self::repair::Fates;
use super::patient::patiently;
use crate::model::{PartitionKey, Region, RowId, RowKey, TableName, Time};
use crate::replicator::{self, CopySetup, Mender};
use crate::runtime::Runtime;
use crate::stores::{RegionStore, StoreError};
use crate::topology::{FileRoles, TableFilter};

pub(super) use self::ledger::{counts, json, of_list};
pub(super) use self::named::named_anywhere;
pub(super) use self::part::Suspect;
pub(super) use self::passes::{PassKind, keep_pass, last_pass, last_passes};

pub use self::error::VerifyError;
pub use self::ledger::Ledger;
pub use self::passes::LastPass;
pub use self::repair::Repair;
pub use self::report::{Differs, Fate, Has, Verified, VerifiedTable, Waits};
pub(super) use self::rows::{Join, Key, Met, Read, RegionRows, Span};

/// Most suspects that wait to be judged.
const MOST_SUSPECTS: usize = 5_000;
/// A stretch ends after so long, however many rows it has.
const STRETCH_FOR: Duration = Duration::from_secs(120);
/// Most rows that are named in the result.
const NAMED: usize = 2_000;
/// Rows between two words of how far it is.
const TELL_EVERY: u64 = 1_000;

/// What it takes to verify a pair of regions.
#[derive(Debug, Clone)]
pub struct Verify {
    /// Every region: what waits for one of the two may wait in a third one.
    pub regions: Vec<RegionStore>,
    /// The copies, which are no regions and may be compared with one.
    pub copies: Vec<CopySetup>,
    /// The region to start from.
    pub from: Region,
    /// The region or copy that is compared with it.
    pub to: Region,
    /// The tables that are replicated.
    pub tables: TableFilter,
    /// Only this one of them.
    pub only: Option<TableName>,
    /// Only this partition of it.
    pub partition: Option<PartitionKey>,
    /// Only this row of that.
    pub row: Option<RowKey>,
    /// Whether rows are compared whole, where their versions are the same.
    pub content: bool,
    /// What is done about a difference.
    pub repair: Repair,
    /// Go on where the last pass of this pair has ended early.
    pub resume: bool,
    /// How many rows are gone through until they are judged: what another run does again at most.
    pub stretch_rows: u64,
    /// Whose ledger says how far it is.
    pub ledger: Ledger,
    /// How many rows are gone through in a second at most; as fast as it goes without.
    pub rows_per_second: Option<NonZeroU32>,
    /// The roles that the configuration gives.
    pub roles: FileRoles,
    /// How the line is tuned: how long a write may be under way, and what it takes to mend.
    pub line: replicator::Settings,
    /// Clock and chance.
    pub runtime: Runtime,
}

/// Takes in how far it is.
pub type TellVerified<'a> = dyn FnMut(&Verified) + Send + 'a;

/// A pass: what the tables of one run have in common.
struct Pass<'a> {
    verify: &'a Verify,
    from: &'a RegionStore,
    to: &'a RegionStore,
    judge: Judge<'a>,
    mender: Option<Mender>,
    began: Instant,
    verified: Verified,
}

impl Verify {
    /// How many rows are usually gone through until they are judged.
    pub const STRETCH_ROWS: u64 = 250_000;

    /// A pass over all tables of a pair, by versions, that mends nothing and goes as fast as it can.
    pub fn of(
        regions: Vec<RegionStore>,
        (from, to): (&Region, &Region),
        tables: TableFilter,
        roles: FileRoles,
        line: replicator::Settings,
        runtime: Runtime,
    ) -> Self {
        Self {
            regions,
            copies: Vec::new(),
            from: from.clone(),
            to: to.clone(),
            tables,
            only: None,
            partition: None,
            row: None,
            content: false,
            repair: Repair::No,
            resume: false,
            stretch_rows: Self::STRETCH_ROWS,
            ledger: Ledger::Command,
            rows_per_second: None,
            roles,
            line,
            runtime,
        }
    }

    /// Goes through the tables, and tells how far it is.
    ///
    /// # Errors
    /// [`VerifyError`]. What was judged by then stands in the ledger.
    pub async fn run(&self, stop: &CancellationToken, tell: &mut TellVerified<'_>) -> Result<Verified, VerifyError> {
        let from = self.store(&self.from)?;
        let to = self.copy().map_or_else(|| self.store(&self.to), |copy| Ok(&copy.store))?;
        if self.from == self.to {
            return Err(VerifyError::SameRegion { region: self.from.clone() });
        }
        tokio::select! {
            biased;
            () = stop.cancelled() => Err(VerifyError::Stopped),
            verified = self.pass(from, to, tell) => {
                let verified = verified?;
                if self.is_whole_repair(&verified) {
                    let pass = LastPass::of(&verified, self.clock(from));
                    let kept = keep_pass(PassKind::Repaired, from, &pass).await;
                    kept.map_err(|error| VerifyError::Ledger { region: self.from.clone(), error: Box::new(error) })?;
                }
                Ok(verified)
            }
        }
    }

    /// Whether nothing was left out, and nothing is left different.
    fn is_whole_repair(&self, verified: &Verified) -> bool {
        let whole = self.only.is_none() && self.partition.is_none() && verified.unasked.is_empty();
        self.repair == Repair::Yes && whole && verified.is_equal() && self.copy().is_none()
    }

    async fn pass(
        &self,
        from: &RegionStore,
        to: &RegionStore,
        tell: &mut TellVerified<'_>,
    ) -> Result<Verified, VerifyError> {
        let tables = self.tables_to_read(from, to).await?;
        let entries = ledger::read(self.ledger, from, &self.from, &self.to).await;
        let entries =
            entries.map_err(|error| VerifyError::Ledger { region: self.from.clone(), error: Box::new(error) })?;
        let last = entries.iter().filter(|entry| entry.content == self.content).map(|entry| entry.pass).max();
        let is_through = |table: &TableName| {
            entries.iter().any(|entry| Some(entry.pass) == last && is_of(entry, table) && entry.ended)
        };
        let resumed = last.filter(|_| self.resume && !tables.iter().all(is_through));
        let mut pass = Pass {
            verify: self,
            from,
            to,
            judge: Judge::new(self, from, to),
            mender: self.mender(from),
            began: self.runtime.instant(),
            verified: Verified {
                schema: 1,
                from: self.from.clone(),
                to: self.to.clone(),
                content: self.content,
                dry_run: self.repair == Repair::DryRun,
                began: resumed.unwrap_or_else(|| self.clock(from)),
                resumed: resumed.is_some(),
                tables: Vec::new(),
                named: Vec::new(),
                left_out: 0,
                unasked: Vec::new(),
                seconds: 0.0,
            },
        };
        for table in tables {
            let entry = entries.iter().find(|entry| Some(entry.pass) == resumed && is_of(entry, &table));
            pass.table(&table, entry, tell).await?;
        }
        Ok(pass.verified)
    }

    fn store(&self, region: &Region) -> Result<&RegionStore, VerifyError> {
        let copies = self.copies.iter().map(|copy| &copy.store).filter(|_| *region == self.to);
        let known =
            || self.regions.iter().chain(copies).map(|store| store.region().as_str()).collect::<Vec<_>>().join(", ");
        let store = self.regions.iter().find(|store| store.region() == region);
        store.ok_or_else(|| VerifyError::NoRegion { region: region.clone(), known: known() })
    }

    /// The storage clock of a region.
    pub(super) fn clock(&self, store: &RegionStore) -> Time {
        store.home().clock().at(self.runtime.instant()).unwrap_or_else(|| self.runtime.now())
    }

    /// The replicated tables that either region has.
    async fn tables_to_read(&self, from: &RegionStore, to: &RegionStore) -> Result<Vec<TableName>, VerifyError> {
        let accounts = || from.accounts().iter().chain(to.accounts());
        let lists = try_join_all(accounts().map(|account| async move {
            let listed = patiently(|| account.tables.tables()).await;
            listed.map_err(|error| self.unread(account.tables.region(), "the list of tables", error))
        }));
        let lists = lists.await?;
        // Of what does not go to a copy, what stands there all the same is of interest.
        let goes = |table: &TableName| self.copy().is_none_or(|copy| copy.rule.tables.matches(table));
        let ours = lists.iter().take(from.accounts().len()).flatten().filter(|table| goes(table));
        let there: BTreeSet<&TableName> = ours.chain(lists.iter().skip(from.accounts().len()).flatten()).collect();
        let there: Vec<TableName> = there.into_iter().filter(|table| self.tables.matches(table)).cloned().collect();
        let Some(only) = &self.only else { return Ok(there) };
        match there.contains(only) {
            true => Ok(vec![only.clone()]),
            false => {
                let known = there.iter().map(TableName::as_str).collect::<Vec<_>>().join(", ");
                Err(VerifyError::NoTable { table: only.clone(), known })
            }
        }
    }

    fn span(&self, after: Option<Key>) -> Span {
        match (&self.partition, &self.row, after) {
            (Some(partition), Some(row), _) => Span::Row((partition.clone(), row.clone())),
            (Some(partition), None, _) => Span::Partition(partition.clone()),
            (None, _, Some(after)) => Span::After(after),
            (None, _, None) => Span::Table,
        }
    }

    fn unread(&self, region: &Region, table: &str, error: StoreError) -> VerifyError {
        VerifyError::Table { region: region.clone(), table: table.to_owned(), error: Box::new(error) }
    }
}

fn is_of(entry: &Entry, table: &TableName) -> bool {
    entry.found.table.eq_ignore_ascii_case(table.as_str())
}

impl Pass<'_> {
    async fn table(
        &mut self,
        table: &TableName,
        entry: Option<&Entry>,
        tell: &mut TellVerified<'_>,
    ) -> Result<(), VerifyError> {
        self.verified.tables.push(entry.map_or_else(|| VerifiedTable::new(table), |entry| entry.found.clone()));
        if entry.is_some_and(|entry| entry.ended) {
            return Ok(());
        }
        let span = self.verify.span(entry.and_then(|entry| entry.after.clone()));
        let mut join = Join::new([self.from, self.to], table, &span, self.verify.content);
        let mut misplaced = vec![0, 0];
        loop {
            let (suspects, last) = self.stretch(table, &mut join, tell).await?;
            let judged = self.judge.judge(&suspects).await.map_err(|error| self.failed(table, error))?;
            let fates = self.mend(&judged).await?;
            self.take_in(judged, fates);
            self.add_misplaced(&mut misplaced, &join);
            let ended = last.is_none();
            self.keep(last, ended).await?;
            self.verified.unasked = self.judge.unasked.iter().cloned().collect();
            self.tell(tell);
            if ended {
                return Ok(());
            }
        }
    }

    /// Compares on until there is enough to be judged; returns the suspects and the last key, where there are more behind it.
    async fn stretch(
        &mut self,
        table: &TableName,
        join: &mut Join,
        tell: &mut TellVerified<'_>,
    ) -> Result<(BTreeSet<RowId>, Option<Key>), VerifyError> {
        let (mut suspects, mut rows, began) = (BTreeSet::new(), 0, self.verify.runtime.instant());
        while let Some((key, mut found)) = join.next().await.map_err(|error| self.failed(table, error))? {
            rows += 1;
            let narrowed = self.verify.narrow(table, &key, &mut found);
            if let Some(at) = self.verified.tables.last_mut() {
                at.rows += u64::from(narrowed == Narrowed::Compared);
                at.kept += u64::from(narrowed == Narrowed::Kept);
            }
            if narrowed == Narrowed::Compared && self.verify.differ(&found) {
                suspects.insert(RowId::new(table.clone(), key.0.clone(), key.1.clone()));
            }
            let late = rows % TELL_EVERY == 0 && began.elapsed() >= STRETCH_FOR;
            if rows % TELL_EVERY == 0 {
                self.tell(tell);
                self.keep_pace(began, rows).await;
            }
            if rows >= self.verify.stretch_rows || suspects.len() >= MOST_SUSPECTS || late {
                return Ok((suspects, Some(key)));
            }
        }
        Ok((suspects, None))
    }

    /// Waits until so many rows since then are no more than may be.
    async fn keep_pace(&self, since: Instant, rows: u64) {
        if let Some(rate) = self.verify.rows_per_second {
            sleep_until(since + Duration::from_secs_f64(rows as f64 / f64::from(rate.get()))).await;
        }
    }

    async fn mend(&self, judged: &[Judged]) -> Result<Fates, VerifyError> {
        match &self.mender {
            Some(mender) => {
                let mended = self.verify.mend(mender, &self.judge, judged).await;
                mended.map_err(|(region, error)| VerifyError::Mend { region, error: Box::new(error) })
            }
            None => {
                let fate = |judged: &Judged| match judged.waits {
                    None if self.verify.repair == Repair::DryRun => Fate::Planned,
                    _ => Fate::Found,
                };
                Ok(judged.iter().map(|judged| (fate(judged), None)).collect())
            }
        }
    }

    fn take_in(&mut self, judged: Vec<Judged>, fates: Fates) {
        for (judged, (fate, why)) in judged.into_iter().zip(fates) {
            let mend = self.verify.mends(&judged);
            let Judged { id, kind, sights: [here, there], waits } = judged;
            let Some(at) = self.verified.tables.last_mut() else { return };
            match waits {
                None => *at.differences.entry(kind).or_default() += 1,
                Some(waits) => *at.waiting.entry(waits).or_default() += 1,
            }
            at.mended += u64::from(fate == Fate::Mended);
            if self.verified.named.len() >= NAMED {
                self.verified.left_out += 1;
                continue;
            }
            self.verified.named.push(Differs {
                table: id.table.as_str().to_owned(),
                partition: id.partition.as_str().to_owned(),
                row: id.row.as_str().to_owned(),
                kind,
                from: Has::from(&here),
                to: Has::from(&there),
                waits,
                mend,
                fate,
                why,
            });
        }
    }

    fn add_misplaced(&mut self, before: &mut Vec<u64>, join: &Join) {
        let now = join.misplaced();
        let regions = [&self.verify.from, &self.verify.to];
        let Some(at) = self.verified.tables.last_mut() else { return };
        for ((region, now), before) in regions.iter().zip(&now).zip(before.iter()) {
            if now > before {
                *at.misplaced.entry((*region).clone()).or_default() += now - before;
            }
        }
        *before = now;
    }

    /// Everything up to `after` is judged.
    async fn keep(&self, after: Option<Key>, ended: bool) -> Result<(), VerifyError> {
        // What was asked for is no part of a pass where it is a part of a table.
        let (Some(found), None) = (self.verified.tables.last(), &self.verify.partition) else { return Ok(()) };
        let entry = Entry {
            from: self.verify.from.clone(),
            to: self.verify.to.clone(),
            pass: self.verified.began,
            content: self.verify.content,
            after,
            found: found.clone(),
            at: self.verify.clock(self.from),
            ended,
        };
        let kept = ledger::keep(self.verify.ledger, self.from, &entry).await;
        kept.map_err(|error| VerifyError::Ledger { region: self.verify.from.clone(), error: Box::new(error) })
    }

    fn tell(&mut self, tell: &mut TellVerified<'_>) {
        self.verified.seconds = self.began.elapsed().as_secs_f64();
        tell(&self.verified);
    }

    fn failed(&self, table: &TableName, error: StoreError) -> VerifyError {
        let (from, to) = (self.verify.from.clone(), self.verify.to.clone());
        VerifyError::Rows { from, to, table: table.as_str().to_owned(), error: Box::new(error) }
    }
}
