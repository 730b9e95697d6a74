//! Warming on the memory stores, in virtual time.

use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::cache::{CacheMode, CacheRecord, KeyTemplate, Refresh};
use crate::model::{AccountName, Region, RowBody, RowId, SystemTable, TableName, Time, Version, WriterId};
use crate::replicator::{CacheSetup, create_missing};
use crate::runtime::Runtime;
use crate::stores::memory::{Fault, MemoryCache, MemoryTables, RequestKind};
use crate::stores::{Account, Cache, Operation, RegionStore, Tables};
use crate::telemetry::metrics::CacheOutcome;
use crate::topology::TableFilter;

struct Bench {
    stores: Vec<Arc<MemoryTables>>,
    cache: Arc<MemoryCache>,
    warming: Warming,
}

fn table(name: &str) -> TableName {
    TableName::new(name).unwrap()
}

fn version(tick: i64) -> Version {
    Version::new(Time::from_unix_seconds(1_700_000_000) + Duration::from_micros(tick as u64), &region(), WriterId(1))
}

fn region() -> Region {
    Region::new("west").unwrap()
}

impl Bench {
    async fn new() -> Self {
        let runtime = Runtime::simulated(Time::from_unix_seconds(1_700_000_100), 7);
        let stores =
            ["one", "two"].map(|name| MemoryTables::new(region(), AccountName::new(name).unwrap(), runtime.clone()));
        let accounts = stores.iter().map(|store| Account { tables: store.clone() as Arc<dyn Tables>, queue: None });
        let west = RegionStore::new(region(), accounts.collect());
        create_missing(&west).await.unwrap();
        for store in &stores {
            for name in ["orders", "Stock", "Other"] {
                store.create_table(&table(name)).await.unwrap();
            }
        }
        let cache = MemoryCache::new(CacheMode::WriteThrough, None, runtime.clone());
        let setup = CacheSetup { cache: cache.clone(), markers: None, keys: KeyTemplate::default(), warm: None };
        let warming = Warming {
            region: west,
            cache: setup,
            tables: TableFilter::named([table("orders"), table("stock")]),
            only: None,
            rate: 1_000,
            max_clock_skew: Duration::from_secs(60),
            runtime,
        };
        Self { stores: stores.to_vec(), cache, warming }
    }

    async fn put(&self, name: &str, row: usize, version: Option<&Version>) {
        let body = RowBody::builder(&format!("p{}", row % 7).as_str().into(), &format!("r{row}").as_str().into());
        let body = body.string("Value", "x").finish();
        let body = version.map_or(body.clone(), |version| body.stamped(version));
        let home = self.warming.region.holding(&table(name), body.partition());
        home.write(&table(name), &Operation::Insert(body)).await.unwrap();
    }

    async fn record(&self) -> CacheRecord {
        let (partition, row) = CacheRecord::keys(&region());
        let row = self.stores[0].get(&SystemTable::Control.name(), &partition, &row).await.unwrap();
        row.map(|row| CacheRecord::decode(&row.body)).unwrap_or_default()
    }
}

#[tokio::test(start_paused = true)]
async fn every_row_of_every_account_is_put_in_at_the_set_rate_and_nothing_newer_is_replaced() {
    let bench = Bench::new().await;
    for row in 0..2_500 {
        bench.put("orders", row, Some(&version(5))).await;
    }
    bench.put("Stock", 1, Some(&version(6))).await;
    bench.put("Stock", 2, None).await;
    bench.put("Stock", 3, Some(&version(3_600_000_000))).await;
    bench.put("Other", 1, Some(&version(6))).await;
    let id = |row: usize| {
        let (partition, row) = (format!("p{}", row % 7), format!("r{row}"));
        RowId::new(table("orders"), partition.as_str().into(), row.as_str().into())
    };
    let key = |row| bench.warming.cache.keys.key(&id(row));
    let newer = |row, entry: Option<&str>| Refresh { key: key(row), version: version(9), entry: entry.map(Into::into) };
    bench.cache.refresh(&[newer(0, Some("newer")), newer(1, None)]).await.unwrap();
    let (began, mut told) = (tokio::time::Instant::now(), 0);
    let warmed = bench.warming.run(&mut |_| told += 1).await.unwrap();
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(2_300) && took < Duration::from_secs(4), "{took:?}");
    assert!(told >= 25, "{told}");
    let names: Vec<_> = warmed.tables.iter().map(|table| (table.table.as_str(), table.rows, table.left_out)).collect();
    assert_eq!(names, [("orders", 2_500, 0), ("Stock", 3, 2)]);
    let outcomes = &warmed.tables[0].outcomes;
    assert_eq!((outcomes[&CacheOutcome::Stored], outcomes[&CacheOutcome::Newer]), (2_498, 2));
    let held = bench.cache.snapshot();
    assert_eq!(held.len(), 2_501, "what is not replicated, has no version or one from the future is not in");
    assert_eq!((held[&key(0)].entry.as_deref(), &held[&key(1)].entry), (Some("newer"), &None));
    assert!(bench.record().await.warmed.is_some());
    let again = bench.warming.run(&mut |_| {}).await.unwrap();
    assert_eq!(again.tables[0].outcomes[&CacheOutcome::Current], 2_498, "it may be run again");
}

#[tokio::test(start_paused = true)]
async fn one_table_alone_may_be_asked_for() {
    let mut bench = Bench::new().await;
    bench.put("orders", 1, Some(&version(5))).await;
    bench.put("Stock", 1, Some(&version(5))).await;
    bench.warming.only = Some(table("STOCK"));
    let warmed = bench.warming.run(&mut |_| {}).await.unwrap();
    assert_eq!((warmed.rows, warmed.tables.len(), bench.cache.len()), (1, 1, 1));
    assert_eq!(bench.record().await.warmed, None, "the others are as they were");
    bench.warming.only = Some(table("Other"));
    let said = bench.warming.run(&mut |_| {}).await.unwrap_err().to_string();
    assert!(
        said.contains("no table Other") && said.contains("Stock, orders") || said.contains("orders, Stock"),
        "{said}"
    );
}

#[tokio::test(start_paused = true)]
async fn what_fails_for_a_while_is_tried_again_and_what_fails_for_good_ends_it() {
    let bench = Bench::new().await;
    bench.put("orders", 1, Some(&version(5))).await;
    bench.cache.faults().fail_next(RequestKind::Refresh, Fault::lost_request());
    bench.stores[0].faults().fail_next(RequestKind::Query, Fault::lost_request());
    assert_eq!(bench.warming.run(&mut |_| {}).await.unwrap().rows, 1);
    bench.cache.flush();
    bench.cache.faults().set_latency(Duration::from_secs(3_600), Duration::ZERO);
    let said = bench.warming.run(&mut |_| {}).await.unwrap_err().to_string();
    assert!(said.contains("takes nothing") && said.contains("run it again"), "{said}");
    assert!(bench.cache.is_empty());
}
