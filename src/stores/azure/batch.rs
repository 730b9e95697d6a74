//! Entity group transactions: the body of `$batch`, and what its multipart reply says.

use std::str;

use azure_core::http::headers::Headers;

use super::error::{explain, malformed};
use super::request::{ACCEPT, Address, Verb};
use super::transport::Reply;
use crate::model::{Etag, TableName};
use crate::stores::multipart::{self, MAX_HEADERS};
use crate::stores::{Operation, StoreError, TransactionError, limits};

/// Encodes operations as one change set. Every line ends in CRLF and both boundaries are closed.
///
/// # Errors
/// Where an ETag could not stand in a header.
pub(super) fn encode(
    address: &Address,
    table: &TableName,
    operations: &[Operation],
    boundary: &str,
) -> Result<String, TransactionError> {
    let bytes = limits::ENVELOPE_BYTES + operations.iter().map(limits::operation_bytes).sum::<usize>();
    let mut body = String::with_capacity(bytes);
    for part in ["--batch_", boundary, "\r\nContent-Type: multipart/mixed; boundary=changeset_", boundary, "\r\n\r\n"] {
        body.push_str(part);
    }
    for (index, operation) in operations.iter().enumerate() {
        let at = |error| TransactionError { index: Some(index), error };
        push_operation(&mut body, address, table, operation, boundary).map_err(at)?;
    }
    for part in ["--changeset_", boundary, "--\r\n--batch_", boundary, "--\r\n"] {
        body.push_str(part);
    }
    Ok(body)
}

/// The type of an encoded body.
pub(super) fn content_type(boundary: &str) -> String {
    format!("multipart/mixed; boundary=batch_{boundary}")
}

fn push_operation(
    body: &mut String,
    address: &Address,
    table: &TableName,
    operation: &Operation,
    boundary: &str,
) -> Result<(), StoreError> {
    let verb = Verb::of(operation)?;
    for part in
        ["--changeset_", boundary, "\r\nContent-Type: application/http\r\nContent-Transfer-Encoding: binary\r\n\r\n"]
    {
        body.push_str(part);
    }
    body.push_str(verb.method.as_str());
    body.push(' ');
    if verb.keyed {
        address.push_row(body, table, operation.partition(), operation.row());
    } else {
        address.push_table(body, table);
    }
    body.push_str(" HTTP/1.1\r\nAccept: ");
    body.push_str(ACCEPT);
    body.push_str("\r\nDataServiceVersion: 3.0;NetFx\r\n");
    if let Some(etag) = verb.if_match {
        for part in ["If-Match: ", etag, "\r\n"] {
            body.push_str(part);
        }
    }
    match operation.body() {
        Some(row) => {
            let json = address.written(row.json());
            let length = json.len().to_string();
            for part in [
                "Prefer: return-no-content\r\nContent-Type: application/json\r\nContent-Length: ",
                &length,
                "\r\n\r\n",
                &json,
                "\r\n",
            ] {
                body.push_str(part);
            }
        }
        None => body.push_str("\r\n"),
    }
    Ok(())
}

/// Reads a reply: an ETag per operation, or the code and index of the operation at fault.
///
/// A reply that is not understood is an error whose remedy is to read back: the transaction may have been applied.
pub(super) fn decode(reply: &Reply, operations: &[Operation]) -> Result<Vec<Option<Etag>>, TransactionError> {
    let unreadable = |what: &str| malformed(reply, format!("the reply to a transaction {what}"));
    let text = reply.text()?;
    let mut results = Vec::with_capacity(operations.len());
    let content_type = reply.header("content-type").unwrap_or_default();
    read_parts(content_type, text, 0, &mut results).map_err(|what| unreadable(&what))?;
    if let Some(failed) = results.iter().find(|part| !(200..300).contains(&part.status)) {
        return Err(failure(failed, reply, operations.len()));
    }
    if results.len() != operations.len() {
        let what = format!("has {} results for {} operations", results.len(), operations.len());
        return Err(unreadable(&what).into());
    }
    let etag = |(part, operation): (&Part, &Operation)| match (operation, part.etag) {
        (Operation::Delete { .. }, _) => Ok(None),
        (_, Some(etag)) => Ok(Some(Etag::new(etag))),
        (_, None) => Err(TransactionError::from(unreadable("has no ETag for a row that was written"))),
    };
    results.iter().zip(operations).map(etag).collect()
}

/// The error of one operation. Its message begins with the index: `3:The specified entity already exists.`
fn failure(part: &Part<'_>, reply: &Reply, operations: usize) -> TransactionError {
    let mut headers = Headers::new();
    for (name, value) in
        part.headers.iter().filter_map(|header| Some((header.name, str::from_utf8(header.value).ok()?)))
    {
        headers.insert(name.to_ascii_lowercase(), value.to_owned());
    }
    let mut error = explain(part.status, &headers, part.body.as_bytes());
    if error.request_id.is_none() {
        error.request_id = reply.header("x-ms-request-id").map(str::to_owned);
    }
    let index =
        error.message.split_once(':').and_then(|(index, rest)| Some((index.parse::<usize>().ok()?, rest.to_owned())));
    let index = match index {
        Some((index, rest)) => {
            error.message = rest;
            Some(index).filter(|index| *index < operations)
        }
        None => (operations == 1).then_some(0),
    };
    TransactionError { index, error }
}

/// One `application/http` part.
struct Part<'a> {
    status: u16,
    headers: Vec<httparse::Header<'a>>,
    etag: Option<&'a str>,
    body: &'a str,
}

/// Collects the `application/http` parts of a multipart text, however they are nested.
fn read_parts<'a>(content_type: &str, text: &'a str, depth: u8, results: &mut Vec<Part<'a>>) -> Result<(), String> {
    for section in multipart::sections(content_type, text)? {
        match section.content_type {
            Some(kind) if kind.starts_with("multipart/mixed") && depth == 0 => {
                read_parts(kind, section.content, 1, results)?;
            }
            Some(kind) if kind.starts_with("application/http") => results.push(read_http(section.content)?),
            kind => return Err(format!("has a part of type {:?}", kind.unwrap_or_default())),
        }
    }
    Ok(())
}

fn read_http(content: &str) -> Result<Part<'_>, String> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    let length = match response.parse(content.as_bytes()) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Err("has a part that breaks off".to_owned()),
        Err(err) => return Err(format!("has a part that is no HTTP response ({err})")),
    };
    let headers = response.headers.to_vec();
    let etag = headers.iter().find(|header| header.name.eq_ignore_ascii_case("etag"));
    Ok(Part {
        status: response.code.unwrap_or(0),
        etag: etag.and_then(|header| str::from_utf8(header.value).ok()).filter(|etag| !etag.is_empty()),
        headers,
        body: content.get(length..).unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::RowBody;
    use crate::stores::{Condition, ErrorKind};
    use azure_core::http::Url;

    fn operations() -> Vec<Operation> {
        let body = RowBody::parse(r#"{"PartitionKey":"p","RowKey":"it's"}"#).unwrap();
        vec![
            Operation::Insert(body.clone()),
            Operation::Merge(body, Condition::Matches(Etag::new("W/\"1\""))),
            Operation::Delete { partition: "p".into(), row: "r".into(), condition: Condition::Present },
        ]
    }

    #[test]
    fn a_transaction_is_one_closed_change_set() {
        let address = Address::new(&Url::parse("http://host/acct").unwrap());
        let table = TableName::new("Orders").unwrap();
        let body = encode(&address, &table, &operations(), "b").unwrap();
        let part = "--changeset_b\r\nContent-Type: application/http\r\nContent-Transfer-Encoding: binary\r\n\r\n";
        let accept = "Accept: application/json;odata=minimalmetadata\r\nDataServiceVersion: 3.0;NetFx\r\n";
        let json = "Prefer: return-no-content\r\nContent-Type: application/json\r\nContent-Length: 36\r\n\r\n\
                    {\"PartitionKey\":\"p\",\"RowKey\":\"it's\"}\r\n";
        let expected = [
            "--batch_b\r\nContent-Type: multipart/mixed; boundary=changeset_b\r\n\r\n",
            part,
            "POST http://host/acct/Orders HTTP/1.1\r\n",
            accept,
            json,
            part,
            "PATCH http://host/acct/Orders(PartitionKey='p',RowKey='it%27%27s') HTTP/1.1\r\n",
            accept,
            "If-Match: W/\"1\"\r\n",
            json,
            part,
            "DELETE http://host/acct/Orders(PartitionKey='p',RowKey='r') HTTP/1.1\r\n",
            accept,
            "If-Match: *\r\n\r\n",
            "--changeset_b--\r\n--batch_b--\r\n",
        ];
        assert_eq!(body, expected.concat());
        let estimate = limits::ENVELOPE_BYTES + operations().iter().map(limits::operation_bytes).sum::<usize>();
        assert!(body.len() <= estimate, "the planner's estimate covers what is sent");
    }

    fn reply(body: &str) -> Reply {
        let mut headers = Headers::new();
        headers.insert("content-type", "multipart/mixed; boundary=batchresponse_1");
        headers.insert("x-ms-request-id", "outer");
        Reply { status: 202, headers, body: body.to_owned().into() }
    }

    fn nested(parts: &[&str]) -> String {
        let mut text =
            "--batchresponse_1\r\nContent-Type: multipart/mixed; boundary=changesetresponse_2\r\n\r\n".to_owned();
        for part in parts {
            text +=
                "--changesetresponse_2\r\nContent-Type: application/http\r\nContent-Transfer-Encoding: binary\r\n\r\n";
            text += part;
            text += "\r\n";
        }
        text + "--changesetresponse_2--\r\n--batchresponse_1--\r\n"
    }

    const WRITTEN: &str = "HTTP/1.1 204 No Content\r\nETag: W/\"2\"\r\n\r\n";
    const DELETED: &str = "HTTP/1.1 204 No Content\r\n\r\n";

    #[test]
    fn an_applied_transaction_has_an_etag_for_each_row() {
        let etags = decode(&reply(&nested(&[WRITTEN, WRITTEN, DELETED])), &operations()).unwrap();
        let etag = || Some(Etag::new("W/\"2\""));
        assert_eq!(etags, [etag(), etag(), None]);
    }

    #[test]
    fn a_failed_one_has_the_code_and_the_index_at_fault() {
        let failed = "HTTP/1.1 409 Conflict\r\nContent-Type: application/json\r\n\r\n{\"odata.error\":{\"code\":\
                      \"EntityAlreadyExists\",\"message\":{\"lang\":\"en-US\",\"value\":\"1:The specified entity already \
                      exists.\\nRequestId:x\"}}}";
        let err = decode(&reply(&nested(&[failed])), &operations()).unwrap_err();
        assert_eq!(err.index, Some(1));
        assert_eq!(err.error.kind, ErrorKind::AlreadyExists);
        assert_eq!(
            err.to_string(),
            "operation 1 of the transaction: 409 EntityAlreadyExists: The specified entity already exists. (request outer)"
        );
    }

    #[test]
    fn what_is_not_understood_is_never_taken_for_success() {
        let whole = nested(&[WRITTEN, WRITTEN, DELETED]);
        let cut = &whole[..whole.len() - 30];
        for (text, says) in [
            (cut, "breaks off"),
            ("", "breaks off"),
            (&nested(&[WRITTEN, DELETED]), "2 results for 3 operations"),
            (&nested(&[WRITTEN, DELETED, DELETED]), "no ETag"),
            (&nested(&["rubbish", WRITTEN, WRITTEN]), "no HTTP response"),
            (&whole.replace("application/http", "text/html"), "text/html"),
        ] {
            let err = decode(&reply(text), &operations()).unwrap_err();
            assert_eq!((err.index, err.error.kind), (None, ErrorKind::Unexpected), "{text}");
            assert!(err.to_string().contains(says), "{err}");
        }
        let mut plain = reply(&whole);
        plain.headers.insert("content-type", "application/json");
        assert_eq!(decode(&plain, &operations()).unwrap_err().error.kind, ErrorKind::Unexpected);
    }
}
