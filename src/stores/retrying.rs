//! Tries reads again. Goes around [`Throttled`](super::Throttled), so that each try waits for its turn and costs of the account's
//! retry budget, and around [`Metered`](super::Metered), so that each is counted.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tracing::debug;

use super::{ErrorKind, Gate, Operation, Page, Query, StorageClock, StoreError, Tables, TransactionError};
use crate::model::{AccountName, Etag, PartitionKey, Region, Row, RowKey, TableName};
use crate::runtime::Runtime;

/// How often a read is tried again.
const RETRIES: u32 = 3;
/// The pause before the second try is drawn from zero to this; the bound doubles with each try.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// The longest `Retry-After` that is waited for here. Longer ones are for the caller, who knows what else is to do.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// A [`Tables`] that tries reads again, up to three times, with full jitter and not before `Retry-After`, where
/// the store could not be reached, asked for less, or failed, and the account's retry budget has something to spare.
///
/// Writes go through once, whatever becomes of them: the outcome of one that failed may be unknown, and only its sender
/// knows what to read back.
#[derive(Debug)]
pub struct Retrying {
    inner: Arc<dyn Tables>,
    runtime: Runtime,
}

impl Retrying {
    /// Tries the reads of `inner` again.
    pub fn new(inner: Arc<dyn Tables>, runtime: Runtime) -> Arc<Self> {
        Arc::new(Self { inner, runtime })
    }

    /// How long to wait after so many tries; `None` to give up.
    fn pause(&self, tries: u32, err: &StoreError) -> Option<Duration> {
        let passing = matches!(err.kind, ErrorKind::Unreachable | ErrorKind::Throttled | ErrorKind::Server);
        let asked = err.retry_after.unwrap_or_default();
        let spared = self.inner.gate().is_none_or(|gate| gate.spares_a_repeat());
        if !passing || !spared || err.was_held_back() || tries > RETRIES || asked > LONGEST_PAUSE {
            return None;
        }
        // Jitter beyond what was asked for, or everybody who was sent away comes back at once.
        Some(asked + self.runtime.jitter(FIRST_PAUSE * 2u32.pow(tries - 1)))
    }

    async fn read<T, F: Future<Output = Result<T, StoreError>>>(&self, read: impl Fn() -> F) -> Result<T, StoreError> {
        let mut tries = 0;
        loop {
            let err = match read().await {
                Ok(value) => return Ok(value),
                Err(err) => err,
            };
            tries += 1;
            let Some(pause) = self.pause(tries, &err) else { return Err(err) };
            debug!(account = %self.inner.account(), tries, error = %err, ?pause, "a read is tried again");
            tokio::time::sleep(pause).await;
        }
    }
}

#[async_trait]
impl Tables for Retrying {
    fn region(&self) -> &Region {
        self.inner.region()
    }

    fn account(&self) -> &AccountName {
        self.inner.account()
    }

    fn clock(&self) -> &StorageClock {
        self.inner.clock()
    }

    fn endpoint(&self) -> Option<&str> {
        self.inner.endpoint()
    }

    fn gate(&self) -> Option<&Arc<Gate>> {
        self.inner.gate()
    }

    async fn get(&self, table: &TableName, partition: &PartitionKey, row: &RowKey) -> Result<Option<Row>, StoreError> {
        self.read(|| self.inner.get(table, partition, row)).await
    }

    async fn query(&self, table: &TableName, query: &Query) -> Result<Page, StoreError> {
        self.read(|| self.inner.query(table, query)).await
    }

    async fn write(&self, table: &TableName, operation: &Operation) -> Result<Option<Etag>, StoreError> {
        self.inner.write(table, operation).await
    }

    async fn transact(
        &self,
        table: &TableName,
        partition: &PartitionKey,
        operations: &[Operation],
    ) -> Result<Vec<Option<Etag>>, TransactionError> {
        self.inner.transact(table, partition, operations).await
    }

    async fn create_table(&self, table: &TableName) -> Result<bool, StoreError> {
        self.inner.create_table(table).await
    }

    async fn delete_table(&self, table: &TableName) -> Result<bool, StoreError> {
        self.inner.delete_table(table).await
    }

    async fn tables(&self) -> Result<Vec<TableName>, StoreError> {
        self.read(|| self.inner.tables()).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Time;
    use std::sync::Mutex;
    use tokio::time::Instant;

    /// A store that fails with each of its errors once, from the last, then has no rows and no tables.
    #[derive(Debug)]
    struct Failing {
        region: Region,
        account: AccountName,
        clock: StorageClock,
        errors: Mutex<Vec<StoreError>>,
        tries: Mutex<u32>,
    }

    impl Failing {
        fn next(&self) -> Result<(), StoreError> {
            *self.tries.lock().unwrap() += 1;
            self.errors.lock().unwrap().pop().map_or(Ok(()), Err)
        }
    }

    #[async_trait]
    impl Tables for Failing {
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
            self.next().map(|()| None)
        }
        async fn query(&self, _: &TableName, _: &Query) -> Result<Page, StoreError> {
            self.next().map(|()| Page::default())
        }
        async fn write(&self, _: &TableName, _: &Operation) -> Result<Option<Etag>, StoreError> {
            self.next().map(|()| None)
        }
        async fn transact(
            &self,
            _: &TableName,
            _: &PartitionKey,
            _: &[Operation],
        ) -> Result<Vec<Option<Etag>>, TransactionError> {
            Ok(self.next().map(|()| Vec::new())?)
        }
        async fn create_table(&self, _: &TableName) -> Result<bool, StoreError> {
            self.next().map(|()| true)
        }
        async fn delete_table(&self, _: &TableName) -> Result<bool, StoreError> {
            self.next().map(|()| true)
        }
        async fn tables(&self) -> Result<Vec<TableName>, StoreError> {
            self.next().map(|()| Vec::new())
        }
    }

    fn failing(errors: &[ErrorKind]) -> (Arc<Failing>, Arc<Retrying>) {
        let errors = errors.iter().map(|kind| StoreError::new(*kind, "so it is")).collect();
        let failing = Arc::new(Failing {
            region: Region::new("west").unwrap(),
            account: AccountName::new("west1").unwrap(),
            clock: StorageClock::new(),
            errors: Mutex::new(errors),
            tries: Mutex::new(0),
        });
        let retrying = Retrying::new(failing.clone(), Runtime::simulated(Time::EPOCH, 1));
        (failing, retrying)
    }

    fn table() -> TableName {
        TableName::new("orders").unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_read_is_tried_again_three_times() {
        let (store, retrying) = failing(&[ErrorKind::Server, ErrorKind::Unreachable, ErrorKind::Throttled]);
        assert_eq!(retrying.get(&table(), &"p".into(), &"r".into()).await, Ok(None));
        assert_eq!(*store.tries.lock().unwrap(), 4);
        let (store, retrying) = failing(&[ErrorKind::Server; 5]);
        assert_eq!(retrying.tables().await.unwrap_err().kind, ErrorKind::Server);
        assert_eq!(*store.tries.lock().unwrap(), 4);
    }

    #[tokio::test(start_paused = true)]
    async fn what_will_not_pass_is_not_tried_again() {
        for kind in [ErrorKind::NoTable, ErrorKind::Denied, ErrorKind::Invalid, ErrorKind::Unexpected] {
            let (store, retrying) = failing(&[kind]);
            let query = Query::new(super::super::Scope::Table);
            assert_eq!(retrying.query(&table(), &query).await.unwrap_err().kind, kind);
            assert_eq!(*store.tries.lock().unwrap(), 1);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn retry_after_is_waited_for_unless_it_is_long() {
        let (store, retrying) = failing(&[ErrorKind::Throttled]);
        store.errors.lock().unwrap()[0].retry_after = Some(Duration::from_secs(3));
        let start = Instant::now();
        assert_eq!(retrying.tables().await, Ok(Vec::new()));
        let waited = start.elapsed();
        assert!(waited >= Duration::from_secs(3) && waited <= Duration::from_millis(3_201), "{waited:?}");

        let (store, retrying) = failing(&[ErrorKind::Throttled]);
        store.errors.lock().unwrap()[0].retry_after = Some(Duration::from_secs(60));
        assert!(retrying.tables().await.is_err());
        assert_eq!(*store.tries.lock().unwrap(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_write_is_never_sent_twice() {
        let (store, retrying) = failing(&[ErrorKind::Unreachable; 3]);
        let body = crate::model::RowBody::parse(r#"{"PartitionKey":"p","RowKey":"r"}"#).unwrap();
        let insert = Operation::Insert(body);
        assert!(retrying.write(&table(), &insert).await.is_err());
        assert!(retrying.transact(&table(), &"p".into(), &[insert]).await.is_err());
        assert!(retrying.create_table(&table()).await.is_err());
        assert_eq!(*store.tries.lock().unwrap(), 3);
        let (store, retrying) = failing(&[ErrorKind::Unreachable; 3]);
        assert!(retrying.delete_table(&table()).await.is_err());
        assert_eq!(*store.tries.lock().unwrap(), 1);
    }
}
