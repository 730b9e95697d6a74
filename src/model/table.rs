//! Names of tables.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use serde::{Serialize, Serializer};

/// A name that Azure does not allow for a table.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no table name: it should be 3 to 63 letters and digits and begin with a letter")]
pub struct TableNameError(String);

/// A table's name. Azure keeps the case in which a table was created and compares without it; so does this.
#[derive(Clone)]
pub struct TableName {
    name: Arc<str>,
    lower: Arc<str>,
}

impl TableName {
    /// Checks a name by Azure's rule: `[A-Za-z][A-Za-z0-9]{2,62}`.
    pub fn new(name: &str) -> Result<Self, TableNameError> {
        let fits = (3..=63).contains(&name.len())
            && name.starts_with(|c: char| c.is_ascii_alphabetic())
            && name.bytes().all(|b| b.is_ascii_alphanumeric());
        if !fits {
            return Err(TableNameError(name.to_owned()));
        }
        let shared: Arc<str> = name.into();
        let lower = if name.bytes().any(|b| b.is_ascii_uppercase()) {
            name.to_ascii_lowercase().into()
        } else {
            shared.clone()
        };
        Ok(Self { name: shared, lower })
    }

    /// The name as it was written.
    pub fn as_str(&self) -> &str {
        &self.name
    }

    /// The name in lower case: what shards, tombstone keys and cache keys are made of.
    pub fn lower(&self) -> &str {
        &self.lower
    }

    /// Whether the name begins with the reserved prefix `Relay`, in any case.
    pub fn is_system(&self) -> bool {
        self.lower.starts_with("relay")
    }
}

/// The tables of the protocol, present in every account that takes part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SystemTable {
    /// `RelayFeed`: records and tombstones.
    Feed,
    /// `RelayApplied`: what came in from other regions.
    Applied,
    /// `RelayBacklog`: hints for destinations that are down.
    Backlog,
    /// `RelayControl`: link state, roles, ledgers.
    Control,
    /// `RelayQuarantine`: what could not be replicated, and why.
    Quarantine,
    /// `RelayConflicts`: which version won over which.
    Conflicts,
}

impl SystemTable {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Feed, Self::Applied, Self::Backlog, Self::Control, Self::Quarantine, Self::Conflicts];

    /// The table's name.
    pub fn name(self) -> TableName {
        let (name, lower) = match self {
            Self::Feed => ("RelayFeed", "relayfeed"),
            Self::Applied => ("RelayApplied", "relayapplied"),
            Self::Backlog => ("RelayBacklog", "relaybacklog"),
            Self::Control => ("RelayControl", "relaycontrol"),
            Self::Quarantine => ("RelayQuarantine", "relayquarantine"),
            Self::Conflicts => ("RelayConflicts", "relayconflicts"),
        };
        TableName { name: name.into(), lower: lower.into() }
    }
}

impl PartialEq for TableName {
    fn eq(&self, other: &Self) -> bool {
        self.lower == other.lower
    }
}

impl Eq for TableName {}

impl PartialOrd for TableName {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for TableName {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.lower.cmp(&other.lower)
    }
}

impl Hash for TableName {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.lower.hash(state);
    }
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl fmt::Debug for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl Serialize for TableName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_compare_without_case_and_keep_it() {
        let (a, b) = (TableName::new("Orders").unwrap(), TableName::new("oRDERS").unwrap());
        assert_eq!(a, b);
        assert_eq!(a.as_str(), "Orders");
        assert_eq!(a.lower(), "orders");
    }

    #[test]
    fn azures_rule_is_kept() {
        for bad in ["", "ab", "1abc", "a_b", "a-b", "Örders", &"a".repeat(64)] {
            assert!(TableName::new(bad).is_err(), "{bad}");
        }
        assert!(TableName::new("RelayFeed").unwrap().is_system());
        assert!(!TableName::new("orders").unwrap().is_system());
        for table in SystemTable::ALL {
            assert_eq!(TableName::new(table.name().as_str()).unwrap().lower(), table.name().lower());
            assert!(table.name().is_system());
        }
    }
}
