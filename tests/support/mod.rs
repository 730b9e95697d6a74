//! What the integration tests share: real servers to test against, and a scripted one for what they cannot do.

pub mod azurite;
pub mod process;
pub mod scripted;
