//! The run itself: the script is followed while somebody watches.

use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior};

use super::compare::{cache_behind, compare};
use super::crew::Crew;
use super::picture::{Picture, links};
use super::rows;
use super::screen::{REDRAW, Screen};
use super::script::{Script, Stage};
use super::verdict::{Outcome, Verdict};
use super::world::{CUT_OFF, World};
use super::{DemoError, Options};
use crate::runtime::Runtime;
use crate::stores::{Operation, Tables};

/// How long the feeds may take to empty once the writers have been asked to stop.
const SETTLE_WITHIN: Duration = Duration::from_secs(60);
/// A region that was cut off has caught up when none of its links lags more than this.
const CAUGHT_UP: Duration = Duration::from_millis(400);

/// A run under way.
pub(super) struct Show {
    pub world: World,
    crew: Crew,
    options: Options,
    script: Script,
    stage: Stage,
    started: Instant,
}

impl Show {
    /// Sets everything up and lets the writers begin.
    pub async fn start(options: Options, runtime: &Runtime) -> Result<Self, DemoError> {
        let start = runtime.now();
        let world = World::start(start, options.seed).await?;
        let crew = Crew::start(&world, start, &options);
        let script = Script { writing: options.writing };
        Ok(Self { world, crew, options, script, stage: Stage::Flowing, started: runtime.instant() })
    }

    /// Follows the script until the writers are to stop.
    pub async fn write(&mut self, screen: &mut Screen) -> Result<(), DemoError> {
        let until = self.started + self.script.writing;
        self.watch(until, screen, |_| Ok(false)).await.map(drop)
    }

    /// Waits until the writers have ended, the feeds are empty and the caches are level; says whether that was in time.
    pub async fn settle(&mut self, screen: &mut Screen) -> Result<bool, DemoError> {
        self.crew.stop();
        self.world.cut(CUT_OFF, false);
        self.stage = Stage::Settling;
        let until = Instant::now() + SETTLE_WITHIN;
        self.watch(until, screen, |show| {
            let ended = show.crew.have_ended()?;
            let places = &show.world.places;
            let level = || places.iter().all(|place| place.records() == 0 && cache_behind(&show.world, place) == 0);
            Ok(ended && level())
        })
        .await
    }

    /// Watches until it is done, or until the deadline; says whether it was done.
    async fn watch(
        &mut self,
        until: Instant,
        screen: &mut Screen,
        mut done: impl FnMut(&mut Self) -> Result<bool, DemoError>,
    ) -> Result<bool, DemoError> {
        let mut ticks = tokio::time::interval(REDRAW);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                died = self.world.daemon_died() => return Err(died),
                () = tokio::time::sleep_until(until) => return Ok(false),
                _ = ticks.tick() => {}
            }
            self.follow_script();
            self.draw(screen)?;
            if done(self)? {
                return Ok(true);
            }
        }
    }

    /// Goes on to the next stage where it is time.
    fn follow_script(&mut self) {
        let elapsed = self.started.elapsed();
        match (self.stage, self.script.stage(elapsed)) {
            (Stage::Flowing, Stage::CutOff) => {
                self.world.cut(CUT_OFF, true);
                self.stage = Stage::CutOff;
            }
            (Stage::Flowing | Stage::CutOff, Stage::CatchingUp) => {
                self.world.cut(CUT_OFF, false);
                self.stage = Stage::CatchingUp;
            }
            (Stage::CatchingUp, Stage::CatchingUp) => {
                let cut_off = &self.world.places[CUT_OFF].region;
                let all = links(&self.world);
                let mut of_cut = all.iter().filter(|link| link.source == *cut_off || link.destination == *cut_off);
                if of_cut.all(|link| link.lag < CAUGHT_UP) {
                    self.stage = Stage::CaughtUp(elapsed.saturating_sub(self.script.heal_at()));
                }
            }
            _ => {}
        }
    }

    fn draw(&self, screen: &mut Screen) -> Result<(), DemoError> {
        if screen.is_watched() {
            screen.show(&self.picture(self.stage))?;
        }
        Ok(())
    }

    /// What there is to see now.
    pub fn picture(&self, stage: Stage) -> Picture {
        Picture::take(&self.world, &self.crew, self.options, stage, self.started.elapsed())
    }

    /// Changes a row of one region past line and feed.
    pub async fn spoil(&self) -> Result<(), DemoError> {
        let tables = &self.world.places[CUT_OFF].tables;
        let row = tables.snapshot(&self.world.tables.orders).into_iter().next();
        let operation = match row {
            // As a program would that never heard of the protocol: the version stays what it was.
            Some(row) => Operation::InsertOrMerge(rows::spoiled(&row.body)),
            None => return Ok(()),
        };
        tables.write(&self.world.tables.orders, &operation).await?;
        Ok(())
    }

    /// Compares, ends the daemons, and says what came out.
    pub async fn end(mut self, settled: bool, screen: &mut Screen) -> Result<Verdict, DemoError> {
        let settling = self.started.elapsed().saturating_sub(self.script.writing);
        let comparison = compare(&self.world, self.crew.promises());
        self.stage = Stage::Compared;
        self.draw(screen)?;
        let sum = |of: fn(&super::picture::LinkLine) -> u64| links(&self.world).iter().map(of).sum();
        let places = self.world.places.iter();
        let left = places.clone().map(|place| (place.region.clone(), place.records()));
        let verdict = Verdict {
            schema: 1,
            outcome: Outcome::Unsettled,
            regions: places.map(|place| place.region.clone()).collect(),
            seed: self.options.seed,
            rows: comparison.rows,
            cached: comparison.cached,
            owed: comparison.owed,
            changes: self.crew.all().changes(),
            written: self.crew.all(),
            applied: sum(|link| link.applied),
            conflicts: sum(|link| link.conflicts),
            lifted: sum(|link| link.lifted),
            requests: self.world.requests(),
            writing: self.script.writing,
            settling,
            elapsed: self.started.elapsed(),
            left: left.filter(|(_, records)| *records > 0).collect(),
            difference_count: 0,
            differences: Vec::new(),
        }
        .judged(settled, comparison.differences);
        screen.leave();
        self.world.end().await?;
        Ok(verdict)
    }
}
