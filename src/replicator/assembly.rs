//! How the parts of a line are put together: those of each shard, which come and go with it, and those of the region.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use tokio::sync::mpsc;
use tokio::time::Instant;

use super::applied_reader::{AppliedReader, readers_for};
use super::board::StatusBoard;
use super::carrier::Carrier;
use super::census::Census;
use super::consumer::Consumer;
use super::deliver::Delivery;
use super::destination::Destination;
use super::disagree::Referee;
use super::drain::{self, Drain};
use super::duty::Duty;
use super::health::Backoff;
use super::journal::Journal;
use super::lane::{Basket, Lane};
use super::late::LateDesk;
use super::links::{self, Publisher};
use super::poll::{Activity, Pace};
use super::quarantine::Quarantine;
use super::queue::QueueReader;
use super::ramp::Ramp;
use super::readers::Readers;
use super::refresh::CacheLane;
use super::residual::Residual;
use super::single::Single;
use super::source::Source;
use super::source_health::SourceHealth;
use super::survivor::Survivor;
use super::tasks::{Group, LineTask, Spawner};
use super::tombstones::Tombstones;
use super::watch::Watch;
use super::{Settings, Setup};
use crate::cache::Markers;
use crate::feed::{AccountShard, Shard};
use crate::model::{AccountName, Region, Time};
use crate::resolve::Freshness;
use crate::settle::{Ledger, LinkPart, SettleRules};
use crate::stores::{Account, DATE_RESOLUTION, Queue, RegionStore};
use crate::topology::CopyRule;

/// Reports that may wait for a carrier: a few for each lane.
const REPORTS: usize = 256;
/// Conflicts are collected once in so many sweeps of the quarantine.
const COLLECTS: u32 = 20;

/// An account of the region, as its carriers share it.
#[derive(Debug)]
struct Origin {
    source: Arc<Source>,
    activity: Arc<Activity>,
}

/// What the parts of a line are made of.
#[derive(Debug)]
pub(super) struct Assembly {
    setup: Setup,
    board: Arc<StatusBoard>,
    duty: Arc<Duty>,
    tasks: Spawner,
    /// Regions first, then copies.
    destinations: Vec<Arc<Destination>>,
    cache: Option<CacheLane>,
    quarantine: Arc<Quarantine>,
    journal: Arc<Journal>,
    late: Arc<LateDesk>,
    origins: BTreeMap<AccountName, Origin>,
}

impl Assembly {
    pub fn new(setup: Setup, board: Arc<StatusBoard>, duty: Arc<Duty>, tasks: Spawner) -> Self {
        let Setup { local, destinations, copies, settings, runtime, .. } = &setup;
        let writer = runtime.writer_id();
        let cache = setup.cache.clone().map(|cache| {
            let others = destinations.iter().map(|region| single(&setup, region)).collect();
            CacheLane::new(single(&setup, local), others, cache, settings)
        });
        let others = destinations.iter().chain(copies.iter().map(|copy| &copy.store)).cloned().collect();
        let quarantine = Arc::new(Quarantine::new(local.clone(), others, runtime.clone()));
        let journal = Arc::new(Journal {
            store: local.clone(),
            others: destinations.clone(),
            board: board.clone(),
            window: settings.settle_window,
            log_outlives: settings.log_outlives(),
            late_writes: settings.late_writes,
            silent: Mutex::default(),
            runtime: runtime.clone(),
        });
        let late = Arc::new(LateDesk {
            roles: board.roles().clone(),
            policy: settings.late_writes,
            regions: destinations.iter().chain([local]).map(|region| single(&setup, region)).collect(),
            journal: journal.clone(),
            fresh: Freshness::new(settings.settle_window),
            gate: Arc::default(),
            told: Mutex::default(),
        });
        let to = |store: &RegionStore, copy: Option<&Arc<CopyRule>>| {
            let store = (store.clone(), copy.cloned());
            Destination::new(local, store, settings, writer, runtime, &tasks)
        };
        let regions = destinations.iter().map(|store| to(store, None));
        let destinations = regions.chain(copies.iter().map(|copy| to(&copy.store, Some(&copy.rule)))).collect();
        let origin = |account: &Account| {
            let source = Arc::new(source(&setup, account, &quarantine));
            (account.tables.account().clone(), Origin { source, activity: Arc::default() })
        };
        let origins = local.accounts().iter().map(origin).collect();
        Self { board, duty, tasks, destinations, cache, quarantine, journal, late, origins, setup }
    }

    fn backoff(&self) -> Backoff {
        Backoff::new(self.setup.settings.backoff_first, self.setup.settings.backoff_last)
    }

    /// What the keeper of the lease needs to know of the region.
    pub fn setup(&self) -> &Setup {
        &self.setup
    }

    /// Where rows are put aside.
    pub fn quarantine(&self) -> &Quarantine {
        &self.quarantine
    }

    /// The links as far as this daemon's shards go, by consumer.
    pub fn parts(&self) -> Vec<LinkPart> {
        let part = |(consumer, to): (usize, &Arc<Destination>)| links::part(&self.board, consumer, to);
        self.destinations.iter().enumerate().map(part).collect()
    }

    /// The destinations, by consumer.
    pub fn destinations(&self) -> impl Iterator<Item = &Region> {
        self.destinations.iter().map(|to| to.region())
    }

    /// Shards were given up. A destination that nothing waits for any more in this daemon is not its trouble.
    pub fn let_go(&self) {
        for (number, consumer) in self.consumers().into_iter().enumerate() {
            if self.board.of_ledgers(number).2 == 0 {
                consumer.health().let_go();
            }
        }
    }

    /// Every destination in order, then the cache: by their places here, ledgers, board and census know them.
    fn consumers(&self) -> Vec<Consumer> {
        let regions = self.destinations.iter().map(|to| Consumer::Region(Arc::new(self.delivery(to))));
        regions.chain(self.cache.clone().map(Consumer::Cache)).collect()
    }

    /// Starts the carrier of a shard and its lanes, which nobody else carries from `alone_from` on; `None` where the region
    /// has no such account.
    pub fn start_shard(&self, shard: &AccountShard, alone_from: Instant) -> Option<Group> {
        let Setup { settings, runtime, .. } = &self.setup;
        let origin = self.origins.get(&shard.account)?;
        let (reports, receiver) = mpsc::channel(REPORTS);
        let (group, mut baskets) = (self.tasks.group(), Vec::new());
        for (number, consumer) in self.consumers().into_iter().enumerate() {
            let basket = Arc::new(Basket::new(consumer.copy()));
            baskets.push(basket.clone());
            let to = consumer.addressee().clone();
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
            group.spawn(LineTask::Lane, format!("shard {shard} to {to}"), lane.run(group.stop.clone()));
        }
        self.board.expect(shard);
        let carrier = Carrier {
            shard: shard.shard,
            source: origin.source.clone(),
            ledger: Ledger::new(settle_rules(settings), baskets.len()),
            baskets,
            budget: settings.body_budget / Shard::COUNT,
            max_open_records: settings.max_open_records,
            reports: receiver,
            activity: origin.activity.clone(),
            duty: self.duty.clone(),
            alone_from: Some(alone_from).filter(|from| *from > runtime.instant()),
            pace: Pace::new(settings),
            backoff: self.backoff(),
            board: self.board.clone(),
            runtime: runtime.clone(),
        };
        group.spawn(LineTask::Carrier, format!("shard {shard}"), carrier.run(group.stop.clone()));
        Some(group)
    }

    /// Starts what the region has once, or once for each account or other region.
    pub fn start_the_rest(&self) {
        for account in self.setup.local.accounts() {
            if let Some(queue) = &account.queue {
                self.start_queue(account, queue);
            }
        }
        self.consumers().into_iter().for_each(|to| self.start_drain(to));
        self.start_census();
        self.start_readers();
        self.start_watch();
        self.start_publisher();
        self.start_door();
        self.start_residual();
        let (sweep, every) = (self.quarantine.clone(), self.setup.settings.sweep_every);
        let stop = self.tasks.stop.clone();
        self.tasks.spawn(LineTask::Sweep, "the quarantine", async move { sweep.run(every, stop).await });
        let Settings { sweep_every, keep_conflicts, most_conflicts, .. } = self.setup.settings;
        let (journal, every) = (self.journal.clone(), sweep_every * COLLECTS);
        let stop = self.tasks.stop.clone();
        self.tasks.spawn(LineTask::Collector, "conflicts", async move {
            journal.run(every, (keep_conflicts, most_conflicts), stop).await;
        });
    }

    fn start_queue(&self, account: &Account, queue: &Arc<dyn Queue>) {
        let Setup { local, settings, runtime, tables, .. } = &self.setup;
        let reader = Box::new(QueueReader {
            tables: account.tables.clone(),
            queue: queue.clone(),
            region: local.clone(),
            single: single(&self.setup, local),
            tombstones: Tombstones::new(local.clone(), settings.tombstone_scan),
            quarantine: self.quarantine.clone(),
            filter: tables.clone(),
            max_clock_skew: settings.max_clock_skew,
            routes_stale: settings.settle_window / 2,
            poll_busy: settings.poll_busy,
            poll_idle: settings.poll_idle,
            backoff: self.backoff(),
            runtime: runtime.clone(),
        });
        let on = format!("account {}", account.tables.account());
        self.tasks.spawn(LineTask::QueueReader, on, reader.run(self.tasks.stop.clone()));
    }

    /// What delivers to a region; `None` where that is no destination.
    pub fn delivery_to(&self, region: &Region) -> Option<Delivery> {
        self.destinations.iter().find(|to| to.region() == region).map(|to| self.delivery(to))
    }

    fn delivery(&self, to: &Arc<Destination>) -> Delivery {
        let Setup { local, settings, runtime, .. } = &self.setup;
        let referee = Referee {
            here: single(&self.setup, local),
            journal: self.journal.clone(),
            quarantine: self.quarantine.clone(),
            late: self.late.clone(),
            max_clock_skew: settings.max_clock_skew,
            runtime: runtime.clone(),
        };
        let fresh = Freshness::new(settings.settle_window);
        Delivery { to: to.clone(), referee: Arc::new(referee), late: self.late.clone(), fresh }
    }

    /// Hints stand in the home account, so its clock is the one that they are judged by.
    fn start_drain(&self, to: Consumer) {
        let Setup { local, settings, runtime, .. } = &self.setup;
        let on = format!("hints for {}", to.addressee());
        let drain = Box::new(Drain {
            to,
            // Hints name rows of every account.
            source: Arc::new(Source { is_feed: false, ..source(&self.setup, &local.accounts()[0], &self.quarantine) }),
            quarantine: self.quarantine.clone(),
            duty: self.duty.clone(),
            board: self.board.clone(),
            window: settings.settle_window,
            ramp: Ramp::new(settings.batch.rows.min(drain::MOST_ROWS)),
            backoff: self.backoff(),
            runtime: runtime.clone(),
            looks: 0,
            trying: None,
        });
        self.tasks.spawn(LineTask::Drain, on, drain.run(self.tasks.stop.clone()));
    }

    fn start_census(&self) {
        let backlogs = self.consumers().iter().map(|to| to.backlog().clone()).collect();
        let (local, board, runtime) = (self.setup.local.clone(), self.board.clone(), self.setup.runtime.clone());
        let census = Census { local, backlogs, board, runtime };
        self.tasks.spawn(LineTask::Census, "hints", census.run(self.tasks.stop.clone()));
    }

    fn start_readers(&self) {
        let Setup { local, destinations, settings, runtime, .. } = &self.setup;
        for (source, others) in readers_for(local, destinations) {
            let on = format!("what came in from {}", source.region());
            let survivor = Survivor {
                source: source.region().clone(),
                local: local.clone(),
                peers: destinations.clone(),
                roles: self.board.roles().clone(),
                done: None,
            };
            let reader = Box::new(AppliedReader {
                source,
                survivor,
                local: local.clone(),
                tombstones: Tombstones::new(local.clone(), settings.tombstone_scan),
                cache: self.cache.clone(),
                others,
                poll_busy: settings.poll_busy,
                poll_idle: settings.poll_idle,
                margin: settings.log_outlives(),
                duty: self.duty.clone(),
                backoff: self.backoff(),
                runtime: runtime.clone(),
                trying: None,
            });
            self.tasks.spawn(LineTask::AppliedReader, on, reader.run(self.tasks.stop.clone()));
        }
    }

    /// Every daemon watches, whichever shards it carries: whoever is first to find the markers gone tells of it.
    fn start_watch(&self) {
        let Some((cache, there)) = self.cache.clone().and_then(|cache| cache.watched().map(|there| (cache, there)))
        else {
            return;
        };
        let Setup { local, runtime, .. } = &self.setup;
        let (local, writer, runtime) = (local.clone(), runtime.writer_id(), runtime.clone());
        let (markers, last) = (Markers::default(), Time::EPOCH);
        let (turn, failures, unwatched) = Default::default();
        let watch = Box::new(Watch { cache, there, local, writer, runtime, markers, last, turn, failures, unwatched });
        self.tasks.spawn(LineTask::Watch, "the cache", watch.run(self.tasks.stop.clone()));
    }

    fn start_residual(&self) {
        let residual = self.residual();
        self.tasks.spawn(LineTask::Residual, "this region", residual.run(self.tasks.stop.clone()));
    }

    /// What finds out what this region had not sent when it lost its role.
    pub fn residual(&self) -> Residual {
        let Setup { local, destinations, settings, runtime, .. } = &self.setup;
        Residual {
            local: local.clone(),
            others: destinations.clone(),
            roles: self.board.roles().clone(),
            gate: self.late.gate.clone(),
            tombstone_scan: settings.tombstone_scan,
            runtime: runtime.clone(),
        }
    }

    fn start_publisher(&self) {
        let publisher = Publisher {
            local: self.setup.local.clone(),
            destinations: self.destinations.clone(),
            cache: self.cache.clone(),
            board: self.board.clone(),
            duty: self.duty.clone(),
            publish_every: self.setup.settings.publish_every,
            runtime: self.setup.runtime.clone(),
        };
        self.tasks.spawn(LineTask::Publisher, "the state of links", publisher.run(self.tasks.stop.clone()));
    }

    /// Every daemon decides for itself: each is asked by probes of its own.
    fn start_door(&self) {
        let Setup { local, destinations, settings, runtime, .. } = &self.setup;
        let Some(rules) = self.setup.reading else { return };
        let (local, others) = (local.clone(), destinations.clone());
        let (board, publish_every, runtime) = (self.board.clone(), settings.publish_every, runtime.clone());
        let roles = board.roles().clone();
        let readers = Readers { local, others, rules, roles, board, publish_every, runtime };
        self.tasks.spawn(LineTask::Readers, "this region", readers.run(self.tasks.stop.clone()));
    }
}

fn single(setup: &Setup, region: &RegionStore) -> Single {
    Single::new(region.clone(), setup.runtime.clone(), setup.settings.settle_window)
}

fn source(setup: &Setup, account: &Account, quarantine: &Arc<Quarantine>) -> Source {
    let Setup { local, settings, runtime, tables, .. } = setup;
    Source {
        tables: account.tables.clone(),
        region: local.clone(),
        tombstones: Tombstones::new(local.clone(), settings.tombstone_scan),
        quarantine: quarantine.clone(),
        single: single(setup, local),
        filter: tables.clone(),
        health: SourceHealth::default(),
        max_clock_skew: settings.max_clock_skew,
        routes_stale: settings.settle_window / 2,
        is_feed: true,
        runtime: runtime.clone(),
    }
}

fn settle_rules(settings: &Settings) -> SettleRules {
    SettleRules {
        window: settings.settle_window,
        date_resolution: DATE_RESOLUTION,
        first_retry: settings.look_first_retry,
        last_retry: settings.look_last_retry,
    }
}
