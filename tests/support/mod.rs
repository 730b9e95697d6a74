//! What the integration tests share: real servers to test against, and a scripted one for what they cannot do.

pub mod azurite;
pub mod deployment;
pub mod ports;
pub mod process;
pub mod programs;
pub mod redis;
pub mod relay;
pub mod scripted;
pub mod served;

use std::time::Duration;

use tokio::time::{Instant, sleep};

/// How long a server may take to do what it surely will.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Polls `condition` until it holds; after [`PATIENCE`] the test fails and says what was waited for.
pub async fn eventually<F: Future<Output = bool>>(what: &str, mut condition: impl FnMut() -> F) {
    let deadline = Instant::now() + PATIENCE;
    while !condition().await {
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} for this: {what}");
        sleep(Duration::from_millis(10)).await;
    }
}
