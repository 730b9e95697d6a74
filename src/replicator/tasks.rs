//! The tasks of a line: all of them awaited, none dies unseen.

use std::future::Future;
use std::sync::Mutex;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Why a line ended before it was asked to.
#[derive(Debug, thiserror::Error)]
#[error("the task {task} ended: {reason}")]
pub struct ReplicatorError {
    /// The task's name.
    pub task: String,
    /// A panic's message, or that it ended early.
    pub reason: String,
}

/// Spawns the tasks of a line and waits for all of them.
#[derive(Debug)]
pub(super) struct Tasks {
    set: Mutex<JoinSet<String>>,
    pub stop: CancellationToken,
}

impl Tasks {
    pub fn new(stop: CancellationToken) -> Self {
        Self { set: Mutex::default(), stop }
    }

    /// Starts a task that ends only when it is stopped.
    pub fn spawn(&self, name: String, task: impl Future<Output = ()> + Send + 'static) {
        let mut set = self.set.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        set.spawn(async move {
            task.await;
            name
        });
    }

    /// Waits until all have ended. One that ends unasked stops the others: a line with a part missing is not a line.
    pub async fn join(self) -> Result<(), ReplicatorError> {
        let mut set = self.set.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut outcome = Ok(());
        while let Some(ended) = set.join_next().await {
            let (task, reason) = match ended {
                Ok(_) if self.stop.is_cancelled() => continue,
                Ok(name) => (name, "it ended although nobody asked it to".to_owned()),
                Err(error) if error.is_panic() => {
                    let panic = error.into_panic();
                    let text = panic.downcast_ref::<String>().map(String::as_str);
                    let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic");
                    ("of the line".to_owned(), text.to_owned())
                }
                Err(error) => ("of the line".to_owned(), error.to_string()),
            };
            self.stop.cancel();
            if outcome.is_ok() {
                outcome = Err(ReplicatorError { task, reason });
            }
        }
        outcome
    }
}
