//! The daemon of one region: its tasks, what their death means, and an end with a deadline that names the laggards.

mod connect;
mod line;
mod run;
mod tasks;

pub use connect::{ConnectError, Connector};
pub use line::start_line;
pub use run::{RunError, run};
pub(crate) use run::{Signals, tuned_by};
pub use tasks::{DaemonError, Death, SHUTDOWN_DEADLINE, TaskKind, Tasks};
