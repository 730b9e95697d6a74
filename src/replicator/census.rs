//! Counting what waits as hints, and what that means for Last Sync Time.
//!
//! A record ends on a hint, so what the ledgers know of a destination says nothing of its hints; and another daemon of the
//! region may have written them. Therefore Last Sync Time is taken from the ledgers first, and the backlog is read after
//! that: whatever those ledgers no longer hold because of a hint is found there, or was delivered meanwhile.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::backlog::Backlog;
use super::board::{StatusBoard, Waiting};
use crate::feed::{hint_consumer, hint_since};
use crate::model::{SystemTable, Time};
use crate::runtime::Runtime;
use crate::stores::{Query, RegionStore, Scope, StoreError};

/// The wait between two counts, at least and at most.
const EVERY: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(30);
/// Counting takes one part in so many of the time, where it takes long.
const SHARE: u32 = 10;

/// Counts the hints of all destinations, and of the cache.
#[derive(Debug)]
pub(super) struct Census {
    pub local: RegionStore,
    /// By consumer.
    pub backlogs: Vec<Arc<Backlog>>,
    pub board: Arc<StatusBoard>,
    pub runtime: Runtime,
}

/// Hints of one consumer.
#[derive(Debug, Clone, Copy, Default)]
struct Count {
    rows: u64,
    oldest: Option<Time>,
}

impl Census {
    /// Counts until it is stopped.
    pub async fn run(self, stop: CancellationToken) {
        loop {
            let began = self.runtime.instant();
            let round = async {
                if let Err(error) = self.count().await {
                    debug!(%error, "the backlog could not be counted; Last Sync Time stands still meanwhile");
                }
                let took = self.runtime.instant() - began;
                tokio::time::sleep((took * SHARE).clamp(EVERY, LONGEST)).await;
            };
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = round => {}
            }
        }
    }

    async fn count(&self) -> Result<(), StoreError> {
        let synced: Vec<Option<Time>> = (0..self.backlogs.len()).map(|n| self.board.synced(n)).collect();
        let fresh: Vec<Option<Time>> = (0..self.backlogs.len()).map(|n| self.board.fresh_to(n)).collect();
        let mut counts: BTreeMap<String, Count> = BTreeMap::new();
        let mut query = Query { select: Some(vec!["Since".to_owned()]), ..Query::new(Scope::Table) };
        loop {
            let page = self.local.home().query(&SystemTable::Backlog.name(), &query).await?;
            for row in &page.rows {
                let consumer = hint_consumer(row.body.partition());
                if !counts.contains_key(consumer) {
                    counts.insert(consumer.to_owned(), Count::default());
                }
                let Some(count) = counts.get_mut(consumer) else { continue };
                let since = hint_since(row);
                count.rows += 1;
                count.oldest = Some(count.oldest.map_or(since, |oldest| oldest.min(since)));
            }
            query.continuation = page.continuation;
            if query.continuation.is_none() {
                break;
            }
        }
        for (consumer, (backlog, (synced, fresh))) in
            self.backlogs.iter().zip(synced.into_iter().zip(fresh)).enumerate()
        {
            let Count { rows: hints, oldest } = counts.get(backlog.name()).copied().unwrap_or_default();
            let held = |time: Option<Time>| time.map(|time| oldest.map_or(time, |oldest| oldest.min(time)));
            self.board.hinted(consumer, Waiting { last_sync: held(synced), fresh_to: held(fresh), hints, oldest });
            backlog.counted(hints);
        }
        Ok(())
    }
}
