//! Names of regions and of the storage accounts in them.

use std::fmt;
use std::sync::Arc;

use serde::Serialize;

/// A name that breaks the rule `[a-z0-9-]{1,24}`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name:?} is no {what} name: it should be 1 to 24 characters of a-z, 0-9 and -")]
pub struct NameError {
    what: &'static str,
    name: String,
}

fn checked(what: &'static str, name: &str) -> Result<Arc<str>, NameError> {
    let fits = (1..=24).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    if fits { Ok(name.into()) } else { Err(NameError { what, name: name.to_owned() }) }
}

/// A region: the unit that fails together, runs one daemon and holds its own copy of every row.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Region(Arc<str>);

/// A storage account of a region, by its name in the configuration (not by its host name).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct AccountName(Arc<str>);

impl Region {
    /// Checks a region's name: `[a-z0-9-]{1,24}`, since it is part of every [`Version`](super::Version).
    pub fn new(name: &str) -> Result<Self, NameError> {
        checked("region", name).map(Self)
    }

    /// The region that a version names, which was checked when the version was read.
    pub(super) fn of_version(name: &str) -> Self {
        Self(name.into())
    }

    /// The name as configured.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl AccountName {
    /// Checks an account's name: `[a-z0-9-]{1,24}`.
    pub fn new(name: &str) -> Result<Self, NameError> {
        checked("account", name).map(Self)
    }

    /// The name as configured.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for AccountName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for AccountName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_lower_case_digits_and_dashes() {
        assert!(Region::new("westeurope").is_ok());
        assert!(Region::new("eu-2").is_ok());
        for bad in ["", "West", "a.b", "a@b", "abcdefghijklmnopqrstuvwxy", "ü"] {
            let err = Region::new(bad).unwrap_err().to_string();
            assert!(err.contains("region") && err.contains("a-z"), "{err}");
        }
    }
}
