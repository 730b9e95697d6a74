//! Failovers, as an operator makes them: planned ones, some of which are cut off in the middle; forced ones; and regions that are
//! lost with their daemons and come back.

use std::sync::Arc;
use std::time::Duration;

use tablerelay::model::Region;
use tablerelay::ops::{Failover, Progress};
use tablerelay::topology::Assignment;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use crate::chronicle::Chronicle;
use crate::daemons::Fleet;
use crate::dice::Dice;
use crate::kinds::Kind;
use crate::oracle::{Broken, Watch, survivors_are_equal};
use crate::shape::Focus;
use crate::sky::Storm;
use crate::world::World;

/// How far a region's loss has come.
#[derive(Debug, Clone, Copy)]
enum Loss {
    /// One of its lines is cut, and it will be lost then.
    Near(usize, Instant),
    /// It is lost, and comes back then.
    Lost(usize, Instant),
}

/// The operators of a world.
#[derive(Default)]
pub struct Moves {
    commands: JoinSet<()>,
    started: usize,
    loss: Option<Loss>,
}

impl Moves {
    /// Where a history is about what a lost region wrote last, it is lost after a while.
    pub fn new(world: &World) -> Self {
        let shape = &world.shape;
        let after = || shape.pause * shape.steps as u32 / 4 + world.dice.time(shape.window);
        let loss = (shape.focus == Focus::Orphans).then(|| Loss::Near(0, world.runtime.instant() + after()));
        Self { loss, ..Self::default() }
    }

    /// Somebody fails over.
    pub fn begin(&mut self, world: &World, kind: Kind) {
        let (to, from) = (world.dice.below(world.places.len()), world.dice.below(world.places.len()));
        let operator = self.operator(world, to, Some(from).filter(|from| *from != to && world.dice.chance(500)));
        let cut_off = kind == Kind::FailoverCutOff;
        self.commands.spawn(async move {
            match kind {
                Kind::ForcedFailover => operator.force(Duration::ZERO).await,
                _ => operator.plan(cut_off).await,
            };
        });
        while self.commands.try_join_next().is_some() {}
    }

    fn operator(&mut self, world: &World, to: usize, from: Option<usize>) -> Operator {
        self.started += 1;
        let who: Arc<str> = format!("operator{}", self.started).into();
        let name = |region: usize| world.places[region].name.clone();
        let failover = Failover {
            regions: (0..world.places.len()).map(|region| world.lines(&who, to, region, false)).collect(),
            file: world.roles(),
            to: name(to),
            from: from.map(name),
            who: who.to_string(),
            why: String::new(),
            lease: world.shape.lease,
            cool_down: Duration::ZERO,
            runtime: world.runtime.clone(),
        };
        let (window, dice, chronicle) = (world.shape.window, world.dice.clone(), world.chronicle.clone());
        Operator { who, failover, window, dice, chronicle }
    }

    /// A region is about to be lost. What it writes last gets to some of the others only.
    pub fn lose(&mut self, world: &World, fleet: &Fleet) {
        if self.loss.is_some() {
            return;
        }
        let serving = fleet.serving();
        let region = if serving.is_empty() { 0 } else { serving[world.dice.below(serving.len())] };
        let (since, kind) = (world.runtime.instant(), Kind::CutOneWay);
        let until = since + Duration::from_secs(1) + world.dice.time(Duration::from_secs(3));
        let other = (region + 1 + world.dice.below(world.places.len() - 1)) % world.places.len();
        world.chronicle.note(&format!("{} is about to be lost", world.places[region].name));
        let (who, from, to) = (None, Some(region), Some(other));
        // Until it is back: what it has not sent there it never sends.
        let forever = since + Duration::from_secs(3_600);
        world.sky.brew(Storm { kind, who, from, to, account: None, per_mille: 1_000, since, until: forever });
        self.loss = Some(Loss::Near(region, until));
    }

    /// After every step: regions are lost, and come back.
    pub async fn step(&mut self, world: &World, fleet: &mut Fleet, watch: &mut Watch) -> Result<(), Broken> {
        let now = world.runtime.instant();
        match self.loss {
            Some(Loss::Near(region, at)) if now >= at => {
                fleet.kill_all(region);
                world.chronicle.note(&format!("{} is lost", world.places[region].name));
                let until = now + Duration::from_secs(3_600);
                let (kind, to) = (Kind::RegionLost, Some(region));
                let storm =
                    Storm { kind, who: None, from: None, to, account: None, per_mille: 1_000, since: now, until };
                world.sky.brew(storm);
                let other = (region + 1 + world.dice.below(world.places.len() - 1)) % world.places.len();
                let operator = self.operator(world, other, Some(region));
                let after = world.dice.time(Duration::from_secs(3));
                self.commands.spawn(async move { operator.force(after).await });
                self.loss =
                    Some(Loss::Lost(region, now + world.shape.window + world.dice.time(Duration::from_secs(25))));
            }
            Some(Loss::Lost(region, at)) if now >= at => {
                if world.shape.focus == Focus::Orphans || world.dice.chance(600) {
                    survivors_are_equal(world, fleet, watch, region).await?;
                }
                self.come_back(world, fleet);
            }
            _ => {}
        }
        Ok(())
    }

    fn come_back(&mut self, world: &World, fleet: &mut Fleet) {
        let Some(Loss::Lost(region, _) | Loss::Near(region, _)) = self.loss.take() else { return };
        world.sky.end(region);
        world.chronicle.note(&format!("{} is back", world.places[region].name));
        if fleet.of(region) == 0 {
            fleet.start(world, region);
        }
    }

    /// Whatever is under way ends, and whoever was lost is back.
    pub async fn finish(&mut self, world: &World, fleet: &mut Fleet) {
        self.come_back(world, fleet);
        while self.commands.join_next().await.is_some() {}
    }
}

/// Somebody at work on one failover, in the region that it goes to: by the library behind the command.
struct Operator {
    who: Arc<str>,
    failover: Failover,
    window: Duration,
    dice: Dice,
    chronicle: Chronicle,
}

impl Operator {
    async fn force(&self, after: Duration) {
        tokio::time::sleep(after).await;
        let done = async {
            let survey = self.failover.survey(true).await?;
            self.failover.force(&survey, &mut |_| {}).await
        };
        match done.await {
            Ok(done) => self.moved(Kind::ForcedFailover, &done.assignment),
            Err(error) => self.chronicle.note(&format!("{}: {error}", self.who)),
        }
    }

    /// Where it is cut off on the way, the daemons find their way out.
    async fn plan(&self, cut_off: bool) {
        let stop = CancellationToken::new();
        let mut stopped = None;
        let mut tell = |progress| {
            if let Progress::Draining { until, .. } = progress {
                stopped = Some(until);
            }
        };
        let planned = self.failover.planned(self.window * 4, &stop, &mut tell);
        let within = if cut_off { self.dice.time(self.window) } else { Duration::from_secs(600) };
        let done = match timeout(within, planned).await {
            Ok(Ok(done)) => done,
            Ok(Err(error)) => return self.chronicle.note(&format!("{}: {error}", self.who)),
            Err(_) => return self.chronicle.fault(Kind::FailoverCutOff, &self.who),
        };
        if let Some(stopped) = stopped.filter(|_| done.assignment.from.is_some()) {
            self.chronicle.book().planned.push((done.assignment.mark.clone(), stopped));
        }
        self.moved(Kind::PlannedFailover, &done.assignment);
    }

    fn moved(&self, kind: Kind, now: &Assignment) {
        let name = |region: &Option<Region>| region.as_ref().map_or("nobody", Region::as_str).to_owned();
        self.chronicle.fault(kind, &format!("{} from {} to {}", self.who, name(&now.from), name(&now.to)));
    }
}
