//! The daemons of a world: the tasks of the program, on lines of their own.

use std::collections::BTreeMap;
use std::sync::Arc;

use tablerelay::cache::KeyTemplate;
use tablerelay::daemon::{DaemonError, SHUTDOWN_DEADLINE, TaskKind, Tasks, start_line};
use tablerelay::ops::Passes;
use tablerelay::replicator::{CacheSetup, Setup, StatusBoard};
use tablerelay::runtime::Runtime;
use tablerelay::topology::{TableFilter, WriteHealth};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::collects;
use crate::oracle::{Probed, is_not_early};
use crate::scrubs;
use crate::shape::Focus;
use crate::world::World;

/// Most rows a second that a daemon puts into a cache that was emptied.
const WARM_RATE: u32 = 500;

pub struct Daemon {
    pub region: usize,
    pub who: Arc<str>,
    pub board: Arc<StatusBoard>,
    pub clock: Runtime,
    /// What its scrubber has found, where it has one.
    pub passes: Option<Arc<Passes>>,
    stop: CancellationToken,
    ending: JoinHandle<Result<(), DaemonError>>,
}

impl Daemon {
    /// Whether its `/health/write` answers 200.
    pub fn serves(&self) -> bool {
        self.board.roles().writing(Instant::now()) == WriteHealth::Serving
    }
}

/// A daemon that was asked to end.
type Ending = JoinHandle<Result<(), DaemonError>>;

/// All daemons that run.
#[derive(Default)]
pub struct Fleet {
    pub daemons: Vec<Daemon>,
    started: usize,
    /// Until when somebody stalls.
    pub stalled_until: Option<Instant>,
    /// Until when the rows of a region's daemons say less than is so.
    pub stolen: BTreeMap<usize, Instant>,
    stopping: Vec<(Arc<str>, Ending)>,
}

impl Fleet {
    pub fn start(&mut self, world: &World, region: usize) {
        self.started += 1;
        let who: Arc<str> = format!("{}.daemon{}", world.places[region].name, self.started).into();
        let clock = world.runtime.skewed(world.dice.skew(world.shape.writers_skew));
        let others = (0..world.places.len()).filter(|other| *other != region);
        let cache = world.places[region].cache.clone();
        let warm = world.shape.warms.then_some(WARM_RATE);
        let cache = CacheSetup { markers: Some(cache.clone()), cache, keys: KeyTemplate::default(), warm };
        let setup = Setup {
            local: world.lines(&who, region, region, true),
            copies: vec![],
            destinations: others.map(|other| world.lines(&who, region, other, true)).collect(),
            cache: (world.shape.cached || region > 0).then_some(cache),
            tables: TableFilter::Every,
            roles: world.roles(),
            reading: world.reading(),
            settings: world.settings.clone(),
            runtime: clock.clone(),
        };
        let mut tasks = Tasks::new();
        let stop = tasks.stop().clone();
        let board = start_line(&mut tasks, setup, &clock);
        let scrubber = scrubs::scrubber(world, &who, region);
        let passes = scrubber.as_ref().map(|scrubber| scrubber.passes.clone());
        if let Some(scrubber) = scrubber {
            tasks.spawn(TaskKind::Scrubber, scrubber.run(board.clone(), stop.clone()));
        }
        if let Some(collector) = collects::collector(world, &who, region) {
            tasks.spawn(TaskKind::Collector, collector.run(board.clone(), stop.clone()));
        }
        world.chronicle.note(&format!("{who} starts"));
        if world.shape.focus == Focus::Failover {
            let (name, sky, chronicle) =
                (world.places[region].name.clone(), world.sky.clone(), world.chronicle.clone());
            let probed = Probed { who: who.clone(), region, name, sky, chronicle };
            #[expect(clippy::disallowed_methods, reason = "it ends by itself within seconds")]
            tokio::spawn(is_not_early(probed, board.roles().clone()));
        }
        #[expect(clippy::disallowed_methods, reason = "the world is the supervisor of its daemons")]
        let ending = tokio::spawn(tasks.supervise(SHUTDOWN_DEADLINE));
        self.daemons.push(Daemon { region, who, board, clock, passes, stop, ending });
    }

    /// One dies where it stands.
    pub fn kill(&mut self, at: usize) -> usize {
        let daemon = self.daemons.remove(at);
        daemon.ending.abort();
        daemon.region
    }

    /// One is asked to end.
    pub fn stop(&mut self, at: usize) -> usize {
        let daemon = self.daemons.remove(at);
        daemon.stop.cancel();
        self.stopping.push((daemon.who, daemon.ending));
        daemon.region
    }

    /// All of a region die.
    pub fn kill_all(&mut self, region: usize) {
        while let Some(at) = self.daemons.iter().position(|daemon| daemon.region == region) {
            self.kill(at);
        }
    }

    /// The regions whose `/health/write` answers 200, by one of their daemons at least.
    pub fn serving(&self) -> Vec<usize> {
        let mut serving: Vec<usize> =
            self.daemons.iter().filter(|daemon| daemon.serves()).map(|daemon| daemon.region).collect();
        serving.sort_unstable();
        serving.dedup();
        serving
    }

    pub fn of(&self, region: usize) -> usize {
        self.daemons.iter().filter(|daemon| daemon.region == region).count()
    }

    /// Daemons that ended although nobody asked them to, or not in time.
    pub fn deaths(&mut self) -> Vec<String> {
        let running = self.daemons.iter().filter(|daemon| daemon.ending.is_finished());
        let mut deaths: Vec<String> = running.map(|daemon| format!("{} died", daemon.who)).collect();
        for (who, ending) in self.stopping.extract_if(.., |(_, ending)| ending.is_finished()) {
            match futures::FutureExt::now_or_never(ending) {
                Some(Ok(Ok(()))) => {}
                other => deaths.push(format!("{who} did not end well: {other:?}")),
            }
        }
        deaths
    }
}
