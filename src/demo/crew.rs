//! The six writers: two in each region, their clocks apart.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::agent::{Agent, Promises};
use super::counts::Counts;
use super::world::World;
use super::{DemoError, Options};
use crate::model::Time;
use crate::runtime::Runtime;

/// By how many milliseconds the clocks of each region's writers are wrong.
pub(super) const SKEWS: [[i64; 2]; 3] = [[200, -80], [-200, 120], [40, -150]];
/// When the first writer of each region crashes, in hundredths of the time that is written.
const CRASHES: [u32; 3] = [15, 45, 75];
/// Ticks of 100 ns in a millisecond.
const TICKS: i64 = 10_000;

/// How many writers there are.
fn size() -> u32 {
    SKEWS.as_flattened().len() as u32
}

/// The writers of all regions.
#[derive(Debug)]
pub(super) struct Crew {
    /// By region.
    counts: Vec<Arc<Mutex<Counts>>>,
    writers: JoinSet<Promises>,
    promises: Promises,
    stop: CancellationToken,
}

impl Crew {
    /// Lets them write. Each makes its own choices, by its own part of the seed.
    pub fn start(world: &World, start: Time, options: &Options) -> Self {
        let (mut writers, stop) = (JoinSet::new(), CancellationToken::new());
        let mut counts = Vec::new();
        for ((place, skews), crash) in world.places.iter().zip(SKEWS).zip(CRASHES) {
            let shared = Arc::new(Mutex::new(Counts::default()));
            for (n, skew) in skews.into_iter().enumerate() {
                let name = format!("{}-{}", place.region, n + 1);
                let own_seed = options.seed.wrapping_mul(31).wrapping_add(writers.len() as u64 + 1);
                let runtime = Runtime::simulated(start, own_seed).skewed(skew * TICKS);
                let agent = Agent::new(name, place.near(), world.tables.clone(), runtime, shared.clone());
                let pause = Duration::from_secs(1) * size() / options.rate.max(1);
                let crash = (n == 0).then(|| options.writing * crash / 100);
                writers.spawn(agent.run(pause, crash, stop.clone()));
            }
            counts.push(shared);
        }
        Self { counts, writers, promises: Promises::new(), stop }
    }

    /// Asks them to end with what they are at.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// Whether all have ended.
    ///
    /// # Errors
    /// [`DemoError::Writer`] where one has panicked.
    pub fn have_ended(&mut self) -> Result<bool, DemoError> {
        while let Some(ended) = self.writers.try_join_next() {
            self.promises.extend(ended.map_err(|panic| DemoError::Writer(panic.to_string()))?);
        }
        Ok(self.writers.is_empty())
    }

    /// What the writers that have ended are owed.
    pub fn promises(&self) -> &Promises {
        &self.promises
    }

    /// What the writers of one region have done.
    pub fn counts(&self, region: usize) -> Counts {
        *self.counts[region].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What all of them have done.
    pub fn all(&self) -> Counts {
        let mut all = Counts::default();
        (0..self.counts.len()).for_each(|region| all += self.counts(region));
        all
    }
}
