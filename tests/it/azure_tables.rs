//! The Tables adapter against Azurite.

use std::sync::Arc;

use tablerelay::model::{AccountName, Etag, Region, RowBody, TableName};
use tablerelay::runtime::Runtime;
use tablerelay::stores::azure::{AccountTarget, AzureTables, HttpOptions};
use tablerelay::stores::{Condition, ErrorKind, Operation, Query, Scope, Tables};

use crate::support::azurite::Azurite;

pub fn connect(target: &AccountTarget, options: &HttpOptions) -> Arc<AzureTables> {
    let (region, account) = (Region::new("west").unwrap(), AccountName::new("west1").unwrap());
    AzureTables::connect(region, account, target, options, Runtime::system()).unwrap()
}

fn fresh() -> Arc<AzureTables> {
    let account = Azurite::shared().account();
    connect(&AccountTarget::from_connection_string(&account.connection_string()).unwrap(), &HttpOptions::default())
}

pub fn table() -> TableName {
    TableName::new("Orders").unwrap()
}

async fn fresh_table() -> Arc<AzureTables> {
    let tables = fresh();
    assert_eq!(tables.create_table(&table()).await, Ok(true));
    tables
}

pub fn body(partition: &str, row: &str, properties: &str) -> RowBody {
    let keys = serde_json::json!({ "PartitionKey": partition, "RowKey": row }).to_string();
    RowBody::parse(&format!("{}{properties}}}", keys.strip_suffix('}').unwrap())).unwrap()
}

fn delete(partition: &str, row: &str, condition: Condition) -> Operation {
    Operation::Delete { partition: partition.into(), row: row.into(), condition }
}

#[tokio::test]
async fn a_table_is_created_once_and_listed_in_its_own_case() {
    let tables = fresh();
    assert_eq!(tables.create_table(&table()).await, Ok(true));
    assert_eq!(tables.create_table(&table()).await, Ok(false));
    let names = tables.tables().await.unwrap();
    assert_eq!(names.iter().map(TableName::as_str).collect::<Vec<_>>(), ["Orders"]);
}

#[tokio::test]
async fn a_row_goes_through_every_write() {
    let tables = fresh_table().await;
    let get = || async { tables.get(&table(), &"p".into(), &"r".into()).await.unwrap() };
    assert_eq!(get().await, None);

    let first = tables.write(&table(), &Operation::Insert(body("p", "r", r#","A":1,"B":"b""#))).await.unwrap().unwrap();
    let row = get().await.unwrap();
    assert_eq!(row.body, body("p", "r", r#","A":1,"B":"b""#));
    assert_eq!(row.etag, first, "the ETag of the write is the ETag of the row");

    let merge = Operation::Merge(body("p", "r", r#","A":2"#), Condition::Matches(first.clone()));
    let second = tables.write(&table(), &merge).await.unwrap().unwrap();
    assert_ne!(first, second);
    let row = get().await.unwrap();
    assert_eq!((row.body.string("B").as_deref(), row.etag), (Some("b"), second.clone()));

    let replace = Operation::Replace(body("p", "r", r#","C":3"#), Condition::Matches(second));
    tables.write(&table(), &replace).await.unwrap();
    assert_eq!(get().await.unwrap().body, body("p", "r", r#","C":3"#));

    tables.write(&table(), &Operation::InsertOrMerge(body("p", "r", r#","D":4"#))).await.unwrap();
    assert_eq!(get().await.unwrap().body, body("p", "r", r#","C":3,"D":4"#));
    tables.write(&table(), &Operation::InsertOrReplace(body("p", "r", r#","E":5"#))).await.unwrap();
    assert_eq!(get().await.unwrap().body, body("p", "r", r#","E":5"#));

    assert_eq!(tables.write(&table(), &delete("p", "r", Condition::Present)).await, Ok(None));
    assert_eq!(get().await, None);
}

#[tokio::test]
async fn a_condition_that_does_not_hold_has_its_own_error() {
    let tables = fresh_table().await;
    let write = |operation: Operation| {
        let tables = tables.clone();
        async move { tables.write(&table(), &operation).await }
    };
    let row = || body("p", "r", "");
    let kind = |result: Result<Option<Etag>, tablerelay::stores::StoreError>| result.unwrap_err().kind;
    let stale = write(Operation::Insert(row())).await.unwrap().unwrap();
    assert_eq!(kind(write(Operation::Insert(row())).await), ErrorKind::AlreadyExists);
    write(Operation::Replace(row(), Condition::Matches(stale.clone()))).await.unwrap();
    let matches = || Condition::Matches(stale.clone());
    assert_eq!(kind(write(Operation::Replace(row(), matches())).await), ErrorKind::Precondition);
    assert_eq!(kind(write(Operation::Merge(row(), matches())).await), ErrorKind::Precondition);
    assert_eq!(kind(write(delete("p", "r", matches())).await), ErrorKind::Precondition);
    let absent = || body("p", "absent", "");
    assert_eq!(kind(write(Operation::Replace(absent(), Condition::Present)).await), ErrorKind::NotFound);
    assert_eq!(kind(write(Operation::Merge(absent(), matches())).await), ErrorKind::NotFound);
    assert_eq!(kind(write(delete("p", "absent", Condition::Present)).await), ErrorKind::NotFound);
}

#[tokio::test]
async fn an_absent_table_is_told_from_an_absent_row() {
    let tables = fresh();
    let get = tables.get(&table(), &"p".into(), &"r".into()).await;
    assert_eq!(get.unwrap_err().kind, ErrorKind::NoTable);
    let insert = Operation::Insert(body("p", "r", ""));
    assert_eq!(tables.write(&table(), &insert).await.unwrap_err().kind, ErrorKind::NoTable);
    assert_eq!(tables.query(&table(), &Query::new(Scope::Table)).await.unwrap_err().kind, ErrorKind::NoTable);
    let err = tables.transact(&table(), &"p".into(), &[insert]).await.unwrap_err();
    assert_eq!(err.error.kind, ErrorKind::NoTable, "{err}");
}

#[tokio::test]
async fn odd_keys_are_kept_apart() {
    let tables = fresh_table().await;
    let keys =
        ["", "it's", "''", "100 %", "a%27b", "a b", "a+b", "日本 é", "a&b=c", "😀", "(x)", "a,b", "..", "\u{a0}"];
    for (index, key) in keys.iter().enumerate() {
        tables.write(&table(), &Operation::Insert(body(key, key, &format!(r#","N":{index}"#)))).await.unwrap();
    }
    for (index, key) in keys.iter().enumerate() {
        let row = tables.get(&table(), &(*key).into(), &(*key).into()).await.unwrap();
        let row = row.unwrap_or_else(|| panic!("{key:?} is not there"));
        assert_eq!(row.body, body(key, key, &format!(r#","N":{index}"#)), "{key:?}");
        let page = tables.query(&table(), &Query::rows((*key).into(), (*key).into(), (*key).into())).await.unwrap();
        assert_eq!(page.rows, std::slice::from_ref(&row), "{key:?}");
        let replace = Operation::Replace(row.body, Condition::Matches(row.etag));
        tables.transact(&table(), &(*key).into(), &[replace]).await.unwrap_or_else(|err| panic!("{key:?}: {err}"));
        tables.write(&table(), &delete(key, key, Condition::Present)).await.unwrap();
    }
    assert!(tables.query(&table(), &Query::new(Scope::Table)).await.unwrap().rows.is_empty());
}

#[tokio::test]
async fn keys_that_azure_forbids_are_refused_before_they_are_sent() {
    let tables = fresh_table().await;
    for bad in ["a/b", "a\\b", "a#b", "a?b", "a\u{7f}b"] {
        let err = tables.get(&table(), &bad.into(), &"r".into()).await.unwrap_err();
        assert_eq!((err.kind, err.status), (ErrorKind::Invalid, None), "{bad:?}");
        let err = tables.write(&table(), &Operation::Insert(body("p", bad, ""))).await.unwrap_err();
        assert_eq!((err.kind, err.status), (ErrorKind::Invalid, None), "{bad:?}");
    }
}

#[tokio::test]
async fn a_transaction_applies_whole_with_an_etag_for_each_row() {
    let tables = fresh_table().await;
    let insert = |row: &str| Operation::Insert(body("p", row, r#","S":"it's \"quoted\" \\ é""#));
    let etags = tables.transact(&table(), &"p".into(), &[insert("a"), insert("b"), insert("c")]).await.unwrap();
    let etag = |index: usize| etags[index].clone().unwrap();
    let operations = [
        Operation::Replace(body("p", "a", r#","N":1"#), Condition::Matches(etag(0))),
        Operation::Merge(body("p", "b", r#","N":2"#), Condition::Matches(etag(1))),
        delete("p", "c", Condition::Matches(etag(2))),
        Operation::InsertOrReplace(body("p", "d", "")),
        Operation::InsertOrMerge(body("p", "e", "")),
    ];
    let written = tables.transact(&table(), &"p".into(), &operations).await.unwrap();
    assert_eq!(written.iter().map(Option::is_some).collect::<Vec<_>>(), [true, true, false, true, true]);
    let rows = tables.query(&table(), &Query::new(Scope::Table)).await.unwrap().rows;
    let keys: Vec<_> = rows.iter().map(|row| row.body.row().as_str()).collect();
    assert_eq!(keys, ["a", "b", "d", "e"]);
    for (row, etag) in rows.iter().zip(written.iter().flatten()) {
        assert_eq!(&row.etag, etag, "{:?}", row.body.row());
    }
    assert_eq!(rows[1].body, body("p", "b", r#","S":"it's \"quoted\" \\ é","N":2"#));
}

#[tokio::test]
async fn a_transaction_that_fails_names_the_operation_and_applies_nothing() {
    let tables = fresh_table().await;
    let insert = |row: &str| Operation::Insert(body("p", row, ""));
    tables.write(&table(), &insert("there")).await.unwrap();
    let stale = Condition::Matches(Etag::new("W/\"datetime'2020-01-01T00%3A00%3A00.0000000Z'\""));
    for (at_fault, kind) in [
        (insert("there"), ErrorKind::AlreadyExists),
        (Operation::Replace(body("p", "there", ""), stale.clone()), ErrorKind::Precondition),
        (Operation::Merge(body("p", "absent", ""), Condition::Present), ErrorKind::NotFound),
        (delete("p", "there", stale.clone()), ErrorKind::Precondition),
    ] {
        let operations = [insert("1"), insert("2"), at_fault, insert("3")];
        let err = tables.transact(&table(), &"p".into(), &operations).await.unwrap_err();
        assert_eq!((err.index, err.error.kind), (Some(2), kind), "{err}");
        assert!(err.error.status.is_some() && !err.error.code.is_empty(), "{err}");
        let rows = tables.query(&table(), &Query::new(Scope::Table)).await.unwrap().rows;
        assert_eq!(rows.len(), 1, "nothing of it was applied");
    }
}

#[tokio::test]
async fn a_hundred_operations_are_one_transaction() {
    let tables = fresh_table().await;
    let insert = |row: usize| Operation::Insert(body("p", &format!("{row:03}"), ""));
    let operations: Vec<_> = (0..101).map(insert).collect();
    let err = tables.transact(&table(), &"p".into(), &operations).await.unwrap_err();
    assert_eq!((err.error.kind, err.error.status), (ErrorKind::Invalid, None), "refused before it is sent");
    assert_eq!(tables.transact(&table(), &"p".into(), &operations[..100]).await.unwrap().len(), 100);
}

#[tokio::test]
async fn pages_go_on_where_the_last_one_ended() {
    let tables = fresh_table().await;
    for partition in ["it's", "q"] {
        let insert = |row: usize| Operation::Insert(body(partition, &format!("r{row} é"), ""));
        let operations: Vec<_> = (0..7).map(insert).collect();
        tables.transact(&table(), &partition.into(), &operations).await.unwrap();
    }
    for (scope, expected) in [
        (Scope::Table, 14),
        (Scope::Partition { partition: "it's".into(), from: None, through: None }, 7),
        (Scope::Partition { partition: "q".into(), from: Some("r2".into()), through: Some("r4 é".into()) }, 3),
        (Scope::Partitions { from: Some("j".into()), until: None }, 7),
        (Scope::Partitions { from: None, until: Some("q".into()) }, 7),
    ] {
        let mut query = Query { top: Some(3), ..Query::new(scope.clone()) };
        let mut rows = Vec::new();
        loop {
            let page = tables.query(&table(), &query).await.unwrap();
            assert!(page.rows.len() <= 3);
            rows.extend(page.rows);
            query.continuation = page.continuation;
            if query.continuation.is_none() {
                break;
            }
        }
        assert_eq!(rows.len(), expected, "{scope:?}");
        let keys: Vec<_> = rows.iter().map(|row| (row.body.partition().clone(), row.body.row().clone())).collect();
        assert!(keys.is_sorted(), "{keys:?}");
    }
}

#[tokio::test]
async fn a_selection_brings_keys_etag_and_timestamp_too() {
    let tables = fresh_table().await;
    tables.write(&table(), &Operation::Insert(body("p", "r", r#","A":1,"B":"b""#))).await.unwrap();
    let whole = tables.get(&table(), &"p".into(), &"r".into()).await.unwrap().unwrap();
    let query = Query { select: Some(vec!["A".into()]), ..Query::new(Scope::Table) };
    let row = tables.query(&table(), &query).await.unwrap().rows.remove(0);
    assert_eq!(row.body, body("p", "r", r#","A":1"#));
    assert_eq!((row.etag, row.timestamp), (whole.etag, whole.timestamp));
}

#[tokio::test]
async fn every_reply_sets_the_storage_clock() {
    let tables = fresh();
    let runtime = Runtime::system();
    assert_eq!(tables.clock().at(runtime.instant()), None);
    tables.tables().await.unwrap();
    let known = tables.clock().at(runtime.instant()).unwrap();
    let now = runtime.now();
    assert!(now.since(known).as_secs() <= 2 && known <= now, "{known} {now}");
}
