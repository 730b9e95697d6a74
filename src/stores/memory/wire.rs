//! The way of a request: there, effect, back.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::faults::{Fault, Faults, Request};
use crate::model::Time;
use crate::runtime::Runtime;
use crate::stores::{ErrorKind, StorageClock, StoreError};

/// When a write takes effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum When {
    /// On arrival.
    Now,
    /// At this instant, after its caller has been told that it was lost.
    At(Instant),
}

/// The line to an account and the account's own clock.
#[derive(Debug)]
pub(super) struct Wire {
    pub(super) runtime: Runtime,
    pub(super) faults: Faults,
    pub(super) clock: StorageClock,
}

impl Wire {
    pub(super) fn new(runtime: Runtime, faults: Faults) -> Self {
        Self { runtime, faults, clock: StorageClock::new() }
    }

    /// Carries a request to its `effect`, and the result back. A caller that stops waiting on the way there leaves no
    /// effect, one that stops on the way back does.
    pub(super) async fn carry<T, E: From<StoreError>>(
        &self,
        request: &Request<'_>,
        effect: impl Fn(When) -> Result<T, E>,
    ) -> Result<T, E> {
        // Without latency nothing below may wait: a task that only ever talks to us still has to let others run.
        tokio::task::coop::consume_budget().await;
        let start = self.runtime.instant();
        let (latency, fault) = self.faults.meet(request, &self.runtime);
        let mut there = start + latency / 2;
        let mut back = start + latency;
        match fault {
            Some(Fault::Delay(delay)) => (there, back) = (there + delay, back + delay),
            Some(Fault::DelayReply(delay)) => back += delay,
            _ => {}
        }
        wait(start, there).await;
        if fault == Some(Fault::Freeze) {
            self.faults.freeze().await;
            back = back.max(self.runtime.instant() + latency / 2);
        }
        self.reachable()?;
        let lost = |error: StoreError| (error.status.is_some(), Err(error.into()));
        // What an effect says is lost with its reply, an error of its own too.
        let (replied, result) = match fault {
            Some(Fault::Before(error)) => lost(error),
            Some(Fault::After(error)) => {
                drop(effect(When::Now));
                lost(error)
            }
            Some(Fault::Late(delay)) => {
                drop(effect(When::At(self.runtime.instant() + delay)));
                lost(StoreError::new(ErrorKind::Unreachable, "the request timed out"))
            }
            Some(Fault::Twice(delay)) => {
                drop(effect(When::At(self.runtime.instant() + delay)));
                (true, effect(When::Now))
            }
            _ => (true, effect(When::Now)),
        };
        let date = whole_seconds(self.runtime.now());
        wait(start, back).await;
        self.reachable()?;
        if replied {
            self.clock.observe(date, self.runtime.instant());
        }
        result
    }

    fn reachable(&self) -> Result<(), StoreError> {
        match self.faults.is_cut() {
            true => Err(StoreError::new(ErrorKind::Unreachable, "the store is cut off")),
            false => Ok(()),
        }
    }
}

/// A server's `Date`: cut, not rounded.
fn whole_seconds(time: Time) -> Time {
    Time::from_unix_seconds(time.ticks().div_euclid(Time::TICKS_PER_SECOND))
}

async fn wait(start: Instant, until: Instant) {
    if until.saturating_duration_since(start) > Duration::ZERO {
        sleep_until(until).await;
    }
}
