//! One server, raw: requests as bytes, answers taken apart.

use std::collections::BTreeMap;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::{Client, Method};
use serde_json::Value;
use tablerelay::runtime::Runtime;
use tablerelay::stores::SharedKey;

use super::act::{Act, On, Op, Place, Verb};

/// A server, by its account, and the ETags that it gave out.
pub struct Wire {
    client: Client,
    endpoint: String,
    key: SharedKey,
    etags: BTreeMap<Place, String>,
}

/// What is compared of an answer.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Answer {
    pub status: u16,
    pub code: String,
    /// The operation at fault, which stands before the message.
    pub index: Option<usize>,
    pub etag: bool,
    pub preference: Option<String>,
    /// Each part of a transaction: its status, and whether it has an ETag.
    pub parts: Vec<(u16, bool)>,
    /// The rows, or tables, of all pages, each value by its type.
    pub rows: Vec<BTreeMap<String, String>>,
    /// How many of them were on each page.
    pub pages: Vec<usize>,
}

struct Request {
    method: Method,
    path: String,
    query: String,
    headers: Vec<(&'static str, String)>,
    body: String,
}

struct Reply {
    status: u16,
    headers: reqwest::header::HeaderMap,
    text: String,
}

const STALE: &str = "W/\"datetime'2020-01-01T00%3A00%3A00.0000000Z'\"";

impl Wire {
    pub fn new(connection_string: &str) -> Self {
        use base64::Engine as _;
        let setting = |name: &str| {
            let part = connection_string.split(';').find_map(|part| part.strip_prefix(&format!("{name}=")));
            part.expect("a whole connection string").to_owned()
        };
        let key = base64::engine::general_purpose::STANDARD.decode(setting("AccountKey")).expect("base64");
        let key = SharedKey::new(&setting("AccountName"), &key).expect("a key");
        Self { client: Client::new(), endpoint: setting("TableEndpoint"), key, etags: BTreeMap::new() }
    }

    pub async fn answer(&mut self, act: &Act) -> Answer {
        match act {
            Act::Query { .. } | Act::ListTables { .. } => self.pages(act).await,
            Act::Write(op, prefer) => {
                let mut request = self.write(op);
                request.headers.extend(prefer.map(|prefer| ("prefer", prefer.to_owned())));
                let reply = self.send(request).await;
                let answer = read(&reply);
                self.remember(op, answer.status, header(&reply, "etag"));
                answer
            }
            Act::Transaction(ops) => self.transaction(ops).await,
            Act::Get { place, select, metadata } => {
                let mut request = plain(Method::GET, row(place));
                request.query = select.map(|names| format!("$select={}", encode(names))).unwrap_or_default();
                request.headers.push(("accept", format!("application/json;odata={metadata}")));
                read(&self.send(request).await)
            }
            Act::BatchedGet(place) => {
                let part = format!(
                    "--batch_1\r\nContent-Type: application/http\r\nContent-Transfer-Encoding: binary\r\n\r\nGET {}{} HTTP/1.1\r\n\
                     Accept: application/json;odata=minimalmetadata\r\n\r\n\r\n--batch_1--\r\n",
                    self.endpoint,
                    row(place)
                );
                self.batch(part).await.0
            }
            Act::CreateTable(name) => self.create(name).await,
            Act::DeleteTable(name) => {
                self.etags.retain(|place, _| place.0 != *name);
                read(&self.send(plain(Method::DELETE, format!("/Tables('{name}')"))).await)
            }
            Act::Wrong(method, path, body) => {
                let mut request = plain(method.parse().expect("a method"), (*path).to_owned());
                request.body = (*body).to_owned();
                let batch = path.ends_with("batch");
                let kind = if batch { "multipart/mixed; boundary=batch_1" } else { "application/json" };
                request.headers.push(("content-type", kind.to_owned()));
                read(&self.send(request).await)
            }
        }
    }

    pub async fn create(&self, name: &str) -> Answer {
        let mut request = plain(Method::POST, "/Tables".to_owned());
        request.headers.push(("content-type", "application/json".to_owned()));
        request.body = format!(r#"{{"TableName":"{name}"}}"#);
        read(&self.send(request).await)
    }

    /// Takes a row out, whatever it is; after that both servers are in one state as to it.
    pub async fn remove(&mut self, place: &Place) {
        let mut request = plain(Method::DELETE, row(place));
        request.headers.push(("if-match", "*".to_owned()));
        let status = self.send(request).await.status;
        assert!(matches!(status, 204 | 404 | 400 | 500), "a row that differs cannot be taken out: {status}");
        self.etags.remove(place);
    }

    fn write(&self, op: &Op) -> Request {
        let method = match op.verb {
            Verb::Insert => Method::POST,
            Verb::Put => Method::PUT,
            Verb::Merge => Method::from_bytes(b"MERGE").expect("a method"),
            Verb::Delete => Method::DELETE,
        };
        let path = if op.verb == Verb::Insert { format!("/{}", op.place.0) } else { row(&op.place) };
        let mut request = plain(method, path);
        let etag = match op.on {
            On::Nothing => None,
            On::Present => Some("*"),
            On::Current => Some(self.etags.get(&op.place).map_or(STALE, String::as_str)),
            On::Stale => Some(STALE),
        };
        request.headers.extend(etag.map(|etag| ("if-match", etag.to_owned())));
        if op.verb != Verb::Delete {
            let keys = serde_json::json!({ "PartitionKey": op.place.1, "RowKey": op.place.2 }).to_string();
            request.body = format!("{}{}}}", keys.trim_end_matches('}'), op.properties);
            request.headers.push(("content-type", "application/json".to_owned()));
        }
        request
    }

    fn remember(&mut self, op: &Op, status: u16, etag: Option<String>) {
        match (status, op.verb, etag) {
            (204, Verb::Delete, _) => drop(self.etags.remove(&op.place)),
            (201 | 204, _, Some(etag)) => drop(self.etags.insert(op.place.clone(), etag)),
            _ => {}
        }
    }

    async fn transaction(&mut self, ops: &[Op]) -> Answer {
        let mut text = "--batch_1\r\nContent-Type: multipart/mixed; boundary=changeset_1\r\n\r\n".to_owned();
        for op in ops {
            let request = self.write(op);
            text += "--changeset_1\r\nContent-Type: application/http\r\nContent-Transfer-Encoding: binary\r\n\r\n";
            text += &format!("{} {}{} HTTP/1.1\r\n", request.method, self.endpoint, request.path);
            text += "Accept: application/json;odata=minimalmetadata\r\nDataServiceVersion: 3.0;NetFx\r\n";
            for (name, value) in &request.headers {
                text += &format!("{name}: {value}\r\n");
            }
            if !request.body.is_empty() {
                text += &format!("Prefer: return-no-content\r\nContent-Length: {}\r\n", request.body.len());
            }
            text += &format!("\r\n{}\r\n", request.body);
        }
        text += "--changeset_1--\r\n--batch_1--\r\n";
        let (answer, etags) = self.batch(text).await;
        if answer.parts.len() == ops.len() {
            for ((op, (status, _)), etag) in ops.iter().zip(&answer.parts).zip(etags) {
                self.remember(op, *status, etag);
            }
        }
        answer
    }

    async fn batch(&self, body: String) -> (Answer, Vec<Option<String>>) {
        let mut request = plain(Method::POST, "/$batch".to_owned());
        request.headers.push(("content-type", "multipart/mixed; boundary=batch_1".to_owned()));
        request.body = body;
        let reply = self.send(request).await;
        let mut answer = Answer { status: reply.status, ..Answer::default() };
        if reply.status != 202 {
            return (read(&reply), Vec::new());
        }
        let mut etags = Vec::new();
        for part in reply.text.split("HTTP/1.1 ").skip(1) {
            // Azurite forgets the blank line before the body of a read.
            let body = part.find('{').zip(part.rfind('}')).map_or("", |(from, through)| &part[from..=through]);
            let head = part.split('{').next().unwrap_or_default();
            let etag = head.lines().find_map(|line| {
                let (name, value) = line.split_once(':')?;
                name.eq_ignore_ascii_case("etag").then(|| value.trim().to_owned())
            });
            let status = head.get(..3).and_then(|status| status.parse().ok()).unwrap_or_default();
            answer.parts.push((status, etag.is_some()));
            etags.push(etag);
            if !body.is_empty() {
                answer.take_body(body);
            }
        }
        (answer, etags)
    }

    /// All pages of a query.
    async fn pages(&self, act: &Act) -> Answer {
        let (path, query, metadata) = match act {
            Act::Query { table, filter, top, select, metadata } => {
                (format!("/{table}()"), parameters(filter.as_deref(), *top, *select), *metadata)
            }
            Act::ListTables { filter, top } => {
                ("/Tables".to_owned(), parameters(filter.as_deref(), *top, None), "minimalmetadata")
            }
            _ => unreachable!("nothing else has pages"),
        };
        let (mut whole, mut next) = (Answer::default(), String::new());
        loop {
            let mut request = plain(Method::GET, path.clone());
            request.query = format!("{query}{next}");
            request.headers.push(("accept", format!("application/json;odata={metadata}")));
            let reply = self.send(request).await;
            let page = read(&reply);
            whole.pages.push(page.rows.len());
            whole.rows.extend(page.rows.clone());
            let rows = std::mem::take(&mut whole.rows);
            whole = Answer { rows, pages: whole.pages, ..page };
            next = String::new();
            for (name, parameter) in [
                ("x-ms-continuation-nextpartitionkey", "NextPartitionKey"),
                ("x-ms-continuation-nextrowkey", "NextRowKey"),
                ("x-ms-continuation-nexttablename", "NextTableName"),
            ] {
                if let Some(value) = header(&reply, name) {
                    next += &format!("&{parameter}={}", encode(&value));
                }
            }
            assert!(whole.pages.len() < 200, "the query has no end");
            if next.is_empty() {
                return whole;
            }
        }
    }

    async fn send(&self, request: Request) -> Reply {
        let url = format!("{}{}?{}", self.endpoint, request.path, request.query);
        let url: reqwest::Url = url.trim_end_matches('?').parse().expect("a URL");
        let now = Runtime::system().now().unix_seconds() as i64;
        let now = time::OffsetDateTime::from_unix_timestamp(now).expect("a time of this era");
        let date = azure_core::time::to_rfc7231(&now);
        let signature = self.key.sign(&format!("{date}\n/{}{}", self.key.account(), url.path()));
        let mut sent = self.client.request(request.method, url).body(request.body);
        sent = sent.header("x-ms-date", date).header("x-ms-version", "2020-12-06");
        sent = sent.header("authorization", format!("SharedKeyLite {}:{signature}", self.key.account()));
        sent = sent.header("dataserviceversion", "3.0;NetFx");
        if !request.headers.iter().any(|(name, _)| *name == "accept") {
            sent = sent.header("accept", "application/json;odata=minimalmetadata");
        }
        for (name, value) in request.headers {
            sent = sent.header(name, value);
        }
        let reply = sent.send().await.expect("the server answers");
        let (status, headers) = (reply.status().as_u16(), reply.headers().clone());
        Reply { status, headers, text: reply.text().await.expect("a whole reply") }
    }
}

fn plain(method: Method, path: String) -> Request {
    Request { method, path, query: String::new(), headers: Vec::new(), body: String::new() }
}

fn encode(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

fn row(place: &Place) -> String {
    let key = |key: &str| encode(&key.replace('\'', "''"));
    format!("/{}(PartitionKey='{}',RowKey='{}')", place.0, key(&place.1), key(&place.2))
}

fn parameters(filter: Option<&str>, top: Option<u16>, select: Option<&str>) -> String {
    let parameters = [
        ("$filter", filter.map(str::to_owned)),
        ("$top", top.map(|top| top.to_string())),
        ("$select", select.map(str::to_owned)),
    ];
    let given = parameters.into_iter().filter_map(|(name, value)| Some(format!("{name}={}", encode(&value?))));
    given.collect::<Vec<_>>().join("&")
}

fn header(reply: &Reply, name: &str) -> Option<String> {
    reply.headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
}

fn read(reply: &Reply) -> Answer {
    let mut answer = Answer {
        status: reply.status,
        etag: header(reply, "etag").is_some(),
        preference: header(reply, "preference-applied"),
        ..Answer::default()
    };
    answer.take_body(&reply.text);
    answer
}

impl Answer {
    /// What of it differs from another, in words.
    pub fn differs(&self, other: &Self) -> String {
        let mut text = String::new();
        let mut say = |what: &str, a: String, b: String| {
            if a != b {
                let [a, b] = [a, b].map(|text| text.chars().take(300).collect::<String>());
                text += &format!("{what}: served {a}, Azurite {b}; ");
            }
        };
        say("status", self.status.to_string(), other.status.to_string());
        say("code", self.code.clone(), other.code.clone());
        say("index", format!("{:?}", self.index), format!("{:?}", other.index));
        say("etag", self.etag.to_string(), other.etag.to_string());
        say("preference", format!("{:?}", self.preference), format!("{:?}", other.preference));
        say("parts", format!("{:?}", self.parts), format!("{:?}", other.parts));
        say("pages", format!("{:?}", self.pages), format!("{:?}", other.pages));
        say("number of rows", self.rows.len().to_string(), other.rows.len().to_string());
        for (a, b) in self.rows.iter().zip(&other.rows) {
            for name in a.keys().chain(b.keys()) {
                say(name, format!("{:?}", a.get(name)), format!("{:?}", b.get(name)));
            }
        }
        text
    }

    fn take_body(&mut self, text: &str) {
        let Ok(body) = serde_json::from_str::<Value>(text) else {
            let code = text.split_once("<Code>").and_then(|(_, rest)| rest.split_once("</Code>"));
            self.code = code.map(|(code, _)| code.to_owned()).unwrap_or_default();
            return;
        };
        if let Some(error) = body.get("odata.error") {
            self.code = error["code"].as_str().unwrap_or_default().to_owned();
            let message = error["message"]["value"].as_str().unwrap_or_default();
            self.index = message.split_once(':').and_then(|(index, _)| index.parse().ok());
            return;
        }
        match body.get("value").and_then(Value::as_array) {
            Some(rows) => self.rows.extend(rows.iter().map(typed)),
            None => self.rows.push(typed(&body)),
        }
    }
}

/// A row, each value by its type. What differs by server is there or not.
fn typed(row: &Value) -> BTreeMap<String, String> {
    let fields = row.as_object().into_iter().flatten();
    let edm = |name: &str| row.get(format!("{name}@odata.type")).and_then(Value::as_str);
    let mut values = BTreeMap::new();
    for (name, value) in fields.filter(|(name, _)| !name.ends_with("@odata.type")) {
        let text = match (edm(name), value) {
            _ if name.starts_with("odata.") || name == "Timestamp" => "there".to_owned(),
            (Some("Edm.DateTime"), Value::String(text)) => {
                format!("Edm.DateTime {}", text.trim_end_matches('Z').trim_end_matches('0').trim_end_matches('.'))
            }
            (Some("Edm.Double"), Value::Number(number)) => format!("Edm.Double {:?}", number.as_f64()),
            (None, Value::Number(number)) if number.is_f64() => format!("Edm.Double {:?}", number.as_f64()),
            (Some(edm), value) => format!("{edm} {value}"),
            (None, Value::Number(number)) => format!("Edm.Int32 {number}"),
            (None, Value::Bool(value)) => format!("Edm.Boolean {value}"),
            (None, value) => format!("Edm.String {value}"),
        };
        values.insert(name.clone(), text);
    }
    values
}
