//! An account that the routes in force name and this program was not given: nothing can be asked of it.
//!
//! It fails as an account does that cannot be reached, so that whoever needs it does what it does then: a link is parked and its changes
//! wait as hints, a writer gets an error. Nobody takes the rows of it for absent.

use std::sync::Arc;

use async_trait::async_trait;

use super::{ErrorKind, Operation, Page, Query, StorageClock, StoreError, Tables, TransactionError};
use crate::model::{AccountName, Etag, PartitionKey, Region, Row, RowKey, TableName};

/// A [`Tables`] that is known by its name alone.
#[derive(Debug)]
pub struct UnknownAccount {
    region: Region,
    account: AccountName,
    clock: StorageClock,
}

impl UnknownAccount {
    /// The account of that name.
    pub fn new(region: Region, account: AccountName) -> Arc<Self> {
        Arc::new(Self { region, account, clock: StorageClock::new() })
    }

    fn error(&self) -> StoreError {
        let (region, account) = (&self.region, &self.account);
        StoreError::new(
            ErrorKind::Unreachable,
            format!(
                "the routes in force in region {region} lead to its account {account}, which this program was not given; start \
                 it with the configuration that names it"
            ),
        )
    }
}

#[async_trait]
impl Tables for UnknownAccount {
    fn region(&self) -> &Region {
        &self.region
    }

    fn account(&self) -> &AccountName {
        &self.account
    }

    fn clock(&self) -> &StorageClock {
        &self.clock
    }

    async fn get(&self, _: &TableName, _: &PartitionKey, _: &RowKey) -> Result<Option<Row>, StoreError> {
        Err(self.error())
    }

    async fn query(&self, _: &TableName, _: &Query) -> Result<Page, StoreError> {
        Err(self.error())
    }

    async fn write(&self, _: &TableName, _: &Operation) -> Result<Option<Etag>, StoreError> {
        Err(self.error())
    }

    async fn transact(
        &self,
        _: &TableName,
        _: &PartitionKey,
        _: &[Operation],
    ) -> Result<Vec<Option<Etag>>, TransactionError> {
        Err(self.error().into())
    }

    async fn create_table(&self, _: &TableName) -> Result<bool, StoreError> {
        Err(self.error())
    }

    async fn delete_table(&self, _: &TableName) -> Result<bool, StoreError> {
        Err(self.error())
    }

    async fn tables(&self) -> Result<Vec<TableName>, StoreError> {
        Err(self.error())
    }
}
