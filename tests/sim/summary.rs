//! What a run adds up to.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::history::Ended;
use crate::kinds::{Counts, Kind};

pub struct Summary {
    sum: Mutex<Sum>,
    began: Instant,
}

#[derive(Default)]
struct Sum {
    seeds: u64,
    lasted: Duration,
    changes: u64,
    effects: u64,
    counts: Counts,
    slowest: Duration,
    lost: u64,
    diverged: u64,
    resurrected: u64,
    stale: u64,
    other: u64,
}

impl Default for Summary {
    fn default() -> Self {
        Self { sum: Mutex::default(), began: Instant::now() }
    }
}

impl Summary {
    pub fn add(&self, ended: &Ended) {
        let mut sum = self.sum.lock().unwrap_or_else(PoisonError::into_inner);
        sum.seeds += 1;
        sum.lasted += ended.lasted;
        sum.changes += ended.changes;
        sum.effects += ended.chronicle.book().effects;
        sum.slowest = sum.slowest.max(ended.converged);
        for (kind, count) in ended.counts() {
            *sum.counts.entry(kind).or_default() += count;
        }
        if let Some(broken) = &ended.broken {
            let class = match broken.what {
                "no acknowledged write is lost" | "acknowledged is written" | "what is malformed is in quarantine" => {
                    &mut sum.lost
                }
                "every region is equal" => &mut sum.diverged,
                "nothing that was overwritten or deleted comes back" => &mut sum.resurrected,
                "every cache is current" | "a cache never holds what is older than before" => &mut sum.stale,
                _ => &mut sum.other,
            };
            *class += 1;
        }
    }

    /// Whether all did; names those that did not.
    pub fn every_kind_fired(&self) -> bool {
        let sum = self.sum.lock().unwrap_or_else(PoisonError::into_inner);
        let silent = Kind::ALL.iter().filter(|kind| sum.counts.get(kind).is_none_or(|count| *count == 0));
        let silent: Vec<_> = silent.map(|kind| kind.name()).collect();
        if !silent.is_empty() {
            println!("sim: never fired: {}", silent.join(", "));
        }
        silent.is_empty()
    }

    pub fn print(&self) {
        let sum = self.sum.lock().unwrap_or_else(PoisonError::into_inner);
        let (hours, took) = (sum.lasted.as_secs_f64() / 3_600.0, self.began.elapsed().as_secs_f64());
        for (kind, count) in &sum.counts {
            println!("sim: {count:>9}  {}", kind.name());
        }
        println!(
            "sim: {} effects; {took:.1} s of real time for {hours:.1} h that were lived, {:.0} times as fast; \
             converged within {:.0} s of virtual time at most; other promises broken: {}",
            sum.effects,
            sum.lasted.as_secs_f64() / took.max(0.001),
            sum.slowest.as_secs_f64(),
            sum.other,
        );
        println!(
            "sim: seeds={} virtual_hours={hours:.1} changes={} faults={} kinds={}/{} lost={} diverged={} resurrected={} stale={}",
            sum.seeds,
            sum.changes,
            sum.counts.values().sum::<u64>(),
            sum.counts.values().filter(|count| **count > 0).count(),
            Kind::ALL.len(),
            sum.lost,
            sum.diverged,
            sum.resurrected,
            sum.stale,
        );
    }
}
