//! Entity group transactions as they come in: one change set, or one read.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method};

use super::address::Resource;
use super::failure::{invalid, unreadable};
use super::options::{Metadata, Options, Prefer};
use super::request::{Call, Incoming, Manner};
use crate::model::TableName;
use crate::stores::multipart::{self, MAX_HEADERS, Section};
use crate::stores::{Operation, StoreError, TransactionError, limits};

/// What a batch holds.
#[derive(Debug)]
pub(super) enum Batch {
    /// A transaction; or the operation of it that cannot be read, by its index.
    Changes(Result<Changes, TransactionError>),
    /// A single read.
    Read(Box<(Call, Manner)>),
}

/// A transaction.
#[derive(Debug)]
pub(super) struct Changes {
    pub(super) table: TableName,
    pub(super) operations: Vec<Operation>,
    /// How each operation is to be answered, and its `Content-ID`.
    pub(super) manners: Vec<(Manner, Option<String>)>,
}

/// Reads the body of a `$batch`.
///
/// # Errors
/// 400 `InvalidInput` where it is no batch of one change set or one read.
pub(super) fn decode(content_type: &str, text: &str, root: &str) -> Result<Batch, StoreError> {
    let wrong = |why: String| unreadable(format!("the batch {why}"));
    let sections = multipart::sections(content_type, text).map_err(wrong)?;
    let [section] = sections.as_slice() else {
        return Err(wrong(format!("has {} parts; it should have one change set or one read", sections.len())));
    };
    match section.content_type {
        Some(kind) if kind.starts_with("multipart/mixed") => {
            let parts = multipart::sections(kind, section.content).map_err(wrong)?;
            changes(&parts, root)
        }
        Some(kind) if kind.starts_with("application/http") => {
            let incoming = part(section, root)?;
            if incoming.method != Method::GET {
                return Err(wrong("has a write outside of a change set".to_owned()));
            }
            let options = Options::parse(&incoming.query)?;
            let manner = manner(&incoming, &options)?;
            let call = incoming.call(Resource::parse(&incoming.path)?, &options)?;
            Ok(Batch::Read(Box::new((call, manner))))
        }
        kind => Err(wrong(format!("has a part of type {:?}", kind.unwrap_or_default()))),
    }
}

fn changes(parts: &[Section<'_>], root: &str) -> Result<Batch, StoreError> {
    if parts.len() > limits::MAX_OPERATIONS {
        let message = "The batch request operation exceeds the maximum 100 changes per change set.";
        let (index, error) = (Some(limits::MAX_OPERATIONS - 1), invalid("InvalidInput", message));
        return Ok(Batch::Changes(Err(TransactionError { index, error })));
    }
    let mut changes: Option<Changes> = None;
    for (index, section) in parts.iter().enumerate() {
        let at = |error| Batch::Changes(Err(TransactionError { index: Some(index), error }));
        let (table, operation, manner) = match change(section, root) {
            Ok(change) => change,
            Err(error) => return Ok(at(error)),
        };
        let known = changes.get_or_insert_with(|| Changes {
            table: table.clone(),
            operations: Vec::with_capacity(parts.len()),
            manners: Vec::with_capacity(parts.len()),
        });
        if known.table != table {
            let message = "All commands in a batch must operate on same entity group.";
            return Ok(at(invalid("CommandsInBatchActOnDifferentPartitions", message)));
        }
        known.operations.push(operation);
        known.manners.push((manner, section.content_id.map(str::to_owned)));
    }
    changes.map(|changes| Batch::Changes(Ok(changes))).ok_or_else(|| unreadable("the change set is empty"))
}

fn change(section: &Section<'_>, root: &str) -> Result<(TableName, Operation, Manner), StoreError> {
    let incoming = part(section, root)?;
    let options = Options::parse(&incoming.query)?;
    let manner = manner(&incoming, &options)?;
    match incoming.call(Resource::parse(&incoming.path)?, &options)? {
        Call::Write { table, operation } => Ok((table, operation, manner)),
        _ => Err(unreadable("a change set should hold writes of rows and nothing else")),
    }
}

fn manner(incoming: &Incoming, options: &Options) -> Result<Manner, StoreError> {
    Ok(Manner { metadata: Metadata::wanted(options, &incoming.headers)?, prefer: Prefer::wanted(&incoming.headers) })
}

/// A request that stands in a part.
fn part(section: &Section<'_>, root: &str) -> Result<Incoming, StoreError> {
    let wrong = |why: String| unreadable(format!("a part of the batch {why}"));
    let content = section.content.trim_start_matches(['\r', '\n']);
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    let length = match request.parse(content.as_bytes()) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Err(wrong("breaks off".to_owned())),
        Err(err) => return Err(wrong(format!("is no HTTP request ({err})"))),
    };
    let method = Method::from_bytes(request.method.unwrap_or_default().as_bytes());
    let method = method.map_err(|err| wrong(format!("has no method ({err})")))?;
    let (path, query) = target(request.path.unwrap_or_default(), root);
    let mut map = HeaderMap::new();
    for header in request.headers.iter() {
        let name = HeaderName::from_bytes(header.name.as_bytes());
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(header.value)) {
            map.append(name, value);
        }
    }
    let body = content.get(length..).unwrap_or_default().trim_end_matches(['\r', '\n']);
    Ok(Incoming { method, path, query, headers: map, body: Bytes::copy_from_slice(body.as_bytes()) })
}

/// Path behind the account, and query, of an address with or without a host.
fn target(address: &str, root: &str) -> (String, String) {
    let path = match address.split_once("://") {
        Some((_, rest)) => rest.find('/').map_or("/", |at| &rest[at..]),
        None => address,
    };
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let behind = path.strip_prefix(root).filter(|rest| rest.starts_with('/')).unwrap_or(path);
    (behind.to_owned(), query.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TYPE: &str = "multipart/mixed; boundary=batch_1";

    fn changeset(parts: &[&str]) -> String {
        let parts: String = parts
            .iter()
            .map(|part| format!("--changeset_2\r\nContent-Type: application/http\r\nContent-ID: 7\r\n\r\n{part}\r\n"))
            .collect();
        format!(
            "--batch_1\r\nContent-Type: multipart/mixed; boundary=changeset_2\r\n\r\n{parts}--changeset_2--\r\n--batch_1--\r\n"
        )
    }

    const INSERT: &str = "POST http://host:1/acct/Orders HTTP/1.1\r\nAccept: application/json\r\n\r\n{\"PartitionKey\":\"p\",\"RowKey\":\"a\"}\r\n";
    const DELETE: &str =
        "DELETE /acct/Orders(PartitionKey='p',RowKey='it%27%27s') HTTP/1.1\r\nIf-Match: *\r\nAccept: */*\r\n\r\n";
    const MERGE: &str = "MERGE /Orders(PartitionKey='p',RowKey='m') HTTP/1.1\r\n\r\n{\"A\":1}";

    #[test]
    fn a_change_set_is_read_operation_by_operation() {
        let text = changeset(&[INSERT, DELETE, MERGE]);
        let Batch::Changes(Ok(changes)) = decode(TYPE, &text, "/acct").unwrap() else { panic!("a change set") };
        assert_eq!((changes.table.as_str(), changes.operations.len()), ("Orders", 3));
        assert!(matches!(&changes.operations[0], Operation::Insert(body) if body.row().as_str() == "a"));
        assert!(matches!(&changes.operations[1], Operation::Delete { row, .. } if row.as_str() == "it's"));
        assert!(matches!(&changes.operations[2], Operation::InsertOrMerge(body) if body.json().contains("\"A\":1")));
        assert_eq!(changes.manners[0].1.as_deref(), Some("7"));
    }

    #[test]
    fn an_operation_that_cannot_be_read_is_named_by_its_index() {
        let index = |parts: &[&str]| match decode(TYPE, &changeset(parts), "/acct").unwrap() {
            Batch::Changes(Err(failed)) => (failed.index, failed.error.code),
            other => panic!("{other:?}"),
        };
        let invalid = || "InvalidInput".to_owned();
        assert_eq!(index(&[INSERT, "GET /acct/Orders HTTP/1.1\r\n\r\n"]), (Some(1), invalid()));
        assert_eq!(index(&[INSERT, DELETE, "rubbish"]), (Some(2), invalid()));
        let elsewhere = INSERT.replace("Orders", "Others");
        assert_eq!(index(&[INSERT, &elsewhere]), (Some(1), "CommandsInBatchActOnDifferentPartitions".to_owned()));
        assert_eq!(index(&vec![INSERT; 101]), (Some(99), invalid()));
    }

    #[test]
    fn a_read_stands_alone_and_everything_else_is_refused() {
        let alone = |request: &str| {
            format!("--batch_1\r\nContent-Type: application/http\r\n\r\n{request} HTTP/1.1\r\n\r\n\r\n--batch_1--\r\n")
        };
        let read = decode(TYPE, &alone("GET http://host/acct/Orders(PartitionKey='p',RowKey='r')"), "/acct").unwrap();
        assert!(matches!(read, Batch::Read(call) if matches!(call.0, Call::Get { .. })));
        for bad in [
            &alone("DELETE /acct/Orders(PartitionKey='p',RowKey='r')"),
            &changeset(&[]),
            "--batch_1--\r\n",
            "",
            &changeset(&[INSERT])[..200],
        ] {
            let err = decode(TYPE, bad, "/acct").unwrap_err();
            assert_eq!((err.status, err.code.as_str()), (Some(400), "InvalidInput"), "{bad}");
        }
        assert!(decode("application/json", "", "").is_err());
    }
}
