//! The writers of one region.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::StdRng;
use tablerelay::model::RowId;
use tablerelay::runtime::Runtime;
use tablerelay::writer::{WriteError, Writer, WriterOptions, Written};

use super::book::Book;
use super::{MAX_CLOCK_SKEW, SETTLE_WINDOW, contested, crashes, odd, own, queued};
use crate::support::deployment::Site;

/// 200 ms in ticks of 100 ns.
const SKEW: i64 = 2_000_000;

/// About as many writes as a region's writers make in one round.
pub const WRITES: usize = 450;

/// The writers of one region: one whose clock is ahead, one whose clock is behind, one that is right.
pub struct Author<'a> {
    pub site: &'a Site,
    /// Its place among the regions.
    pub number: usize,
    pub fast: Writer,
    pub slow: Writer,
    pub right: Writer,
    pub progress: &'a AtomicUsize,
}

impl<'a> Author<'a> {
    pub fn new(site: &'a Site, number: usize, progress: &'a AtomicUsize) -> Self {
        let options =
            WriterOptions { settle_window: SETTLE_WINDOW, max_clock_skew: MAX_CLOCK_SKEW, ..WriterOptions::default() };
        let writer = |skew: i64| Writer::new(site.store.clone(), options, Runtime::system().skewed(skew));
        Self { site, number, fast: writer(SKEW), slow: writer(-SKEW), right: writer(0), progress }
    }

    /// The writer that this region uses for rows that others write too: each region's clock is another.
    pub fn skewed(&self) -> &Writer {
        [&self.fast, &self.right, &self.slow][self.number % 3]
    }

    /// Everything that is written in this region, most of it `rounds` times over.
    pub async fn write(&self, seed: u64, rounds: usize) -> Book {
        let random = |of: u64| StdRng::seed_from_u64(seed.wrapping_mul(31) + of + 100 * self.number as u64);
        let (own, contested, odd, queued, crashes) = futures::join!(
            own::write(self, 90 * rounds, random(1)),
            contested::write(self, 70 * rounds, random(2)),
            odd::write(self, random(3)),
            queued::write(self, 30 * rounds, random(4)),
            crashes::write(self, 10, random(5)),
        );
        let mut all = own;
        [contested, odd, queued, crashes].into_iter().for_each(|book| all.absorb(book));
        all
    }

    /// Takes note of what a write was answered; says whether it took effect.
    pub fn note(&self, book: &mut Book, id: &RowId, result: &Result<Written, WriteError>) -> bool {
        self.progress.fetch_add(1, Ordering::Relaxed);
        match result {
            Ok(_) => {
                book.acknowledged += 1;
                true
            }
            // Conditions, inserts of what is there, merges into what is not: the row is as it was.
            Err(WriteError::Refused(failed)) if matches!(failed.error.status, Some(404 | 409 | 412)) => false,
            Err(err) => {
                book.troubles.push(format!("{id}: {err}"));
                book.uncertain.insert(id.clone());
                false
            }
        }
    }
}

/// How long a crashing writer lives: long enough to announce, often too short to write.
pub fn short_life(random: u64) -> Duration {
    Duration::from_micros(500 + random % 30_000)
}
