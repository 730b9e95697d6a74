//! The daemon of one region: its tasks, what their death means, and an end with a deadline that names the laggards.

mod connect;
mod line;
mod run;
mod tasks;

pub use connect::{ConnectError, Connector};
pub use line::start_line;
pub(crate) use run::Signals;
pub use run::{RunError, run};
pub use tasks::{DaemonError, Death, SHUTDOWN_DEADLINE, TaskKind, Tasks};
