//! What real servers cannot be made to do: cut connections, throttle, answer nonsense.

use std::sync::Arc;
use std::time::Duration;

use tablerelay::model::Etag;
use tablerelay::runtime::Runtime;
use tablerelay::stores::azure::{AccountTarget, AzureTables, HttpOptions};
use tablerelay::stores::{
    Condition, Continuation, ErrorKind, Metered, Operation, Query, Remedy, Retrying, Scope, StoreError, Tables,
};

use crate::azure_tables::{self, body, table};
use crate::support::scripted::{Act, Scripted, reply};

const SECRET: &str = "sv=2022-11-02&ss=t&sig=c2VjcmV0LXNpZ25hdHVyZQ%3D%3D";

fn connect_with(server: &Scripted, options: &HttpOptions) -> Arc<AzureTables> {
    let text = format!("TableEndpoint={};SharedAccessSignature={SECRET}", server.endpoint);
    azure_tables::connect(&AccountTarget::from_connection_string(&text).unwrap(), options)
}

fn connect(acts: Vec<Act>) -> (Scripted, Arc<AzureTables>) {
    let server = Scripted::start(acts);
    let tables = connect_with(&server, &HttpOptions::default());
    (server, tables)
}

fn send(status: &str, headers: &[(&str, &str)], body: &str) -> Act {
    Act::Send(reply(status, headers, body))
}

fn insert() -> Operation {
    Operation::Insert(body("p", "r", r#","A":1"#))
}

fn keeps_the_secret(err: &StoreError) {
    assert!(!format!("{err} {err:?}").contains("c2VjcmV0"), "{err:?}");
}

#[tokio::test]
async fn throttling_says_how_long_to_wait_and_which_request_it_was() {
    let headers = [("Retry-After", "7"), ("x-ms-request-id", "id-1"), ("x-ms-error-code", "ServerBusy")];
    let (server, tables) = connect(vec![send("503 Service Unavailable", &headers, "")]);
    let err = tables.write(&table(), &insert()).await.unwrap_err();
    assert_eq!((err.kind, err.retry_after), (ErrorKind::Throttled, Some(Duration::from_secs(7))));
    assert_eq!((err.code.as_str(), err.request_id.as_deref()), ("ServerBusy", Some("id-1")));
    assert_eq!(server.seen().len(), 1, "a write is sent once");
    let err = tables.tables().await.unwrap_err();
    assert_eq!((err.kind, server.seen().len()), (ErrorKind::Throttled, 2), "and so is a read, by the adapter itself");
}

#[tokio::test]
async fn a_connection_that_is_cut_after_the_effect_leaves_the_outcome_unknown() {
    for act in [Act::Cut, Act::SendAndClose(b"HTTP/1.1 204 No Con".to_vec())] {
        let (server, tables) = connect(vec![act.clone()]);
        let err = tables.write(&table(), &insert()).await.unwrap_err();
        assert_eq!((err.kind, err.remedy()), (ErrorKind::Unreachable, Remedy::ReadBack), "{err}");
        keeps_the_secret(&err);
        let err = tables.transact(&table(), &"p".into(), &[insert()]).await.unwrap_err();
        assert_eq!((err.error.kind, err.index), (ErrorKind::Unreachable, None), "{err}");
        assert_eq!(server.seen().len(), 2, "{act:?}: neither was sent again");
        assert!(server.seen()[0].body.contains("\"RowKey\":\"r\""), "the server had all of it");
    }
}

#[tokio::test]
async fn a_write_over_a_kept_connection_that_is_cut_is_not_sent_again() {
    let (server, tables) = connect(vec![send("204 No Content", &[("ETag", "x")], ""), Act::Cut]);
    tables.write(&table(), &insert()).await.unwrap();
    let err = tables.write(&table(), &insert()).await.unwrap_err();
    assert_eq!(err.kind, ErrorKind::Unreachable);
    let connections: Vec<_> = server.seen().iter().map(|request| request.connection).collect();
    assert_eq!(connections, [0, 0]);
}

#[tokio::test]
async fn half_a_reply_is_no_reply() {
    let cut =
        b"HTTP/1.1 202 Accepted\r\nContent-Type: multipart/mixed; boundary=b\r\nContent-Length: 999\r\n\r\n--b\r\n";
    let (server, tables) = connect(vec![Act::SendAndClose(cut.to_vec())]);
    let err = tables.transact(&table(), &"p".into(), &[insert()]).await.unwrap_err();
    assert_eq!((err.error.kind, server.seen().len()), (ErrorKind::Unreachable, 1), "{err}");
    keeps_the_secret(&err.error);
}

#[tokio::test]
async fn a_server_that_never_answers_is_given_up_on() {
    let server = Scripted::start(vec![Act::Hang]);
    let options = HttpOptions { total_timeout: Duration::from_millis(200), ..HttpOptions::default() };
    let err = connect_with(&server, &options).write(&table(), &insert()).await.unwrap_err();
    assert_eq!(err.kind, ErrorKind::Unreachable);
    assert!(err.message.contains("200ms"), "{err}");
    let options = HttpOptions { read_timeout: Duration::from_millis(200), ..HttpOptions::default() };
    let err = connect_with(&server, &options).write(&table(), &insert()).await.unwrap_err();
    assert_eq!(err.kind, ErrorKind::Unreachable, "{err}");
    keeps_the_secret(&err);
}

#[tokio::test]
async fn nobody_listening_is_unreachable() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let text = format!("TableEndpoint=http://127.0.0.1:{port}/a;SharedAccessSignature={SECRET}");
    let target = AccountTarget::from_connection_string(&text).unwrap();
    let err = azure_tables::connect(&target, &HttpOptions::default()).tables().await.unwrap_err();
    assert_eq!(err.kind, ErrorKind::Unreachable);
    assert!(err.message.contains("refused"), "the message says why: {err}");
    keeps_the_secret(&err);
}

#[tokio::test]
async fn a_reply_without_a_server_header_counts_like_any_other() {
    let (_server, tables) = connect(vec![send("204 No Content", &[("ETag", "W/\"1\"")], "")]);
    assert_eq!(tables.write(&table(), &insert()).await, Ok(Some(Etag::new("W/\"1\""))));
}

#[tokio::test]
async fn a_code_that_stands_in_the_body_alone_is_found() {
    let error =
        |code: &str| format!(r#"{{"odata.error":{{"code":"{code}","message":{{"value":"So it is.\nTime:1"}}}}}}"#);
    let acts = ["ResourceNotFound", "TableNotFound", ""].map(|code| send("404 Not Found", &[], &error(code)));
    let (_server, tables) = connect(acts.to_vec());
    let get = || async { tables.get(&table(), &"p".into(), &"r".into()).await };
    assert_eq!(get().await, Ok(None));
    let err = get().await.unwrap_err();
    assert_eq!((err.kind, err.message.as_str()), (ErrorKind::NoTable, "So it is."));
    assert_eq!(get().await.unwrap_err().kind, ErrorKind::Unexpected, "a 404 that says no more is not an absent row");
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let elsewhere = Scripted::start(vec![send("204 No Content", &[("ETag", "x")], "")]);
    let location = [("Location", elsewhere.endpoint.as_str())];
    for status in ["301 Moved Permanently", "307 Temporary Redirect"] {
        let (server, tables) = connect(vec![send(status, &location, "")]);
        let err = tables.write(&table(), &insert()).await.unwrap_err();
        assert_eq!((err.kind, server.seen().len()), (ErrorKind::Unexpected, 1));
    }
    assert_eq!(elsewhere.seen().len(), 0);
}

#[tokio::test]
async fn an_empty_page_with_a_continuation_is_not_the_end() {
    let next = [("x-ms-continuation-NextPartitionKey", "1!8!cA--"), ("x-ms-continuation-NextRowKey", "1!4!é")];
    let (server, tables) = connect(vec![
        send("200 OK", &next, r#"{"odata.metadata":"x","value":[]}"#),
        send("200 OK", &[("x-ms-continuation-NextPartitionKey", "1!8!cA--")], r#"{"value":[]}"#),
        send("200 OK", &[], r#"{"value":[]}"#),
    ]);
    let mut query = Query::new(Scope::Table);
    let page = tables.query(&table(), &query).await.unwrap();
    let expected = Continuation { next_partition: "1!8!cA--".into(), next_row: Some("1!4!é".into()) };
    assert_eq!((page.rows.len(), &page.continuation), (0, &Some(expected)));
    query.continuation = page.continuation;
    query.continuation = tables.query(&table(), &query).await.unwrap().continuation;
    assert_eq!(query.continuation.as_ref().unwrap().next_row, None);
    assert_eq!(tables.query(&table(), &query).await.unwrap().continuation, None);
    let seen = server.seen();
    assert!(seen[1].line.contains("NextPartitionKey=1%218%21cA--&NextRowKey=1%214%21%C3%A9"), "{}", seen[1].line);
    assert!(seen[2].line.contains("NextPartitionKey=1%218%21cA--&") && !seen[2].line.contains("NextRowKey"));
}

#[tokio::test]
async fn a_reply_that_is_not_understood_is_never_taken_for_an_absence() {
    let row = r#"{"PartitionKey":"p","RowKey":"r"}"#;
    let get = |status: &'static str, body: &'static str| async move {
        let (_server, tables) = connect(vec![send(status, &[("ETag", "x")], body)]);
        tables.get(&table(), &"p".into(), &"r".into()).await.unwrap_err()
    };
    for (status, body) in
        [("200 OK", ""), ("200 OK", "<html>"), ("200 OK", row), ("204 No Content", ""), ("302 Found", "")]
    {
        let err = get(status, body).await;
        assert_eq!((err.kind, err.remedy()), (ErrorKind::Unexpected, Remedy::ReadBack), "{status} {body}: {err}");
    }
    for body in ["[]", r#"{"value":[1]}"#, r#"{"value":[{"PartitionKey":"p"}]}"#, r#"{"value":[]"#, ""] {
        let (_server, tables) = connect(vec![send("200 OK", &[], body)]);
        let err = tables.query(&table(), &Query::new(Scope::Table)).await.unwrap_err();
        assert_eq!(err.kind, ErrorKind::Unexpected, "{body}: {err}");
    }
    let (_server, tables) = connect(vec![send("204 No Content", &[], "")]);
    assert_eq!(tables.write(&table(), &insert()).await.unwrap_err().kind, ErrorKind::Unexpected, "no ETag");
    let (_server, tables) = connect(vec![send("202 Accepted", &[("Content-Type", "text/html")], "<html>")]);
    let err = tables.transact(&table(), &"p".into(), &[insert()]).await.unwrap_err();
    assert_eq!(err.error.kind, ErrorKind::Unexpected);
}

#[tokio::test]
async fn what_is_sent_is_exact() {
    let (server, tables) = connect(vec![send("204 No Content", &[("ETag", "x")], "")]);
    let row = body("it's", "日本", r#","S":"é😀""#);
    let etag = Condition::Matches(Etag::new("W/\"1\""));
    tables.write(&table(), &Operation::Insert(row.clone())).await.unwrap();
    tables.write(&table(), &Operation::Merge(row.clone(), etag)).await.unwrap();
    let seen = server.seen();
    assert_eq!(seen[0].line, format!("POST /Orders?{SECRET} HTTP/1.1"));
    let keys = "PartitionKey='it%27%27s',RowKey='%E6%97%A5%E6%9C%AC'";
    assert_eq!(seen[1].line, format!("PATCH /Orders({keys})?{SECRET} HTTP/1.1"));
    for request in &seen {
        assert_eq!(request.body, &**row.json());
        assert_eq!(
            request.header("content-length"),
            Some(row.json().len().to_string().as_str()),
            "bytes, not characters"
        );
        assert_eq!(request.header("prefer"), Some("return-no-content"));
        assert_eq!(request.header("accept"), Some("application/json;odata=minimalmetadata"));
        assert_eq!(request.header("x-ms-version"), Some("2020-12-06"));
    }
    assert_eq!((seen[0].header("if-match"), seen[1].header("if-match")), (None, Some("W/\"1\"")));
    assert_eq!((seen[0].connection, seen[1].connection), (0, 0), "the connection is kept");
}

#[tokio::test]
async fn each_try_is_signed_anew() {
    let busy = send("503 Service Unavailable", &[("Date", "Sun, 22 Nov 2026 12:18:00 GMT")], "");
    let server = Scripted::start(vec![busy, send("200 OK", &[], r#"{"value":[]}"#)]);
    let text = format!("AccountName=acct;AccountKey=a2V5;TableEndpoint={}", server.endpoint);
    let tables = azure_tables::connect(&AccountTarget::from_connection_string(&text).unwrap(), &HttpOptions::default());
    let retrying = Retrying::new(Metered::new(tables.clone()), Runtime::system());
    assert_eq!(retrying.tables().await, Ok(Vec::new()));
    let seen = server.seen();
    assert_eq!(seen.len(), 2);
    for request in &seen {
        let (date, signature) = (request.header("x-ms-date").unwrap(), request.header("authorization").unwrap());
        assert!(date.ends_with(" GMT") && signature.starts_with("SharedKeyLite acct:"), "{date} {signature}");
    }
    let known = tables.clock().at(Runtime::system().instant()).unwrap();
    assert!(known.to_string().starts_with("2026-11-22T12:18:0"), "the clock is the server's: {known}");
}
