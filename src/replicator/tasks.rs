//! The tasks of a line: each has a kind and a name, all are awaited, none dies unseen.

use std::fmt;
use std::future::{Future, poll_fn};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::task::{Id, JoinError, JoinSet};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::closed_list;
use crate::telemetry::log::panic_text;

closed_list! {
    /// What a task of the line is for. Whichever it is, its death ends the line: no other does its part meanwhile, and who
    /// supervises the process starts a whole one.
    pub enum LineTask {
        Carrier = "carrier", "reads a shard, looks at its rows, ends its records", "none";
        Lane = "lane", "brings one consumer what the looks of a shard found", "none";
        QueueReader = "queue", "turns the messages of an account's queue into records", "none";
        AppliedReader = "applied-reader", "refreshes the cache from what came in from a region", "none";
        AppliedSender = "applied-sender", "tells a destination what came in", "none";
        Drain = "drain", "brings a destination what its hints name", "none";
        Census = "census", "counts hints", "none";
        Publisher = "publisher", "publishes the state of links", "none";
        Readers = "readers", "decides whether readers are to come to this region", "none";
        Leases = "leases", "keeps this daemon's lease, and starts and ends its shards", "none";
        Roles = "roles", "reads the roles of every region and obeys the highest", "none";
        Residual = "residual", "finds out what this region had not sent when it lost its role", "none";
        Watch = "watch", "notices when the cache was flushed", "none";
        Sweep = "sweep", "counts what is in quarantine and tries it again", "none";
        Collector = "collector", "takes old conflicts out of the journal", "none";
    }
}

/// Why a line ended before it was asked to.
#[derive(Debug, thiserror::Error)]
#[error("the task {task} {how}")]
pub struct ReplicatorError {
    /// The task's kind, and what it was at work on.
    pub task: String,
    /// How it died: "panicked: …" or "ended early".
    pub how: String,
}

/// A task: its kind, and what it is at work on.
#[derive(Debug)]
struct Name {
    kind: LineTask,
    on: String,
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.kind, self.on)
    }
}

/// Most names that are told at once.
const NAMES: usize = 12;

/// The tasks of a line that run.
#[derive(Debug, Default)]
pub struct Roll(Mutex<Vec<(Id, Name, CancellationToken)>>);

impl Roll {
    /// Their names, the first dozen of them, for whoever waits for their end.
    pub fn running(&self) -> Vec<String> {
        let roll = lock(&self.0);
        let mut names: Vec<String> = roll.iter().take(NAMES).map(|(_, name, _)| name.to_string()).collect();
        if roll.len() > NAMES {
            names.push(format!("and {} more", roll.len() - NAMES));
        }
        names
    }

    /// A roll on which one task stands that never ends.
    #[cfg(test)]
    pub fn of_one(kind: LineTask, on: &str) -> Arc<Self> {
        let id = JoinSet::new().spawn(std::future::pending::<()>()).id();
        Arc::new(Self(Mutex::new(vec![(id, Name { kind, on: on.to_owned() }, CancellationToken::new())])))
    }

    /// Takes a task off; says which it was, and whether it had been asked to end.
    fn strike(&self, id: Id) -> Option<(Name, bool)> {
        let mut roll = lock(&self.0);
        let at = roll.iter().position(|(of, ..)| *of == id)?;
        let (_, name, stop) = roll.remove(at);
        Some((name, stop.is_cancelled()))
    }
}

/// The tasks of a line. Who drops it ends them.
#[derive(Debug)]
pub(super) struct Tasks {
    set: Arc<Mutex<JoinSet<()>>>,
    spawner: Spawner,
}

/// Starts tasks of a line, at any time. A task may hold one: it keeps no task alive.
#[derive(Debug, Clone)]
pub(super) struct Spawner {
    set: Weak<Mutex<JoinSet<()>>>,
    roll: Arc<Roll>,
    /// What every task listens to that belongs to no group.
    pub stop: CancellationToken,
}

/// Tasks that are stopped together while the others go on.
#[derive(Debug)]
pub(super) struct Group {
    spawner: Spawner,
    pub stop: CancellationToken,
    tracker: TaskTracker,
}

impl Tasks {
    pub fn new(stop: CancellationToken, roll: Arc<Roll>) -> Self {
        let set = Arc::default();
        Self { spawner: Spawner { set: Arc::downgrade(&set), roll, stop }, set }
    }

    /// What starts its tasks.
    pub fn spawner(&self) -> &Spawner {
        &self.spawner
    }

    /// Waits until all have ended. One that ends unasked stops the others: a line with a part missing is not a line.
    pub async fn join(self) -> Result<(), ReplicatorError> {
        let mut outcome = Ok(());
        while let Some(ended) = poll_fn(|context| lock(&self.set).poll_join_next_with_id(context)).await {
            let Some(error) = self.judge(ended) else { continue };
            self.spawner.stop.cancel();
            if outcome.is_ok() {
                outcome = Err(error);
            }
        }
        outcome
    }

    /// What was wrong with the end of a task, if anything was.
    fn judge(&self, ended: Result<(Id, ()), JoinError>) -> Option<ReplicatorError> {
        let id = ended.as_ref().map_or_else(JoinError::id, |(id, ())| *id);
        let (name, asked) = self.spawner.roll.strike(id)?;
        let how = match ended {
            Ok(_) if asked => return None,
            Ok(_) => "ended early".to_owned(),
            Err(error) if error.is_panic() => format!("panicked: {}", panic_text(&*error.into_panic())),
            Err(_) => "was cut off".to_owned(),
        };
        Some(ReplicatorError { task: name.to_string(), how })
    }
}

impl Spawner {
    /// Starts a task that ends only when all are stopped.
    pub fn spawn(&self, kind: LineTask, on: impl Into<String>, task: impl Future<Output = ()> + Send + 'static) {
        self.start(kind, on.into(), self.stop.clone(), task);
    }

    /// A group without tasks yet.
    pub fn group(&self) -> Group {
        Group { spawner: self.clone(), stop: self.stop.child_token(), tracker: TaskTracker::new() }
    }

    fn start(
        &self,
        kind: LineTask,
        on: String,
        stop: CancellationToken,
        task: impl Future<Output = ()> + Send + 'static,
    ) {
        // On the roll before anybody can see its end, which takes the lock of the set.
        let Some(set) = self.set.upgrade() else { return };
        let mut set = lock(&set);
        let id = set.spawn(task).id();
        lock(&self.roll.0).push((id, Name { kind, on }, stop));
    }
}

impl Group {
    /// Starts a task that ends only when the group is stopped, or all are.
    pub fn spawn(&self, kind: LineTask, on: impl Into<String>, task: impl Future<Output = ()> + Send + 'static) {
        self.spawner.start(kind, on.into(), self.stop.clone(), self.tracker.track_future(task));
    }

    /// Stops its tasks; returns once all have ended.
    pub async fn end(&self) {
        self.stop.cancel();
        self.tracker.close();
        self.tracker.wait().await;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tasks() -> (Tasks, CancellationToken, Arc<Roll>) {
        let (stop, roll) = (CancellationToken::new(), Arc::<Roll>::default());
        let tasks = Tasks::new(stop.clone(), roll.clone());
        let asked = stop.clone();
        tasks.spawner().spawn(LineTask::Sweep, "the quarantine", async move { asked.cancelled().await });
        (tasks, stop, roll)
    }

    #[tokio::test]
    async fn a_task_that_panics_or_ends_early_ends_the_line_by_its_name() {
        let (tasks, _, _) = tasks();
        let group = tasks.spawner().group();
        group.spawn(LineTask::Carrier, "shard one/0a", async { panic!("no more rows") });
        let error = tasks.join().await.unwrap_err();
        assert_eq!(error.to_string(), "the task carrier of shard one/0a panicked: no more rows");

        let (tasks, _, _) = self::tasks();
        tasks.spawner().spawn(LineTask::Census, "hints", async {});
        assert_eq!(tasks.join().await.unwrap_err().to_string(), "the task census of hints ended early");
    }

    #[tokio::test]
    async fn a_group_ends_alone_and_what_joins_later_is_awaited_too() {
        let (tasks, stop, roll) = tasks();
        let (group, later) = (tasks.spawner().group(), tasks.spawner().clone());
        let asked = group.stop.clone();
        group.spawn(LineTask::Lane, "shard one/0a", async move { asked.cancelled().await });
        let joined = tasks.join();
        tokio::pin!(joined);
        tokio::select! {
            biased;
            early = joined.as_mut() => panic!("{early:?}"),
            () = group.end() => {}
        }
        let again = later.group();
        let asked = again.stop.clone();
        again.spawn(LineTask::Lane, "shard one/0b", async move { asked.cancelled().await });
        assert_eq!(roll.running(), ["sweep of the quarantine", "lane of shard one/0b"]);
        stop.cancel();
        joined.await.unwrap();
        assert!(roll.running().is_empty());
    }

    #[test]
    fn kinds_are_a_closed_list() {
        crate::model::assert_well_formed::<LineTask>();
    }
}
