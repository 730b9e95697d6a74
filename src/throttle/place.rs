//! One place that may be in trouble: an account, or a partition of it.

use std::time::Duration;

use tokio::time::Instant;

use super::budget::Budget;
use super::rate::Rate;
use crate::planted::{Bug, planted};

/// Between two probes: the first interval, and the longest. Each is drawn from the upper half.
const FIRST_PROBE: Duration = Duration::from_millis(250);
const LAST_PROBE: Duration = Duration::from_secs(5);

/// A place: its budget, and what it is in trouble by.
#[derive(Debug)]
pub(super) struct Place {
    pub budget: Budget,
    rate: Option<Rate>,
    shut: Option<Shut>,
    not_before: Option<Instant>,
}

/// Its budget is spent.
#[derive(Debug)]
struct Shut {
    since: Instant,
    next_probe: Instant,
    probes: u32,
}

impl Place {
    pub fn with(budget: Budget) -> Self {
        Self { budget, rate: None, shut: None, not_before: None }
    }

    /// How long nothing at all may go out, where that is so: what the server asked to wait, or until the next probe.
    pub fn closed(&self, now: Instant) -> Option<Duration> {
        let probe = self.shut.as_ref().map(|shut| shut.next_probe);
        let until = probe.max(self.not_before).filter(|until| *until > now)?;
        Some(until - now)
    }

    /// As [`closed`](Self::closed), for a request that was let through at `admitted` and has waited for its turn since.
    pub fn closed_since(&self, admitted: Instant, now: Instant) -> Option<Duration> {
        let shut_since = self.shut.as_ref().is_some_and(|shut| shut.since > admitted);
        self.closed(now).filter(|_| shut_since || self.not_before > Some(now)).or(shut_since.then_some(FIRST_PROBE))
    }

    /// How long a request has to wait, or after what time it may ask again.
    pub fn turn(&mut self, now: Instant, patience: Duration) -> Result<Duration, Duration> {
        if let Some(again) = self.closed(now) {
            return Err(again);
        }
        // The probe waits for nothing else.
        let Some(rate) = self.rate.as_mut().filter(|_| self.shut.is_none()) else { return Ok(Duration::ZERO) };
        rate.grow(now);
        if rate.is_over() {
            self.rate = None;
            return Ok(Duration::ZERO);
        }
        let wait = rate.wait(now);
        if wait > patience { Err(wait - patience) } else { Ok(wait) }
    }

    /// A request goes out; where the place is shut, it is the probe.
    pub fn take(&mut self, rows: usize, now: Instant, jitter: impl Fn(Duration) -> Duration) {
        if let Some(rate) = &mut self.rate {
            rate.take(rows, now);
        }
        if let Some(shut) = &mut self.shut {
            shut.probed(now, jitter);
        }
    }

    pub fn answered(&mut self, sent: Instant, now: Instant) {
        self.budget.succeeded();
        // What was sent before it was shut was answered before the storm.
        if self.shut.as_ref().is_some_and(|shut| sent > shut.since) && !planted(Bug::ShutForGood) {
            self.shut = None;
            self.budget.halve();
            if let Some(rate) = &mut self.rate {
                rate.restart(now);
            }
        }
    }

    pub fn cut(&mut self, measured: f64, sent: Instant, now: Instant) {
        match &mut self.rate {
            // Probes say nothing of how much would be borne.
            Some(_) if self.shut.is_some() => {}
            Some(rate) => rate.cut(sent, now),
            none => *none = Some(Rate::begin(measured, now)),
        }
    }

    pub fn refused(&mut self, measured: f64, now: Instant, jitter: impl Fn(Duration) -> Duration) {
        self.budget.failed();
        if self.budget.is_spent() && self.shut.is_none() && !planted(Bug::BudgetNotKept) {
            self.rate.get_or_insert_with(|| Rate::begin(measured, now));
            let shut = self.shut.insert(Shut { since: now, next_probe: now, probes: 0 });
            shut.probed(now, jitter);
        }
    }

    pub fn not_before(&mut self, asked: Option<Instant>) {
        self.not_before = self.not_before.max(asked);
    }

    pub fn is_shut(&self) -> bool {
        self.shut.is_some()
    }

    pub fn rows_per_second(&mut self, now: Instant) -> Option<f64> {
        let rate = self.rate.as_mut()?;
        rate.grow(now);
        Some(rate.limit())
    }

    /// Whether it bears again what it bore before.
    pub fn is_over(&mut self, now: Instant) -> bool {
        if let Some(rate) = self.rate.as_mut().filter(|_| self.shut.is_none()) {
            rate.grow(now);
            if rate.is_over() {
                self.rate = None;
            }
        }
        self.rate.is_none() && self.closed(now).is_none() && self.shut.is_none()
    }
}

impl Shut {
    fn probed(&mut self, now: Instant, jitter: impl Fn(Duration) -> Duration) {
        let interval = FIRST_PROBE.saturating_mul(1 << self.probes.min(16)).min(LAST_PROBE);
        self.probes = self.probes.saturating_add(1);
        self.next_probe = now + interval / 2 + jitter(interval / 2);
    }
}
