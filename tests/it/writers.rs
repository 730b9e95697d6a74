//! Writers against real servers: ours, and the examples in Python and JavaScript.

use std::path::PathBuf;
use std::sync::Arc;

use tablerelay::feed::{decode_record, decode_tombstone, is_record_key};
use tablerelay::model::{Change, PartitionKey, Region, RowBody, RowId, RowKey, SystemTable, TableName, Tombstone};
use tablerelay::runtime::Runtime;
use tablerelay::stores::azure::{AccountTarget, AzureTables, HttpOptions};
use tablerelay::stores::{Account, Condition, Operation, Query, RegionStore, Scope, Tables};
use tablerelay::writer::{Writer, WriterOptions};

use crate::azure_tables::{body, connect, table};
use crate::support::azurite::{Azurite, TestAccount};
use crate::support::programs::{node, python, run};
use crate::support::redis::Redis;

fn tables(account: &TestAccount) -> Arc<AzureTables> {
    let target = AccountTarget::from_connection_string(&account.connection_string()).unwrap();
    connect(&target, &HttpOptions::default())
}

/// Every row of a table.
async fn rows(tables: &AzureTables, table: &TableName) -> Vec<tablerelay::model::Row> {
    let mut query = Query::new(Scope::Table);
    let mut rows = Vec::new();
    loop {
        let page = tables.query(table, &query).await.unwrap();
        rows.extend(page.rows);
        match page.continuation {
            Some(next) => query.continuation = Some(next),
            None => return rows,
        }
    }
}

/// What stands in the feed: all of it must be what the protocol says.
async fn feed(tables: &AzureTables) -> (Vec<Change>, Vec<Tombstone>) {
    let (mut changes, mut tombstones) = (Vec::new(), Vec::new());
    for row in rows(tables, &SystemTable::Feed.name()).await {
        match is_record_key(row.body.row()) {
            true => changes.push(decode_record(&row).unwrap().change),
            false => tombstones.push(decode_tombstone(&row).unwrap()),
        }
    }
    (changes, tombstones)
}

/// Every row must carry a version that was announced for it, every tombstone one that was announced as its delete.
async fn assert_announced(tables: &AzureTables, table: &TableName) {
    let (changes, tombstones) = feed(tables).await;
    let announced = |id: &RowId, version, deleted| {
        let named = |change: &Change| change.rows().any(|row| row == (id.clone(), deleted));
        changes.iter().any(|change| Some(&change.version) == version && named(change))
    };
    let rows = rows(tables, table).await;
    assert!(!rows.is_empty() && !tombstones.is_empty());
    for row in &rows {
        let id = RowId::new(table.clone(), row.body.partition().clone(), row.body.row().clone());
        assert!(announced(&id, row.body.version(), false), "{id} has {:?}", row.body.version());
    }
    for stone in &tombstones {
        assert!(announced(&stone.id, Some(&stone.version), true), "{stone:?}");
    }
}

#[tokio::test]
async fn our_writer_follows_the_protocol_on_azurite() {
    let tables = tables(&Azurite::shared().account());
    tables.create_table(&table()).await.unwrap();
    let region = Region::new("west").unwrap();
    let store = RegionStore::new(region, vec![Account { tables: tables.clone(), queue: None }]);
    let writer = Writer::new(store, WriterOptions::default(), Runtime::system());
    for key in ["it's", "say \"x\"", "100 %", "日本", "😀", ""] {
        let (partition, row) = (PartitionKey::from(key), RowKey::from(key));
        let first = writer.insert(&table(), &body(key, key, r#","N":1"#), None).await.unwrap();
        assert_eq!(writer.insert(&table(), &body(key, key, ""), None).await.unwrap_err().status(), Some(409));
        let merge = Condition::Matches(first.etag().unwrap().clone());
        let merged = writer.merge(&table(), &body(key, key, r#","M":2"#), merge.clone(), None).await.unwrap();
        assert_eq!(writer.replace(&table(), &body(key, key, ""), merge, None).await.unwrap_err().status(), Some(412));
        let found = tables.get(&table(), &partition, &row).await.unwrap().unwrap();
        assert_eq!(found.body, body(key, key, r#","N":1,"M":2"#).stamped(&merged.version));
        writer.delete(&table(), &partition, &row, Condition::Present, found.body.version()).await.unwrap();
        let again = writer.delete(&table(), &partition, &row, Condition::Present, None).await.unwrap();
        let made = writer.insert_or_replace(&table(), &body(key, key, ""), None).await.unwrap();
        assert!(made.version > again.version);
        let mixed = vec![
            Operation::InsertOrMerge(body(key, "a", "")),
            Operation::Delete { partition: partition.clone(), row: row.clone(), condition: Condition::Present },
        ];
        writer.transaction(&table(), &partition, mixed, None).await.unwrap();
        writer.insert(&table(), &body(key, "stays", ""), None).await.unwrap();
    }
    assert_announced(&tables, &table()).await;
}

struct Client {
    folder: &'static str,
    program: PathBuf,
    script: &'static str,
    tests: &'static [&'static str],
}

fn clients() -> [Client; 2] {
    let tests = &["-m", "unittest", "--verbose"];
    let python = Client { folder: "python", program: python(), script: "roundtrip.py", tests };
    let tests = &["--test", "vectors.test.mjs", "writer.test.mjs", "routes.test.mjs", "../functions/order.test.mjs"];
    [python, Client { folder: "javascript", program: node(), script: "roundtrip.mjs", tests }]
}

#[test]
fn the_examples_pass_their_own_tests() {
    let redis = Redis::start();
    for client in clients() {
        let connection = Azurite::shared().account().connection_string();
        let environment = [("TABLES_CONNECTION", &*connection), ("REDIS_URL", &redis.url())];
        run(&client.program, client.folder, client.tests, &environment);
    }
}

#[tokio::test]
async fn what_microsofts_clients_wrote_through_the_examples_was_announced_and_reads_the_same_when_carried_over() {
    for client in clients() {
        let accounts = [Azurite::shared().account(), Azurite::shared().account()];
        let [source, destination] = accounts.each_ref().map(tables);
        let at = |account: &TestAccount, arguments: &[&str]| {
            let environment = [("TABLES_CONNECTION", &*account.connection_string())];
            run(&client.program, client.folder, &[&[client.script], arguments].concat(), &environment)
        };
        at(&accounts[0], &["write", "Orders", "west"]);
        at(&accounts[0], &["check", "Orders", "--wait", "0"]);
        assert_announced(&source, &table()).await;
        destination.create_table(&table()).await.unwrap();
        for row in rows(&source, &table()).await {
            let carried = RowBody::parse(row.body.json()).unwrap();
            destination.write(&table(), &Operation::Insert(carried)).await.unwrap();
        }
        at(&accounts[1], &["check", "Orders", "--wait", "0"]);
    }
}
