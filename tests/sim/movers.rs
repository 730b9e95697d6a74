//! Tables that held rows before anybody replicated them, copied to the other regions while everybody writes and everything goes
//! wrong: by the library behind the command, which is killed and stopped on the way and gone on with.

use tablerelay::model::RowBody;
use tablerelay::ops::{Backfill, BackfillError, Backfilled};
use tablerelay::stores::Operation;
use tablerelay::topology::TableFilter;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::kinds::Kind;
use crate::oracle::Broken;
use crate::world::World;

/// The region that held rows.
const FROM: usize = 0;
/// Rows of each partition and table that nobody else writes.
const ALONE: usize = 3;
/// How often a copy may fail once nothing goes wrong any more: an account may still ask for a wait.
const TRIES: usize = 4;

/// Who moves in.
#[derive(Default)]
pub struct Movers {
    started: usize,
    /// The region that is copied to next.
    next: usize,
    running: Option<Running>,
}

struct Running {
    stop: CancellationToken,
    task: JoinHandle<Result<Backfilled, BackfillError>>,
}

impl Movers {
    /// Fills the first region with rows that carry no version and that nobody announces, in histories of that kind.
    pub async fn new(world: &World) -> Self {
        if world.shape.moves_in {
            let store = world.lines("east.writer-of-old", FROM, FROM, false);
            for id in world.rows_of_old(ALONE) {
                let body = RowBody::builder(&id.partition, &id.row).string("Value", "of old").finish();
                let written = store.holding(&id.table, &id.partition).write(&id.table, &Operation::Insert(body)).await;
                written.expect("nothing goes wrong yet");
            }
        }
        Self { next: 1, ..Self::default() }
    }

    /// After every step: somebody begins, or goes on; is killed, or stopped.
    pub fn step(&mut self, world: &World) {
        if !world.shape.moves_in {
            return;
        }
        if self.running.take_if(|running| running.task.is_finished()).is_some() {
            self.next = self.next % (world.places.len() - 1) + 1;
        }
        match &self.running {
            None if world.dice.chance(300) => self.running = Some(self.begin(world, self.next, false)),
            Some(running) if world.dice.chance(80) => {
                running.task.abort();
                world.chronicle.fault(Kind::CopyKilled, &format!("mover{}", self.started));
            }
            Some(running) if world.dice.chance(30) => running.stop.cancel(),
            _ => {}
        }
    }

    fn begin(&mut self, world: &World, to: usize, calm: bool) -> Running {
        self.started += 1;
        let who = format!("mover{}", self.started);
        let lines = |region| world.lines(&who, FROM, region, true);
        let backfill = Backfill {
            regions: (0..world.places.len()).map(lines).collect(),
            copies: vec![],
            from: world.places[FROM].name.clone(),
            to: world.places[to].name.clone(),
            tables: TableFilter::Every,
            only: None,
            share_percent: 100,
            account_rows: Backfill::ACCOUNT_ROWS,
            stamp: world.dice.chance(200),
            range_rows: 2,
            owner: who.clone(),
            roles: world.roles(),
            line: world.settings.clone(),
            runtime: world.runtime.clone(),
        };
        let again = !calm && world.dice.chance(100);
        world.chronicle.note(&format!("{who} copies to {}", backfill.to));
        let (stop, chronicle) = (CancellationToken::new(), world.chronicle.clone());
        let stopped = stop.clone();
        #[expect(clippy::disallowed_methods, reason = "whoever moves in is killed and waited for by its handle")]
        let task = tokio::spawn(async move {
            let done = match backfill.resume(&stopped, &mut |_| {}).await {
                Err(BackfillError::NoLedger { .. }) => backfill.start(false, &stopped, &mut |_| {}).await,
                Err(BackfillError::Done { .. }) if again => backfill.start(true, &stopped, &mut |_| {}).await,
                done => done,
            };
            let how = done.as_ref().map_or_else(ToString::to_string, |_| "through".to_owned());
            chronicle.note(&format!("{who}: {how}"));
            done
        });
        Running { stop, task }
    }

    /// Without faults every copy gets through.
    pub async fn finish(&mut self, world: &World) -> Result<(), Broken> {
        if !world.shape.moves_in {
            return Ok(());
        }
        if let Some(running) = self.running.take() {
            // It was begun among faults, and may end as it likes.
            let _ended = running.task.await;
        }
        for to in 1..world.places.len() {
            let mut tries = 0;
            loop {
                let done = self.begin(world, to, true).task.await.expect("nobody kills it");
                tries += 1;
                match done {
                    Ok(_) | Err(BackfillError::Done { .. }) => break,
                    Err(_) if tries < TRIES => {}
                    Err(error) => {
                        let text = format!("to {}: {error}", world.places[to].name);
                        return Err(Broken::new("a copy gets through", None, text));
                    }
                }
            }
        }
        Ok(())
    }
}
