//! Link state: published in `RelayControl` of both ends, and read back from there.
//!
//! The publication at a destination is the heartbeat of its link: the one request that goes there while nothing changes. So
//! one that cannot be reached is not taken for one that nothing waits for.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::board::{CacheStatus, StatusBoard};
use super::destination::Destination;
use super::duty::Duty;
use super::refresh::CacheLane;
use crate::model::{Addressee, PartitionKey, Region, SystemTable, Time};
use crate::planted::{Bug, planted};
use crate::runtime::Runtime;
use crate::settle::{LinkPart, LinkStatus, Together};
use crate::stores::{ErrorKind, Operation, Query, RegionStore, Scope, StoreError};
use crate::telemetry::metrics;

/// How often metrics and `/status` are brought up to date; `RelayControl` is usually written less often.
pub(super) const REFRESH_EVERY: Duration = Duration::from_secs(1);

/// Publishes the state of every link out of this region.
#[derive(Debug)]
pub(super) struct Publisher {
    pub local: RegionStore,
    pub destinations: Vec<Arc<Destination>>,
    pub cache: Option<CacheLane>,
    pub board: Arc<StatusBoard>,
    /// Every daemon of the region knows the state of its links; the first of them publishes it.
    pub duty: Arc<Duty>,
    pub publish_every: Duration,
    pub runtime: Runtime,
}

impl Publisher {
    /// Publishes until it is stopped.
    pub async fn run(self, stop: CancellationToken) {
        let (mut published, mut known) = (None::<Instant>, 0);
        let mut publication: Option<BoxFuture<'_, ()>> = None;
        loop {
            let links = self.links();
            self.board.set_links(links.clone());
            self.measure(&links);
            self.tell_of_throttling();
            self.tell_of_cache();
            let now = self.runtime.instant();
            // Whoever waits for a planned failover waits for what is published; and the first Last Sync Time of a link is
            // all that a failover knows of it if the region is lost at once.
            let moving = self.board.roles().obeyed().moving.is_some();
            let synced = links.iter().filter(|link| link.last_sync.is_some()).count();
            let every =
                if moving || synced > known { REFRESH_EVERY.min(self.publish_every) } else { self.publish_every };
            if published.is_none_or(|last| now >= last + every) && publication.is_none() {
                (published, known) = (Some(now), synced);
                publication = Some(self.publish(links, self.duty.is_first()).boxed());
            }
            let next = now + REFRESH_EVERY.min(self.publish_every);
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                // Beside the waiting: an end that hangs keeps nobody from being told here.
                _ = through(&mut publication), if publication.is_some() => publication = None,
                () = tokio::time::sleep_until(next) => {}
            }
        }
    }

    fn links(&self) -> Vec<LinkStatus> {
        let now = self.storage_now();
        let link = |(consumer, to): (usize, &Arc<Destination>)| {
            to.reception.health.calm_down();
            let (last_sync, hints) = self.board.of_hints(consumer);
            let all = Together::of(&part(&self.board, consumer, to), &self.board.of_others(to.region()));
            let oldest_waiting = all.oldest_waiting.into_iter().chain(hints.oldest).min();
            LinkStatus {
                source: self.local.region().clone(),
                destination: to.region().clone(),
                state: all.state,
                last_sync,
                fresh_to: hints.fresh_to,
                word: self.board.word(),
                lag: oldest_waiting.map(|oldest| now.since(oldest)).unwrap_or_default(),
                backlog_rows: all.waiting_rows + hints.hints,
                oldest_waiting,
                last_error: all.last_error,
                published: self.runtime.now(),
                copy: to.copy.is_some(),
            }
        };
        self.destinations.iter().enumerate().map(link).collect()
    }

    fn tell_of_cache(&self) {
        let Some(cache) = &self.cache else { return };
        // It is the consumer behind the destinations.
        let consumer = self.destinations.len();
        let ((_, oldest, rows), (_, hints)) = (self.board.of_ledgers(consumer), self.board.of_hints(consumer));
        let oldest_waiting = oldest.into_iter().chain(hints.oldest).min();
        let backlog_rows = rows as u64 + hints.hints;
        cache.reception().health.calm_down();
        let (state, last_error) = cache.reception().health.state();
        let (record, addressee) = (cache.record(), cache.reception().backlog.addressee());
        metrics::backlog(addressee, backlog_rows);
        let (lost, loss) = record.lost.unzip();
        let loss = loss.filter(|_| record.is_wanting());
        let warmed = record.warmed;
        self.board.set_cache(CacheStatus { state, backlog_rows, oldest_waiting, last_error, loss, lost, warmed });
    }

    fn storage_now(&self) -> Time {
        let clocks = self.local.accounts().iter().filter_map(|account| account.tables.clock().at(Instant::now()));
        clocks.max().unwrap_or_else(|| self.runtime.now())
    }

    fn measure(&self, links: &[LinkStatus]) {
        for link in links {
            metrics::lag(&link.source, &link.destination, link.lag);
            metrics::backlog(&Addressee::Region(link.destination.clone()), link.backlog_rows);
            metrics::link_state(&link.source, &link.destination, link.state);
            if let Some(time) = link.last_sync {
                metrics::last_sync(&link.source, &link.destination, time);
            }
        }
        for (account, records) in self.board.snapshot().feed_records {
            metrics::feed_records(&account, records as u64);
        }
    }

    /// Which of the accounts that this line asks want less.
    fn tell_of_throttling(&self) {
        let regions = std::iter::once(&self.local).chain(self.destinations.iter().map(|to| &to.store));
        let gates = regions.flat_map(RegionStore::accounts).filter_map(|account| account.tables.gate());
        self.board.set_throttled(gates.filter_map(|gate| gate.tell()).collect());
    }

    /// Side by side, so that an end that hangs does not keep the others from being told. Each has until the next
    /// publication is due. A daemon that does not publish asks for what stands there: it hears the destination too.
    async fn publish(&self, links: Vec<LinkStatus>, publishes: bool) {
        let here = links.iter().filter(|_| publishes).map(|link| async move {
            if let Err(error) = self.in_time(self.tell(&self.local, link)).await {
                // The source's health says it louder; the next publication makes it good.
                debug!(destination = %link.destination, %error, "link state was not published here");
            }
        });
        let there = links.iter().zip(&self.destinations).map(|(link, to)| async move {
            let beat =
                async { if publishes { self.tell(&to.store, link).await } else { self.ask(&to.store, link).await } };
            match self.in_time(beat).await {
                Ok(()) => to.reception.health.heard(),
                // It answers; its table is being created.
                Err(error) if error.kind == ErrorKind::NoTable => to.reception.health.heard(),
                Err(_) if planted(Bug::HeartbeatUnheard) => to.reception.health.heard(),
                Err(error) => to.reception.health.unheard(&error),
            }
        });
        futures::future::join(futures::future::join_all(here), futures::future::join_all(there)).await;
    }

    async fn tell(&self, end: &RegionStore, link: &LinkStatus) -> Result<(), StoreError> {
        let row = Operation::InsertOrReplace(link.encode());
        end.home().write(&SystemTable::Control.name(), &row).await.map(drop)
    }

    async fn ask(&self, end: &RegionStore, link: &LinkStatus) -> Result<(), StoreError> {
        let row = link.encode();
        end.home().get(&SystemTable::Control.name(), row.partition(), row.row()).await.map(drop)
    }

    async fn in_time(&self, request: impl Future<Output = Result<(), StoreError>>) -> Result<(), StoreError> {
        let within = self.publish_every;
        let late = |_| StoreError::new(ErrorKind::Unreachable, format!("no answer within {within:?}"));
        timeout(within, request).await.map_err(late)?
    }
}

/// A link as far as the shards of this daemon go.
pub(super) fn part(board: &StatusBoard, consumer: usize, to: &Destination) -> LinkPart {
    let (last_sync, oldest_waiting, rows) = board.of_ledgers(consumer);
    let fresh_to = board.fresh_of_ledgers(consumer);
    let (state, last_error) = to.reception.health.state();
    let (destination, waiting_rows) = (to.region().clone(), rows as u64);
    LinkPart { destination, last_sync, fresh_to, oldest_waiting, waiting_rows, state, last_error }
}

/// What is under way, once it is done; nothing where nothing is.
pub(super) async fn through<T>(under_way: &mut Option<BoxFuture<'_, T>>) -> Option<T> {
    match under_way {
        Some(under_way) => Some(under_way.await),
        None => None,
    }
}

/// The links that a region's `RelayControl` tells of.
pub async fn read_links(store: &RegionStore) -> Result<Vec<LinkStatus>, StoreError> {
    let partition = PartitionKey::from(LinkStatus::PARTITION);
    let mut query = Query::new(Scope::Partition { partition, from: None, through: None });
    let mut links = Vec::new();
    loop {
        let page = store.home().query(&SystemTable::Control.name(), &query).await?;
        links.extend(page.rows.iter().filter_map(|row| LinkStatus::decode(&row.body).ok()));
        query.continuation = page.continuation;
        if query.continuation.is_none() {
            return Ok(links);
        }
    }
}

/// The Last Sync Times of every link out of `source`, by destination, as that region published them. `None` for a
/// destination that has none yet.
pub(super) async fn last_syncs(source: &RegionStore) -> Result<BTreeMap<Region, Option<Time>>, StoreError> {
    let links = read_links(source).await?.into_iter().filter(|link| link.source == *source.region());
    Ok(links.map(|link| (link.destination, link.last_sync)).collect())
}
