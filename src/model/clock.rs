//! The hybrid logical clock that versions are issued from.

use std::time::Duration;

use super::{Region, Time, Version, WriterId};

/// A version to be overwritten lies further ahead of the clock than the allowed skew.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "version {version} is {} ms ahead of this clock ({now}), more than the allowed skew of {} ms: \
     check both clocks; the row is refused, since every later version would inherit the error",
    .version.time().since(*.now).as_millis(), .skew.as_millis()
)]
pub struct AheadOfClock {
    /// The version that would have been folded in.
    pub version: Version,
    /// The clock that it was compared with.
    pub now: Time,
    /// The allowed skew.
    pub skew: Duration,
}

/// Issues versions that rise with the clock, with each other, and above whatever is overwritten.
///
/// A hybrid logical clock (Kulkarni et al., "Logical Physical Clocks", 2014) with the counter folded into the ticks of
/// the time: whoever overwrites what he has read gets the higher version, however wrong his clock is.
#[derive(Debug, Clone)]
pub struct HybridClock {
    region: Region,
    writer: WriterId,
    skew: Duration,
    last: Time,
}

impl HybridClock {
    /// A clock of one writer process. `skew` is how far ahead of `now` a version may lie to be folded in.
    pub fn new(region: Region, writer: WriterId, skew: Duration) -> Self {
        Self { region, writer, skew, last: Time::EPOCH }
    }

    /// Issues `max(now, last issued + 1 tick, over + 1 tick)`.
    ///
    /// # Errors
    /// [`AheadOfClock`] where `over` is further ahead of `now` than the allowed skew; nothing is issued.
    pub fn issue(&mut self, now: Time, over: Option<&Version>) -> Result<Version, AheadOfClock> {
        let mut time = now.max(self.last.next());
        if let Some(version) = over {
            if version.time() > now + self.skew {
                return Err(AheadOfClock { version: version.clone(), now, skew: self.skew });
            }
            time = time.max(version.time().next());
        }
        self.last = time;
        Ok(Version::new(time, &self.region, self.writer))
    }

    /// The region that its versions name.
    pub fn region(&self) -> &Region {
        &self.region
    }

    /// The writer that its versions name.
    pub fn writer(&self) -> WriterId {
        self.writer
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn clock(skew: Duration) -> HybridClock {
        HybridClock::new(Region::new("west").unwrap(), WriterId(7), skew)
    }

    #[test]
    fn a_version_from_the_future_is_refused_and_leaves_no_trace() {
        let mut clock = clock(Duration::from_secs(60));
        let now = Time::from_unix_seconds(1_000_000);
        let region = Region::new("north").unwrap();
        let ahead = Version::new(now + Duration::from_secs(61), &region, WriterId(1));
        let err = clock.issue(now, Some(&ahead)).unwrap_err();
        assert!(err.to_string().contains("61000 ms ahead"), "{err}");
        assert_eq!(clock.issue(now, None).unwrap().time(), now);
    }

    proptest! {
        #[test]
        fn versions_rise_however_the_clock_jumps(steps in proptest::collection::vec((0i64..1_000, 0i64..1_000), 1..50)) {
            let mut clock = clock(Duration::from_secs(60));
            let region = Region::new("north").unwrap();
            let mut last: Option<Version> = None;
            for (now, over) in steps {
                let over = Version::new(Time::from_ticks(over), &region, WriterId(9));
                let issued = clock.issue(Time::from_ticks(now), Some(&over)).unwrap();
                prop_assert!(issued > over);
                prop_assert!(issued.time() >= Time::from_ticks(now));
                prop_assert!(last.is_none_or(|last| issued > last));
                last = Some(issued);
            }
        }
    }
}
