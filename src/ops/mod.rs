//! What is done when somebody asks for it: whole tables at a time through what the line does, waiting for it, and the role of a
//! writer moved.

mod failover;
mod wait;
mod warm;

pub use failover::{Done, Failover, FailoverError, LinkRisk, Progress, Risk, RiskRow, Survey, Tell};
pub use wait::{Reached, Wait, Waited};
pub use warm::{WarmError, Warmed, WarmedTable, Warming};

#[cfg(test)]
mod tests;
