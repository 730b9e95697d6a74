//! Replies, byte by byte where clients look at them.

use reqwest::{Client, Method, Response};
use serde_json::Value;
use tablerelay::rest::memory::{MemoryAccount, MemoryServer};
use tablerelay::rest::{Admission, Served, Server};
use tablerelay::runtime::Runtime;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::support::served::ServedStore;

/// The memory store behind a listener that lets everybody in, so that requests need no signature.
struct Open {
    endpoint: String,
    client: Client,
    _tasks: JoinSet<()>,
}

impl Open {
    async fn start() -> Self {
        let store = ServedStore::start().await.store;
        let address = "127.0.0.1:0".parse().unwrap();
        let served = Served { tables: store, admission: Admission::Open };
        let server = Server::bind(address, [("open".to_owned(), served)].into(), Runtime::system()).await.unwrap();
        let endpoint = format!("http://{}/open", server.address());
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { server.run(axum::Router::new(), CancellationToken::new()).await.unwrap() });
        let open = Self { endpoint, client: Client::new(), _tasks: tasks };
        let made = open.send(Method::POST, "/Tables", &[], r#"{"TableName":"Orders"}"#).await;
        assert_eq!(made.status().as_u16(), 201);
        open
    }

    async fn send(&self, method: Method, path: &str, headers: &[(&str, &str)], body: &str) -> Response {
        let mut request = self.client.request(method, format!("{}{path}", self.endpoint)).body(body.to_owned());
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.send().await.unwrap()
    }
}

const ROW: &str = r#"{"PartitionKey":"it's","RowKey":"a b","N":1,"L@odata.type":"Edm.Int64","L":"7","D@odata.type":"Edm.Double","D":2}"#;
const KEYS: &str = "/Orders(PartitionKey='it%27%27s',RowKey='a%20b')";

fn header<'a>(reply: &'a Response, name: &str) -> Option<&'a str> {
    reply.headers().get(name).map(|value| value.to_str().unwrap())
}

#[tokio::test]
async fn an_insert_is_answered_with_the_row_unless_nobody_wants_it() {
    let open = Open::start().await;
    let reply = open.send(Method::POST, "/Orders", &[("x-ms-client-request-id", "mine")], ROW).await;
    assert_eq!(reply.status().as_u16(), 201);
    assert_eq!(header(&reply, "location"), Some(&*format!("{}{KEYS}", open.endpoint)));
    assert_eq!((header(&reply, "x-ms-client-request-id"), header(&reply, "preference-applied")), (Some("mine"), None));
    assert_eq!(header(&reply, "x-ms-request-id").map(str::len), Some(36));
    let etag = header(&reply, "etag").unwrap().to_owned();
    let row: Value = reply.json().await.unwrap();
    assert_eq!((&row["odata.etag"], &row["PartitionKey"], &row["D"]), (&etag.into(), &"it's".into(), &2.0.into()));
    assert!(row["Timestamp"].as_str().unwrap().ends_with('Z'), "{row}");

    let prefer = [("prefer", "return-no-content")];
    let reply = open.send(Method::POST, "/Orders", &prefer, r#"{"PartitionKey":"p","RowKey":"r"}"#).await;
    assert_eq!((reply.status().as_u16(), header(&reply, "preference-applied")), (204, Some("return-no-content")));
    assert_eq!(reply.text().await.unwrap(), "");
}

#[tokio::test]
async fn a_row_is_read_with_as_much_metadata_as_is_asked_for() {
    let open = Open::start().await;
    open.send(Method::POST, "/Orders", &[], ROW).await;
    for (level, names) in [
        ("nometadata", vec!["PartitionKey", "RowKey", "Timestamp", "N", "L", "D"]),
        (
            "minimalmetadata",
            vec!["odata.metadata", "odata.etag", "PartitionKey", "RowKey", "Timestamp", "N", "L@odata.type", "L", "D"],
        ),
        (
            "fullmetadata",
            vec![
                "odata.metadata",
                "odata.type",
                "odata.id",
                "odata.editLink",
                "odata.etag",
                "PartitionKey",
                "RowKey",
                "Timestamp@odata.type",
                "Timestamp",
                "N",
                "L@odata.type",
                "L",
                "D",
            ],
        ),
    ] {
        let accept = format!("application/json;odata={level}");
        let reply = open.send(Method::GET, KEYS, &[("accept", &accept)], "").await;
        assert!(header(&reply, "content-type").unwrap().starts_with(&accept), "{level}");
        let row: Value = reply.json().await.unwrap();
        let mut found: Vec<_> = row.as_object().unwrap().keys().map(String::as_str).collect();
        let mut names = names;
        found.sort_unstable();
        names.sort_unstable();
        assert_eq!(found, names, "{level}");
    }
}

#[tokio::test]
async fn what_is_not_served_says_so() {
    let open = Open::start().await;
    for (method, path, status, code) in [
        (Method::GET, "/?restype=service&comp=properties", 501, "NotImplemented"),
        (Method::GET, "/Orders?comp=acl", 501, "NotImplemented"),
        (Method::PUT, "/Orders", 405, "MethodNotAllowed"),
        (Method::GET, "/$batch", 405, "MethodNotAllowed"),
        (Method::GET, "/a/b", 400, "InvalidUri"),
        (Method::GET, "/Orders?$top=0", 400, "InvalidInput"),
        (Method::GET, "/Nowhere", 404, "TableNotFound"),
        (Method::GET, "/Tables('Nowhere')", 404, "ResourceNotFound"),
    ] {
        let reply = open.send(method.clone(), path, &[], "").await;
        assert_eq!(
            (reply.status().as_u16(), header(&reply, "x-ms-error-code")),
            (status, Some(code)),
            "{method} {path}"
        );
        let body: Value = reply.json().await.unwrap();
        assert_eq!(body["odata.error"]["code"], code, "{body}");
        assert!(body["odata.error"]["message"]["value"].as_str().unwrap().contains("\nRequestId:"), "{body}");
    }
    let atom = open.send(Method::GET, "/Orders", &[("accept", "application/atom+xml")], "").await;
    assert_eq!(atom.status().as_u16(), 415);
}

#[tokio::test]
async fn a_body_beyond_its_bound_is_refused_and_not_kept() {
    let open = Open::start().await;
    let body = "x".repeat(13 * 1024 * 1024);
    // The client may be cut off while it is still sending.
    let url = format!("{}/Orders", open.endpoint);
    if let Ok(reply) = open.client.post(url).body(body).send().await {
        assert_eq!((reply.status().as_u16(), header(&reply, "x-ms-error-code")), (413, Some("RequestBodyTooLarge")));
    }
    assert_eq!(open.send(Method::GET, "/Orders", &[], "").await.status().as_u16(), 200, "others are served as before");
}

#[tokio::test]
async fn the_server_ends_when_it_is_told_to_though_a_request_is_frozen() {
    let account = MemoryAccount::new("acct", b"key").unwrap();
    let server = MemoryServer::bind("127.0.0.1:0".parse().unwrap(), [account], Runtime::system()).await.unwrap();
    let faults = server.store("acct").unwrap().faults();
    faults.fail_next(tablerelay::stores::memory::RequestKind::ListTables, tablerelay::stores::memory::Fault::Freeze);
    let text = server.connection_string("acct").unwrap();
    let target = tablerelay::stores::azure::AccountTarget::from_connection_string(&text).unwrap();
    let tables = crate::azure_tables::connect(&target, &Default::default());
    let stop = CancellationToken::new();
    let mut tasks = JoinSet::new();
    let stopped = stop.clone();
    tasks.spawn(async move { server.run(stopped).await.unwrap() });
    let mut asking = JoinSet::new();
    asking.spawn(async move { tablerelay::stores::Tables::tables(&*tables).await });
    crate::support::eventually("it is frozen", || async { faults.frozen() == 1 }).await;
    stop.cancel();
    let ended = tokio::time::timeout(crate::support::PATIENCE, tasks.join_next()).await;
    assert!(ended.unwrap().unwrap().is_ok());
}
