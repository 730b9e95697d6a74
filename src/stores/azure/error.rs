//! What a reply, or the lack of one, means: status and error code to [`ErrorKind`], in one place.

use std::error::Error;
use std::time::Duration;

use azure_core::error::ErrorKind as CoreKind;
use azure_core::http::headers::Headers;
use serde_json::Value;

use super::transport::{Reply, find_header, parse_rfc1123};
use crate::stores::{ErrorKind, StoreError};

/// Longest part of a service's message that is kept.
const MAX_MESSAGE: usize = 300;

/// Longest wait that a server may ask for. No service asks for more than minutes; a proxy that is out of order may ask for
/// ever, and should be asked again.
const LONGEST_WAIT: Duration = Duration::from_secs(3_600);

/// What kind of failure a status and an error code are. Source: "Table service error codes", "Queue service error
/// codes" and "Common REST API error codes" in Microsoft's reference.
pub(super) fn classify(status: u16, code: &str) -> ErrorKind {
    match (status, code) {
        (404, "TableNotFound" | "QueueNotFound") => ErrorKind::NoTable,
        (404, "ResourceNotFound" | "EntityNotFound" | "MessageNotFound") => ErrorKind::NotFound,
        (409, "EntityAlreadyExists" | "TableAlreadyExists" | "QueueAlreadyExists") => ErrorKind::AlreadyExists,
        (409, "TableBeingDeleted" | "QueueBeingDeleted") => ErrorKind::BeingDeleted,
        (412, _) => ErrorKind::Precondition,
        (429 | 503, _) | (500, "OperationTimedOut") | (_, "ServerBusy") => ErrorKind::Throttled,
        (401 | 403, _) => ErrorKind::Denied,
        // A 404 or 409 that says no more may come from whatever stands between: nothing is known of the row.
        (404 | 408 | 409, _) => ErrorKind::Unexpected,
        (400..=499, _) => ErrorKind::Invalid,
        (500..=599, _) => ErrorKind::Server,
        _ => ErrorKind::Unexpected,
    }
}

/// The error that a reply is: code from `x-ms-error-code`, else from the body.
pub(super) fn answered(reply: &Reply) -> StoreError {
    explain(reply.status, &reply.headers, &reply.body)
}

/// As [`answered`], of a reply's parts.
pub(super) fn explain(status: u16, headers: &Headers, body: &[u8]) -> StoreError {
    let (body_code, message) = read_body(body);
    let code = find_header(headers, "x-ms-error-code").map(first_line).or(body_code).unwrap_or_default();
    let message = message.unwrap_or_else(|| "the reply has no error message".to_owned());
    StoreError {
        request_id: find_header(headers, "x-ms-request-id").map(str::to_owned),
        retry_after: retry_after(headers).map(|wait| wait.min(LONGEST_WAIT)),
        ..StoreError::answered(classify(status, &code), status, code, message)
    }
}

/// A reply that is not what it should be.
pub(super) fn malformed(reply: &Reply, what: impl Into<String>) -> StoreError {
    StoreError {
        request_id: find_header(&reply.headers, "x-ms-request-id").map(str::to_owned),
        ..StoreError::answered(ErrorKind::Unexpected, reply.status, "", what)
    }
}

/// No reply at all: the pipeline failed before there was one.
pub(super) fn unanswered(err: &azure_core::Error) -> StoreError {
    let message = chain(err);
    match err.kind() {
        CoreKind::HttpResponse { status, error_code, raw_response } => {
            let headers = raw_response.as_ref().map(|raw| raw.headers().clone()).unwrap_or_default();
            let body = raw_response.as_ref().map(|raw| raw.body().as_ref()).unwrap_or_default();
            let mut error = explain(u16::from(*status), &headers, body);
            if error.code.is_empty() {
                error.code = error_code.clone().unwrap_or_default();
                error.kind = classify(u16::from(*status), &error.code);
            }
            error
        }
        CoreKind::Credential => StoreError::new(credential_failure(err), message),
        CoreKind::Connection | CoreKind::Io => StoreError::new(ErrorKind::Unreachable, message),
        CoreKind::DataConversion | CoreKind::Other => StoreError::new(ErrorKind::Unexpected, message),
    }
}

/// A token that could not be had: for want of a right, or because whoever issues tokens cannot be reached either.
fn credential_failure(err: &azure_core::Error) -> ErrorKind {
    let mut source: Option<&(dyn Error + 'static)> = Some(err);
    while let Some(err) = source {
        match err.downcast_ref::<azure_core::Error>().map(azure_core::Error::kind) {
            Some(CoreKind::Connection | CoreKind::Io) => return ErrorKind::Unreachable,
            Some(CoreKind::HttpResponse { status, .. }) => match u16::from(*status) {
                429 | 500..=599 => return ErrorKind::Throttled,
                _ => return ErrorKind::Denied,
            },
            _ => source = err.source(),
        }
    }
    ErrorKind::Denied
}

/// An error and what caused it, in one line. The transport takes URLs out of its errors, so there is no query in it.
pub(super) fn chain(err: &(dyn Error + 'static)) -> String {
    let mut text = err.to_string();
    let mut source = err.source();
    while let Some(err) = source {
        let cause = err.to_string();
        if !text.ends_with(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
        source = err.source();
    }
    text
}

/// Code and message of an error's body: `{"odata.error":{"code":…,"message":{"value":…}}}`, or XML.
fn read_body(body: &[u8]) -> (Option<String>, Option<String>) {
    if let Ok(json) = serde_json::from_slice::<Value>(body) {
        let error = json.get("odata.error").or_else(|| json.get("error")).unwrap_or(&Value::Null);
        let message = &error["message"];
        let message = message.as_str().or_else(|| message["value"].as_str());
        return (error["code"].as_str().map(first_line), message.map(first_line));
    }
    let text = String::from_utf8_lossy(body);
    let element = |names: [&str; 2]| {
        names.into_iter().find_map(|name| {
            let (_, rest) = text.split_once(&format!("<{name}"))?;
            let (_, rest) = rest.split_once('>')?;
            rest.split_once(&format!("</{name}>")).map(|(content, _)| content.to_owned())
        })
    };
    (element(["Code", "code"]).as_deref().map(first_line), element(["Message", "message"]).as_deref().map(first_line))
}

/// What follows the first line is the request id, which is a header too, and the time.
fn first_line(message: &str) -> String {
    message.lines().next().unwrap_or_default().chars().take(MAX_MESSAGE).collect()
}

/// How long the service asks us to wait: milliseconds, seconds, or a date (against the reply's own).
fn retry_after(headers: &Headers) -> Option<Duration> {
    let milliseconds =
        ["x-ms-retry-after-ms", "retry-after-ms"].into_iter().find_map(|name| find_header(headers, name));
    if let Some(milliseconds) = milliseconds.and_then(|text| text.trim().parse().ok()) {
        return Some(Duration::from_millis(milliseconds));
    }
    let text = find_header(headers, "retry-after")?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let (until, now) = (parse_rfc1123(text)?, parse_rfc1123(find_header(headers, "date")?)?);
    Some(until.since(now))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> Headers {
        let mut headers = Headers::new();
        for (name, value) in pairs {
            headers.insert(*name, *value);
        }
        headers
    }

    #[test]
    fn an_absent_row_and_an_absent_table_are_told_apart() {
        assert_eq!(classify(404, "ResourceNotFound"), ErrorKind::NotFound);
        assert_eq!(classify(404, "TableNotFound"), ErrorKind::NoTable);
        // A proxy's 404 must not pass for a deleted row.
        assert_eq!(classify(404, ""), ErrorKind::Unexpected);
    }

    #[test]
    fn every_status_has_one_kind() {
        for (status, code, kind) in [
            (409, "EntityAlreadyExists", ErrorKind::AlreadyExists),
            (409, "TableBeingDeleted", ErrorKind::BeingDeleted),
            (409, "", ErrorKind::Unexpected),
            (412, "UpdateConditionNotSatisfied", ErrorKind::Precondition),
            (429, "", ErrorKind::Throttled),
            (503, "ServerBusy", ErrorKind::Throttled),
            (503, "", ErrorKind::Throttled),
            (500, "OperationTimedOut", ErrorKind::Throttled),
            (500, "InternalError", ErrorKind::Server),
            (504, "", ErrorKind::Server),
            (401, "", ErrorKind::Denied),
            (403, "AuthenticationFailed", ErrorKind::Denied),
            (400, "InvalidInput", ErrorKind::Invalid),
            (413, "RequestBodyTooLarge", ErrorKind::Invalid),
            (307, "", ErrorKind::Unexpected),
            (200, "", ErrorKind::Unexpected),
        ] {
            assert_eq!(classify(status, code), kind, "{status} {code}");
        }
    }

    #[test]
    fn the_code_comes_from_the_header_or_else_the_body() {
        let json = br#"{"odata.error":{"code":"TableNotFound","message":{"lang":"en-US","value":"No such table.\nRequestId:1\nTime:2"}}}"#;
        let error = explain(404, &headers(&[("x-ms-request-id", "id-1")]), json);
        assert_eq!(error.to_string(), "404 TableNotFound: No such table. (request id-1)");
        assert_eq!(explain(404, &headers(&[("x-ms-error-code", "ResourceNotFound")]), json).kind, ErrorKind::NotFound);
        let xml = b"<?xml version=\"1.0\"?><Error><Code>QueueNotFound</Code><Message>None.</Message></Error>";
        assert_eq!(explain(404, &Headers::new(), xml).to_string(), "404 QueueNotFound: None.");
        let atom = b"<error xmlns=\"x\"><code>TableNotFound</code><message xml:lang=\"en\">None.</message></error>";
        assert_eq!(explain(404, &Headers::new(), atom).to_string(), "404 TableNotFound: None.");
        assert_eq!(explain(502, &Headers::new(), b"<html>").to_string(), "502: the reply has no error message");
    }

    #[test]
    fn retry_after_is_seconds_milliseconds_or_a_date() {
        let after = |pairs: &[(&'static str, &'static str)]| retry_after(&headers(pairs));
        assert_eq!(after(&[("retry-after", "7")]), Some(Duration::from_secs(7)));
        assert_eq!(after(&[("retry-after", "7"), ("x-ms-retry-after-ms", "250")]), Some(Duration::from_millis(250)));
        let dates = [("date", "Sun, 22 Nov 2026 12:18:00 GMT"), ("retry-after", "Sun, 22 Nov 2026 12:18:05 GMT")];
        assert_eq!(after(&dates), Some(Duration::from_secs(5)));
        assert_eq!(after(&[("retry-after", "soon")]), None);
        let forever = [("retry-after", "18446744073709551615")];
        assert_eq!(explain(503, &headers(&forever), b"").retry_after, Some(LONGEST_WAIT));
    }

    #[test]
    fn want_of_a_token_is_a_matter_of_access_unless_its_issuer_cannot_be_reached() {
        let denied = azure_core::Error::with_message(CoreKind::Credential, "no");
        assert_eq!(unanswered(&denied).kind, ErrorKind::Denied);
        let io = azure_core::Error::with_message(CoreKind::Io, "reset");
        let wrapped = azure_core::Error::with_error(CoreKind::Credential, io, "no token");
        let error = unanswered(&wrapped);
        assert_eq!((error.kind, error.message.as_str()), (ErrorKind::Unreachable, "no token: reset"));
    }
}
