//! A flag that tasks wait for.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

/// A flag that tasks wait for; all are woken in the order in which they began to wait. (Tokio's `watch` wakes them in an order that
/// it draws from a chance of its own, which no seed of a simulation repeats.)
#[derive(Debug, Default)]
pub(super) struct Flag {
    up: AtomicBool,
    changed: Notify,
}

impl Flag {
    pub fn is_up(&self) -> bool {
        self.up.load(Ordering::SeqCst)
    }

    /// Sets it; says what it was before.
    pub fn set(&self, up: bool) -> bool {
        let before = self.up.swap(up, Ordering::SeqCst);
        if up && !before {
            self.changed.notify_waiters();
        }
        before
    }

    /// Waits until it is up.
    pub async fn until_up(&self) {
        loop {
            // Who begins to wait before looking misses nothing that changes after the look.
            let changed = self.changed.notified();
            if self.is_up() {
                return;
            }
            changed.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    #[tokio::test]
    async fn who_waits_is_woken_once_it_is_up() {
        let flag = Flag::default();
        let waiting = flag.until_up();
        tokio::pin!(waiting);
        assert!(waiting.as_mut().now_or_never().is_none());
        assert!(!flag.set(true));
        waiting.await;
        assert!(flag.set(false) && !flag.is_up());
        assert!(flag.until_up().now_or_never().is_none());
    }
}
