//! Replies, as bytes on the wire of HTTP or of a multipart text.

use http::StatusCode;

use super::context::Context;
use super::options::Metadata;
use crate::stores::StoreError;

/// A whole reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// Its status.
    pub status: u16,
    /// Its headers; whoever sends it adds `Date` and `x-ms-request-id`.
    pub headers: Vec<(&'static str, String)>,
    /// Its body; may be empty.
    pub body: String,
}

impl Reply {
    /// Without a body.
    pub(super) fn empty(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: String::new() }
    }

    /// With JSON.
    pub(super) fn json(status: u16, metadata: Metadata, body: String) -> Self {
        Self { status, headers: vec![("Content-Type", metadata.content_type().to_owned())], body }
    }

    /// With one header more.
    #[must_use]
    pub(super) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// An error as Azure writes it; in a transaction its message begins with the index of the operation at fault.
    pub(super) fn error(status: u16, error: &StoreError, index: Option<usize>, context: &Context) -> Self {
        let prefix = index.map(|index| format!("{index}:")).unwrap_or_default();
        let text = format!("{prefix}{}\nRequestId:{}\nTime:{}", error.message, context.request_id, context.now);
        let message = serde_json::json!({ "lang": "en-US", "value": text });
        let body = serde_json::json!({ "odata.error": { "code": error.code, "message": message } });
        let mut reply = Self::json(status, Metadata::Minimal, body.to_string());
        if !error.code.is_empty() {
            reply = reply.with("x-ms-error-code", &error.code);
        }
        match error.retry_after {
            // In whole seconds, as Azure has it: rounded up, or it would be sooner than was asked for.
            Some(wait) if wait.subsec_nanos() == 0 => reply.with("Retry-After", wait.as_secs().to_string()),
            Some(wait) => reply
                .with("Retry-After", (wait.as_secs() + 1).to_string())
                .with("x-ms-retry-after-ms", wait.as_millis().to_string()),
            None => reply,
        }
    }

    /// The replies to the operations of a transaction, or the one to its first failure or to a single read.
    pub(super) fn multipart(parts: &[Self], change_set: bool, id: &str) -> Self {
        let mut body = String::with_capacity(parts.len() * 320 + 512);
        let (outer, inner) = (format!("batchresponse_{id}"), format!("changesetresponse_{id}"));
        let boundary = if change_set { &inner } else { &outer };
        if change_set {
            body.push_str(&format!("--{outer}\r\nContent-Type: multipart/mixed; boundary={inner}\r\n\r\n"));
        }
        for part in parts {
            let head = "Content-Type: application/http\r\nContent-Transfer-Encoding: binary";
            body.push_str(&format!("--{boundary}\r\n{head}\r\n\r\n"));
            part.write(&mut body);
        }
        if change_set {
            body.push_str(&format!("--{inner}--\r\n"));
        }
        body.push_str(&format!("--{outer}--\r\n"));
        Self { status: 202, headers: vec![("Content-Type", format!("multipart/mixed; boundary={outer}"))], body }
    }

    fn write(&self, text: &mut String) {
        let reason = StatusCode::from_u16(self.status).ok().and_then(|status| status.canonical_reason());
        text.push_str(&format!("HTTP/1.1 {} {}\r\n", self.status, reason.unwrap_or_default()));
        for (name, value) in &self.headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        text.push_str("\r\n");
        text.push_str(&self.body);
        text.push_str("\r\n");
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::model::Time;
    use crate::stores::ErrorKind;

    fn context() -> Context {
        let now = Time::parse("2026-11-22T12:18:00.1234567Z").unwrap();
        Context { account: "a".into(), root: "/a".into(), base: "http://h/a".into(), request_id: "id-1".into(), now }
    }

    #[test]
    fn an_error_is_written_as_azure_writes_it() {
        let busy = StoreError::answered(ErrorKind::Throttled, 503, "ServerBusy", "The \"server\" is busy.");
        let busy = StoreError { retry_after: Some(Duration::from_millis(1_200)), ..busy };
        let reply = Reply::error(503, &busy, Some(3), &context());
        assert_eq!(
            reply.body,
            r#"{"odata.error":{"code":"ServerBusy","message":{"lang":"en-US","value":"3:The \"server\" is busy.\nRequestId:id-1\nTime:2026-11-22T12:18:00.1234567Z"}}}"#
        );
        assert!(reply.headers.contains(&("Retry-After", "2".to_owned())), "{reply:?}");
        assert!(reply.headers.contains(&("x-ms-error-code", "ServerBusy".to_owned())));
    }

    #[test]
    fn a_transaction_is_answered_in_one_closed_change_set() {
        let parts = [Reply::empty(204).with("ETag", "W/\"1\""), Reply::empty(204)];
        let reply = Reply::multipart(&parts, true, "x");
        let part =
            "--changesetresponse_x\r\nContent-Type: application/http\r\nContent-Transfer-Encoding: binary\r\n\r\n";
        let expected = [
            "--batchresponse_x\r\nContent-Type: multipart/mixed; boundary=changesetresponse_x\r\n\r\n",
            part,
            "HTTP/1.1 204 No Content\r\nETag: W/\"1\"\r\n\r\n\r\n",
            part,
            "HTTP/1.1 204 No Content\r\n\r\n\r\n",
            "--changesetresponse_x--\r\n--batchresponse_x--\r\n",
        ];
        assert_eq!((reply.status, reply.body), (202, expected.concat()));
        let read = Reply::multipart(&[Reply::empty(404)], false, "x");
        assert!(read.body.starts_with("--batchresponse_x\r\nContent-Type: application/http"), "{}", read.body);
    }
}
