//! How long a step of the protocol waits, and between its tries.

use std::future::Future;
use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout_at};

use crate::runtime::Runtime;
use crate::stores::{ErrorKind, StoreError};

/// A deadline, and full jitter between tries until then.
#[derive(Debug)]
pub(super) struct Patience<'a> {
    runtime: &'a Runtime,
    deadline: Instant,
    tries: u32,
}

/// The first pause is up to this, then it doubles.
const BASE: Duration = Duration::from_millis(50);
/// The longest pause.
const MOST: Duration = Duration::from_secs(2);

impl<'a> Patience<'a> {
    pub fn until(runtime: &'a Runtime, deadline: Instant) -> Self {
        Self { runtime, deadline, tries: 0 }
    }

    /// Waits for one request, but not beyond the deadline: then its outcome is unknown.
    pub async fn request<T, E: From<StoreError>>(&self, request: impl Future<Output = Result<T, E>>) -> Result<T, E> {
        timeout_at(self.deadline, request).await.unwrap_or_else(|_| Err(no_reply().into()))
    }

    /// Waits before the next try, as long as the store asked for or with full jitter; `false` where the deadline comes
    /// first.
    pub async fn pause(&mut self, err: &StoreError) -> bool {
        let most = BASE.saturating_mul(1 << self.tries.min(8)).min(MOST);
        self.tries += 1;
        let until = self.runtime.instant() + err.retry_after.unwrap_or_default().max(self.runtime.jitter(most));
        if until >= self.deadline {
            return false;
        }
        sleep_until(until).await;
        true
    }
}

/// What a request fails with that was not answered by the deadline.
pub(super) fn no_reply() -> StoreError {
    StoreError::new(ErrorKind::Unreachable, "no reply within the time that the settle window leaves")
}
