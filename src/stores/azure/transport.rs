//! The wire: a reqwest client under azure_core's pipeline, set up so that nothing is unbounded or repeated.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use azure_core::error::ErrorKind as CoreKind;
use azure_core::http::headers::Headers;
use azure_core::http::policies::Policy;
use azure_core::http::{
    AsyncRawResponse, Body, ClientOptions, Context, HttpClient, Method, Pipeline, PipelineSendOptions, Request,
    RetryOptions, Transport as CoreTransport,
};
use bytes::{Bytes, BytesMut};

use super::error::unanswered;
use crate::model::Time;
use crate::runtime::Runtime;
use crate::stores::{ErrorKind, StorageClock, StoreError};

/// The version of the REST API that we speak: the first that lets bearer tokens in to tables.
pub(super) const API_VERSION: &str = "2020-12-06";

/// Largest reply that is read: a page of 1,000 rows has at most 4 MiB by Azure's limits, this is well above.
const MAX_REPLY_BYTES: usize = 64 * 1024 * 1024;

/// How an adapter talks HTTP.
#[derive(Debug, Clone)]
pub struct HttpOptions {
    /// Longest wait for a connection, TLS included.
    pub connect_timeout: Duration,
    /// Longest silence within a reply.
    pub read_timeout: Duration,
    /// Longest time for a whole request, token and reply included. To be set below half the settle window.
    pub total_timeout: Duration,
    /// Idle connections kept open per account and service.
    pub idle_connections: usize,
    /// How long an idle connection is kept. Azure's front ends drop them after 4 minutes.
    pub idle_timeout: Duration,
    /// Certificates (PEM) of authorities to trust besides the system's, for a private endpoint or an emulator.
    pub extra_roots: Vec<Vec<u8>>,
}

impl Default for HttpOptions {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(5),
            read_timeout: Duration::from_secs(15),
            total_timeout: Duration::from_secs(25),
            idle_connections: 64,
            idle_timeout: Duration::from_secs(90),
            extra_roots: Vec::new(),
        }
    }
}

/// An adapter that cannot be set up.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// A certificate that is none.
    #[error("an extra root certificate should be PEM: {0}")]
    Certificate(String),
    /// TLS cannot be set up.
    #[error("the HTTP client cannot be set up: {0}")]
    Client(String),
    /// A queue was asked for, and the account has no queue endpoint.
    #[error("the account should have a queue_endpoint (or a connection string with an AccountName)")]
    NoQueue,
    /// The credential cannot be made.
    #[error(transparent)]
    Credential(#[from] super::credential::CredentialError),
    /// The official queue client refused.
    #[error("the queue client cannot be set up: {0}")]
    Queue(String),
}

/// A whole reply.
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) headers: Headers,
    pub(super) body: Bytes,
}

impl Reply {
    pub(super) fn header(&self, name: &'static str) -> Option<&str> {
        find_header(&self.headers, name)
    }

    /// The body as text. What is not UTF-8 is no JSON.
    pub(super) fn text(&self) -> Result<&str, StoreError> {
        std::str::from_utf8(&self.body).map_err(|_| super::error::malformed(self, "the reply is not UTF-8"))
    }
}

/// A header by its name in lower case.
pub(super) fn find_header<'a>(headers: &'a Headers, name: &'static str) -> Option<&'a str> {
    let name = azure_core::http::headers::HeaderName::from_static(name);
    let value = headers.get_optional_with(&name, |value| Ok::<_, std::convert::Infallible>(value.as_str()));
    value.ok().flatten()
}

/// `Sun, 22 Nov 2026 12:18:00 GMT`.
pub(super) fn parse_rfc1123(text: &str) -> Option<Time> {
    let time = azure_core::time::parse_rfc7231(text).ok()?;
    Some(Time::from_unix_seconds(time.unix_timestamp()))
}

/// The pipeline of one service of one account: one try per call, whole replies, one deadline.
#[derive(Debug)]
pub(super) struct Wire {
    pipeline: Pipeline,
    deadline: Duration,
}

impl Wire {
    pub(super) fn new(transport: Transport, admission: Arc<dyn Policy>) -> Self {
        let deadline = transport.deadline;
        let name = option_env!("CARGO_PKG_NAME");
        let version = option_env!("CARGO_PKG_VERSION");
        let pipeline = Pipeline::new(name, version, client_options(transport), Vec::new(), vec![admission], None);
        Self { pipeline, deadline }
    }

    /// Sends a request once. A reply of any status is `Ok`; no reply, or half of one, is [`ErrorKind::Unreachable`].
    pub(super) async fn send(&self, mut request: Request) -> Result<Reply, StoreError> {
        let context = Context::new();
        let options = PipelineSendOptions { skip_checks: true, ..PipelineSendOptions::default() };
        let sent = self.pipeline.send(&context, &mut request, Some(options));
        let raw = within(self.deadline, sent).await?.map_err(|err| unanswered(&err))?;
        let (status, headers, body) = raw.deconstruct();
        Ok(Reply { status: u16::from(status), headers, body: body.into() })
    }
}

/// Gives up on `future` after `deadline`: whether the service acted on it is not known then.
pub(super) async fn within<T>(deadline: Duration, future: impl Future<Output = T>) -> Result<T, StoreError> {
    tokio::time::timeout(deadline, future)
        .await
        .map_err(|_| StoreError::new(ErrorKind::Unreachable, format!("no whole reply within {deadline:?}")))
}

/// azure_core's options for our transport. Its own retry policy is switched off: it would send writes again whose
/// outcome is not known.
pub(super) fn client_options(transport: Transport) -> ClientOptions {
    ClientOptions {
        retry: RetryOptions::none(),
        transport: Some(CoreTransport::new(Arc::new(transport))),
        ..ClientOptions::default()
    }
}

/// A reqwest client, and the clock that its replies tell.
pub(super) struct Transport {
    client: reqwest::Client,
    clock: Arc<StorageClock>,
    runtime: Runtime,
    pub(super) deadline: Duration,
}

impl Transport {
    pub(super) fn new(options: &HttpOptions, clock: Arc<StorageClock>, runtime: Runtime) -> Result<Self, ConnectError> {
        let mut builder = reqwest::Client::builder()
            .connect_timeout(options.connect_timeout)
            .read_timeout(options.read_timeout)
            .pool_max_idle_per_host(options.idle_connections)
            .pool_idle_timeout(options.idle_timeout)
            .tcp_keepalive(Duration::from_secs(30))
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never());
        for pem in &options.extra_roots {
            let root = reqwest::Certificate::from_pem(pem).map_err(|err| ConnectError::Certificate(describe(err)))?;
            builder = builder.tls_certs_merge([root]);
        }
        let client = builder.build().map_err(|err| ConnectError::Client(describe(err)))?;
        Ok(Self { client, clock, runtime, deadline: options.total_timeout })
    }

    async fn exchange(&self, request: &Request) -> azure_core::Result<AsyncRawResponse> {
        let mut outgoing = self.client.request(method(request.method())?, request.url().clone());
        for (name, value) in request.headers().iter() {
            outgoing = outgoing.header(name.as_str(), value.as_str());
        }
        // Whole bodies have a known length, so reqwest sends an exact Content-Length.
        outgoing = match request.body() {
            Body::Bytes(bytes) => outgoing.body(bytes.clone()),
            Body::SeekableStream(stream) => outgoing.body(reqwest::Body::wrap_stream(stream.clone())),
        };
        let mut reply = outgoing.send().await.map_err(failure)?;
        let arrived = self.runtime.instant();
        let status = reply.status().as_u16();
        let headers = take_headers(reply.headers());
        if let Some(date) = find_header(&headers, "date").and_then(parse_rfc1123) {
            self.clock.observe(date, arrived);
        }
        Ok(AsyncRawResponse::from_bytes(status.into(), headers, read(&mut reply).await?))
    }
}

/// A reply's body. Most come in one piece, which is not copied.
async fn read(reply: &mut reqwest::Response) -> azure_core::Result<Bytes> {
    let Some(first) = reply.chunk().await.map_err(failure)? else { return Ok(Bytes::new()) };
    let Some(second) = reply.chunk().await.map_err(failure)? else { return Ok(first) };
    let remaining = reply.content_length().unwrap_or(0).min(MAX_REPLY_BYTES as u64) as usize;
    let mut body = BytesMut::with_capacity(first.len() + second.len() + remaining);
    body.extend_from_slice(&first);
    body.extend_from_slice(&second);
    while let Some(chunk) = reply.chunk().await.map_err(failure)? {
        if body.len() + chunk.len() > MAX_REPLY_BYTES {
            let message = format!("the reply has over {MAX_REPLY_BYTES} bytes");
            return Err(azure_core::Error::with_message(CoreKind::Io, message));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.freeze())
}

/// A failed exchange, without its URL, whose query may be a SAS.
fn failure(err: reqwest::Error) -> azure_core::Error {
    let kind = if err.is_connect() { CoreKind::Connection } else { CoreKind::Io };
    azure_core::Error::with_message(kind, describe(err))
}

fn method(method: Method) -> azure_core::Result<reqwest::Method> {
    reqwest::Method::from_bytes(method.as_str().as_bytes())
        .map_err(|err| azure_core::Error::with_message(CoreKind::Other, err.to_string()))
}

/// Headers that are UTF-8. A continuation token may hold more than ASCII.
fn take_headers(map: &reqwest::header::HeaderMap) -> Headers {
    let mut headers = Headers::new();
    for (name, value) in map.iter() {
        if let Ok(value) = std::str::from_utf8(value.as_bytes()) {
            headers.insert(name.as_str().to_owned(), value.to_owned());
        }
    }
    headers
}

/// A reqwest error without its URL, whose query may be a SAS.
fn describe(err: reqwest::Error) -> String {
    super::error::chain(&err.without_url())
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transport").field("deadline", &self.deadline).finish_non_exhaustive()
    }
}

#[async_trait]
impl HttpClient for Transport {
    async fn execute_request(&self, request: &Request) -> azure_core::Result<AsyncRawResponse> {
        self.exchange(request).await
    }
}
