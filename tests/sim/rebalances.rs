//! Rows that move from account to account of a region while everybody writes and everything goes wrong: by the library behind the
//! command, which is killed and stopped on the way and gone on with, now and then with other routes. Readers read all along by the
//! published routes, and miss nothing.

use std::time::Duration;

use tablerelay::model::RowId;
use tablerelay::ops::{Rebalance, RebalanceError, Rebalanced};
use tablerelay::stores::RegionStore;
use tablerelay::topology::{MoveState, TableFilter};
use tablerelay::writer::read_routed;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::chronicle::Chronicle;
use crate::dice::Dice;
use crate::kinds::Kind;
use crate::oracle::Broken;
use crate::tiers::Tiers;
use crate::world::World;

/// Readers of the region.
const READERS: usize = 2;
/// The longest pause between two reads of one of them.
const PAUSE: Duration = Duration::from_millis(150);
/// Commands that run at a time.
const MOST: usize = 2;
/// How often the last one may fail once nothing goes wrong any more: daemons may not carry every shard yet.
const TRIES: usize = 5;

/// Who moves rows, and who reads them meanwhile.
#[derive(Default)]
pub struct Rebalances {
    started: usize,
    /// The accounts that rows are wanted in.
    wanted: Vec<usize>,
    running: Vec<Running>,
    readers: JoinSet<()>,
    tiers: Tiers,
}

struct Running {
    who: String,
    stop: CancellationToken,
    task: JoinHandle<Result<Rebalanced, RebalanceError>>,
}

impl Rebalances {
    pub fn new(world: &World) -> Self {
        let mut new = Self::default();
        let Some((region, first)) = world.shape.rebalances else { return new };
        new.wanted = (0..first).collect();
        for number in 0..READERS {
            let reader = Reader {
                store: world.lines(&format!("reader{number}"), region, region, false),
                hold: world.shape.window,
                dice: world.dice.clone(),
                chronicle: world.chronicle.clone(),
            };
            new.readers.spawn(reader.read());
        }
        new
    }

    /// After every step: somebody begins, or goes on, or comes in beside another; is killed, or stopped.
    pub fn step(&mut self, world: &World) {
        let Some((region, _)) = world.shape.rebalances else { return };
        self.tiers.step(world);
        self.running.retain(|running| !running.task.is_finished());
        let begins = match self.running.len() {
            0 => 300,
            running if running < MOST => 20,
            _ => 0,
        };
        // For somebody to write where no route leads any more, one has to come to its end among the writes.
        let lags = world.shape.may(Kind::RoutesOutlived);
        if world.dice.chance(begins) {
            if world.dice.chance(400) {
                self.want(world, region);
            }
            let begun = self.begin(world, region);
            self.running.push(begun);
        } else if !self.running.is_empty() && world.dice.chance(if lags { 20 } else { 80 }) {
            let killed = self.running.remove(world.dice.below(self.running.len()));
            killed.task.abort();
            world.chronicle.fault(Kind::RebalanceKilled, &killed.who);
        } else if world.dice.chance(20) {
            self.running.iter().for_each(|running| running.stop.cancel());
        }
    }

    /// Other routes are wanted: over any of the region's accounts.
    fn want(&mut self, world: &World, region: usize) {
        let all = world.shape.homes(region);
        let drawn = 1 + world.dice.below((1 << all) - 1);
        self.wanted = (0..all).filter(|at| drawn >> at & 1 == 1).collect();
    }

    fn begin(&mut self, world: &World, region: usize) -> Running {
        self.started += 1;
        let (who, wanted) = (format!("rebalancer{}", self.started), world.routes(region, self.wanted.iter().copied()));
        let under_way = world.chronicle.book().whereabouts.as_ref().and_then(|it| it.published.clone()?.moving);
        let turned =
            |state, rules: &tablerelay::topology::Routes| state == MoveState::Filling && !rules.lead_as(&wanted);
        if under_way.is_some_and(|moving| turned(moving.state, &moving.rules)) {
            world.chronicle.fault(Kind::RebalanceTurned, &who);
        }
        let rebalance = Rebalance {
            store: world.lines(&who, region, region, true).by(&wanted),
            tables: TableFilter::Every,
            share_percent: 100,
            account_rows: 20_000,
            settle_window: world.settings.settle_window,
            lease: world.settings.lease,
            runtime: world.runtime.clone(),
        };
        world.chronicle.note(&format!("{who} moves rows to accounts {:?}", self.wanted));
        let (stop, chronicle, name) = (CancellationToken::new(), world.chronicle.clone(), who.clone());
        let stopped = stop.clone();
        #[expect(clippy::disallowed_methods, reason = "whoever moves rows is killed and waited for by its handle")]
        let task = tokio::spawn(async move {
            let done = rebalance.run(&stopped, &mut |_, _| {}).await;
            let how = done.as_ref().map_or_else(ToString::to_string, |done| format!("{done:?}"));
            chronicle.note(&format!("{name}: {how}"));
            done
        });
        Running { who, stop, task }
    }

    /// Without faults one gets through, wherever those before it stopped.
    pub async fn finish(&mut self, world: &World) -> Result<(), Broken> {
        let Some((region, _)) = world.shape.rebalances else { return Ok(()) };
        for running in self.running.drain(..) {
            // It was begun among faults, and may end as it likes.
            running.stop.cancel();
            let _ended = running.task.await;
        }
        if world.dice.chance(500) {
            self.want(world, region);
        }
        let mut tries = 0;
        let done = loop {
            tries += 1;
            match self.begin(world, region).task.await.expect("nobody kills it") {
                Ok(done) => break done,
                Err(_) if tries < TRIES => sleep(world.shape.lease * 2).await,
                Err(error) => return Err(Broken::new("rows get to where they are wanted", None, error.to_string())),
            }
        };
        self.tiers.finish(world).await?;
        // Readers see the end of it.
        sleep(world.shape.window).await;
        if let Some(Err(error)) = self.readers.try_join_next().filter(Result::is_err) {
            return Err(Broken::new("readers live until they are asked to end", None, error.to_string()));
        }
        self.readers.shutdown().await;
        let outlived = world.chronicle.book().whereabouts.as_ref().is_some_and(|it| it.is_outlived());
        if done.left > 0 && !outlived {
            return Err(Broken::new("every row lies where the routes lead", None, format!("{done:?}")));
        }
        Ok(())
    }
}

/// Somebody who reads as the protocol says.
struct Reader {
    store: RegionStore,
    /// For how long routes may be gone by.
    hold: Duration,
    dice: Dice,
    chronicle: Chronicle,
}

impl Reader {
    async fn read(self) {
        loop {
            sleep(Duration::from_millis(1) + self.dice.time(PAUSE)).await;
            let Some(heard) = self.heard().await else { continue };
            let Some(id) = self.some_row() else { continue };
            let before = self.stands(&id);
            let Ok(found) = read_routed(&self.store, &id).await else { continue };
            // What takes so long is read by routes that may be gone by no more.
            let in_time = heard.elapsed() < self.hold;
            if found.is_none() && in_time && before.is_some() && before == self.stands(&id) {
                let text = format!("{id} was missed by a reader, by the routes of epoch {}", self.store.routes_epoch());
                self.chronicle.book().violations.push(text);
            }
        }
    }

    /// When the routes were read that are gone by: anew, after half the time for which they may be.
    async fn heard(&self) -> Option<Instant> {
        let fresh = |heard: &Instant| heard.elapsed() < self.hold / 2;
        if self.store.routes_heard().is_none_or(|heard| !fresh(&heard)) {
            let _ = self.store.follow_routes().await;
        }
        self.store.published()?;
        self.store.routes_heard().filter(fresh)
    }

    fn some_row(&self) -> Option<RowId> {
        let book = self.chronicle.book();
        let mut rows = book.whereabouts.as_ref()?.rows();
        let at = self.dice.below(rows.len());
        rows.nth(at).cloned()
    }

    fn stands(&self, id: &RowId) -> Option<u64> {
        self.chronicle.book().whereabouts.as_ref()?.stands(id)
    }
}
