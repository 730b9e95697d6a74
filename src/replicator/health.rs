//! Whether a link delivers, as its lanes find it.

use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;
use tracing::{info, warn};

use crate::model::{ClosedList, Region};
use crate::settle::LinkState;
use crate::stores::{Remedy, StoreError};
use crate::telemetry::Event;

/// The health of a link, told by every batch that succeeds or fails. One WARN when it turns bad, one INFO when it is
/// good again.
#[derive(Debug)]
pub(super) struct Health {
    source: Region,
    destination: Region,
    failing: Mutex<Option<Failing>>,
}

#[derive(Debug)]
struct Failing {
    since: Instant,
    failures: u64,
    error: String,
}

impl Health {
    pub fn new(source: Region, destination: Region) -> Self {
        Self { source, destination, failing: Mutex::default() }
    }

    pub fn succeeded(&self) {
        let Some(failing) = self.lock().take() else { return };
        info!(
            event = Event::LinkFlowing.as_str(),
            source = %self.source,
            destination = %self.destination,
            after = ?failing.since.elapsed(),
            failures = failing.failures,
            "the destination takes changes again"
        );
    }

    pub fn failed(&self, error: &StoreError) {
        let mut failing = self.lock();
        if let Some(failing) = failing.as_mut() {
            failing.failures += 1;
            failing.error = error.to_string();
            return;
        }
        *failing = Some(Failing { since: Instant::now(), failures: 1, error: error.to_string() });
        let event = match error.remedy() {
            Remedy::FixAccess => Event::AccessDenied,
            _ => Event::LinkBackingOff,
        };
        warn!(
            event = event.as_str(),
            source = %self.source,
            destination = %self.destination,
            %error,
            "the destination fails; its changes are kept and tried again"
        );
    }

    pub fn state(&self) -> (LinkState, Option<String>) {
        match self.lock().as_ref() {
            Some(failing) => (LinkState::BackingOff, Some(failing.error.clone())),
            None => (LinkState::Flowing, None),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Failing>> {
        self.failing.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// Waits between tries: doubling, with full jitter, never less than a server asked for.
#[derive(Debug)]
pub(super) struct Backoff {
    first: Duration,
    last: Duration,
    failures: u32,
}

impl Backoff {
    pub fn new(first: Duration, last: Duration) -> Self {
        Self { first, last, failures: 0 }
    }

    pub fn is_failing(&self) -> bool {
        self.failures > 0
    }

    pub fn reset(&mut self) {
        self.failures = 0;
    }

    /// The next wait. At least a tenth of the doubled one, so that jitter never makes a tight loop.
    pub fn next(&mut self, runtime: &crate::runtime::Runtime, asked: Option<Duration>) -> Duration {
        let most = self.first.saturating_mul(1 << self.failures.min(16)).min(self.last);
        self.failures = self.failures.saturating_add(1);
        (most / 10 + runtime.jitter(most - most / 10)).max(asked.unwrap_or_default())
    }
}
