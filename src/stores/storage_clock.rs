//! What is known of a storage server's clock.

use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;

use crate::model::Time;

/// A lower bound of a storage server's clock: the highest `Date` among its replies, plus the time that went by since.
///
/// `Date` has whole seconds and was written before the reply arrived, so the estimate never runs ahead of the server by
/// more than the two monotonic clocks drift apart. It is what settle windows and Last Sync Times are reckoned by: the
/// daemon's own wall clock may be wrong, and the records' `Timestamp` is the server's.
#[derive(Debug, Default)]
pub struct StorageClock(Mutex<Option<(Time, Instant)>>);

impl StorageClock {
    /// A clock that knows nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes in the `Date` of a reply that arrived at `at`.
    pub fn observe(&self, date: Time, at: Instant) {
        let mut known = self.lock();
        let advanced = known.is_none_or(|(time, since)| date > time + at.saturating_duration_since(since));
        if advanced {
            *known = Some((date, at));
        }
    }

    /// The server's clock at `at`, or a little earlier; `None` before the first reply.
    pub fn at(&self, at: Instant) -> Option<Time> {
        let (time, since) = (*self.lock())?;
        Some(match at.checked_duration_since(since) {
            Some(elapsed) => time + elapsed,
            None => time - since.saturating_duration_since(at),
        })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<(Time, Instant)>> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// How much later than a `Date` the server's clock may have been: it has whole seconds.
pub const DATE_RESOLUTION: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_never_goes_back_and_never_runs_ahead() {
        let clock = StorageClock::new();
        let start = Instant::now();
        assert_eq!(clock.at(start), None);
        let noon = Time::from_unix_seconds(1_000);
        clock.observe(noon, start);
        assert_eq!(clock.at(start + Duration::from_millis(700)), Some(noon + Duration::from_millis(700)));
        // A reply with the same second, or one that was overtaken, says nothing new.
        clock.observe(noon, start + Duration::from_millis(900));
        assert_eq!(clock.at(start + Duration::from_secs(1)), Some(noon + Duration::from_secs(1)));
        clock.observe(noon + Duration::from_secs(5), start + Duration::from_secs(2));
        assert_eq!(clock.at(start + Duration::from_secs(2)), Some(noon + Duration::from_secs(5)));
        assert_eq!(clock.at(start + Duration::from_secs(1)), Some(noon + Duration::from_secs(4)));
    }
}
