//! The embedded store: accounts in memory, with Azure's limits, errors and manners.
//!
//! What the demo, the benchmarks, the simulator and most tests run on. It refuses what Azure refuses (Azurite does not),
//! answers with Azure's status and code, stamps rows with a clock of its own and shows it in whole seconds, as a
//! server's `Date` does. The suite in [`conformance`](super::conformance) holds it to that.
//!
//! A request goes over a [`wire`] that adds latency and [`Faults`], then takes effect in one piece: [`state`] under one
//! lock that is never held while waiting. Rows are kept as they were sent, in maps per table and partition, so that a
//! transaction costs what its rows cost, however many rows there are. The store draws nothing at random itself and
//! waits through tokio alone: on a paused runtime with a seeded [`Runtime`](crate::runtime::Runtime) a run repeats
//! exactly.

mod cache;
mod errors;
mod faults;
mod properties;
mod queue;
mod scan;
mod state;
mod tables;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_model;
mod values;
mod watch;
mod wire;

pub use cache::MemoryCache;
pub use faults::{Fault, Faults, Request, RequestKind};
pub use queue::MemoryQueue;
pub use tables::MemoryTables;
pub use watch::Effect;
