//! What this daemon may do now, by its lease: whoever begins something asks here first.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use super::flag::Flag;
use crate::feed::AccountShard;
use crate::planted::{Bug, planted};

/// Set by the task that keeps the lease, asked by everybody.
#[derive(Debug, Default)]
pub(super) struct Duty {
    lease: Mutex<Lease>,
    first: Flag,
}

#[derive(Debug, Default)]
struct Lease {
    until: Option<Instant>,
    held: BTreeSet<AccountShard>,
}

impl Duty {
    /// The lease holds until then, for these shards; `first` where what the region needs once is this daemon's part.
    pub fn set(&self, until: Option<Instant>, held: BTreeSet<AccountShard>, first: bool) {
        *self.lock() = Lease { until, held };
        self.first.set(first);
    }

    /// The lease was renewed.
    pub fn extend(&self, until: Option<Instant>) {
        self.lock().until = until;
    }

    /// Whether there is a lease at `now`.
    pub fn has_lease(&self, now: Instant) -> bool {
        self.lock().until.is_some_and(|until| now < until) || planted(Bug::LeaseOutlived)
    }

    /// Whether this daemon carries a shard at `now`.
    pub fn carries(&self, shard: &AccountShard, now: Instant) -> bool {
        self.has_lease(now) && self.lock().held.contains(shard)
    }

    /// What it carries at `now`.
    pub fn held(&self, now: Instant) -> BTreeSet<AccountShard> {
        if self.has_lease(now) { self.lock().held.clone() } else { BTreeSet::new() }
    }

    /// Whether what the region needs once is this daemon's part.
    pub fn is_first(&self) -> bool {
        self.first.is_up()
    }

    /// Waits until it is.
    pub async fn until_first(&self) {
        self.first.until_up().await;
    }

    fn lock(&self) -> MutexGuard<'_, Lease> {
        self.lease.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
