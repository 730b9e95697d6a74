//! The line assembled: it carries, and decides nothing that a station could decide.
//!
//! Of each account a [`source`] is read by sixteen carriers, one a shard. A [`carrier`] owns the shard's ledger: it
//! reads records, looks at their rows, and puts what was found into the baskets of its lanes, one for every destination
//! and one for the region's own cache. A [`lane`] takes batches out of its basket, delivers them, and reports back; when
//! everybody has what the protocol demands, the carrier ends the record. Lanes know nothing of each other, so a slow
//! destination never slows another.
//!
//! A destination that takes nothing for a while is parked: its lanes put hints into the [`backlog`], one per row, which
//! counts as delivered for the records, and its [`drain`] brings it what the hints name when it is back. The [`census`] counts them.
//!
//! Beside the line run the readers of the applied log (what came in, for the cache), of the queue form, the publisher of
//! link state and the sweep of the quarantine.

mod applied_reader;
mod applied_sender;
mod backlog;
mod board;
mod carrier;
mod census;
mod deliver;
mod destination;
mod disagree;
mod drain;
mod flag;
mod gather;
mod health;
mod item;
mod journal;
mod lane;
mod links;
mod look;
mod poll;
mod quarantine;
mod queue;
mod ramp;
mod refresh;
mod removal;
mod replay;
mod rows;
mod settings;
mod single;
mod source;
mod source_health;
mod tasks;
#[cfg(test)]
mod tests;
mod tombstones;

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use self::applied_reader::{AppliedReader, readers_for};
use self::carrier::Carrier;
use self::census::Census;
use self::deliver::Delivery;
use self::destination::Destination;
use self::disagree::Referee;
use self::drain::Drain;
use self::health::Backoff;
use self::journal::Journal;
use self::lane::{Basket, Consumer, Lane};
use self::links::Publisher;
use self::poll::{Activity, Pace};
use self::quarantine::Quarantine;
use self::queue::QueueReader;
use self::ramp::Ramp;
use self::refresh::CacheLane;
use self::single::Single;
use self::source::Source;
use self::source_health::SourceHealth;
use self::tasks::Tasks;
use self::tombstones::Tombstones;

pub use self::board::{Delivered, Snapshot, StatusBoard};
pub use self::links::read_links;
pub use self::replay::{Replay, ReplayError, Taken, take_out};
pub use self::settings::{CacheSetup, Settings, Setup};
pub use self::tasks::ReplicatorError;

use crate::feed::Shard;
use crate::model::{SystemTable, WriterId};
use crate::resolve::Freshness;
use crate::settle::{Ledger, SettleRules};
use crate::stores::{Account, DATE_RESOLUTION, RegionStore, StoreError};

/// Reports that may wait for a carrier: a few for each lane.
const REPORTS: usize = 256;

/// The replication line of one region.
#[derive(Debug)]
pub struct Replicator {
    setup: Setup,
    board: Arc<StatusBoard>,
    writer: WriterId,
}

/// Creates the system tables, and the queue, that are missing in the accounts of a region.
///
/// # Errors
/// The first failure; what was created stays.
pub async fn create_missing(region: &RegionStore) -> Result<(), StoreError> {
    for account in region.accounts() {
        for table in SystemTable::ALL {
            account.tables.create_table(&table.name()).await?;
        }
        if let Some(queue) = &account.queue {
            queue.create().await?;
        }
    }
    Ok(())
}

impl Replicator {
    /// A line that has not started. The system tables of its own region are expected to be there.
    pub fn new(setup: Setup) -> Self {
        let writer = setup.runtime.writer_id();
        Self { setup, board: Arc::default(), writer }
    }

    /// What the line tells of itself, now and while it runs.
    pub fn status(&self) -> Arc<StatusBoard> {
        self.board.clone()
    }

    /// Replicates until it is stopped.
    ///
    /// # Errors
    /// [`ReplicatorError`] where a task ended or panicked; the others were stopped then.
    pub async fn run(self, stop: CancellationToken) -> Result<(), ReplicatorError> {
        let tasks = Tasks::new(stop.child_token());
        let skew = self.setup.settings.max_clock_skew;
        let others = || self.setup.destinations.iter().map(|region| self.single(region)).collect();
        let here = || self.single(&self.setup.local);
        let cache = self.setup.cache.clone().map(|setup| CacheLane::new(here(), others(), setup, skew));
        let quarantine = self.quarantine();
        let destinations = self.destinations(&tasks);
        for account in self.setup.local.accounts() {
            self.start_account(account, &destinations, cache.as_ref(), &quarantine, &tasks);
        }
        self.start_drains(&destinations, &quarantine, &tasks);
        self.start_readers(cache.as_ref(), &tasks);
        self.start_publisher(destinations, &tasks);
        self.start_sweep(quarantine, &tasks);
        tasks.join().await
    }

    fn destinations(&self, tasks: &Tasks) -> Vec<Arc<Destination>> {
        let Setup { local, destinations, settings, runtime, .. } = &self.setup;
        let make = |store: &RegionStore| Destination::new(local, store.clone(), settings, self.writer, runtime, tasks);
        destinations.iter().map(make).collect()
    }

    fn single(&self, region: &RegionStore) -> Single {
        Single::new(region.clone(), self.setup.runtime.clone(), self.setup.settings.settle_window)
    }

    fn quarantine(&self) -> Arc<Quarantine> {
        let Setup { local, destinations, runtime, .. } = &self.setup;
        Arc::new(Quarantine { store: local.clone(), others: destinations.clone(), runtime: runtime.clone() })
    }

    fn backoff(&self) -> Backoff {
        Backoff::new(self.setup.settings.backoff_first, self.setup.settings.backoff_last)
    }

    fn start_account(
        &self,
        account: &Account,
        destinations: &[Arc<Destination>],
        cache: Option<&CacheLane>,
        quarantine: &Arc<Quarantine>,
        tasks: &Tasks,
    ) {
        let Setup { local, settings, runtime, tables, .. } = &self.setup;
        let source = self.source(account, quarantine);
        let activity = Arc::new(Activity::default());
        for shard in Shard::all() {
            self.start_shard(shard, &source, destinations, cache, &activity, tasks);
        }
        if let Some(queue) = &account.queue {
            let reader = Box::new(QueueReader {
                tables: account.tables.clone(),
                queue: queue.clone(),
                region: local.clone(),
                single: self.single(local),
                tombstones: Tombstones::new(local.clone(), settings.tombstone_scan),
                quarantine: quarantine.clone(),
                filter: tables.clone(),
                max_clock_skew: settings.max_clock_skew,
                poll_busy: settings.poll_busy,
                poll_idle: settings.poll_idle,
                backoff: self.backoff(),
                runtime: runtime.clone(),
            });
            tasks.spawn(format!("queue of {}", account.tables.account()), reader.run(tasks.stop.clone()));
        }
    }

    fn source(&self, account: &Account, quarantine: &Arc<Quarantine>) -> Arc<Source> {
        let Setup { local, settings, runtime, tables, .. } = &self.setup;
        Arc::new(Source {
            tables: account.tables.clone(),
            region: local.clone(),
            tombstones: Tombstones::new(local.clone(), settings.tombstone_scan),
            quarantine: quarantine.clone(),
            single: self.single(local),
            filter: tables.clone(),
            health: SourceHealth::default(),
            max_clock_skew: settings.max_clock_skew,
            runtime: runtime.clone(),
        })
    }

    /// Hints stand in the home account, so its clock is the one that they are judged by.
    fn start_drains(&self, destinations: &[Arc<Destination>], quarantine: &Arc<Quarantine>, tasks: &Tasks) {
        let Setup { local, settings, runtime, .. } = &self.setup;
        let source = self.source(&local.accounts()[0], quarantine);
        for to in destinations {
            let drain = Box::new(Drain {
                delivery: Arc::new(self.delivery(to)),
                source: source.clone(),
                backlog: to.backlog.clone(),
                quarantine: quarantine.clone(),
                board: self.board.clone(),
                window: settings.settle_window,
                ramp: Ramp::new(settings.batch.rows.min(drain::MOST_ROWS)),
                backoff: self.backoff(),
                runtime: runtime.clone(),
                looks: 0,
                trying: None,
            });
            tasks.spawn(format!("drain of hints for {}", to.region()), drain.run(tasks.stop.clone()));
        }
        let backlogs = destinations.iter().map(|to| to.backlog.clone()).collect();
        let (board, runtime) = (self.board.clone(), runtime.clone());
        let census = Census { local: local.clone(), backlogs, board, runtime };
        tasks.spawn("count of hints".to_owned(), census.run(tasks.stop.clone()));
    }

    fn start_shard(
        &self,
        shard: Shard,
        source: &Arc<Source>,
        destinations: &[Arc<Destination>],
        cache: Option<&CacheLane>,
        activity: &Arc<Activity>,
        tasks: &Tasks,
    ) {
        let Setup { settings, runtime, .. } = &self.setup;
        let account = source.account().clone();
        let consumers = destinations.iter().map(|to| Consumer::Region(Arc::new(self.delivery(to))));
        let consumers = consumers.chain(cache.cloned().map(Consumer::Cache));
        let (reports, receiver) = mpsc::channel(REPORTS);
        let mut baskets = Vec::new();
        for (number, consumer) in consumers.enumerate() {
            let basket = Arc::new(Basket::default());
            baskets.push(basket.clone());
            let lane = Lane {
                number,
                consumer,
                basket,
                reports: reports.clone(),
                limits: settings.batch,
                crowd: settings.max_open_records / 2,
                trying: None,
                crowded: None,
                budget: settings.body_budget / Shard::COUNT,
                backoff: self.backoff(),
                board: self.board.clone(),
                runtime: runtime.clone(),
            };
            tasks.spawn(format!("lane {number} of shard {account}/{shard}"), lane.run(tasks.stop.clone()));
        }
        let rules = SettleRules {
            window: settings.settle_window,
            date_resolution: DATE_RESOLUTION,
            first_retry: settings.look_first_retry,
            last_retry: settings.look_last_retry,
        };
        self.board.expect(&account, shard);
        let carrier = Carrier {
            shard,
            source: source.clone(),
            ledger: Ledger::new(rules, baskets.len()),
            baskets,
            budget: settings.body_budget / Shard::COUNT,
            max_open_records: settings.max_open_records,
            reports: receiver,
            activity: activity.clone(),
            pace: Pace::new(settings),
            backoff: self.backoff(),
            board: self.board.clone(),
            runtime: runtime.clone(),
        };
        tasks.spawn(format!("carrier of shard {account}/{shard}"), carrier.run(tasks.stop.clone()));
    }

    fn delivery(&self, to: &Arc<Destination>) -> Delivery {
        let Setup { local, settings, runtime, .. } = &self.setup;
        let referee = Referee {
            here: self.single(local),
            journal: Journal { store: local.clone(), runtime: runtime.clone() },
            quarantine: self.quarantine(),
            board: self.board.clone(),
            max_clock_skew: settings.max_clock_skew,
            runtime: runtime.clone(),
        };
        Delivery { to: to.clone(), referee: Arc::new(referee), fresh: Freshness::new(settings.settle_window) }
    }

    fn start_readers(&self, cache: Option<&CacheLane>, tasks: &Tasks) {
        let Setup { local, destinations, settings, runtime, .. } = &self.setup;
        for (source, others) in readers_for(local, destinations) {
            let name = format!("reader of what came in from {}", source.region());
            let reader = Box::new(AppliedReader {
                source,
                local: local.clone(),
                tombstones: Tombstones::new(local.clone(), settings.tombstone_scan),
                cache: cache.cloned(),
                others,
                poll_busy: settings.poll_busy,
                poll_idle: settings.poll_idle,
                margin: settings.max_clock_skew,
                backoff: self.backoff(),
                runtime: runtime.clone(),
            });
            tasks.spawn(name, reader.run(tasks.stop.clone()));
        }
    }

    fn start_publisher(&self, destinations: Vec<Arc<Destination>>, tasks: &Tasks) {
        let publisher = Publisher {
            local: self.setup.local.clone(),
            destinations,
            board: self.board.clone(),
            publish_every: self.setup.settings.publish_every,
            runtime: self.setup.runtime.clone(),
        };
        tasks.spawn("publisher of link state".to_owned(), publisher.run(tasks.stop.clone()));
    }

    fn start_sweep(&self, quarantine: Arc<Quarantine>, tasks: &Tasks) {
        let (every, stop) = (self.setup.settings.sweep_every, tasks.stop.clone());
        tasks.spawn("sweep of the quarantine".to_owned(), async move {
            for number in 0.. {
                let round = async {
                    if let Err(error) = quarantine.sweep(number).await {
                        tracing::debug!(%error, "the quarantine could not be swept; trying again");
                    }
                    tokio::time::sleep(every).await;
                };
                tokio::select! {
                    biased;
                    () = stop.cancelled() => return,
                    () = round => {}
                }
            }
        });
    }
}
