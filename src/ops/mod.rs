//! Other ways in to what the line does, when somebody asks for it: whole tables at a time, and waiting for what it does.

mod wait;
mod warm;

pub use wait::{Reached, Wait, Waited};
pub use warm::{WarmError, Warmed, WarmedTable, Warming};

#[cfg(test)]
mod tests;
