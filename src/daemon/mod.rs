//! The daemon of one region: its tasks, what their death means, and an end with a deadline that names the laggards.

mod tasks;

pub use tasks::{DaemonError, Death, SHUTDOWN_DEADLINE, TaskKind, Tasks};
