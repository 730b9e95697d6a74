//! Three regions in one process on the memory store: the first thing to run.
//!
//! Six writers, two in each region and with clocks that are wrong, write by the protocol through
//! [`writer`](crate::writer): rows of their own, and a few hot rows that all of them write. Half-way one region is cut off
//! from the others, and healed. Three daemons, the same line as in production, carry what is written. When the writers
//! have stopped and the feeds are empty, the stores are compared row by row, past everything that the line believes, and a
//! [`Verdict`] says what came out.
//!
//! Nothing of it is simulated but the stores and the network between them. On a paused tokio runtime it takes no time.

mod acts;
mod agent;
mod compare;
mod counts;
mod crew;
mod frame;
mod headline;
mod picture;
mod rows;
mod screen;
mod script;
mod show;
#[cfg(test)]
mod tests;
mod verdict;
mod words;
mod world;

use std::time::Duration;

use crate::runtime::Runtime;
use crate::stores::StoreError;

pub use compare::{Difference, DifferenceKind, Found};
pub use counts::Counts;
pub use screen::Screen;
pub use verdict::{Outcome, Verdict};

/// How the demo is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// How long the writers write.
    pub writing: Duration,
    /// What the writers' choices are drawn from.
    pub seed: u64,
    /// Most changes a second, by all writers together. Each waits for its replies, so that it may come to fewer.
    pub rate: u32,
    /// Changes a row behind the line's back before the regions are compared, to see that it is noticed.
    pub spoil: bool,
}

/// Why there is no verdict.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// A store refused what it should not.
    #[error("the memory store refused a request: {0}")]
    Store(#[from] StoreError),
    /// A daemon died.
    #[error("a daemon died: {0}")]
    Daemon(String),
    /// A writer died.
    #[error("a writer died: {0}")]
    Writer(String),
    /// Nobody can see it any more.
    #[error("the progress cannot be written: {0}")]
    Screen(#[from] std::io::Error),
}

/// Runs the demo to its end.
///
/// # Errors
/// [`DemoError`] where it could not be run to its end. That the regions differ is no error but a [`Verdict`].
pub async fn run(options: Options, runtime: &Runtime, screen: &mut Screen) -> Result<Verdict, DemoError> {
    let mut show = show::Show::start(options, runtime).await?;
    show.write(screen).await?;
    let settled = show.settle(screen).await?;
    if options.spoil {
        show.spoil().await?;
    }
    show.end(settled, screen).await
}
