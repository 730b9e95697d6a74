//! How often a shard is read: fast while busy, calm while idle.

use std::sync::Mutex;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::sync::futures::Notified;
use tokio::time::Instant;

use super::Settings;

/// How long nothing new may have come into an account before its shards count as asleep.
const ASLEEP: Duration = Duration::from_millis(300);

/// When something new was last found in an account: its shards then are all read more often.
#[derive(Debug, Default)]
pub(super) struct Activity {
    last: Mutex<Option<Instant>>,
    woken: Notify,
}

impl Activity {
    /// Something new came in. After a quiet time that wakes the carriers of the other shards, which may have a second
    /// to sleep: changes seldom come alone.
    pub fn seen(&self, now: Instant) {
        let before = self.lock().replace(now);
        if before.is_none_or(|last| now.saturating_duration_since(last) >= ASLEEP) {
            self.woken.notify_waiters();
        }
    }

    /// Waits until the account wakes.
    pub fn woken(&self) -> Notified<'_> {
        self.woken.notified()
    }

    fn last(&self) -> Option<Instant> {
        *self.lock()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Instant>> {
        self.last.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// The wait between two reads of one shard: starts small after something new and doubles with every read that finds
/// nothing. Its bound is half of the time since anything new came into the account, between one bound for a busy account
/// and another for an idle one: calming down costs a handful of reads, and a busy account is read often in all its
/// shards.
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
        let quiet = activity.last().map_or(self.idle, |last| now.saturating_duration_since(last) / 2);
        let most = quiet.min(self.idle).max(self.active);
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
        let later = now + Duration::from_millis(500);
        let waits: Vec<_> = (0..8).map(|_| pace.after(false, Duration::ZERO, &activity, later)).collect();
        assert_eq!(waits[7], Duration::from_millis(250));
        let later = now + Duration::from_secs(10);
        let waits: Vec<_> = (0..8).map(|_| pace.after(false, Duration::ZERO, &activity, later)).collect();
        assert_eq!(waits[7], settings.poll_idle);
        assert_eq!(pace.after(true, Duration::ZERO, &activity, later), settings.poll_busy);
        assert_eq!(pace.after(true, Duration::from_secs(3), &activity, later), Duration::from_secs(3));
    }
}
