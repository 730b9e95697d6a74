//! Points in time, in Azure's resolution.

use std::fmt;
use std::ops::{Add, Sub};
use std::time::Duration;

use ::time::format_description::BorrowedFormatItem;
use ::time::macros::format_description;
use ::time::{OffsetDateTime, PrimitiveDateTime};
use serde::{Serialize, Serializer};

/// A text that is no time of the form `2026-11-22T12:18:00.1234567Z`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no time: it should be UTC with 7 digits of a second, as in 2026-11-22T12:18:00.1234567Z")]
pub struct TimeError(String);

const FORMAT: &[BorrowedFormatItem<'_>] =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:7]Z");

/// A point in UTC, in ticks of 100 ns since 1970: the resolution of Azure's `Timestamp` and `Edm.DateTime`.
///
/// Its text always has 7 digits, so that texts sort as times do.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(i64);

impl Time {
    /// Ticks in a second.
    pub const TICKS_PER_SECOND: i64 = 10_000_000;
    /// The first moment of 1970.
    pub const EPOCH: Self = Self(0);
    /// The first and last ticks whose year has four digits.
    const RANGE: std::ops::RangeInclusive<i64> = -621_355_968_000_000_000..=2_534_023_007_999_999_999;

    /// From ticks of 100 ns since 1970, kept within the years 1 to 9999.
    pub fn from_ticks(ticks: i64) -> Self {
        Self(ticks.clamp(*Self::RANGE.start(), *Self::RANGE.end()))
    }

    /// Ticks of 100 ns since 1970.
    pub fn ticks(self) -> i64 {
        self.0
    }

    /// From whole seconds since 1970.
    pub fn from_unix_seconds(seconds: i64) -> Self {
        Self::from_ticks(seconds.saturating_mul(Self::TICKS_PER_SECOND))
    }

    /// Seconds since 1970 with their fraction, for metrics.
    pub fn unix_seconds(self) -> f64 {
        self.0 as f64 / Self::TICKS_PER_SECOND as f64
    }

    /// The strict form: exactly 7 digits of a second and `Z`.
    pub fn parse(text: &str) -> Result<Self, TimeError> {
        let bad = || TimeError(text.to_owned());
        if text.len() != 28 || !text.is_ascii() {
            return Err(bad());
        }
        let time = PrimitiveDateTime::parse(text, FORMAT).map_err(|_| bad())?.assume_utc();
        // There is no year 0, neither in Azure's calendar nor in that of most languages.
        Some((time.unix_timestamp_nanos() / 100) as i64).filter(|t| Self::RANGE.contains(t)).map(Self).ok_or_else(bad)
    }

    /// What storage servers write: 0 to 7 digits of a second, padded to 7.
    pub fn parse_storage(text: &str) -> Result<Self, TimeError> {
        let bad = || TimeError(text.to_owned());
        let body = text.strip_suffix('Z').ok_or_else(bad)?;
        let (seconds, fraction) = body.split_once('.').unwrap_or((body, ""));
        if fraction.len() > 7 {
            return Err(bad());
        }
        Self::parse(&format!("{seconds}.{fraction:0<7}Z")).map_err(|_| bad())
    }

    /// The next tick.
    pub fn next(self) -> Self {
        Self::from_ticks(self.0 + 1)
    }

    /// How long after `earlier` this is; zero where it is not after it.
    pub fn since(self, earlier: Self) -> Duration {
        let ticks = self.0.saturating_sub(earlier.0).max(0) as u64;
        Duration::from_nanos(ticks.saturating_mul(100))
    }
}

fn ticks_of(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos() / 100).unwrap_or(i64::MAX)
}

impl Add<Duration> for Time {
    type Output = Self;
    fn add(self, duration: Duration) -> Self {
        Self::from_ticks(self.0.saturating_add(ticks_of(duration)))
    }
}

impl Sub<Duration> for Time {
    type Output = Self;
    fn sub(self, duration: Duration) -> Self {
        Self::from_ticks(self.0.saturating_sub(ticks_of(duration)))
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = OffsetDateTime::from_unix_timestamp_nanos(i128::from(self.0) * 100).map_err(|_| fmt::Error)?;
        f.write_str(&time.format(FORMAT).map_err(|_| fmt::Error)?)
    }
}

impl fmt::Debug for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn seven_digits_exactly() {
        let text = "2026-11-22T12:18:00.1234567Z";
        assert_eq!(Time::parse(text).unwrap().to_string(), text);
        for bad in [
            "2026-11-22T12:18:00Z",
            "2026-11-22T12:18:00.123456Z",
            "2026-13-22T12:18:00.1234567Z",
            "2026-11-22 12:18:00.1234567Z",
            "2026-11-22T12:18:00.1234567",
        ] {
            assert!(Time::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn storage_times_are_padded() {
        let t = |s| Time::parse_storage(s).unwrap().to_string();
        assert_eq!(t("2026-11-22T12:18:00Z"), "2026-11-22T12:18:00.0000000Z");
        assert_eq!(t("2026-11-22T12:18:00.12Z"), "2026-11-22T12:18:00.1200000Z");
    }

    #[test]
    fn the_range_is_what_four_digit_years_can_say() {
        assert_eq!(Time::from_ticks(i64::MIN).to_string(), "0001-01-01T00:00:00.0000000Z");
        assert_eq!(Time::from_ticks(i64::MAX).to_string(), "9999-12-31T23:59:59.9999999Z");
    }

    proptest! {
        #[test]
        fn texts_sort_as_times(a in any::<i64>(), b in any::<i64>()) {
            let (a, b) = (Time::from_ticks(a), Time::from_ticks(b));
            prop_assert_eq!(a.cmp(&b), a.to_string().cmp(&b.to_string()));
            prop_assert_eq!(Time::parse(&a.to_string()).unwrap(), a);
        }
    }
}
