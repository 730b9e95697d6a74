//! Clock and randomness behind one handle, which a simulator replaces.
//!
//! Whoever waits takes a [`Runtime`]. Its wall clock can be set, skewed and driven by virtual time, its randomness
//! comes from one seed. Monotonic time is tokio's, which a paused tokio runtime makes virtual. clippy's
//! disallowed-methods keeps `SystemTime::now`, `std::time::Instant::now`, `tokio::spawn` and `rand::rng` out of
//! every other room.

use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::time::Instant;

use crate::model::{Time, WriterId};

/// The handle to clock and randomness. Clones share both.
#[derive(Debug, Clone)]
pub struct Runtime {
    wall: Wall,
    /// How far the wall clock is wrong, in ticks.
    skew: Arc<AtomicI64>,
    random: Arc<Mutex<StdRng>>,
}

#[derive(Debug, Clone, Copy)]
enum Wall {
    /// The system's clock.
    System,
    /// `start` at `origin`, then on with tokio's clock.
    Virtual { start: Time, origin: Instant },
}

impl Runtime {
    /// The system's clock and randomness.
    pub fn system() -> Self {
        Self::with(Wall::System, rand::make_rng())
    }

    /// Virtual time from `start` on, and randomness from `seed`. Meant for a paused tokio runtime.
    pub fn simulated(start: Time, seed: u64) -> Self {
        Self::with(Wall::Virtual { start, origin: Instant::now() }, StdRng::seed_from_u64(seed))
    }

    /// The same randomness, and a wall clock of its own that is wrong by `ticks` of 100 ns more than this one: for tests of
    /// skewed clocks.
    #[must_use]
    pub fn skewed(&self, ticks: i64) -> Self {
        let skew = Arc::new(AtomicI64::new(self.skew.load(Relaxed) + ticks));
        Self { wall: self.wall, skew, random: self.random.clone() }
    }

    /// Steps the wall clock of this handle and its clones by `ticks` of 100 ns, forward or back, as an administrator or a
    /// time server does to a running machine.
    pub fn step(&self, ticks: i64) {
        self.skew.fetch_add(ticks, Relaxed);
    }

    fn with(wall: Wall, random: StdRng) -> Self {
        Self { wall, skew: Arc::default(), random: Arc::new(Mutex::new(random)) }
    }

    /// The wall clock: for versions and for people, never for deadlines.
    pub fn now(&self) -> Time {
        let right = match self.wall {
            Wall::System => {
                #[expect(clippy::disallowed_methods, reason = "this is the room that owns the clock")]
                let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
                Time::EPOCH + since
            }
            Wall::Virtual { start, origin } => start + origin.elapsed(),
        };
        Time::from_ticks(right.ticks() + self.skew.load(Relaxed))
    }

    /// The monotonic clock: for deadlines and the freshness of looks.
    pub fn instant(&self) -> Instant {
        Instant::now()
    }

    /// A random number.
    pub fn random(&self) -> u64 {
        self.random.lock().unwrap_or_else(std::sync::PoisonError::into_inner).next_u64()
    }

    /// A random writer id, never the one that stands for nobody.
    pub fn writer_id(&self) -> WriterId {
        WriterId((self.random() as u32).max(1))
    }

    /// A duration drawn evenly from zero to `most`: full jitter.
    pub fn jitter(&self, most: Duration) -> Duration {
        most.mul_f64((self.random() >> 11) as f64 / (1u64 << 53) as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn virtual_time_and_seeded_randomness_repeat() {
        let start = Time::from_unix_seconds(1_000);
        let (a, b) = (Runtime::simulated(start, 7), Runtime::simulated(start, 7));
        assert_eq!((a.random(), a.random()), (b.random(), b.random()));
        tokio::time::advance(Duration::from_secs(3)).await;
        assert_eq!(a.now(), start + Duration::from_secs(3));
        assert_eq!(a.skewed(-10_000_000).now(), start + Duration::from_secs(2));
    }

    #[tokio::test(start_paused = true)]
    async fn a_clock_is_stepped_for_its_own_clones_alone() {
        let start = Time::from_unix_seconds(1_000);
        let right = Runtime::simulated(start, 7);
        let wrong = right.skewed(0);
        let clone = wrong.clone();
        wrong.step(-30_000_000);
        assert_eq!((right.now(), clone.now()), (start, start - Duration::from_secs(3)));
    }

    #[test]
    fn jitter_stays_within_its_bound() {
        let runtime = Runtime::system();
        assert!((0..100).all(|_| runtime.jitter(Duration::from_millis(5)) <= Duration::from_millis(5)));
        assert_ne!(runtime.writer_id(), WriterId::NOBODY);
    }
}
