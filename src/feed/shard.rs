//! The sixteen shards of a feed.

use std::fmt;

use super::hash;
use crate::model::{AccountName, PartitionKey, TableName};

/// A sixteenth of an account's feed: one partition of `RelayFeed`.
///
/// All records and tombstones of one data partition are in one shard, so that a record and its tombstones fit in one
/// transaction; sixteen of them lift Azure's limit of 2,000 rows a second and partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Shard(u8);

impl Shard {
    /// How many there are.
    pub const COUNT: usize = 16;

    /// The shard of a data partition: first byte of SHA-256(`lower(table)/partitionKey`), modulo 16.
    pub fn of(table: &TableName, partition: &PartitionKey) -> Self {
        Self(hash::of_partition(table, partition)[0] % Self::COUNT as u8)
    }

    /// All of them, in order.
    pub fn all() -> impl ExactSizeIterator<Item = Self> + Clone {
        (0..Self::COUNT as u8).map(Self)
    }

    /// Its number, 0 to 15: an index into a table of shards.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }

    /// Its partition key in `RelayFeed`: `00` to `0f`.
    pub fn partition(self) -> PartitionKey {
        PartitionKey::new(self.to_string())
    }

    /// The shard with this partition key in `RelayFeed`.
    pub fn from_partition(partition: &PartitionKey) -> Option<Self> {
        Self::all().find(|shard| shard.to_string() == partition.as_str())
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02x}", self.0)
    }
}

/// A shard of one account: what one carrier carries.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AccountShard {
    /// Whose feed.
    pub account: AccountName,
    /// Which sixteenth of it.
    pub shard: Shard,
}

impl AccountShard {
    /// The shards of these accounts, account by account.
    pub fn all<'a>(accounts: impl IntoIterator<Item = &'a AccountName>) -> Vec<Self> {
        let of = |account: &'a AccountName| Shard::all().map(|shard| Self { account: account.clone(), shard });
        accounts.into_iter().flat_map(of).collect()
    }
}

impl fmt::Display for AccountShard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.account, self.shard)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_known_partition_has_the_shard_that_sha_256_gives() {
        // printf 'orders/customer-17' | sha256sum
        let table = TableName::new("Orders").unwrap();
        let expected = u8::from_str_radix("e1", 16).unwrap() % 16;
        assert_eq!(Shard::of(&table, &"customer-17".into()), Shard(expected));
    }

    #[test]
    fn partition_keys_are_two_hex_digits_and_sort_as_shards_do() {
        let keys: Vec<String> = Shard::all().map(|shard| shard.partition().to_string()).collect();
        assert_eq!((keys.len(), &*keys[0], &*keys[10], &*keys[15]), (Shard::COUNT, "00", "0a", "0f"));
        assert!(keys.is_sorted());
        for bad in ["", "0", "10", "0A", "0g", "00 "] {
            assert_eq!(Shard::from_partition(&bad.into()), None, "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn the_tables_case_does_not_matter(partition in any::<String>()) {
            let (a, b) = (TableName::new("Orders").unwrap(), TableName::new("ORDERS").unwrap());
            let partition = PartitionKey::new(partition);
            let shard = Shard::of(&a, &partition);
            prop_assert_eq!(shard, Shard::of(&b, &partition));
            prop_assert_eq!(Shard::from_partition(&shard.partition()), Some(shard));
        }
    }
}
