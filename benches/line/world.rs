//! Two regions on memory stores, a loaded source, and a line from one to the other.

use std::sync::Arc;
use std::time::Duration;

use tablerelay::feed::{encode_change, is_record_key};
use tablerelay::model::*;
use tablerelay::replicator::{Replicator, Settings, Setup, StatusBoard, create_missing};
use tablerelay::runtime::Runtime;
use tablerelay::stores::memory::MemoryTables;
use tablerelay::stores::{Account, Operation, RegionStore, Tables};
use tablerelay::topology::{FileRoles, TableFilter};
use tokio_util::sync::CancellationToken;

pub const LATENCY: Duration = Duration::from_millis(5);

/// Source and destination.
pub struct World {
    pub runtime: Runtime,
    pub source: Arc<MemoryTables>,
    pub destination: Arc<MemoryTables>,
    regions: [RegionStore; 2],
    clock: HybridClock,
}

pub fn table() -> TableName {
    TableName::new("orders").expect("a table name")
}

/// A row of some 200 bytes.
pub fn body(partition: &str, row: &str, version: &Version) -> RowBody {
    let filler = "x".repeat(100);
    RowBody::builder(&partition.into(), &row.into()).string("Value", &filler).finish().stamped(version)
}

impl World {
    pub async fn new(runtime: Runtime) -> Self {
        let make = |name: &str| {
            let region = Region::new(name).expect("a region");
            let account = AccountName::new("one").expect("an account");
            let store = MemoryTables::new(region.clone(), account, runtime.clone());
            let tables: Arc<dyn Tables> = store.clone();
            (store, RegionStore::new(region, vec![Account { tables, queue: None }]))
        };
        let ((source, from), (destination, to)) = (make("west"), make("north"));
        for region in [&from, &to] {
            create_missing(region).await.expect("system tables");
            region.home().create_table(&table()).await.expect("the data table");
        }
        let clock = HybridClock::new(from.region().clone(), runtime.writer_id(), Duration::from_secs(60));
        Self { runtime, source, destination, regions: [from, to], clock }
    }

    pub fn set_latency(&self, latency: Duration) {
        for store in [&self.source, &self.destination] {
            store.faults().set_latency(latency, Duration::ZERO);
        }
    }

    pub fn version(&mut self) -> Version {
        self.clock.issue(self.runtime.now(), None).expect("a version")
    }

    /// Announces rows of one partition and writes them in one transaction.
    pub async fn write(&mut self, partition: &str, rows: &[String]) {
        let version = self.version();
        write_at(self.source.as_ref(), &version, partition, rows).await;
    }

    pub fn start(&self, settings: Settings) -> CancellationToken {
        self.start_seen(settings).0
    }

    /// With what it tells of itself.
    pub fn start_seen(&self, settings: Settings) -> (CancellationToken, Arc<StatusBoard>) {
        let stop = CancellationToken::new();
        let replicator = Replicator::new(Setup {
            local: self.regions[0].clone(),
            copies: vec![],
            destinations: vec![self.regions[1].clone()],
            cache: None,
            tables: TableFilter::Every,
            roles: FileRoles::multi_active(self.regions.iter().map(|region| region.region().clone())),
            reading: None,
            settings,
            runtime: self.runtime.clone(),
        });
        let (stopped, board) = (stop.clone(), replicator.status());
        #[expect(clippy::disallowed_methods, reason = "a benchmark is its own supervisor")]
        tokio::spawn(async move { replicator.run(stopped).await.expect("the line runs until it is stopped") });
        (stop, board)
    }

    pub fn requests(&self) -> u64 {
        self.source.faults().all_requests() + self.destination.faults().all_requests()
    }

    pub fn open_records(&self) -> usize {
        let feed = self.source.snapshot(&SystemTable::Feed.name());
        feed.iter().filter(|row| is_record_key(row.body.row())).count()
    }

    /// Waits until the destination holds what the source holds.
    pub async fn delivered(&self, rows: usize) {
        let newest = |store: &MemoryTables| -> Vec<RowBody> {
            store.snapshot(&table()).into_iter().map(|row| row.body).collect()
        };
        let target = newest(&self.source);
        assert_eq!(target.len(), rows, "the source holds what was loaded");
        while newest(&self.destination) != target {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Waits until no record is left.
    pub async fn settled(&self) {
        while self.open_records() > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// Announces and writes rows of one partition at a version.
pub async fn write_at(store: &dyn Tables, version: &Version, partition: &str, rows: &[String]) {
    let change = Change {
        table: table(),
        partition: partition.into(),
        puts: rows.iter().map(|row| RowKey::from(row.as_str())).collect(),
        deletes: vec![],
        version: version.clone(),
        base: None,
    };
    for record in encode_change(&change).expect("a record") {
        store.write(&SystemTable::Feed.name(), &Operation::Insert(record)).await.expect("announced");
    }
    let rows: Vec<Operation> =
        rows.iter().map(|row| Operation::InsertOrReplace(body(partition, row, version))).collect();
    match rows.as_slice() {
        [one] => store.write(&table(), one).await.map(drop).expect("written"),
        many => store.transact(&table(), &partition.into(), many).await.map(drop).expect("written"),
    }
}
