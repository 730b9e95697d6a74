//! Partition keys, row keys, and the identity of a row.
//!
//! Keys are ordered as a table orders them: by UTF-16 units, .NET's ordinal order. It differs from the order of Rust's
//! strings only where a character beyond U+FFFF meets one of U+E000 to U+FFFF, but a range read that was bounded by the
//! wrong end would miss rows.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use serde::Serialize;

use super::TableName;

/// A key that Azure refuses.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Holds `/`, `\`, `#`, `?` or a control character.
    #[error(
        "the {what} {key:?} holds {found:?}, which Azure forbids in a key (so are / \\ # ? and control characters)"
    )]
    Forbidden {
        /// `PartitionKey` or `RowKey`.
        what: &'static str,
        /// The key.
        key: String,
        /// The first character that is not allowed.
        found: char,
    },
    /// Longer than 1,024 UTF-16 units.
    #[error("the {what} that begins with {start:?} has {units} UTF-16 units; Azure allows 1,024")]
    TooLong {
        /// `PartitionKey` or `RowKey`.
        what: &'static str,
        /// The first characters of the key.
        start: String,
        /// Its length.
        units: usize,
    },
}

/// Most UTF-16 units in a key (Azure: "up to 1 KiB in size").
const MAX_KEY_UNITS: usize = 1_024;

fn check(what: &'static str, key: &str) -> Result<(), KeyError> {
    let forbidden = |c: char| matches!(c, '/' | '\\' | '#' | '?') || c.is_control();
    if let Some(found) = key.chars().find(|c| forbidden(*c)) {
        return Err(KeyError::Forbidden { what, key: key.to_owned(), found });
    }
    // A UTF-16 length is never above the UTF-8 length, which costs nothing to know.
    if key.len() > MAX_KEY_UNITS {
        let units = key.encode_utf16().count();
        if units > MAX_KEY_UNITS {
            return Err(KeyError::TooLong { what, start: key.chars().take(40).collect(), units });
        }
    }
    Ok(())
}

/// Compares by UTF-16 units without converting: in UTF-8 the two orders differ in one place, so the lead bytes of U+E000
/// to U+FFFF (EE and EF) are put behind those of what UTF-16 writes as surrogates (F0 to F4).
fn ordinal(a: &str, b: &str) -> Ordering {
    let weight = |byte: u8| if byte == 0xEE || byte == 0xEF { byte + 0x10 } else { byte };
    match a.bytes().zip(b.bytes()).find(|(a, b)| a != b) {
        Some((a, b)) => weight(a).cmp(&weight(b)),
        None => a.len().cmp(&b.len()),
    }
}

macro_rules! key {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, Serialize)]
        #[serde(transparent)]
        pub struct $name(Arc<str>);

        impl Ord for $name {
            fn cmp(&self, other: &Self) -> Ordering {
                ordinal(&self.0, &other.0)
            }
        }

        impl PartialOrd for $name {
            fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
                Some(self.cmp(other))
            }
        }

        impl $name {
            /// Takes the key as it is; whether Azure would have it is [`check`](Self::check)'s to say.
            pub fn new(key: impl Into<Arc<str>>) -> Self {
                Self(key.into())
            }

            /// The key's text; may be empty.
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// Refuses what Azure forbids: `/ \ # ?`, control characters, more than 1,024 UTF-16 units.
            pub fn check(&self) -> Result<(), KeyError> {
                check($what, &self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&*self.0, f)
            }
        }

        impl From<&str> for $name {
            fn from(key: &str) -> Self {
                Self(key.into())
            }
        }
    };
}

key!(
    /// The key of a partition: what a transaction and a shard are made of.
    PartitionKey,
    "PartitionKey"
);
key!(
    /// The key of a row within its partition.
    RowKey,
    "RowKey"
);

/// Which row: table, partition and row key. The same in every region.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct RowId {
    /// The data table.
    pub table: TableName,
    /// The partition key.
    pub partition: PartitionKey,
    /// The row key.
    pub row: RowKey,
}

impl RowId {
    /// Puts the three parts together.
    pub fn new(table: TableName, partition: PartitionKey, row: RowKey) -> Self {
        Self { table, partition, row }
    }
}

impl fmt::Display for RowId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}({:?},{:?})", self.table, self.partition, self.row)
    }
}

impl fmt::Debug for RowId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn keys_sort_by_utf16_units(a in "[a\u{e9}\u{d7ff}\u{e000}\u{ffff}\u{10000}\u{10ffff}]{0,4}",
                                    b in "[a\u{e9}\u{d7ff}\u{e000}\u{ffff}\u{10000}\u{10ffff}]{0,4}") {
            let ordinal = a.encode_utf16().cmp(b.encode_utf16());
            prop_assert_eq!(RowKey::from(a.as_str()).cmp(&RowKey::from(b.as_str())), ordinal);
        }
    }

    #[test]
    fn what_azure_forbids_is_named() {
        for bad in ["a/b", "a\\b", "#", "?", "a\u{7f}", "\u{9f}", "tab\t"] {
            assert!(RowKey::from(bad).check().is_err(), "{bad:?}");
        }
        for good in ["", "it's", "100 %", "a b", "日本", "\u{a0}", "c:2026@west.1~r"] {
            assert!(RowKey::from(good).check().is_ok(), "{good:?}");
        }
        let text = PartitionKey::from("a/b").check().unwrap_err().to_string();
        assert!(text.contains("PartitionKey") && text.contains('/'), "{text}");
    }

    #[test]
    fn length_counts_utf16_units() {
        assert!(RowKey::new("é".repeat(1_024)).check().is_ok());
        assert!(RowKey::new("e".repeat(1_025)).check().is_err());
        assert!(RowKey::new("😀".repeat(513)).check().is_err());
    }
}
