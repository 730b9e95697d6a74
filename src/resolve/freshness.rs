//! R9: until when a look may be acted on.

use std::time::Duration;

use tokio::time::Instant;

use crate::planted::{Bug, planted};

/// Whether what was decided on a look may still be written: up to half a settle window after the look began.
///
/// That bound is what makes a stalled daemon harmless. The other half of the window is the network's: a write sent at
/// the last moment is over before a look that began a whole window later could miss it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Freshness {
    half_window: Duration,
}

impl Freshness {
    /// The rule for a settle window.
    pub fn new(settle_window: Duration) -> Self {
        Self { half_window: settle_window / 2 }
    }

    /// Whether a write may be sent at `now` on a look that began at `began`.
    pub fn allows(self, began: Instant, now: Instant) -> bool {
        now < self.deadline(began) || planted(Bug::StaleLook)
    }

    /// The first moment at which nothing may be sent any more on a look that began at `began`.
    pub fn deadline(self, began: Instant) -> Instant {
        began + self.half_window
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_a_window_and_no_longer() {
        let rule = Freshness::new(Duration::from_secs(60));
        let began = Instant::now();
        assert!(rule.allows(began, began + Duration::from_millis(29_999)));
        assert!(!rule.allows(began, began + Duration::from_secs(30)));
    }
}
