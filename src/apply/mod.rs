//! Station 4: from verdicts to conditional transactions of one partition, and what a failed one means.
//!
//! [`plan`] packs the writes of one partition into as few transactions as Azure's limits allow, without splitting what
//! a writer wrote together. [`after_failure`] says of each row of a failed transaction what to do about it.

mod failure;
mod plan;

pub use failure::{AfterFailure, after_failure};
pub use plan::{Step, Transaction, plan};
