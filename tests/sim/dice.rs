//! The one source of chance of a history.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// Chance from one seed. Clones share it, so what is drawn depends on who draws before.
#[derive(Debug, Clone)]
pub struct Dice(Arc<Mutex<StdRng>>);

impl Dice {
    pub fn seeded(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(StdRng::seed_from_u64(seed))))
    }

    /// A number from 0 to `below`, without it.
    pub fn below(&self, below: usize) -> usize {
        let drawn = self.0.lock().unwrap_or_else(PoisonError::into_inner).next_u64();
        (drawn % below.max(1) as u64) as usize
    }

    /// True so many times in a thousand.
    pub fn chance(&self, per_mille: usize) -> bool {
        per_mille > 0 && self.below(1_000) < per_mille
    }

    pub fn pick<T: Copy>(&self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    /// Up to `most`, in milliseconds.
    pub fn time(&self, most: Duration) -> Duration {
        Duration::from_millis(self.below(most.as_millis() as usize + 1) as u64)
    }

    /// From `-most` to `most`, in ticks of 100 ns.
    pub fn skew(&self, most: Duration) -> i64 {
        let most = most.as_millis() as i64;
        (self.below(2 * most as usize + 1) as i64 - most) * 10_000
    }
}
