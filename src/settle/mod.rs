//! Station 6: who has it.
//!
//! What a link has delivered and what it still owes, and the state of it that both ends publish in `RelayControl`, so
//! that `tablerelay status` can be asked from anywhere.

mod link;

pub use link::{LinkRowError, LinkState, LinkStatus};
