//! R9: until when a look may be acted on.

use std::time::Duration;

use tokio::time::Instant;

use crate::planted::{Bug, planted};

/// Whether what was decided on a look may still be written: up to half a settle window after the look began.
///
/// That bound is what makes a stalled daemon harmless. The other half of the window is the network's: a write sent at
/// the last moment is over before a look that began a whole window later could miss it.
///
/// A request may still wait for its turn at a throttled account after this was asked, so that wait is taken off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Freshness {
    most: Duration,
}

impl Freshness {
    /// The rule for a settle window.
    pub fn new(settle_window: Duration) -> Self {
        Self { most: settle_window / 2 - Self::patience(settle_window) }
    }

    /// How long a request may wait for its turn at a throttled account; one whose turn comes later is not sent.
    pub fn patience(settle_window: Duration) -> Duration {
        (settle_window / 16).min(Duration::from_secs(1))
    }

    /// Whether a write may be sent at `now` on a look that began at `began`.
    pub fn allows(self, began: Instant, now: Instant) -> bool {
        now < self.deadline(began) || planted(Bug::StaleLook)
    }

    /// The first moment at which nothing may be sent any more on a look that began at `began`.
    pub fn deadline(self, began: Instant) -> Instant {
        began + self.most
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_a_window_with_the_wait_for_a_turn_and_no_longer() {
        let window = Duration::from_secs(60);
        let (rule, began) = (Freshness::new(window), Instant::now());
        let most = Duration::from_secs(30) - Freshness::patience(window);
        assert!(rule.allows(began, began + most - Duration::from_millis(1)));
        assert!(!rule.allows(began, began + most));
        assert!(most > Duration::from_secs(28), "{most:?}");
    }
}
