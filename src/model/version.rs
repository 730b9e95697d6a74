//! The version of a row: when it was issued, in which region, by which writer.

use std::fmt;
use std::sync::Arc;

use serde::{Serialize, Serializer};

use super::{Region, Time};

/// A text that is no version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no version: it should be UTC with 7 digits of a second, @, the region, a dot and 8 lower-case hex digits, \
     as in 2026-11-22T12:18:00.1234567Z@westeurope.7f3a9c1b"
)]
pub struct VersionError(String);

/// Which writer process issued a version: 8 hex digits chosen at random once per process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WriterId(pub u32);

impl WriterId {
    /// The writer of an implicit version: `00000000`.
    pub const NOBODY: Self = Self(0);
}

impl fmt::Display for WriterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

/// A version: `2026-11-22T12:18:00.1234567Z@westeurope.7f3a9c1b`.
///
/// Versions are ordered by the bytes of their text, and that one comparison is last-writer-wins: the time decides,
/// region and writer break ties. The text is kept as it came, since it is what is compared and stored.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(Arc<str>);

/// Where the parts stand: 28 bytes of time, then `@`.
const AT: usize = 28;

impl Version {
    /// Name of the property that carries the version in every replicated row.
    pub const PROPERTY: &'static str = "RelayVersion";

    /// Puts a version together.
    pub fn new(time: Time, region: &Region, writer: WriterId) -> Self {
        Self(format!("{time}@{region}.{writer}").into())
    }

    /// The version of a row that carries none, or none that parses: its `Timestamp` in the region that holds it.
    pub fn implicit(timestamp: Time, region: &Region) -> Self {
        Self::new(timestamp, region, WriterId::NOBODY)
    }

    /// Checks every part of a version's text.
    pub fn parse(text: &str) -> Result<Self, VersionError> {
        let bad = || VersionError(text.to_owned());
        let (time, rest) = text.split_at_checked(AT).ok_or_else(bad)?;
        let (region, writer) = rest.strip_prefix('@').and_then(|r| r.rsplit_once('.')).ok_or_else(bad)?;
        Time::parse(time).map_err(|_| bad())?;
        Region::new(region).map_err(|_| bad())?;
        let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        if writer.len() != 8 || !writer.bytes().all(hex) {
            return Err(bad());
        }
        Ok(Self(text.into()))
    }

    /// The text, which is what is stored and compared.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// When it was issued, by its writer's clock.
    pub fn time(&self) -> Time {
        // Proven by `parse` and `new`, the only ways to make one.
        Time::parse(&self.0[..AT]).unwrap_or(Time::EPOCH)
    }

    /// The region that issued it, as text.
    pub fn region(&self) -> &str {
        let rest = &self.0[AT + 1..];
        rest.rsplit_once('.').map_or(rest, |(region, _)| region)
    }

    /// The region that issued it.
    pub fn issued_in(&self) -> Region {
        Region::of_version(self.region())
    }

    /// Whether `region` issued it.
    pub fn is_of(&self, region: &Region) -> bool {
        self.region() == region.as_str()
    }

    /// The least version that `writer` of `region` may issue above this one.
    pub fn above(&self, region: &Region, writer: WriterId) -> Self {
        Self::new(self.time().next(), region, writer)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for Version {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn parts_are_checked() {
        let good = "2026-11-22T12:18:00.1234567Z@westeurope.7f3a9c1b";
        let version = Version::parse(good).unwrap();
        assert_eq!(version.as_str(), good);
        assert_eq!(version.region(), "westeurope");
        assert_eq!(version.time().to_string(), "2026-11-22T12:18:00.1234567Z");
        for bad in [
            "",
            "2026-11-22T12:18:00.1234567Z",
            "2026-11-22T12:18:00.123456Z@west.7f3a9c1b",
            "2026-11-22T12:18:00.1234567Z@West.7f3a9c1b",
            "2026-11-22T12:18:00.1234567Z@west.7F3A9C1B",
            "2026-11-22T12:18:00.1234567Z@west.7f3a9c1",
            "2026-11-22T12:18:00.1234567Z@.7f3a9c1b",
            "2026-11-22T12:18:00.1234567é@west.7f3a9c1b",
        ] {
            assert!(Version::parse(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn time_decides_then_region_then_writer(
            a in (0i64..4_000_000_000_000_000, "[a-z0-9-]{1,24}", any::<u32>()),
            b in (0i64..4_000_000_000_000_000, "[a-z0-9-]{1,24}", any::<u32>()),
        ) {
            let make = |(t, r, w): &(i64, String, u32)| {
                Version::new(Time::from_ticks(*t), &Region::new(r).unwrap(), WriterId(*w))
            };
            let (x, y) = (make(&a), make(&b));
            prop_assert_eq!(&Version::parse(x.as_str()).unwrap(), &x);
            if a.0 != b.0 {
                prop_assert_eq!(x < y, a.0 < b.0);
            }
            prop_assert_eq!(x.cmp(&y), x.as_str().as_bytes().cmp(y.as_str().as_bytes()));
            prop_assert!(x.above(&Region::new("a").unwrap(), WriterId(0)) > x);
        }
    }
}
