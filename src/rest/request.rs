//! From a request to what it asks for.

use bytes::Bytes;
use http::{HeaderMap, Method};

use super::address::{self, Resource};
use super::batch::{self, Batch};
use super::body;
use super::failure::{invalid, unreadable};
use super::filter::{self, Filter, Scan};
use super::options::{Metadata, Options, Prefer, condition, header, method};
use crate::model::{PartitionKey, RowKey, TableName};
use crate::stores::{Continuation, ErrorKind, Operation, StoreError};

/// A request as it came in, behind the account.
#[derive(Debug, Clone)]
pub struct Incoming {
    /// Its method.
    pub method: Method,
    /// Its path behind the account, percent-encoded as it was sent.
    pub path: String,
    /// Its query string, percent-encoded as it was sent; may be empty.
    pub query: String,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body, in whole.
    pub body: Bytes,
}

/// What a request asks for.
#[derive(Debug)]
pub(super) enum Call {
    ListTables(ListTables),
    GetTable(TableName),
    CreateTable(TableName),
    DeleteTable(TableName),
    Get { table: TableName, partition: PartitionKey, row: RowKey, select: Option<Vec<String>> },
    Query(Page),
    Write { table: TableName, operation: Operation },
    Batch(Batch),
}

/// Which tables are listed.
#[derive(Debug)]
pub(super) struct ListTables {
    pub(super) filter: Option<Filter>,
    pub(super) top: Option<u16>,
    /// The first name that is listed.
    pub(super) next: Option<String>,
}

/// Which rows are read.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) table: TableName,
    pub(super) scan: Scan,
    pub(super) top: Option<u16>,
    pub(super) select: Option<Vec<String>>,
    pub(super) continuation: Option<Continuation>,
}

/// How it is to be answered.
#[derive(Debug, Clone, Copy)]
pub(super) struct Manner {
    pub(super) metadata: Metadata,
    pub(super) prefer: Prefer,
}

impl Incoming {
    /// Decodes it. `root` is what stands before a table in the addresses of a transaction's operations.
    ///
    /// # Errors
    /// 400 and others that say what is wrong with it.
    pub(super) fn decode(&self, root: &str) -> Result<(Call, Manner), StoreError> {
        let options = Options::parse(&self.query)?;
        let manner =
            Manner { metadata: Metadata::wanted(&options, &self.headers)?, prefer: Prefer::wanted(&self.headers) };
        if let Some(component) = options.get("comp") {
            let message = format!("?comp={component} is not served: no access policies, no properties of the service");
            return Err(StoreError::answered(ErrorKind::Invalid, 501, "NotImplemented", message));
        }
        let resource = Resource::parse(&self.path)?;
        if resource == Resource::Batch && self.method == Method::POST {
            let content_type = header(&self.headers, "content-type").unwrap_or_default();
            let text = std::str::from_utf8(&self.body).map_err(|_| unreadable("a transaction should be UTF-8"))?;
            return Ok((Call::Batch(batch::decode(content_type, text, root)?), manner));
        }
        Ok((self.call(resource, &options)?, manner))
    }

    /// What is asked for, transactions apart.
    pub(super) fn call(&self, resource: Resource, options: &Options) -> Result<Call, StoreError> {
        let method = method(&self.method, &self.headers);
        match (method, resource) {
            ("GET", Resource::Tables) => Ok(Call::ListTables(ListTables {
                filter: options.get("$filter").map(filter::parse).transpose()?,
                top: options.top()?,
                next: options.get("NextTableName").map(str::to_owned),
            })),
            ("POST", Resource::Tables) => Ok(Call::CreateTable(address::table(&body::table_name(&self.body)?)?)),
            ("GET", Resource::Table(table)) => Ok(Call::GetTable(table)),
            ("DELETE", Resource::Table(table)) => Ok(Call::DeleteTable(table)),
            ("GET", Resource::Row(table, partition, row)) => {
                Ok(Call::Get { table, partition, row, select: options.select() })
            }
            ("GET", Resource::Rows(table)) => Ok(Call::Query(page(table, options)?)),
            ("POST", Resource::Rows(table)) => {
                Ok(Call::Write { table, operation: Operation::Insert(body::row(&self.body)?) })
            }
            (method, Resource::Row(table, partition, row)) => {
                Ok(Call::Write { table, operation: self.keyed(method, partition, row)? })
            }
            (method, _) => Err(not_allowed(method)),
        }
    }

    /// A write of the row that the path names.
    fn keyed(&self, method: &str, partition: PartitionKey, row: RowKey) -> Result<Operation, StoreError> {
        let condition = condition(&self.headers);
        let body = || body::row_at(&self.body, &partition, &row);
        Ok(match (method, condition) {
            ("PUT", Some(condition)) => Operation::Replace(body()?, condition),
            ("PUT", None) => Operation::InsertOrReplace(body()?),
            ("MERGE" | "PATCH", Some(condition)) => Operation::Merge(body()?, condition),
            ("MERGE" | "PATCH", None) => Operation::InsertOrMerge(body()?),
            ("DELETE", Some(condition)) => Operation::Delete { partition, row, condition },
            ("DELETE", None) => {
                return Err(invalid("MissingRequiredHeader", "a delete should have the header If-Match"));
            }
            (method, _) => return Err(not_allowed(method)),
        })
    }
}

fn page(table: TableName, options: &Options) -> Result<Page, StoreError> {
    let continuation = options.get("NextPartitionKey").map(|partition| Continuation {
        next_partition: partition.to_owned(),
        next_row: options.get("NextRowKey").map(str::to_owned),
    });
    Ok(Page {
        table,
        scan: filter::scan(options.get("$filter").map(filter::parse).transpose()?),
        top: options.top()?,
        select: options.select(),
        continuation,
    })
}

fn not_allowed(method: &str) -> StoreError {
    let message = format!("{method} is nothing that can be done to this resource");
    StoreError::answered(ErrorKind::Invalid, 405, "MethodNotAllowed", message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stores::{Condition, Scope};
    use http::{HeaderName, HeaderValue};
    use proptest::prelude::*;

    fn incoming(method: &str, path: &str, query: &str, headers: &[(&str, &str)], body: &str) -> Incoming {
        let header = |(name, value): &(&str, &str)| {
            Some((HeaderName::from_bytes(name.as_bytes()).ok()?, HeaderValue::from_bytes(value.as_bytes()).ok()?))
        };
        Incoming {
            method: Method::from_bytes(method.as_bytes()).unwrap(),
            path: path.to_owned(),
            query: query.to_owned(),
            headers: headers.iter().filter_map(header).collect(),
            body: Bytes::copy_from_slice(body.as_bytes()),
        }
    }

    fn operation(method: &str, if_match: Option<&str>) -> Result<Operation, StoreError> {
        let headers: Vec<_> = if_match.map(|etag| ("if-match", etag)).into_iter().collect();
        let request = incoming(method, "/Orders(PartitionKey='p',RowKey='r')", "", &headers, "{}");
        match request.decode("/acct")?.0 {
            Call::Write { operation, .. } => Ok(operation),
            call => panic!("{call:?}"),
        }
    }

    #[test]
    fn method_and_condition_say_which_write_it_is() {
        use Condition::{Matches, Present};
        assert!(matches!(operation("PUT", None), Ok(Operation::InsertOrReplace(_))));
        assert!(matches!(operation("PUT", Some("*")), Ok(Operation::Replace(_, Present))));
        assert!(matches!(operation("PATCH", None), Ok(Operation::InsertOrMerge(_))));
        assert!(matches!(operation("MERGE", Some("W/\"1\"")), Ok(Operation::Merge(_, Matches(_)))));
        assert!(matches!(operation("DELETE", Some("*")), Ok(Operation::Delete { condition: Present, .. })));
        assert_eq!(operation("DELETE", None).unwrap_err().code, "MissingRequiredHeader");
        assert_eq!(operation("OPTIONS", None).unwrap_err().status, Some(405));
    }

    #[test]
    fn a_query_says_range_page_and_selection() {
        let query = "$filter=PartitionKey%20eq%20'p'&$top=7&$select=A,B&NextPartitionKey=1&NextRowKey=2";
        let Call::Query(page) = incoming("GET", "/Orders()", query, &[], "").decode("").unwrap().0 else {
            panic!("a query")
        };
        let whole = Scope::Partition { partition: "p".into(), from: None, through: None };
        assert_eq!((page.scan.scope, page.scan.filter, page.top), (whole, None, Some(7)));
        let continuation = Continuation { next_partition: "1".to_owned(), next_row: Some("2".to_owned()) };
        assert_eq!((page.select.map(|names| names.len()), page.continuation), (Some(2), Some(continuation)));
    }

    const SEEDS: [(&str, &str, &str, &str); 6] = [
        ("POST", "/Orders", "", r#"{"PartitionKey":"p","RowKey":"r","A@odata.type":"Edm.Double","A":"1\n"}"#),
        ("PUT", "/Orders(PartitionKey='it%27%27s',RowKey='%E6%97%A5')", "", r#"{"A":[1,null]}"#),
        (
            "GET",
            "/Orders()",
            "$filter=not%20(A%20eq%20-1.5e3%20or%20B%20eq%20X'00ff')%20and%20C%20ge%20datetime'2026'&$top=1",
            "",
        ),
        ("GET", "/Tables", "$filter=TableName%20eq%20'a'&$format=application/json;odata=fullmetadata", ""),
        ("DELETE", "/Tables('Orders')", "", ""),
        (
            "POST",
            "/$batch",
            "",
            "--b\r\nContent-Type: multipart/mixed; boundary=c\r\n\r\n--c\r\nContent-Type: application/http\r\n\r\nPATCH \
             http://h/acct/Orders(PartitionKey='p',RowKey='r') HTTP/1.1\r\nIf-Match: *\r\n\r\n{}\r\n--c--\r\n--b--\r\n",
        ),
    ];

    /// A text with a piece of it taken out, doubled, or replaced.
    fn spoiled(text: &str, from: usize, length: usize, with: &str, doubled: bool) -> String {
        let chars: Vec<char> = text.chars().collect();
        let from = from.min(chars.len());
        let until = (from + length).min(chars.len());
        let piece: String = chars[from..until].iter().collect();
        let (before, after): (String, String) = (chars[..from].iter().collect(), chars[until..].iter().collect());
        if doubled { format!("{before}{piece}{with}{piece}{after}") } else { format!("{before}{with}{after}") }
    }

    proptest! {
        #[test]
        fn whatever_is_sent_is_decoded_or_refused_with_a_status(
            seed in 0..SEEDS.len(), part in 0..3usize, from in 0..200usize, length in 0..30usize,
            with in prop_oneof![Just(String::new()), "[ -~]{0,8}", "\\PC{0,4}", Just("(".repeat(2_000)), Just("not ".repeat(500))],
            doubled in any::<bool>()
        ) {
            let (method, mut path, mut query, mut body) = SEEDS[seed];
            let text = spoiled([path, query, body][part], from, length, &with, doubled);
            *[&mut path, &mut query, &mut body][part] = &text;
            let request = incoming(method, path, query, &[("content-type", "multipart/mixed; boundary=b")], body);
            if let Err(refused) = request.decode("/acct") {
                prop_assert!(refused.status.is_some_and(|status| (400..=501).contains(&status)), "{refused}");
                prop_assert!(!refused.code.is_empty() && !refused.message.is_empty());
            }
        }
    }
}
