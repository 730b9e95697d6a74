//! What a backfill will take: samples, and arithmetic.

use std::time::Duration;

use super::report::PlannedTable;
use super::sample::Sampled;
use crate::feed::Shard;
use crate::model::TableName;
use crate::stores::limits::{MAX_OPERATIONS, MAX_PAGE};

/// What goes out side by side, as far as time is concerned: workers that wait for one request each.
const SIDE_BY_SIDE: f64 = super::WORKERS as f64;

/// Requests to both sides, and rows that a rate counts at either, where every row has to be written.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Cost {
    requests: f64,
    /// The greater of both sides.
    rows: f64,
}

fn cost(sampled: &Sampled) -> Cost {
    let rows = sampled.rows() as f64;
    let partition = sampled.partition_rows.clamp(1.0, MAX_OPERATIONS as f64);
    let pages = (rows / f64::from(MAX_PAGE)).max(sampled.stretches.len() as f64);
    let transactions = rows / partition;
    // The tombstones of the shards that a page's partitions are in are looked at before and after.
    let shards = (f64::from(MAX_PAGE) / partition).clamp(1.0, Shard::COUNT as f64);
    let told = pages;
    // Compared: a page of versions of each side.
    let requests = pages + transactions + 2.0 * shards * pages + told + 2.0 * pages;
    let there = 2.0 * rows + 2.0 * shards * pages + told;
    Cost { requests, rows: there }
}

impl PlannedTable {
    /// `rate` is what an account may be asked, in rows a second, of `accounts` at least on either side; `answer` is how long an
    /// answer has taken.
    pub(super) fn new(table: &TableName, sampled: &Sampled, (rate, accounts): (f64, usize), answer: Duration) -> Self {
        let cost = cost(sampled);
        let by_rate = cost.rows / (rate * accounts.max(1) as f64);
        let by_answers = cost.requests * answer.as_secs_f64() / SIDE_BY_SIDE;
        Self {
            table: table.as_str().to_owned(),
            rows: sampled.rows(),
            counted: sampled.counted,
            bytes: (sampled.rows() as f64 * sampled.row_bytes) as u64,
            unversioned_percent: (sampled.unversioned * 1_000.0).round() / 10.0,
            ranges: sampled.stretches.len(),
            requests: cost.requests.ceil() as u64,
            seconds: by_rate.max(by_answers),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::sample::Stretch;
    use super::*;

    fn planned(rows: u64, partition_rows: f64, rate: f64, answer: Duration) -> PlannedTable {
        let stretches = vec![Stretch { from: None, until: None, rows }];
        let sampled =
            Sampled { stretches, counted: false, row_bytes: 200.0, partition_rows, unversioned: 0.5, requests: 1 };
        PlannedTable::new(&TableName::new("orders").unwrap(), &sampled, (rate, 1), answer)
    }

    #[test]
    fn the_share_or_the_answers_say_how_long_it_takes() {
        let fast = Duration::from_micros(100);
        let million = planned(1_000_000, 100.0, 20_000.0, fast);
        assert!((100.0..105.0).contains(&million.seconds), "written and compared: {million:?}");
        assert!((33_000..36_000).contains(&million.requests), "{million:?}");
        assert!(planned(1_000_000, 100.0, 2_000.0, fast).seconds > 1_000.0);
        let alone = planned(1_000_000, 1.0, 20_000.0, Duration::from_millis(20));
        assert!(alone.requests > 1_000_000 && alone.seconds > 2_000.0, "a transaction a row: {alone:?}");
        assert_eq!((alone.bytes, alone.unversioned_percent), (200_000_000, 50.0));
    }
}
