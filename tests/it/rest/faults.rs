//! Every fault that can be asked for, as the real client sees it: classified right, and what it leaves behind.

use std::time::Duration;

use tablerelay::model::TableName;
use tablerelay::runtime::Runtime;
use tablerelay::stores::azure::{AccountTarget, AzureTables, HttpOptions};
use tablerelay::stores::memory::{Fault, RequestKind};
use tablerelay::stores::{Condition, ErrorKind, Operation, Query, Remedy, Retrying, Scope, StoreError, Tables};
use tokio::time::Instant;

use super::conformance::connect;
use crate::azure_tables::{self, body, table};
use crate::support::eventually;
use crate::support::served::ServedStore;

async fn started() -> (ServedStore, std::sync::Arc<AzureTables>) {
    let server = ServedStore::start().await;
    let tables = connect(&server);
    tables.create_table(&table()).await.unwrap();
    (server, tables)
}

fn insert(row: &str) -> Operation {
    Operation::Insert(body("p", row, r#","A":1"#))
}

fn keys(server: &ServedStore) -> Vec<String> {
    server.store.snapshot(&table()).iter().map(|row| row.body.row().as_str().to_owned()).collect()
}

async fn ask(server: &ServedStore, method: reqwest::Method, path: &str, body: serde_json::Value) {
    let url = format!("{}{path}", server.control);
    let reply = reqwest::Client::new().request(method, url).body(body.to_string()).send().await.unwrap();
    let (status, text) = (reply.status(), reply.text().await.unwrap());
    assert!(status.is_success(), "{status}: {text}");
}

async fn fault(server: &ServedStore, body: serde_json::Value) {
    ask(server, reqwest::Method::POST, "/faults", body).await;
}

#[tokio::test]
async fn throttling_is_classified_and_says_how_long_to_wait() {
    let (server, tables) = started().await;
    for (status, code, retry_after_ms, kind) in [
        (429, "TooManyRequests", Some(1_500), ErrorKind::Throttled),
        (429, "TooManyRequests", None, ErrorKind::Throttled),
        (503, "ServerBusy", Some(7_000), ErrorKind::Throttled),
        (503, "ServerBusy", None, ErrorKind::Throttled),
        (500, "OperationTimedOut", Some(250), ErrorKind::Throttled),
        (500, "InternalError", Some(2_000), ErrorKind::Server),
        (500, "InternalError", None, ErrorKind::Server),
    ] {
        for request in ["write", "transact", "query", "get"] {
            let asked = serde_json::json!({
                "request": request, "fault": "before", "status": status, "code": code, "retry_after_ms": retry_after_ms,
            });
            fault(&server, asked).await;
            let err = match request {
                "write" => tables.write(&table(), &insert("a")).await.unwrap_err(),
                "transact" => {
                    let failed = tables.transact(&table(), &"p".into(), &[insert("a")]).await.unwrap_err();
                    assert_eq!(failed.index, None, "{failed}");
                    failed.error
                }
                "query" => tables.query(&table(), &Query::new(Scope::Table)).await.unwrap_err(),
                _ => tables.get(&table(), &"p".into(), &"a".into()).await.unwrap_err(),
            };
            assert_eq!((err.kind, err.status, &*err.code), (kind, Some(status), code), "{request}: {err}");
            assert_eq!(err.retry_after, retry_after_ms.map(Duration::from_millis), "{request}: {err}");
            assert!(err.request_id.is_some(), "{err:?}");
        }
    }
    assert_eq!(keys(&server), [""; 0]);
}

#[tokio::test]
async fn a_read_waits_as_long_as_it_was_asked_to_and_comes_through() {
    let (server, tables) = started().await;
    let retrying = Retrying::new(tables, Runtime::system());
    let asked = serde_json::json!({
        "request": "query", "fault": "before", "status": 503, "retry_after_ms": 300, "times": 2,
    });
    fault(&server, asked).await;
    let start = Instant::now();
    retrying.query(&table(), &Query::new(Scope::Table)).await.unwrap();
    assert!(start.elapsed() >= Duration::from_millis(600), "{:?}", start.elapsed());
    assert_eq!(server.faults().requests(RequestKind::Query), 3);
}

fn unknown(err: &StoreError) {
    assert_eq!((err.kind, err.remedy(), err.status), (ErrorKind::Unreachable, Remedy::ReadBack, None), "{err}");
}

#[tokio::test]
async fn a_connection_that_is_cut_leaves_the_outcome_unknown_before_the_effect_and_after() {
    let (server, tables) = started().await;
    let rows = |row: &str| [insert(row), insert(&format!("{row}2"))];
    for (fault, lost) in [(Fault::lost_request(), true), (Fault::lost_reply(), false)] {
        let (row, more) = if lost { ("a", "b") } else { ("c", "d") };
        server.faults().fail_next(RequestKind::Write, fault.clone());
        unknown(&tables.write(&table(), &insert(row)).await.unwrap_err());
        server.faults().fail_next(RequestKind::Transact, fault.clone());
        let failed = tables.transact(&table(), &"p".into(), &rows(more)).await.unwrap_err();
        assert_eq!(failed.index, None);
        unknown(&failed.error);
        server.faults().fail_next(RequestKind::Get, fault);
        unknown(&tables.get(&table(), &"p".into(), &row.into()).await.unwrap_err());
        // Reading back is how it is found out.
        assert_eq!(tables.get(&table(), &"p".into(), &row.into()).await.unwrap().is_none(), lost);
        assert_eq!(tables.get(&table(), &"p".into(), &more.into()).await.unwrap().is_none(), lost);
    }
    assert_eq!(keys(&server), ["c", "d", "d2"]);
    assert_eq!(server.faults().requests(RequestKind::Write), 2, "a write is never sent twice");
}

#[tokio::test]
async fn a_failure_after_the_effect_is_told_and_the_effect_stays() {
    let (server, tables) = started().await;
    fault(&server, serde_json::json!({ "request": "write", "fault": "after", "status": 500 })).await;
    let err = tables.write(&table(), &insert("a")).await.unwrap_err();
    assert_eq!((err.kind, err.remedy()), (ErrorKind::Server, Remedy::ReadBack), "{err}");
    assert_eq!(keys(&server), ["a"]);
}

#[tokio::test]
async fn a_transaction_can_be_made_to_fail_in_its_middle() {
    let (server, tables) = started().await;
    let rows: Vec<_> = ["a", "b", "c"].map(insert).into();
    let asked = |status: u16, index: u8| serde_json::json!({ "request": "transact", "fault": "before", "status": status, "index": index });
    for (status, index, kind) in [
        (409, 1, ErrorKind::AlreadyExists),
        (412, 2, ErrorKind::Precondition),
        (404, 0, ErrorKind::NotFound),
        (400, 1, ErrorKind::Invalid),
        (503, 2, ErrorKind::Throttled),
    ] {
        fault(&server, asked(status, index)).await;
        let failed = tables.transact(&table(), &"p".into(), &rows).await.unwrap_err();
        assert_eq!((failed.index, failed.error.kind), (Some(index.into()), kind), "{failed}");
    }
    assert_eq!(keys(&server), [""; 0]);
    tables.transact(&table(), &"p".into(), &rows).await.unwrap();
}

#[tokio::test]
async fn a_slow_reply_is_given_up_on_and_a_late_write_still_takes_effect() {
    let (server, _) = started().await;
    let options = HttpOptions { total_timeout: Duration::from_millis(150), ..HttpOptions::default() };
    let target = AccountTarget::from_connection_string(&server.connection_string).unwrap();
    let hasty = azure_tables::connect(&target, &options);
    fault(&server, serde_json::json!({ "request": "write", "fault": "delay-reply", "for_ms": 60_000 })).await;
    unknown(&hasty.write(&table(), &insert("a")).await.unwrap_err());
    assert_eq!(keys(&server), ["a"], "the effect was before the reply");
    fault(&server, serde_json::json!({ "request": "write", "fault": "delay", "for_ms": 60_000 })).await;
    unknown(&hasty.write(&table(), &insert("b")).await.unwrap_err());
    assert_eq!(keys(&server), ["a"], "who hangs up before the effect leaves none");
    fault(&server, serde_json::json!({ "request": "write", "fault": "late", "for_ms": 50 })).await;
    unknown(&hasty.write(&table(), &insert("c")).await.unwrap_err());
    eventually("the late write takes effect", || async { keys(&server) == ["a", "c"] }).await;
}

#[tokio::test]
async fn a_frozen_request_waits_until_it_is_released() {
    let (server, tables) = started().await;
    fault(&server, serde_json::json!({ "request": "write", "fault": "freeze" })).await;
    let released = async {
        eventually("it is frozen", || async { server.faults().frozen() == 1 }).await;
        assert_eq!(keys(&server), [""; 0]);
        ask(&server, reqwest::Method::POST, "/release", serde_json::json!({})).await;
    };
    let row = insert("a");
    let (written, table) = (tables.write(&TABLE_OF_ROWS, &row), table());
    let (written, ()) = tokio::join!(written, released);
    written.unwrap();
    assert!(tables.get(&table, &"p".into(), &"a".into()).await.unwrap().is_some());
}

static TABLE_OF_ROWS: std::sync::LazyLock<TableName> = std::sync::LazyLock::new(table);

#[tokio::test]
async fn an_account_that_is_cut_off_answers_nobody_until_it_is_healed() {
    let (server, tables) = started().await;
    ask(&server, reqwest::Method::PUT, "/line", serde_json::json!({ "cut": true })).await;
    for _ in 0..2 {
        unknown(&tables.tables().await.unwrap_err());
    }
    let state: serde_json::Value = reqwest::get(&server.control).await.unwrap().json().await.unwrap();
    assert_eq!((&state["cut"], &state["requests"]["list-tables"]), (&true.into(), &2.into()), "{state}");
    ask(&server, reqwest::Method::DELETE, "/faults", serde_json::json!({})).await;
    assert_eq!(tables.tables().await.unwrap(), [table()]);
}

#[tokio::test]
async fn pages_end_early_and_empty_where_they_are_made_to() {
    let (server, tables) = started().await;
    let rows: Vec<_> = (0..7).map(|row| insert(&row.to_string())).collect();
    tables.transact(&table(), &"p".into(), &rows).await.unwrap();
    ask(&server, reqwest::Method::PUT, "/line", serde_json::json!({ "short_pages": 3, "latency_ms": 1 })).await;
    let (mut query, mut sizes) = (Query::new(Scope::Table), Vec::new());
    loop {
        let page = tables.query(&table(), &query).await.unwrap();
        sizes.push(page.rows.len());
        query.continuation = page.continuation;
        if query.continuation.is_none() {
            break;
        }
    }
    assert_eq!(sizes, [0, 3, 3, 1]);
}

#[tokio::test]
async fn every_fault_of_the_document_is_accepted() {
    let server = ServedStore::start().await;
    let document = include_str!("../../../docs/store.md");
    let examples: Vec<_> = document.lines().filter(|line| line.starts_with("{\"request\":")).collect();
    for example in &examples {
        fault(&server, serde_json::from_str(example).unwrap()).await;
    }
    let named = document.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`').map(|(name, _)| name));
    let faults: Vec<_> = named.filter(|name| !name.contains('/')).collect();
    assert_eq!(faults.len(), 8, "{faults:?}");
    for name in faults {
        assert!(examples.iter().any(|example| example.contains(&format!("\"{name}\""))), "{name} has no example");
    }
}

#[tokio::test]
async fn a_fault_that_cannot_be_is_refused_with_what_it_should_be() {
    let server = ServedStore::start().await;
    let client = reqwest::Client::new();
    for (body, says) in [
        (r#"{"request":"write","fault":"befor"}"#, "before, after, lost-request"),
        (r#"{"request":"writ","fault":"before"}"#, "get, query, write, transact"),
        (r#"{"request":"write","fault":"before"}"#, "status of 400 to 599"),
        (r#"{"request":"write","fault":"delay"}"#, "should have for_ms"),
        (r#"{"request":"write","fault":"freeze","fo":1}"#, "unknown field `fo`"),
        ("", "the fault:"),
    ] {
        let reply = client.post(format!("{}/faults", server.control)).body(body).send().await.unwrap();
        let (status, text) = (reply.status().as_u16(), reply.text().await.unwrap());
        assert!(status == 400 && text.contains(says), "{body}: {status} {text}");
    }
    let elsewhere = server.control.replace("acct1", "acct2");
    let reply = client.delete(format!("{elsewhere}/faults")).send().await.unwrap();
    assert_eq!(reply.status().as_u16(), 404);
    assert!(reply.text().await.unwrap().contains("there is acct1"));
}

#[tokio::test]
async fn a_write_on_a_condition_that_fails_is_told_from_a_fault() {
    let (_server, tables) = started().await;
    let stale = tables.write(&table(), &insert("a")).await.unwrap().unwrap();
    let replace = Operation::Replace(body("p", "a", ""), Condition::Matches(stale.clone()));
    tables.write(&table(), &replace).await.unwrap();
    let err = tables.write(&table(), &replace).await.unwrap_err();
    assert_eq!((err.kind, &*err.code), (ErrorKind::Precondition, "UpdateConditionNotSatisfied"), "{err}");
}
