//! Rendezvous hashing (Thaler and Ravishankar, 1998): of several accounts, the one whose name scores highest together with the
//! partition holds it. An account more moves one in N of the partitions, and all of them to itself.

use sha2::{Digest, Sha256};

use crate::model::{AccountName, PartitionKey, TableName};

/// Which of `accounts` holds a partition: that with the highest SHA-256 of `account/table/partition`, the table in lower case.
///
/// # Panics
/// Where there is no account: [`Routes`](super::Routes) has at least one wherever it asks.
pub fn highest<'a>(accounts: &'a [AccountName], table: &TableName, partition: &PartitionKey) -> &'a AccountName {
    if let [only] = accounts {
        return only;
    }
    let score = |account: &&AccountName| {
        let mut hash = Sha256::new();
        for part in [account.as_str(), "/", table.lower(), "/", partition.as_str()] {
            hash.update(part.as_bytes());
        }
        <[u8; 32]>::from(hash.finalize())
    };
    accounts.iter().max_by_key(score).unwrap_or_else(|| &accounts[0])
}
