//! A region's accounts, and which of them holds a row.

use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::{Paced, Pacer, Queue, Severable, Severed, Tables};
use crate::model::{AccountName, PartitionKey, Region, TableName};
use crate::runtime::Runtime;

/// One storage account of a region.
#[derive(Debug, Clone)]
pub struct Account {
    /// Its tables.
    pub tables: Arc<dyn Tables>,
    /// Its queue of change records, where one is configured.
    pub queue: Option<Arc<dyn Queue>>,
}

/// The accounts of a region behind one rule: ask with a table and a partition key, get the tables that hold the row.
#[derive(Debug, Clone)]
pub struct RegionStore {
    region: Region,
    accounts: Vec<Account>,
}

impl RegionStore {
    /// A region of one or more accounts; their order does not matter.
    ///
    /// # Panics
    /// Where there is no account: the configuration refuses that before.
    pub fn new(region: Region, mut accounts: Vec<Account>) -> Self {
        assert!(!accounts.is_empty(), "region {region} has no account");
        accounts.sort_by(|a, b| a.tables.account().cmp(b.tables.account()));
        Self { region, accounts }
    }

    /// The same region by lines that can be cut off. Its queues are left out: they belong to the daemons that are there.
    #[must_use]
    pub fn severable(&self, severed: &Severed) -> Self {
        let cut = |account: &Account| -> Account {
            Account { tables: Severable::new(account.tables.clone(), severed.clone()), queue: None }
        };
        Self { region: self.region.clone(), accounts: self.accounts.iter().map(cut).collect() }
    }

    /// The same region for work that has time: each of its accounts is asked no more than `percent` of the rows a second that it
    /// bears. Its queues are left out. With it come those who decide the rate, one an account.
    #[must_use]
    pub fn paced(&self, (percent, bears): (u8, u32), runtime: &Runtime) -> (Self, Vec<Arc<Pacer>>) {
        let pacers: Vec<_> = self.accounts.iter().map(|_| Pacer::new(percent, bears, runtime.clone())).collect();
        let paced = |(account, pacer): (&Account, &Arc<Pacer>)| -> Account {
            Account { tables: Paced::new(account.tables.clone(), pacer.clone()), queue: None }
        };
        let accounts = self.accounts.iter().zip(&pacers).map(paced).collect();
        (Self { region: self.region.clone(), accounts }, pacers)
    }

    /// The region.
    pub fn region(&self) -> &Region {
        &self.region
    }

    /// Its accounts, sorted by name.
    pub fn accounts(&self) -> &[Account] {
        &self.accounts
    }

    /// The account for what belongs to the region as a whole (control, applied log, quarantine, conflicts): its first
    /// by name.
    pub fn home(&self) -> &Arc<dyn Tables> {
        &self.accounts[0].tables
    }

    /// The tables that hold the rows of this partition, and its records and tombstones.
    ///
    /// With several accounts and no routes this is rendezvous hashing (Thaler and Ravishankar, 1998): the account whose
    /// name scores highest together with the partition. An account more moves one in N of the partitions.
    pub fn holding(&self, table: &TableName, partition: &PartitionKey) -> &Arc<dyn Tables> {
        if let [only] = self.accounts.as_slice() {
            return &only.tables;
        }
        let score = |account: &AccountName| {
            let mut hash = Sha256::new();
            for part in [account.as_str(), "/", table.lower(), "/", partition.as_str()] {
                hash.update(part.as_bytes());
            }
            <[u8; 32]>::from(hash.finalize())
        };
        self.accounts
            .iter()
            .max_by_key(|account| score(account.tables.account()))
            .map_or(self.home(), |account| &account.tables)
    }
}
