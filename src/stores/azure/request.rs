//! Requests of the Table service's REST API: URLs, key literals, headers.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::sync::Arc;

use azure_core::http::headers::{HeaderName, HeaderValue};
use azure_core::http::{Body, Method, Request, Url};
use bytes::Bytes;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::transport::API_VERSION;
use crate::model::{Etag, PartitionKey, RowKey, TableName};
use crate::stores::{Condition, ErrorKind, Operation, Query, Scope, StoreError};

/// Everything but RFC 3986's unreserved characters.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// What we accept: types are annotated where JSON does not tell them, and nothing more.
pub(super) const ACCEPT: &str = "application/json;odata=minimalmetadata";

/// The verb of a write, and what its headers say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Verb<'a> {
    pub(super) method: Method,
    /// Whether the keys stand in the URL; an insert goes to the table.
    pub(super) keyed: bool,
    pub(super) if_match: Option<&'a str>,
}

impl<'a> Verb<'a> {
    /// How an operation is sent.
    ///
    /// # Errors
    /// `InvalidHeaderValue` where the ETag could not stand in a header.
    pub(super) fn of(operation: &'a Operation) -> Result<Self, StoreError> {
        let (method, keyed) = match operation {
            Operation::Insert(_) => (Method::Post, false),
            Operation::Replace(..) | Operation::InsertOrReplace(_) => (Method::Put, true),
            Operation::Merge(..) | Operation::InsertOrMerge(_) => (Method::Patch, true),
            Operation::Delete { .. } => (Method::Delete, true),
        };
        let if_match = operation.condition().map(etag).transpose()?;
        Ok(Self { method, keyed, if_match })
    }
}

fn etag(condition: &Condition) -> Result<&str, StoreError> {
    let etag = match condition {
        Condition::Present => return Ok("*"),
        Condition::Matches(etag) => Etag::as_str(etag),
    };
    if !etag.is_empty() && etag.bytes().all(|byte| (b' '..0x7f).contains(&byte)) {
        return Ok(etag);
    }
    let message = format!("the ETag {etag:?} cannot stand in a header: it should be one that the service gave out");
    Err(StoreError { code: "InvalidHeaderValue".to_owned(), ..StoreError::new(ErrorKind::Invalid, message) })
}

/// The address of one account's tables: URLs, and how rows are written there.
#[derive(Debug, Clone)]
pub(super) struct Address {
    /// Without a trailing slash.
    base: String,
    /// Whether the account stands in the path, as it does for emulators alone.
    emulator: bool,
}

impl Address {
    pub(super) fn new(endpoint: &Url) -> Self {
        let base = endpoint.as_str().trim_end_matches('/').to_owned();
        Self { base, emulator: endpoint.path() != "/" }
    }

    /// A row's JSON as it is sent: as it is, and to an emulator in ASCII.
    ///
    /// Azurite decodes each piece of a body by itself, which spoils a character that lies across two, and reads
    /// transactions by regular expressions that stop at U+2028. To JSON an escaped character is the same.
    pub(super) fn written<'a>(&self, json: &'a str) -> Cow<'a, str> {
        if !self.emulator || json.is_ascii() {
            return Cow::Borrowed(json);
        }
        let mut ascii = String::with_capacity(json.len() * 2);
        let mut units = [0; 2];
        for c in json.chars() {
            if c.is_ascii() {
                ascii.push(c);
                continue;
            }
            for unit in c.encode_utf16(&mut units) {
                // Writing to a String cannot fail.
                let _ = write!(ascii, "\\u{unit:04x}");
            }
        }
        Cow::Owned(ascii)
    }

    /// Makes `json` the body of a request; without a copy where it goes as it is.
    pub(super) fn set_json(&self, request: &mut Request, json: &Arc<str>) {
        struct Json(Arc<str>);
        impl AsRef<[u8]> for Json {
            fn as_ref(&self) -> &[u8] {
                self.0.as_bytes()
            }
        }
        header(request, "content-type", "application/json");
        request.set_body(match self.written(json) {
            Cow::Borrowed(_) => Body::Bytes(Bytes::from_owner(Json(json.clone()))),
            Cow::Owned(ascii) => Body::Bytes(ascii.into()),
        });
    }

    /// The table as a collection: where rows are inserted.
    pub(super) fn table(&self, table: &TableName) -> String {
        format!("{}/{table}", self.base)
    }

    /// One row.
    pub(super) fn row(&self, table: &TableName, partition: &PartitionKey, row: &RowKey) -> String {
        let mut url = String::with_capacity(self.base.len() + partition.as_str().len() + row.as_str().len() + 96);
        self.push_row(&mut url, table, partition, row);
        url
    }

    /// As [`Address::row`], onto a text.
    pub(super) fn push_row(&self, url: &mut String, table: &TableName, partition: &PartitionKey, row: &RowKey) {
        for part in [&*self.base, "/", table.as_str(), "(PartitionKey="] {
            url.push_str(part);
        }
        push_literal(url, partition.as_str(), "'");
        url.push_str(",RowKey=");
        push_literal(url, row.as_str(), "'");
        url.push(')');
    }

    /// As [`Address::table`], onto a text.
    pub(super) fn push_table(&self, url: &mut String, table: &TableName) {
        for part in [&*self.base, "/", table.as_str()] {
            url.push_str(part);
        }
    }

    /// A page of a query.
    pub(super) fn query(&self, table: &TableName, query: &Query) -> String {
        let mut url = format!("{}/{table}()", self.base);
        let mut parameters = Parameters::new(&mut url);
        if let Some(filter) = filter(&query.scope) {
            parameters.raw("$filter", &filter);
        }
        if let Some(top) = query.top {
            parameters.text("$top", &top.to_string());
        }
        if let Some(select) = &query.select {
            // Row::from_wire needs these three; the ETag comes anyway.
            let mut names = vec!["PartitionKey", "RowKey", "Timestamp"];
            names.extend(select.iter().map(String::as_str).filter(|name| !names.contains(name)).collect::<Vec<_>>());
            parameters.text("$select", &names.join(","));
        }
        if let Some(continuation) = &query.continuation {
            parameters.text("NextPartitionKey", &continuation.next_partition);
            if let Some(row) = &continuation.next_row {
                parameters.text("NextRowKey", row);
            }
        }
        url
    }

    /// The collection of tables, from `next` on.
    pub(super) fn tables(&self, next: Option<&str>) -> String {
        let mut url = format!("{}/Tables", self.base);
        if let Some(next) = next {
            Parameters::new(&mut url).text("NextTableName", next);
        }
        url
    }

    /// One table, as a member of that collection.
    pub(super) fn named(&self, table: &TableName) -> String {
        format!("{}/Tables('{table}')", self.base)
    }

    /// Where transactions go.
    pub(super) fn batch(&self) -> String {
        format!("{}/$batch", self.base)
    }
}

/// The parameters of a query, each percent-encoded.
struct Parameters<'a> {
    url: &'a mut String,
    separator: char,
}

impl<'a> Parameters<'a> {
    fn new(url: &'a mut String) -> Self {
        Self { url, separator: '?' }
    }

    fn raw(&mut self, name: &str, encoded: &str) {
        self.url.push(self.separator);
        self.separator = '&';
        self.url.push_str(name);
        self.url.push('=');
        self.url.push_str(encoded);
    }

    fn text(&mut self, name: &str, value: &str) {
        self.raw(name, &utf8_percent_encode(value, RESERVED).to_string());
    }
}

/// A range of keys as a `$filter`, percent-encoded; nothing for a whole table.
fn filter(scope: &Scope) -> Option<String> {
    let mut text = String::new();
    let mut term = |name: &str, operator: &str, key: Option<&str>| {
        if let Some(key) = key {
            if !text.is_empty() {
                text.push_str("%20and%20");
            }
            // Writing to a String cannot fail.
            let _ = write!(text, "{name}%20{operator}%20");
            push_literal(&mut text, key, "%27");
        }
    };
    match scope {
        Scope::Table => {}
        Scope::Partitions { from, until } => {
            term("PartitionKey", "ge", from.as_ref().map(PartitionKey::as_str));
            term("PartitionKey", "lt", until.as_ref().map(PartitionKey::as_str));
        }
        Scope::Partition { partition, from, through } => {
            term("PartitionKey", "eq", Some(partition.as_str()));
            term("RowKey", "ge", from.as_ref().map(RowKey::as_str));
            term("RowKey", "le", through.as_ref().map(RowKey::as_str));
        }
    }
    (!text.is_empty()).then_some(text)
}

/// A key as an OData literal: its quotes doubled, then percent-encoded, between `quote`s.
fn push_literal(url: &mut String, key: &str, quote: &str) {
    url.push_str(quote);
    for (index, part) in key.split('\'').enumerate() {
        if index > 0 {
            url.push_str("%27%27");
        }
        url.extend(utf8_percent_encode(part, RESERVED));
    }
    url.push_str(quote);
}

/// A request with the headers that all of them have.
///
/// # Errors
/// [`ErrorKind::Invalid`] where the URL does not parse, which an endpoint that parsed does not allow.
pub(super) fn request(method: Method, url: &str) -> Result<Request, StoreError> {
    let url =
        Url::parse(url).map_err(|err| StoreError::new(ErrorKind::Invalid, format!("the request's URL: {err}")))?;
    let mut request = Request::new(url, method);
    header(&mut request, "accept", ACCEPT);
    header(&mut request, "dataserviceversion", "3.0;NetFx");
    header(&mut request, "maxdataserviceversion", "3.0;NetFx");
    header(&mut request, "x-ms-version", API_VERSION);
    Ok(request)
}

/// Sets a header, by its name in lower case.
pub(super) fn header(request: &mut Request, name: &'static str, value: impl Into<HeaderValue>) {
    request.insert_header(HeaderName::from_static(name), value);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stores::Continuation;

    fn address() -> Address {
        Address::new(&Url::parse("https://acct.table.core.windows.net/").unwrap())
    }

    fn table() -> TableName {
        TableName::new("Orders").unwrap()
    }

    #[test]
    fn quotes_in_keys_are_doubled_and_everything_is_encoded() {
        let url = address().row(&table(), &"it's 100 %".into(), &"日,'".into());
        assert_eq!(
            url,
            "https://acct.table.core.windows.net/Orders(PartitionKey='it%27%27s%20100%20%25',RowKey='%E6%97%A5%2C%27%27')"
        );
        assert_eq!(Url::parse(&url).unwrap().as_str(), url, "the URL is sent, and signed, as it was built");
        assert!(address().row(&table(), &"".into(), &"..".into()).ends_with("(PartitionKey='',RowKey='..')"));
    }

    #[test]
    fn a_query_is_a_range_of_keys() {
        let all = Query::new(Scope::Table);
        assert_eq!(address().query(&table(), &all), "https://acct.table.core.windows.net/Orders()");
        let query = Query {
            top: Some(7),
            select: Some(vec!["RelayVersion".into(), "RowKey".into()]),
            continuation: Some(Continuation { next_partition: "1!4!YQ--".into(), next_row: Some("&".into()) }),
            ..Query::rows("p'".into(), "a".into(), "b c".into())
        };
        assert_eq!(
            address().query(&table(), &query),
            "https://acct.table.core.windows.net/Orders()?$filter=PartitionKey%20eq%20%27p%27%27%27%20and%20RowKey%20ge\
             %20%27a%27%20and%20RowKey%20le%20%27b%20c%27&$top=7&$select=PartitionKey%2CRowKey%2CTimestamp%2C\
             RelayVersion&NextPartitionKey=1%214%21YQ--&NextRowKey=%26"
        );
        let bounds = Query::new(Scope::Partitions { from: Some("a".into()), until: Some("b".into()) });
        let url = address().query(&table(), &bounds);
        assert!(url.ends_with("PartitionKey%20ge%20%27a%27%20and%20PartitionKey%20lt%20%27b%27"), "{url}");
    }

    #[test]
    fn rows_go_as_they_are_and_to_an_emulator_in_ascii() {
        let json = r#"{"S":"é\n\u2028 😀"}"#.replace("\\u2028", "\u{2028}");
        assert_eq!(address().written(&json), json);
        let emulator = Address::new(&Url::parse("http://127.0.0.1:10002/acct").unwrap());
        let ascii = emulator.written(&json);
        assert_eq!(ascii, r#"{"S":"\u00e9\n\u2028 \ud83d\ude00"}"#);
        let read = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
        assert_eq!(read(&ascii), read(&json));
    }

    #[test]
    fn an_etag_that_could_break_out_of_its_header_is_refused() {
        let delete = |etag: &str| Operation::Delete {
            partition: "p".into(),
            row: "r".into(),
            condition: Condition::Matches(Etag::new(etag)),
        };
        assert_eq!(Verb::of(&delete("W/\"1\"")).unwrap().if_match, Some("W/\"1\""));
        for bad in ["", "a\r\nX: y", "é"] {
            assert_eq!(Verb::of(&delete(bad)).unwrap_err().kind, ErrorKind::Invalid, "{bad:?}");
        }
    }
}
