//! Other ways in to what the line does: whole tables at a time, when somebody asks for it.

mod warm;

pub use warm::{WarmError, Warmed, WarmedTable, Warming};

#[cfg(test)]
mod tests;
