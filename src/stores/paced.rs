//! Asks an account no more than a set share of what it bears, for work that has time.
//!
//! Goes around everything else. What is read waits here for its turn, before anybody counts it as sent; what a page turned out to hold
//! and what is written is paid for by whoever reads next. A write never waits: the look that it rests on would grow old behind the
//! back of whoever has checked that it is fresh (R9). So who works in portions of a page, read and then written, keeps to the
//! rate but for the portions that are under way. Where the account asks for less, the share is halved: see [`Share`].

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;

use super::limits::MAX_PAGE;
use super::{ErrorKind, Gate, Operation, Page, Query, StorageClock, StoreError, Tables, TransactionError};
use crate::model::{AccountName, Etag, PartitionKey, Region, Row, RowKey, TableName};
use crate::runtime::Runtime;
use crate::throttle::Share;

/// How long it takes at most until a page is paid for.
const PAID_WITHIN: Duration = Duration::from_secs(5);

/// How much is asked of one account; whoever shares it, shares the rate.
#[derive(Debug)]
pub struct Pacer {
    share: Mutex<Share>,
    runtime: Runtime,
}

impl Pacer {
    /// What Azure allows an account, in rows a second, where nobody has agreed on more.
    pub const USUAL_ROWS: u32 = Share::USUAL_ROWS;

    /// `percent` of the rows a second that an account bears.
    pub fn new(percent: u8, bears: u32, runtime: Runtime) -> Arc<Self> {
        let share = Mutex::new(Share::new(percent, bears, runtime.instant()));
        Arc::new(Self { share, runtime })
    }

    /// Half as much from now on; it grows back by itself.
    pub fn slow_down(&self) {
        self.share().slow_down(self.runtime.instant());
    }

    /// Rows a second at most, now.
    pub fn rows_per_second(&self) -> f64 {
        self.share().limit_at(self.runtime.instant())
    }

    /// How many rows a page may have at most, so that it is soon paid for: whoever asks next gives up otherwise.
    fn page(&self) -> u16 {
        (self.rows_per_second() * PAID_WITHIN.as_secs_f64()).clamp(1.0, f64::from(MAX_PAGE)) as u16
    }

    async fn read<T>(&self, request: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
        let wait = self.share().reserve(1, self.runtime.instant());
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
        let answer = request.await;
        self.heed(answer.as_ref().err());
        answer
    }

    async fn write<T>(&self, request: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
        self.charge(1);
        let answer = request.await;
        self.heed(answer.as_ref().err());
        answer
    }

    fn charge(&self, rows: usize) {
        self.share().charge(rows, self.runtime.instant());
    }

    fn heed(&self, error: Option<&StoreError>) {
        if error.is_some_and(|error| error.kind == ErrorKind::Throttled) {
            self.slow_down();
        }
    }

    fn share(&self) -> MutexGuard<'_, Share> {
        self.share.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A [`Tables`] that is asked no more than its [`Pacer`] allows.
#[derive(Debug)]
pub struct Paced {
    inner: Arc<dyn Tables>,
    pacer: Arc<Pacer>,
}

impl Paced {
    /// Passes requests to `inner` on when it is their turn.
    pub fn new(inner: Arc<dyn Tables>, pacer: Arc<Pacer>) -> Arc<Self> {
        Arc::new(Self { inner, pacer })
    }
}

#[async_trait]
impl Tables for Paced {
    fn region(&self) -> &Region {
        self.inner.region()
    }

    fn account(&self) -> &AccountName {
        self.inner.account()
    }

    fn endpoint(&self) -> Option<&str> {
        self.inner.endpoint()
    }

    fn gate(&self) -> Option<&Arc<Gate>> {
        self.inner.gate()
    }

    fn clock(&self) -> &StorageClock {
        self.inner.clock()
    }

    async fn get(&self, table: &TableName, partition: &PartitionKey, row: &RowKey) -> Result<Option<Row>, StoreError> {
        self.pacer.read(self.inner.get(table, partition, row)).await
    }

    async fn query(&self, table: &TableName, query: &Query) -> Result<Page, StoreError> {
        let most = self.pacer.page();
        let top = if most < MAX_PAGE { Some(query.top.map_or(most, |top| top.min(most))) } else { query.top };
        let query = Query { top, ..query.clone() };
        let page = self.pacer.read(self.inner.query(table, &query)).await?;
        self.pacer.charge(page.rows.len().saturating_sub(1));
        Ok(page)
    }

    async fn write(&self, table: &TableName, operation: &Operation) -> Result<Option<Etag>, StoreError> {
        self.pacer.write(self.inner.write(table, operation)).await
    }

    async fn transact(
        &self,
        table: &TableName,
        partition: &PartitionKey,
        operations: &[Operation],
    ) -> Result<Vec<Option<Etag>>, TransactionError> {
        self.pacer.charge(operations.len());
        let answer = self.inner.transact(table, partition, operations).await;
        self.pacer.heed(answer.as_ref().err().map(|failure| &failure.error));
        answer
    }

    async fn create_table(&self, table: &TableName) -> Result<bool, StoreError> {
        self.pacer.write(self.inner.create_table(table)).await
    }

    async fn delete_table(&self, table: &TableName) -> Result<bool, StoreError> {
        self.pacer.write(self.inner.delete_table(table)).await
    }

    async fn tables(&self) -> Result<Vec<TableName>, StoreError> {
        self.pacer.read(self.inner.tables()).await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
    use std::time::Duration;

    use futures::future::join_all;
    use tokio::time::Instant;

    use super::*;
    use crate::model::{RowBody, Time};
    use crate::stores::Scope;
    use crate::stores::memory::{Fault, MemoryTables, RequestKind};

    struct World {
        memory: Arc<MemoryTables>,
        pacer: Arc<Pacer>,
        paced: Arc<Paced>,
        written: Arc<AtomicUsize>,
    }

    fn table() -> TableName {
        TableName::new("orders").unwrap()
    }

    fn rows(partition: usize) -> Vec<Operation> {
        let partition = format!("p{partition}");
        let body = |row: usize| RowBody::builder(&partition.as_str().into(), &format!("r{row:03}").as_str().into());
        (0..100).map(|row| Operation::InsertOrReplace(body(row).finish())).collect()
    }

    async fn world(percent: u8) -> World {
        let runtime = Runtime::simulated(Time::from_unix_seconds(1_000), 1);
        let (region, account) = (Region::new("west").unwrap(), AccountName::new("one").unwrap());
        let memory = MemoryTables::new(region, account, runtime.clone());
        memory.create_table(&table()).await.unwrap();
        let written = Arc::<AtomicUsize>::default();
        let counted = written.clone();
        memory.watch(move |effect| {
            counted.fetch_add(effect.after.is_ok().into(), Relaxed);
        });
        let pacer = Pacer::new(percent, Share::USUAL_ROWS, runtime);
        let paced = Paced::new(memory.clone(), pacer.clone());
        World { memory, pacer, paced, written }
    }

    impl World {
        async fn write(&self, transactions: usize) -> Duration {
            let began = Instant::now();
            join_all((0..transactions).map(|n| async move {
                let rows = rows(n);
                let partition = rows[0].partition().clone();
                drop(self.paced.transact(&table(), &partition, &rows).await);
            }))
            .await;
            began.elapsed()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_read_waits_until_all_that_went_before_is_paid_for_and_writes_never_wait() {
        let world = world(5).await;
        assert_eq!(world.write(50).await, Duration::ZERO, "they rest on looks that must be fresh");
        assert_eq!(world.written.load(Relaxed), 5_000);
        let began = Instant::now();
        let page = || async { world.paced.query(&table(), &Query::new(Scope::Table)).await.unwrap().rows.len() };
        assert_eq!((page().await, began.elapsed()), (1_000, Duration::from_secs(5)), "1,000 rows a second");
        let began = Instant::now();
        assert_eq!(join_all([page(), page(), page()]).await, [1_000; 3]);
        assert!(began.elapsed() >= Duration::from_millis(999), "it counts by what came: {:?}", began.elapsed());
        let began = Instant::now();
        assert!(world.paced.get(&table(), &"p1".into(), &"r001".into()).await.unwrap().is_some());
        assert!(began.elapsed() >= Duration::from_millis(2_990), "{:?}", began.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn an_account_that_asks_for_less_is_asked_less() {
        let world = world(5).await;
        world.memory.faults().fail_next(RequestKind::Transact, Fault::throttled(Duration::ZERO));
        world.write(1).await;
        assert_eq!(world.pacer.rows_per_second(), 500.0);
        world.memory.faults().fail_next(RequestKind::Query, Fault::lost_request());
        assert!(world.paced.query(&table(), &Query::new(Scope::Table)).await.is_err());
        assert!(world.pacer.rows_per_second() >= 500.0, "that says nothing of its load");
    }
}
