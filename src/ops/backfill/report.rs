//! What a backfill will take, and how far it is.

use std::collections::BTreeMap;

use serde::Serialize;

use super::ledger::{BackfillState, Copied, Head, Range};
use crate::model::{Region, TableName, Time};

/// What a backfill of a table will take, by samples.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PlannedTable {
    /// Which.
    pub table: String,
    /// How many rows it has.
    pub rows: u64,
    /// Whether they were counted; otherwise it is a guess from samples.
    pub counted: bool,
    /// How large they are together.
    pub bytes: u64,
    /// How many of them carry no version, of a hundred.
    pub unversioned_percent: f64,
    /// Ranges that are copied by themselves.
    pub ranges: usize,
    /// Requests to both regions, where everything is to be written.
    pub requests: u64,
    /// How long it takes at least, by the share of the accounts' rate and by how fast they have answered.
    pub seconds: f64,
}

/// What a backfill will take.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Planned {
    /// The version of this form.
    pub schema: u32,
    /// The region that is copied from.
    pub from: Region,
    /// The region that is copied to.
    pub to: Region,
    /// How much of an account's rate it may take, of a hundred.
    pub share_percent: u8,
    /// By table.
    pub tables: Vec<PlannedTable>,
    /// Requests that this plan took.
    pub sampled_by: u64,
}

/// How far the backfill of a table is.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BackfilledTable {
    /// Which.
    pub table: String,
    /// How it is.
    pub state: BackfillState,
    /// Who is at work on it.
    pub owner: Option<String>,
    /// When it began.
    pub began: Time,
    /// When all of it was verified.
    pub ended: Option<Time>,
    /// How many ranges are how far.
    pub ranges: BTreeMap<Copied, u64>,
    /// How many rows it has, by samples.
    pub estimate: u64,
    /// Rows that were gone through.
    pub rows: u64,
    /// Their size.
    pub bytes: u64,
    /// Rows of them that were written at the destination; the rest was there.
    pub written: u64,
    /// Rows that were given their implicit version where they were copied from.
    pub stamped: u64,
    /// Rows that cannot be applied and lie in quarantine.
    pub quarantined: u64,
    /// Rows that differed when they were compared afterwards, and were mended.
    pub mended: u64,
    /// Rows that differed then and wait for something that is known.
    pub waiting: u64,
    /// Rows that stand at the destination alone: they were left.
    pub extra: u64,
    /// How often something failed and was tried again.
    pub errors: u64,
    /// What it failed with last.
    pub last_error: Option<String>,
}

/// How far a backfill is.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Backfilled {
    /// The version of this form.
    pub schema: u32,
    /// The region that is copied from.
    pub from: Region,
    /// The region that is copied to.
    pub to: Region,
    /// By table.
    pub tables: Vec<BackfilledTable>,
    /// Rows a second, lately.
    pub rows_per_second: f64,
    /// How long it takes until everything is copied, at that rate; none where nothing is known of it.
    pub seconds_left: Option<f64>,
}

impl BackfilledTable {
    pub(super) fn new(head: &Head, ranges: &[&Range], now: Time) -> Self {
        let sum = |of: fn(&Range) -> u64| ranges.iter().map(|range| of(range)).sum();
        let mut by_copy = BTreeMap::new();
        for range in ranges {
            *by_copy.entry(range.copy).or_default() += 1;
        }
        Self {
            table: head.table.as_str().to_owned(),
            state: head.state(now),
            owner: head.owner.as_ref().filter(|(_, until)| *until > now).map(|(owner, _)| owner.clone()),
            began: head.began,
            ended: head.ended,
            ranges: by_copy,
            estimate: sum(|range| match range.copy {
                // What is copied was counted.
                Copied::Copied | Copied::Verified => range.counts.rows,
                Copied::Pending | Copied::Copying => range.estimate.max(range.counts.rows),
            }),
            rows: sum(|range| range.counts.rows),
            bytes: sum(|range| range.counts.bytes),
            written: sum(|range| range.counts.written),
            stamped: sum(|range| range.counts.stamped),
            quarantined: sum(|range| range.counts.quarantined),
            mended: sum(|range| range.counts.mended),
            waiting: sum(|range| range.counts.waiting),
            extra: sum(|range| range.counts.extra),
            errors: sum(|range| range.counts.errors),
            last_error: ranges.iter().rev().find_map(|range| range.last_error.clone()),
        }
    }
}

impl Backfilled {
    pub(super) fn new((from, to): (&Region, &Region), tables: Vec<BackfilledTable>, rows_per_second: f64) -> Self {
        let left: u64 = tables.iter().map(|table| table.estimate - table.rows).sum();
        // Where samples are still taken, nothing is known of what there is.
        let known = tables.iter().all(|table| !table.ranges.is_empty());
        let seconds_left = match left {
            0 => known.then_some(0.0),
            left => (known && rows_per_second > 0.0).then(|| left as f64 / rows_per_second),
        };
        Self { schema: 1, from: from.clone(), to: to.clone(), tables, rows_per_second, seconds_left }
    }

    /// Rows that were gone through.
    pub fn rows(&self) -> u64 {
        self.tables.iter().map(|table| table.rows).sum()
    }

    /// Rows that there are, by samples.
    pub fn estimate(&self) -> u64 {
        self.tables.iter().map(|table| table.estimate).sum()
    }

    /// Ranges that are this far at least, and all.
    pub fn ranges(&self, copy: Copied) -> (u64, u64) {
        let ranges = || self.tables.iter().flat_map(|table| &table.ranges);
        let far = ranges().filter(|(at, _)| **at >= copy).map(|(_, count)| count).sum();
        (far, ranges().map(|(_, count)| count).sum())
    }

    /// Whether everything is verified.
    pub fn is_done(&self) -> bool {
        self.tables.iter().all(|table| table.state == BackfillState::Done)
    }
}

/// How far a running backfill is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum BackfillProgress<'a> {
    /// Samples of a table are taken.
    Sampling(&'a TableName),
    /// Another one was killed, as it seems: what it holds is waited for.
    Waiting(&'a TableName),
    /// Rows are copied, and compared.
    At(&'a Backfilled),
}
