//! R7: versions from the future.

use std::time::Duration;

use crate::model::{Time, Version};
use crate::planted::{Bug, planted};

/// Whether `version` lies further ahead of the storage clock than the allowed skew. Applied, it would win for ever.
pub fn from_the_future(version: &Version, storage_now: Time, skew: Duration) -> bool {
    version.time() > storage_now + skew && !planted(Bug::FutureApplied)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Region, WriterId};

    #[test]
    fn the_allowed_skew_is_allowed() {
        let now = Time::from_unix_seconds(1_000);
        let skew = Duration::from_secs(60);
        let at = |time| Version::new(time, &Region::new("west").unwrap(), WriterId(1));
        assert!(!from_the_future(&at(now + skew), now, skew));
        assert!(from_the_future(&at((now + skew).next()), now, skew));
    }
}
