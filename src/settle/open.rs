//! What a ledger knows of one record and of one row.

use std::collections::BTreeSet;

use tokio::time::Instant;

use super::Consumers;
use crate::model::{Change, Etag, RowId, RowKey, Time, Version};
use crate::planted::{Bug, planted};
use crate::resolve::{Finding, Meaning};

/// A record that has not ended.
#[derive(Debug)]
pub(super) struct OpenRecord {
    pub version: Version,
    /// What it overwrote, where it is about one row and its writer said so.
    pub base: Option<Version>,
    pub etag: Etag,
    /// The storage server's time of its insertion.
    pub inserted: Time,
    /// The last pass that saw it.
    pub pass: u64,
    /// Its deletion is under way.
    pub ending: bool,
    pub parts: Vec<Part>,
}

impl OpenRecord {
    pub fn new(change: &Change, etag: Etag, inserted: Time, pass: u64, looks: u64) -> Self {
        let parts: Vec<Part> = change.rows().map(|(row, delete)| Part::new(row, delete, looks)).collect();
        let base = change.base.clone().filter(|_| parts.len() == 1);
        Self { version: change.version.clone(), base, etag, inserted, pass, ending: false, parts }
    }

    pub fn part(&self, row: &RowId) -> Option<&Part> {
        self.parts.iter().find(|part| part.row == *row)
    }

    pub fn part_mut(&mut self, row: &RowId) -> Option<&mut Part> {
        self.parts.iter_mut().find(|part| part.row == *row)
    }

    /// Whether it no longer holds back the Last Sync Time of `consumer`.
    pub fn is_clear(&self, consumer: usize) -> bool {
        self.parts.iter().all(|part| part.has_it.contains(consumer))
    }

    /// Since when, at the latest, a change of it may stand here and not be at `consumer`. One whose write was not seen began
    /// after the last look that did not see it.
    pub fn behind_since(&self, consumer: usize) -> Option<Time> {
        let lacking = self.parts.iter().filter(|part| !part.has_it.contains(consumer));
        let since = lacking.map(|part| match part.seen {
            Some(_) => self.inserted,
            None => part.unseen.map_or(self.inserted, |looked| looked.max(self.inserted)),
        });
        since.min()
    }

    /// Whether a change of it was seen and is not at `consumer` yet.
    pub fn is_waiting(&self, consumer: usize) -> bool {
        self.parts.iter().any(|part| part.seen.is_some() && !part.has_it.contains(consumer))
    }
}

/// One row of a record.
#[derive(Debug)]
pub(super) struct Part {
    pub row: RowId,
    pub delete: bool,
    /// Looks up to this number began before the record was known: they say nothing of it.
    since: u64,
    /// The first look that saw the announced version or a newer one.
    pub seen: Option<u64>,
    /// The first look from which on what was seen has not been undone.
    pub stands: Option<u64>,
    /// When the last look began that did not see it, by the storage clock: its write came after that, if at all.
    unseen: Option<Time>,
    /// The looks, first and last of a run, that saw exactly the announced version.
    exact: Option<(u64, u64)>,
    /// The latest look is part of that run.
    run_is_open: bool,
    /// The first look that began after the settle window.
    pub settled: Option<u64>,
    /// Who has what was seen, or has what stood after the window.
    has_it: Consumers,
    /// Who has exactly the announced version.
    has_exact: Consumers,
    /// Who has what stood after the window.
    has_settled: Consumers,
}

impl Part {
    fn new(row: RowId, delete: bool, since: u64) -> Self {
        let nobody = Consumers::default();
        Self {
            row,
            delete,
            since,
            seen: None,
            stands: None,
            unseen: None,
            exact: None,
            run_is_open: false,
            settled: None,
            has_it: nobody,
            has_exact: nobody,
            has_settled: nobody,
        }
    }

    /// Forgets what was seen up to `look`, but for what holds back no Last Sync Time: that this change was seen.
    pub fn begin_anew(&mut self, look: u64) {
        let nobody = Consumers::default();
        (self.since, self.exact, self.run_is_open, self.settled) = (look, None, false, None);
        (self.has_exact, self.has_settled) = (nobody, nobody);
    }

    /// Whether `look` began after the record was known.
    pub fn concerns(&self, look: u64) -> bool {
        look > self.since
    }

    /// Whether a consumer has what was seen of it.
    pub fn is_at(&self, consumer: usize) -> bool {
        self.has_it.contains(consumer)
    }

    /// Notes that a look which began then did not see it; where it was seen before, whether that is `undone`: whoever gets what
    /// this look found does not have it.
    pub fn not_yet(&mut self, began: Option<Time>, undone: bool) {
        self.unseen = self.unseen.max(began);
        if undone && !planted(Bug::UndoneIsDelivered) {
            self.stands = None;
        }
    }

    /// Notes what a look says. Where another daemon may have something of this row under way (`alone` is not so), that it
    /// saw exactly the announced version ends nothing.
    pub fn note(&mut self, look: u64, says: Meaning, settled: bool, alone: bool) {
        if says != Meaning::NotYet {
            self.seen.get_or_insert(look);
            self.stands.get_or_insert(look);
        }
        if settled {
            self.settled.get_or_insert(look);
        }
        // An absent row is not this delete's doing for certain: it may still be under way, and remove a later put.
        let exact = match says {
            Meaning::Written => !self.delete || planted(Bug::DeleteIsExact),
            Meaning::Superseded => planted(Bug::SupersededIsWritten),
            Meaning::NotYet => planted(Bug::EndEarly),
        };
        let exact = exact && (alone || planted(Bug::ExactThoughShared));
        self.exact = match (exact, self.exact) {
            (true, Some((first, _))) if self.run_is_open => Some((first, look)),
            (true, _) => Some((look, look)),
            (false, before) => before,
        };
        self.run_is_open = exact;
    }

    /// A consumer has what `look` found.
    pub fn delivered(&mut self, consumer: usize, look: u64) {
        if self.stands.is_some_and(|since| look >= since) {
            self.has_it.insert(consumer);
        }
        if self.exact.is_some_and(|(first, last)| (first..=last).contains(&look)) {
            self.has_exact.insert(consumer);
        }
        if self.settled.is_some_and(|settled| look >= settled) {
            self.has_settled.insert(consumer);
            self.has_it.insert(consumer);
        }
    }

    /// Whether the latest look saw exactly the announced version.
    pub fn is_exact_at(&self, latest: Option<u64>) -> bool {
        self.exact.is_some_and(|(_, last)| Some(last) == latest)
    }

    /// Whether it no longer keeps its record open (R1).
    pub fn is_done(&self, all: Consumers) -> bool {
        (self.exact.is_some() && self.has_exact.covers(all)) || (self.settled.is_some() && self.has_settled.covers(all))
    }
}

/// A row that open records name.
#[derive(Debug)]
pub(super) struct OpenRow {
    /// The records that name it, by version.
    pub records: BTreeSet<(Version, RowKey)>,
    /// When it is looked at next.
    pub next: Option<Instant>,
    /// Looks up to this number began before the last new record was known, or before what was found has to be brought
    /// anew: that a consumer got what they found says nothing of what it has now.
    pub since: u64,
    /// Looks since the last new record.
    pub tries: u32,
    /// The latest look that counts, and what it found.
    pub latest: Option<(u64, Sig)>,
    pub consumers: Vec<ConsumerRow>,
}

impl OpenRow {
    pub fn new(consumers: usize) -> Self {
        Self {
            records: BTreeSet::new(),
            since: 0,
            next: None,
            tries: 0,
            latest: None,
            consumers: vec![ConsumerRow::default(); consumers],
        }
    }
}

/// How far one consumer is with one row.
#[derive(Debug, Clone, Default)]
pub(super) struct ConsumerRow {
    /// What it was offered and has not answered for, and which look found that.
    pub offered: Option<(Sig, u64)>,
    /// What it has, and which look found that.
    pub delivered: Option<(Sig, u64)>,
}

impl ConsumerRow {
    /// Whether it has this by a look after `since`.
    pub fn has(&self, sig: &Sig, since: u64) -> bool {
        self.delivered.as_ref().is_some_and(|(has, look)| has == sig && *look > since)
    }

    /// Whether this was offered to it by a look after `since`.
    pub fn is_offered(&self, sig: &Sig, since: u64) -> bool {
        self.offered.as_ref().is_some_and(|(offered, look)| offered == sig && *look > since)
    }
}

/// What tells one finding from another: a version stands for one content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Sig {
    Row(Version),
    Deleted(Version),
    Nothing,
}

impl Sig {
    pub fn of(finding: &Finding) -> Self {
        match finding {
            Finding::Row { version, .. } => Self::Row(version.clone()),
            Finding::Deleted(version) => Self::Deleted(version.clone()),
            Finding::Nothing | Finding::Future(_) => Self::Nothing,
        }
    }

    pub fn needs_no_delivery(&self) -> bool {
        *self == Self::Nothing
    }
}
