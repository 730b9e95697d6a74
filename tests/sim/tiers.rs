//! Rows that grow old in a region whose rows move from account to account: several movers at once, each of which is killed on its way.
//! They are promoted by whoever needs them at home.

use std::num::NonZeroU32;
use std::sync::Arc;

use tablerelay::ops::Mover;
use tablerelay::topology::TableFilter;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::kinds::Kind;
use crate::oracle::Broken;
use crate::world::World;

/// Movers at a time.
const MOST: usize = 2;

/// Who demotes what is old.
#[derive(Default)]
pub struct Tiers {
    started: usize,
    running: Vec<(String, JoinHandle<()>)>,
}

impl Tiers {
    /// After every step: somebody begins, or is killed.
    pub fn step(&mut self, world: &World) {
        if world.shape.cold_region().is_none() {
            return;
        }
        if self.running.len() < MOST && world.dice.chance(200) {
            self.begin(world);
        } else if !self.running.is_empty() && world.dice.chance(60) {
            let (who, task) = self.running.remove(world.dice.below(self.running.len()));
            task.abort();
            world.chronicle.fault(Kind::MoverKilled, &who);
        }
    }

    fn begin(&mut self, world: &World) {
        let Some(mover) = self.mover(world) else { return };
        let (who, pause) = (format!("demoter{}", self.started), world.shape.window / 4);
        let (chronicle, dice, name) = (world.chronicle.clone(), world.dice.clone(), who.clone());
        #[expect(clippy::disallowed_methods, reason = "whoever demotes rows is killed by its handle")]
        let task = tokio::spawn(async move {
            loop {
                sleep(dice.time(pause)).await;
                // As its daemon does all along, and among faults it may fail.
                if mover.store.follow_routes().await.is_err() {
                    continue;
                }
                if let Ok(Some(done)) = mover.pass().await
                    && done.demoted + done.stale > 0
                {
                    chronicle.count(Kind::RowsDemoted);
                    chronicle.note(&format!("{name}: {} demoted, {} stale", done.demoted, done.stale));
                }
            }
        });
        self.running.push((who, task));
    }

    fn mover(&mut self, world: &World) -> Option<Mover> {
        let region = world.shape.cold_region()?;
        self.started += 1;
        Some(Mover {
            store: world.lines(&format!("demoter{}", self.started), region, region, true),
            tables: TableFilter::Every,
            every: world.shape.window,
            rows_per_second: NonZeroU32::new(1_000),
            settle_window: world.settings.settle_window,
            demotions: Arc::default(),
            runtime: world.runtime.clone(),
        })
    }

    /// Without faults a pass gets through, once rows move no more.
    pub async fn finish(&mut self, world: &World) -> Result<(), Broken> {
        let Some(mover) = self.mover(world) else { return Ok(()) };
        self.running.drain(..).for_each(|(_, task)| task.abort());
        for _ in 0..10 {
            let followed = mover.store.follow_routes().await;
            if followed.is_ok() && mover.pass().await.is_ok_and(|done| done.is_some()) {
                return Ok(());
            }
            sleep(world.shape.window).await;
        }
        Err(Broken::new("old rows are demoted", None, "no pass comes to its end without faults".to_owned()))
    }
}
