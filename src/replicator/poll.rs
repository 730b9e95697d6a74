//! How often a shard is read: fast while busy, calm while idle.

use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;

use super::Settings;

/// How long after the last new record an account counts as active.
const STAYS_ACTIVE: Duration = Duration::from_secs(2);

/// When something new was last found in an account: its shards then are all read more often.
#[derive(Debug, Default)]
pub(super) struct Activity(Mutex<Option<Instant>>);

impl Activity {
    pub fn seen(&self, now: Instant) {
        *self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(now);
    }

    fn is_active(&self, now: Instant) -> bool {
        let last = *self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        last.is_some_and(|at| now.saturating_duration_since(at) < STAYS_ACTIVE)
    }
}

/// The wait between two reads of one shard: starts small after something new, doubles with every read that finds
/// nothing, up to one bound while its account is active and another while it is idle.
#[derive(Debug)]
pub(super) struct Pace {
    busy: Duration,
    active: Duration,
    idle: Duration,
    wait: Duration,
}

impl Pace {
    pub fn new(settings: &Settings) -> Self {
        Self {
            busy: settings.poll_busy,
            active: settings.poll_active,
            idle: settings.poll_idle,
            wait: settings.poll_busy,
        }
    }

    /// The wait after a read that took `took`. A large shard is not read back to back: reading takes at most half the
    /// time.
    pub fn after(&mut self, found_new: bool, took: Duration, activity: &Activity, now: Instant) -> Duration {
        let most = if activity.is_active(now) { self.active } else { self.idle };
        self.wait = if found_new { self.busy } else { (self.wait * 2).min(most) };
        self.wait.max(took)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pace_slows_while_nothing_comes_and_quickens_at_once() {
        let settings = Settings::default();
        let (activity, now) = (Activity::default(), Instant::now());
        let mut pace = Pace::new(&settings);
        activity.seen(now);
        assert_eq!(pace.after(true, Duration::ZERO, &activity, now), settings.poll_busy);
        let waits: Vec<_> = (0..8).map(|_| pace.after(false, Duration::ZERO, &activity, now)).collect();
        assert!(waits.windows(2).all(|w| w[0] <= w[1]) && waits[7] == settings.poll_active, "{waits:?}");
        let later = now + Duration::from_secs(10);
        let waits: Vec<_> = (0..8).map(|_| pace.after(false, Duration::ZERO, &activity, later)).collect();
        assert_eq!(waits[7], settings.poll_idle);
        assert_eq!(pace.after(true, Duration::ZERO, &activity, later), settings.poll_busy);
        assert_eq!(pace.after(true, Duration::from_secs(3), &activity, later), Duration::from_secs(3));
    }
}
