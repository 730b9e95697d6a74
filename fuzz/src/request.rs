//! Requests as the Table REST API has them: `PUT /Orders(PartitionKey='p',RowKey='r')?timeout=30` on the first line,
//! headers, an empty line, the body.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use serde_json::Value;
use tablerelay::model::{AccountName, Region, RowBody, TableName, Time};
use tablerelay::rest::{Context, Incoming, Reply, answer};
use tablerelay::runtime::Runtime;
use tablerelay::stores::memory::MemoryTables;
use tablerelay::stores::{Operation, Tables, limits};

use super::feed::same_body;
use super::input::Input;

/// A request to a store that has one table with one row.
pub fn table_request(bytes: &[u8]) -> bool {
    let Some(incoming) = incoming(&Input::read(bytes)) else { return false };
    // Time stands still: nothing here waits.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    runtime.block_on(ask(&incoming))
}

fn incoming(input: &Input<'_>) -> Option<Incoming> {
    let (method, target) = input.first.split_once(' ')?;
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut headers = HeaderMap::new();
    for (name, value) in &input.headers {
        headers.append(HeaderName::try_from(name).ok()?, HeaderValue::try_from(value).ok()?);
    }
    let method = Method::from_bytes(method.as_bytes()).ok()?;
    let body = Bytes::copy_from_slice(input.body);
    Some(Incoming { method, path: path.to_owned(), query: query.to_owned(), headers, body })
}

async fn ask(incoming: &Incoming) -> bool {
    let orders = TableName::new("Orders").expect("a table");
    let (region, account) = (Region::new("west").expect("a region"), AccountName::new("a").expect("an account"));
    let now = Time::from_unix_seconds(1_700_000_000);
    let store = MemoryTables::new(region, account, Runtime::simulated(now, 1));
    store.create_table(&orders).await.expect("a new table");
    let row = RowBody::parse(r#"{"PartitionKey":"p","RowKey":"r","N":1}"#).expect("a row");
    store.write(&orders, &Operation::Insert(row)).await.expect("a new row");
    let (base, request_id) = ("http://localhost/a".to_owned(), "id".to_owned());
    let context = Context { account: "a".to_owned(), root: "/a".to_owned(), base, request_id, now };
    let reply = answer(&*store, incoming, &context).await.expect("a store without faults answers");
    told(&reply);
    // Whatever came in, the store holds what Azure would.
    for table in store.tables().await.expect("a store without faults answers") {
        for row in store.snapshot(&table) {
            same_body(&row.body);
            limits::check_body(&row.body).expect("no row is there that Azure would not hold");
        }
    }
    // The failure of a transaction is in the reply's body.
    reply.status < 300 && !reply.body.contains("odata.error")
}

/// The reply is one that a client understands: success, or a refusal that says what is wrong. Never a failure of ours.
fn told(reply: &Reply) {
    let expected = [200, 201, 202, 204, 304, 400, 404, 405, 409, 411, 412, 413, 415, 501];
    assert!(expected.contains(&reply.status), "{reply:?}");
    let header =
        |name: &str| reply.headers.iter().find(|(own, _)| own.eq_ignore_ascii_case(name)).map(|(_, value)| value);
    for (_, value) in &reply.headers {
        assert!(!value.contains(['\r', '\n']), "a header ends where its line does: {value:?}");
    }
    if header("content-type").is_some_and(|kind| kind.starts_with("application/json")) {
        let json: Value = serde_json::from_str(&reply.body).unwrap_or_else(|err| panic!("{err}: {}", reply.body));
        if reply.status >= 400 {
            let error = &json["odata.error"];
            let code = error["code"].as_str().unwrap_or_default();
            let message = error["message"]["value"].as_str().unwrap_or_default();
            assert!(!code.is_empty() && message.len() > code.len().min(8), "it should say what is wrong: {reply:?}");
        }
    }
}
