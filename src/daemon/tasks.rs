//! Supervised tasks: none dies unseen, and each has a kind that says what its death means.

use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::{AbortHandle, JoinError, JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use crate::closed_list;
use crate::model::ClosedList;
use crate::replicator::Roll;
use crate::telemetry::Event;
use crate::telemetry::log::panic_text;

closed_list! {
    /// What a task is for.
    pub enum TaskKind {
        Signals = "signals", "waits for SIGTERM and SIGINT", "none";
        Tables = "tables", "creates the system tables that other regions lack", "none";
        Replicator = "replicator", "the line: tails the feed, delivers, settles", "read the error in the line";
        Warmer = "warmer", "fills the region's cache once it was emptied", "none; what it fails with is a line of its own";
        Scrubber = "scrubber", "compares the regions, slowly", "none; what it fails with is a line of its own";
        Collector = "collector", "deletes tombstones that nothing needs any more", "none; what it fails with is a line of its own";
        Mover = "mover", "moves old rows to their cold places", "none; what it fails with is a line of its own";
        Probes = "probes", "prepares what probes are answered", "none";
        Health = "health", "answers the probes of load balancers on a listener of their own", "check that the address `health.listen` is free";
        Admin = "admin", "answers probes, metrics and status over HTTP", "check that the address `admin.listen` is free";
    }
}

/// What the death of a task means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Death {
    /// It runs as long as the daemon does: its end, of whatever kind, ends the daemon.
    EndsDaemon,
    /// It has done what it was for; only a failure or panic ends the daemon.
    MayFinish,
}

impl TaskKind {
    /// What its death means.
    pub fn death(self) -> Death {
        match self {
            Self::Replicator
            | Self::Warmer
            | Self::Scrubber
            | Self::Collector
            | Self::Mover
            | Self::Probes
            | Self::Health
            | Self::Admin => Death::EndsDaemon,
            Self::Signals | Self::Tables => Death::MayFinish,
        }
    }
}

/// How the daemon ended, where not as it was asked to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DaemonError {
    /// A task died, and with it the daemon.
    #[error("the task {task} {how}")]
    Died {
        /// Which one.
        task: TaskKind,
        /// How it died: "panicked: …", "failed: …" or "ended early".
        how: String,
    },
    /// It was asked to end, and some tasks did not in time.
    #[error("asked to end, but cut off after {} s: {}", .deadline.as_secs(), .tasks.join(", "))]
    Late {
        /// The tasks that had not ended.
        tasks: Vec<String>,
        /// How long they had.
        deadline: Duration,
    },
}

/// How long tasks have to end once asked to. Kubernetes, systemd and Docker give at least ten seconds before they
/// kill; the rest of those is for cutting off whoever is late.
pub const SHUTDOWN_DEADLINE: Duration = Duration::from_secs(9);

/// How long tasks that are cut off may take to notice.
const CUTTING_OFF: Duration = Duration::from_millis(400);

/// The tasks of the daemon.
#[derive(Debug, Default)]
pub struct Tasks {
    set: JoinSet<Result<(), String>>,
    running: Vec<Running>,
    stop: CancellationToken,
}

/// A task that has not ended.
#[derive(Debug)]
struct Running {
    handle: AbortHandle,
    kind: TaskKind,
    /// The tasks that it has itself, where it has any.
    inner: Option<Arc<Roll>>,
}

impl Tasks {
    /// No tasks yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// What every task listens to: once cancelled, it finishes what is under way and ends.
    pub fn stop(&self) -> &CancellationToken {
        &self.stop
    }

    /// Starts a task.
    pub fn spawn<E: Display>(&mut self, kind: TaskKind, task: impl Future<Output = Result<(), E>> + Send + 'static) {
        self.start(kind, None, task);
    }

    /// Starts a task that has tasks itself: should it be late at the end, those that keep it are named.
    pub fn spawn_with<E: Display>(
        &mut self,
        kind: TaskKind,
        inner: Arc<Roll>,
        task: impl Future<Output = Result<(), E>> + Send + 'static,
    ) {
        self.start(kind, Some(inner), task);
    }

    fn start<E: Display>(
        &mut self,
        kind: TaskKind,
        inner: Option<Arc<Roll>>,
        task: impl Future<Output = Result<(), E>> + Send + 'static,
    ) {
        let handle = self.set.spawn(async move { task.await.map_err(|err| err.to_string()) });
        self.running.push(Running { handle, kind, inner });
    }

    /// Waits until the daemon is asked to end, or a task dies that it cannot do without; then ends all tasks, and
    /// cuts off those that are late.
    ///
    /// # Errors
    /// [`DaemonError`] where a task died, or tasks were cut off.
    pub async fn supervise(mut self, deadline: Duration) -> Result<(), DaemonError> {
        let died = self.until_stopped().await;
        self.stop.cancel();
        info!(event = Event::DaemonStopping.as_str(), tasks = self.kinds().join(", "), "the daemon is ending");
        let late = tokio::time::timeout(deadline, self.drain()).await.err().map(|_| self.late());
        if let Some(tasks) = &late {
            let tasks = tasks.join(", ");
            warn!(event = Event::ShutdownLate.as_str(), tasks, ?deadline, "tasks did not end in time and are cut off");
        }
        // One that is stuck in code that never waits cannot even be cut off: it ends with the process.
        drop(tokio::time::timeout(CUTTING_OFF, self.set.shutdown()).await);
        match (died, late) {
            (Some(died), _) => Err(died),
            (None, Some(tasks)) => Err(DaemonError::Late { tasks, deadline }),
            (None, None) => Ok(()),
        }
    }

    async fn until_stopped(&mut self) -> Option<DaemonError> {
        let stop = self.stop.clone();
        loop {
            let ended = tokio::select! {
                biased;
                () = stop.cancelled() => return None,
                ended = self.set.join_next_with_id() => ended,
            };
            let (task, how) = match ended {
                None => return None,
                Some(ended) => self.ended(ended),
            };
            let fatal = match how {
                Some(how) => how,
                None if task.death() == Death::MayFinish => continue,
                // It may have heard of the end before this loop did.
                None if stop.is_cancelled() => return None,
                None => "ended early".to_owned(),
            };
            error!(event = Event::TaskFailed.as_str(), %task, how = fatal, "a task died, and the daemon ends with it");
            return Some(DaemonError::Died { task, how: fatal });
        }
    }

    /// Which task ended, and how, where not well.
    fn ended(&mut self, ended: Result<(tokio::task::Id, Result<(), String>), JoinError>) -> (TaskKind, Option<String>) {
        let (id, how) = match ended {
            Ok((id, result)) => (id, result.err().map(|err| format!("failed: {err}"))),
            Err(err) => (err.id(), Some(died(err))),
        };
        let at = self.running.iter().position(|running| running.handle.id() == id);
        // Every task of the set was put beside its kind by `spawn`, the only way in.
        let task = at.map_or(TaskKind::Signals, |at| self.running.swap_remove(at).kind);
        (task, how)
    }

    async fn drain(&mut self) {
        while let Some(ended) = self.set.join_next_with_id().await {
            match self.ended(ended) {
                (task, Some(how)) => {
                    error!(event = Event::TaskFailed.as_str(), %task, how, "a task died while the daemon was ending");
                }
                (task, None) => debug!(%task, "a task has ended"),
            }
        }
    }

    fn kinds(&self) -> Vec<String> {
        self.running.iter().map(|running| running.kind.to_string()).collect()
    }

    /// The tasks that have not ended, and in brackets those of theirs that have not.
    fn late(&self) -> Vec<String> {
        let late = |running: &Running| {
            let inner = running.inner.as_ref().map(|inner| inner.running()).unwrap_or_default();
            let inner = if inner.is_empty() { String::new() } else { format!(" ({})", inner.join(", ")) };
            format!("{}{inner}", running.kind)
        };
        self.running.iter().map(late).collect()
    }
}

fn died(err: JoinError) -> String {
    if err.is_cancelled() {
        return "was cut off".to_owned();
    }
    format!("panicked: {}", panic_text(&*err.into_panic()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replicator::LineTask;

    const DEADLINE: Duration = Duration::from_secs(9);

    async fn until(stop: CancellationToken) -> Result<(), String> {
        stop.cancelled().await;
        Ok(())
    }

    #[tokio::test(start_paused = true)]
    async fn all_tasks_end_when_the_daemon_is_asked_to() {
        let mut tasks = Tasks::new();
        let stop = tasks.stop().clone();
        tasks.spawn(TaskKind::Replicator, until(stop.clone()));
        tasks.spawn(TaskKind::Admin, until(stop.clone()));
        tasks.spawn(TaskKind::Signals, async move {
            tokio::time::sleep(Duration::from_secs(60)).await;
            stop.cancel();
            Ok::<_, String>(())
        });
        assert_eq!(tasks.supervise(DEADLINE).await, Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_panics_fails_or_ends_early_ends_the_daemon_by_its_name() {
        let died = |how: &str| DaemonError::Died { task: TaskKind::Replicator, how: how.to_owned() };
        let mut results = Vec::new();
        for how in 0..3 {
            let mut tasks = Tasks::new();
            tasks.spawn(TaskKind::Admin, until(tasks.stop().clone()));
            tasks.spawn(TaskKind::Replicator, async move {
                assert!(how != 0, "no more rows");
                if how == 1 { Err("no feed") } else { Ok(()) }
            });
            results.push(tasks.supervise(DEADLINE).await.unwrap_err());
        }
        assert_eq!(results, [died("panicked: no more rows"), died("failed: no feed"), died("ended early")]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_may_finish_ends_nothing() {
        let mut tasks = Tasks::new();
        let stop = tasks.stop().clone();
        tasks.spawn(TaskKind::Signals, async { Ok::<_, String>(()) });
        tasks.spawn(TaskKind::Admin, until(stop.clone()));
        let supervised = tasks.supervise(DEADLINE);
        tokio::pin!(supervised);
        let early = tokio::time::timeout(Duration::from_secs(100), supervised.as_mut()).await;
        assert!(early.is_err(), "{early:?}");
        stop.cancel();
        assert_eq!(supervised.await, Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_is_late_is_named_and_cut_off_at_the_deadline() {
        let mut tasks = Tasks::new();
        tasks.stop().cancel();
        tasks.spawn(TaskKind::Admin, until(tasks.stop().clone()));
        tasks.spawn(TaskKind::Replicator, std::future::pending::<Result<(), String>>());
        let start = tokio::time::Instant::now();
        let err = tasks.supervise(DEADLINE).await.unwrap_err();
        assert_eq!(start.elapsed(), DEADLINE);
        assert_eq!(err.to_string(), "asked to end, but cut off after 9 s: replicator");
    }

    #[tokio::test(start_paused = true)]
    async fn a_line_that_is_late_names_the_tasks_that_keep_it() {
        let mut tasks = Tasks::new();
        tasks.stop().cancel();
        let inner = Roll::of_one(LineTask::Lane, "shard west1/0a to north");
        tasks.spawn_with(TaskKind::Replicator, inner, std::future::pending::<Result<(), String>>());
        let err = tasks.supervise(DEADLINE).await.unwrap_err();
        let named = "asked to end, but cut off after 9 s: replicator (lane of shard west1/0a to north)";
        assert_eq!(err.to_string(), named);
    }

    #[test]
    fn task_kinds_are_a_closed_list() {
        crate::model::assert_well_formed::<TaskKind>();
    }
}
