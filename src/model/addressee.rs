//! Whom a change is for.

use std::fmt;

use super::Region;

/// Whom a change is for: another region, or the cache of the region that it was written in.
///
/// It is written as a region's name, or as `cache@` and that: no region's name holds an `@`, so no cache is mistaken for
/// a region, whatever the region is called.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Addressee {
    /// Another region.
    Region(Region),
    /// The cache of this region.
    Cache(Region),
}

impl fmt::Display for Addressee {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Region(region) => write!(f, "{region}"),
            Self::Cache(region) => write!(f, "cache@{region}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_cache_is_mistaken_for_a_region() {
        for name in ["west", "cache", "cache-west"] {
            let region = Region::new(name).unwrap();
            assert_eq!(Addressee::Region(region.clone()).to_string(), name);
            assert!(Region::new(&Addressee::Cache(region).to_string()).is_err());
        }
    }
}
