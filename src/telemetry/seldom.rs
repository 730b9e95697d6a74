//! Lines that may come in swarms, told now and then and counted in between.

use std::time::Duration;

use tokio::time::Instant;

/// The least time between two lines.
const EVERY: Duration = Duration::from_secs(60);

/// Lets one line through in a minute.
#[derive(Debug, Default)]
pub struct Seldom {
    last: Option<Instant>,
    held_back: u64,
}

impl Seldom {
    /// Whether this line is told now: then with how many were held back since the one before.
    pub fn admit(&mut self) -> Option<u64> {
        if self.last.is_some_and(|last| last.elapsed() < EVERY) {
            self.held_back += 1;
            return None;
        }
        self.last = Some(Instant::now());
        Some(std::mem::take(&mut self.held_back))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_swarm_is_one_line_a_minute_with_a_count() {
        let mut seldom = Seldom::default();
        let mut told = Vec::new();
        for _ in 0..121 {
            told.extend(seldom.admit());
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        assert_eq!(told, [0, 59, 59]);
    }
}
