//! Symbolic versions.

use std::fmt;

/// A version: a tick, then the region, then the writer; [`Version::NONE`] stands for absence and is below all.
///
/// Only the order counts, so a tick is a small number that says how the clocks of the writers compare.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Version(u16);

/// Writers from here on are daemons, which issue versions where they lift.
pub const FIRST_DAEMON: u8 = 8;

impl Version {
    /// No version: what stands where nothing stands.
    pub const NONE: Version = Version(0);

    pub fn new(tick: u8, region: u8, writer: u8) -> Self {
        debug_assert!(tick > 0 && region < 4 && writer < 16);
        Self(u16::from(tick) << 8 | u16::from(region) << 4 | u16::from(writer))
    }

    pub fn is_some(self) -> bool {
        self != Self::NONE
    }

    pub fn tick(self) -> u8 {
        (self.0 >> 8) as u8
    }

    pub fn region(self) -> u8 {
        (self.0 >> 4) as u8 & 3
    }

    pub fn bits(self) -> u16 {
        self.0
    }
}

impl fmt::Debug for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.is_some() {
            return f.write_str("-");
        }
        let writer = self.0 as u8 & 15;
        let (kind, number) = if writer < FIRST_DAEMON { ('w', writer) } else { ('d', writer - FIRST_DAEMON) };
        write!(f, "{}@{}.{kind}{number}", self.tick(), (b'A' + self.region()) as char)
    }
}
