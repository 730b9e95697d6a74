//! The writers of a world: they keep to the protocol, their clocks are off, they crash; what they were told is remembered.

pub mod raw;
mod tales;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tablerelay::model::{Etag, Row, RowBody, RowId, RowKey, Version};
use tablerelay::runtime::Runtime;
use tablerelay::stores::{Condition, Operation, RegionStore};
use tablerelay::writer::{WriteError, Writer, WriterOptions, read_routed};
use tokio::task::JoinSet;

use crate::chronicle::Chronicle;
use crate::daemons::Fleet;
use crate::dice::Dice;
use crate::kinds::Kind;
use crate::shape::Focus;
use crate::world::World;

/// A write that was acknowledged.
#[derive(Debug, Clone)]
pub struct Ack {
    pub region: usize,
    pub id: RowId,
    pub version: Version,
    pub delete: bool,
}

/// What the writers know at the end.
#[derive(Debug, Default)]
pub struct Told {
    pub acks: Vec<Ack>,
    /// What was put into the feed or the queue that nobody can read: a part of its text.
    pub malformed: Vec<String>,
    /// Rows that some region refuses, and where they were written.
    pub poisoned: Vec<(usize, RowId)>,
    /// Those of them that were written once more at the end.
    pub healed: Vec<RowId>,
}

/// A writer and its clock.
struct Author {
    region: usize,
    clock: Runtime,
    writer: Writer,
    /// The same lines without a writer, for programs of their own.
    store: RegionStore,
    /// And for one that knows the first routes of its region, and never reads any.
    lagging: Option<RegionStore>,
    /// ETags that it once read and holds on to.
    read: Mutex<BTreeMap<RowId, Etag>>,
}

/// All writers.
pub struct Crowd {
    authors: Vec<Arc<Author>>,
    told: Arc<Mutex<Told>>,
    at_work: JoinSet<()>,
    window: Duration,
    dice: Dice,
    chronicle: Chronicle,
    drift: Vec<i64>,
    tales: usize,
    names: Vec<String>,
    /// The region whose rows move from account to account.
    rebalances: Option<usize>,
}

/// What an author does, and with what.
#[derive(Clone)]
struct Work {
    author: Arc<Author>,
    told: Arc<Mutex<Told>>,
    dice: Dice,
    chronicle: Chronicle,
    window: Duration,
    /// The regions that it does not write in.
    others: Vec<String>,
    /// For how long routes may be gone by, where rows of its region move from account to account.
    hold: Option<Duration>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Deed {
    Put,
    Insert,
    Replace,
    Merge,
    InsertOrMerge,
    Delete,
    DeleteRead,
    Transaction,
    Raw(raw::Deed),
}

impl Crowd {
    pub fn new(world: &World) -> Self {
        let mut authors = Vec::new();
        let anywhere = world.shape.focus == Focus::Failover;
        for region in (0..world.places.len()).filter(|region| anywhere || world.shape.writes(*region)) {
            let whole = world.dice.skew(world.shape.regions_skew);
            for number in 0..2 {
                let own = match world.shape.focus.is_told_in_tales() {
                    true => tales::skew(world.shape.focus, region, number),
                    false => world.dice.skew(world.shape.writers_skew),
                };
                let clock = world.runtime.skewed(whole + own);
                let who = format!("{}.writer{number}", world.places[region].name);
                let store = world.lines(&who, region, region, false);
                let options = WriterOptions {
                    settle_window: world.shape.window,
                    max_clock_skew: world.shape.skew,
                    look_at_tombstones: world.dice.chance(700),
                };
                let writer = Writer::new(store.clone(), options, clock.clone());
                let moves = world.shape.rebalances.is_some_and(|(moving, _)| moving == region);
                let lags = moves && world.shape.may(Kind::RoutesOutlived);
                let lagging = lags.then(|| world.lines(&format!("{who}'s other"), region, region, false));
                authors.push(Arc::new(Author { region, clock, writer, store, lagging, read: Mutex::default() }));
            }
        }
        if !world.shape.writers_skew.is_zero() || !world.shape.regions_skew.is_zero() {
            world.chronicle.count(Kind::WriterSkew);
        }
        let drifts = world.shape.may(Kind::WriterDrift);
        let drift = authors.iter().map(|_| if drifts { world.dice.skew(Duration::from_millis(40)) } else { 0 });
        let drift = drift.collect();
        Self {
            authors,
            told: Arc::default(),
            at_work: JoinSet::new(),
            window: world.shape.window,
            dice: world.dice.clone(),
            chronicle: world.chronicle.clone(),
            drift,
            tales: 0,
            rebalances: world.shape.rebalances.map(|(region, _)| region),
            names: world.places.iter().map(|place| place.name.to_string()).collect(),
        }
    }

    /// Somebody begins something, or a few begin a tale.
    pub fn act(&mut self, world: &World, fleet: &Fleet) {
        if world.shape.focus.is_told_in_tales() {
            return self.tell_a_tale(world);
        }
        let Some(author) = self.author(world, fleet) else { return };
        let (id, deed) = (world.some_row(), self.deed(world));
        let work = self.work(&author);
        // Who tells by queue and crashes before it has told is not promised anything.
        let queued = matches!(deed, Deed::Raw(raw::Deed::QueuedPut | raw::Deed::QueuedDelete));
        let crash = (!queued && world.shape.may(Kind::WriterCrash) && self.dice.chance(150))
            .then(|| self.dice.time(self.window / 8));
        self.at_work.spawn(async move {
            let (chronicle, who) = (work.chronicle.clone(), author.writer.id());
            match crash {
                None => work.perform(deed, id).await,
                Some(after) => {
                    let crashed = tokio::time::timeout(after, work.perform(deed, id.clone())).await.is_err();
                    if crashed {
                        chronicle.fault(Kind::WriterCrash, &format!("writer {who} in mid-{deed:?} of {id}"));
                    }
                }
            }
        });
        while self.at_work.try_join_next().is_some() {}
    }

    /// Where roles move, applications write where `/health/write` answers 200; but some go on wherever they are.
    fn author(&self, world: &World, fleet: &Fleet) -> Option<Arc<Author>> {
        let any = self.authors[self.dice.below(self.authors.len())].clone();
        if world.shape.focus != Focus::Failover || self.dice.chance(250) {
            return Some(any);
        }
        let serving = fleet.serving();
        let region = *serving.get(self.dice.below(serving.len()))?;
        let there: Vec<_> = self.authors.iter().filter(|author| author.region == region).collect();
        there.get(self.dice.below(there.len())).map(|author| (*author).clone())
    }

    fn work(&self, author: &Arc<Author>) -> Work {
        Work {
            author: author.clone(),
            told: self.told.clone(),
            dice: self.dice.clone(),
            chronicle: self.chronicle.clone(),
            window: self.window,
            others: self.others(author.region),
            hold: self.rebalances.filter(|region| *region == author.region).map(|_| self.window),
        }
    }

    /// The names of all regions but this one.
    fn others(&self, region: usize) -> Vec<String> {
        self.names.iter().enumerate().filter(|(at, _)| *at != region).map(|(_, name)| name.clone()).collect()
    }

    fn deed(&self, world: &World) -> Deed {
        let shape = &world.shape;
        let mut deeds = vec![Deed::Put, Deed::Put, Deed::Put, Deed::Insert, Deed::Replace, Deed::Merge];
        deeds.extend([Deed::InsertOrMerge, Deed::Transaction, Deed::Raw(raw::Deed::Put), Deed::Raw(raw::Deed::Put)]);
        for _ in 0..shape.deletes {
            deeds.extend([Deed::Delete, Deed::DeleteRead, Deed::Raw(raw::Deed::Delete)]);
        }
        let raws = [
            (shape.may(Kind::BlindRepeat), raw::Deed::PutTwice),
            (shape.unversioned, raw::Deed::Unversioned),
            (shape.future, raw::Deed::Future),
            (shape.may(Kind::RefusedRow), raw::Deed::Poison),
            // While rows move nobody looks where no route leads for what is told by queue: a record there would say where it is.
            (shape.queue && !shape.may(Kind::RoutesOutlived), raw::Deed::QueuedPut),
            // Until it is told it is a delete without an announcement, which may come back while rows move.
            (shape.queue && shape.deletes > 0 && shape.rebalances.is_none(), raw::Deed::QueuedDelete),
            (shape.may(Kind::MalformedRecord), raw::Deed::MalformedRecord),
            (shape.may(Kind::MalformedMessage), raw::Deed::MalformedMessage),
            (shape.may(Kind::RefusedDelete), raw::Deed::RefusedDelete),
        ];
        if shape.focus == Focus::Refusal {
            deeds.extend([Deed::Raw(raw::Deed::RefusedDelete); 6]);
        }
        deeds.extend(raws.into_iter().filter(|(may, _)| *may).map(|(_, deed)| Deed::Raw(deed)));
        self.dice.pick(&deeds)
    }

    /// Clocks run wrong, a little more with every step.
    pub fn drift(&self) {
        for (author, drift) in self.authors.iter().zip(&self.drift).filter(|(_, drift)| **drift != 0) {
            author.clock.step(*drift);
            self.chronicle.count(Kind::WriterDrift);
        }
    }

    /// One writer's clock is put forward or back.
    pub fn jump(&self, most: Duration) {
        let (at, ticks) = (self.dice.below(self.authors.len()), self.dice.skew(most));
        self.authors[at].clock.step(ticks);
        let who = self.authors[at].writer.id();
        self.chronicle.fault(Kind::WriterJump, &format!("clock of writer {who} by {} ms", ticks / 10_000));
    }

    /// Waits until the last writer is done.
    pub async fn finish(&mut self, world: &World) {
        while self.at_work.join_next().await.is_some() {}
        let mut poisoned = std::mem::take(&mut self.told().poisoned);
        poisoned.sort();
        poisoned.dedup();
        if !poisoned.is_empty() {
            // What was sent last may take effect after its writer was told that it did not.
            tokio::time::sleep(world.shape.window).await;
        }
        for (region, id) in poisoned {
            self.heal(world, region, &id).await;
            self.told().healed.push(id);
        }
    }

    /// Somebody writes a refused row once more, as every region takes it, over what stands anywhere: who merges into a refused
    /// row makes another one, in a region whose clock may be ahead.
    async fn heal(&self, world: &World, region: usize, id: &RowId) {
        let Some(author) = self.authors.iter().find(|author| author.region == region) else { return };
        let body = RowBody::builder(&id.partition, &id.row).string("Value", "as everybody takes it").finish();
        // Its clock may have to pass what stands there first.
        for _ in 0..60 {
            let standing = (0..world.places.len()).flat_map(|region| {
                let name = world.places[region].name.clone();
                world.rows(region).into_iter().filter(|(row, _)| row == id).map(move |(_, row)| row.version(&name))
            });
            let over = standing.max();
            if author.writer.insert_or_replace(&id.table, &body, over.as_ref()).await.is_ok() {
                return;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    pub fn told(&self) -> std::sync::MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Work {
    async fn perform(&self, deed: Deed, id: RowId) {
        let value = format!("{:?} {}", deed, self.dice.below(1_000_000));
        let body = RowBody::builder(&id.partition, &id.row).string("Value", &value).finish();
        let writer = &self.author.writer;
        let (table, present) = (&id.table, Condition::Present);
        let result = match deed {
            Deed::Raw(deed) => return self.raw(deed, id).await,
            Deed::Put => writer.insert_or_replace(table, &body, None).await,
            Deed::Insert => writer.insert(table, &body, None).await,
            Deed::Merge | Deed::InsertOrMerge => {
                let name = format!("Merged{}", self.dice.below(3));
                let part = RowBody::builder(&id.partition, &id.row).string(&name, &value).finish();
                match deed {
                    Deed::Merge => writer.merge(table, &part, present, None).await,
                    _ => writer.insert_or_merge(table, &part, None).await,
                }
            }
            Deed::Delete => writer.delete(table, &id.partition, &id.row, present, None).await,
            Deed::Replace | Deed::DeleteRead => {
                let Some(row) = self.read(&id).await else { return };
                let (over, etag) = (row.version(self.author.store.region()), Condition::Matches(row.etag));
                match deed {
                    Deed::Replace => writer.replace(table, &body, etag, Some(&over)).await,
                    _ => writer.delete(table, &id.partition, &id.row, etag, Some(&over)).await,
                }
            }
            Deed::Transaction => return self.transaction(id, &value).await,
        };
        self.tell(&[(id, matches!(deed, Deed::Delete | Deed::DeleteRead))], result);
    }

    /// Several rows of one partition: some put, some deleted where they are there.
    async fn transaction(&self, id: RowId, value: &str) {
        let mut rows = vec![id.row.clone()];
        rows.extend((0..1 + self.dice.below(3)).map(|n| RowKey::from(format!("together{n}").as_str())));
        let (mut operations, mut deeds) = (Vec::new(), Vec::new());
        for row in rows {
            let there = match self.dice.chance(300) {
                true => self.read(&RowId::new(id.table.clone(), id.partition.clone(), row.clone())).await,
                false => None,
            };
            deeds.push((RowId::new(id.table.clone(), id.partition.clone(), row.clone()), there.is_some()));
            operations.push(match there {
                Some(found) => {
                    let (partition, condition) = (id.partition.clone(), Condition::Matches(found.etag));
                    Operation::Delete { partition, row, condition }
                }
                None => {
                    let body = RowBody::builder(&id.partition, &row).string("Value", value).finish();
                    Operation::InsertOrReplace(body)
                }
            });
        }
        let result = self.author.writer.transaction(&id.table, &id.partition, operations, None).await;
        self.tell(&deeds, result);
    }

    /// A row, by the published routes where rows move.
    async fn read(&self, id: &RowId) -> Option<Row> {
        let read = match self.hold {
            Some(_) => read_routed(&self.author.store, id).await,
            None => {
                let tables = self.author.store.holding(&id.table, &id.partition);
                tables.get(&id.table, &id.partition, &id.row).await
            }
        };
        read.ok().flatten()
    }

    fn tell(&self, deeds: &[(RowId, bool)], result: Result<tablerelay::writer::Written, WriteError>) {
        let Ok(written) = result else { return };
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        for (id, delete) in deeds {
            let (id, version, region) = (id.clone(), written.version.clone(), self.author.region);
            told.acks.push(Ack { region, id, version, delete: *delete });
        }
    }
}
