//! The listener: accounts by their names in the path, as an emulator has them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{ConnectInfo, Request, State};
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use tokio::net::TcpListener;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::admission::{Admission, date};
use super::answer::{Unanswered, answer};
use super::connection::{Connections, Cut};
use super::context::Context;
use super::failure::{self, not_admitted};
use super::options::header;
use super::reply::Reply;
use super::request::Incoming;
use crate::runtime::Runtime;
use crate::stores::{ErrorKind, StoreError, Tables};

/// Most bytes of a body: a transaction of 4 MiB whose text is written in ASCII throughout, as emulators are sent it (a
/// character of two bytes takes six then), and its envelope. What Azure allows is for the store to say.
const MAX_BODY: usize = 3 * 4 * 1024 * 1024 + 512 * 1024;
/// How long a body may take to arrive.
const ARRIVAL: Duration = Duration::from_secs(30);
/// How long a store may take to answer. Clients give up long before.
const ANSWER: Duration = Duration::from_secs(300);
/// How long requests under way may take to end once the server is ending.
const GRACE: Duration = Duration::from_secs(2);

/// A server that cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// Its address cannot be had.
    #[error("{address} cannot be listened on: {error}; choose another address, or stop what holds it")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why not.
        error: std::io::Error,
    },
}

/// An account as it is served.
#[derive(Debug, Clone)]
pub struct Served {
    /// What answers.
    pub tables: Arc<dyn Tables>,
    /// Whom it lets in.
    pub admission: Admission,
}

/// A listener for the accounts of a store.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    accounts: BTreeMap<String, Served>,
    runtime: Runtime,
}

struct Shared {
    accounts: BTreeMap<String, Served>,
    runtime: Runtime,
}

impl Server {
    /// Listens on an address, with port 0 on one that the system chooses, for accounts by their names.
    ///
    /// # Errors
    /// [`ServerError::Listen`].
    pub async fn bind(
        address: SocketAddr,
        accounts: BTreeMap<String, Served>,
        runtime: Runtime,
    ) -> Result<Self, ServerError> {
        let listen = |error| ServerError::Listen { address, error };
        let listener = TcpListener::bind(address).await.map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;
        Ok(Self { listener, address, accounts, runtime })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers requests until it is stopped; what `more` has routes for is not for an account.
    ///
    /// # Errors
    /// Where the listener fails.
    pub async fn run(self, more: Router, stop: CancellationToken) -> std::io::Result<()> {
        let shared = Arc::new(Shared { accounts: self.accounts, runtime: self.runtime });
        let router = Router::new().fallback(handle).with_state(shared).merge(more);
        let service = router.into_make_service_with_connect_info::<Cut>();
        let asked = stop.clone();
        let server = axum::serve(Connections::new(self.listener), service)
            .with_graceful_shutdown(async move { asked.cancelled().await });
        tokio::select! {
            biased;
            result = server.into_future() => result,
            // Who holds a connection open does not hold up the end.
            () = async { stop.cancelled().await; tokio::time::sleep(GRACE).await } => Ok(()),
        }
    }
}

async fn handle(State(shared): State<Arc<Shared>>, ConnectInfo(cut): ConnectInfo<Cut>, request: Request) -> Response {
    let client_id = request.headers().get("x-ms-client-request-id").cloned();
    let (low, high) = (shared.runtime.random(), shared.runtime.random());
    let id = uuid::Uuid::from_u64_pair(high, low).to_string();
    let reply = match timeout(ANSWER, shared.reply(request, &id)).await {
        Ok(Ok(reply)) => reply,
        // There is nothing true to reply, so nothing is: the client finds its connection closed.
        Ok(Err(Unanswered(error))) => {
            debug!(request = id, %error, "the connection is cut");
            cut.now();
            return Response::default();
        }
        Err(_) => {
            debug!(request = id, "the store took too long; the connection is cut");
            cut.now();
            return Response::default();
        }
    };
    let mut response = Response::new(Body::from(reply.body));
    *response.status_mut() = http::StatusCode::from_u16(reply.status).unwrap_or_default();
    let headers = response.headers_mut();
    for (name, value) in reply.headers {
        put(headers, name, &value);
    }
    for (name, value) in [
        ("Date", &*date(shared.runtime.now())),
        ("x-ms-request-id", &id),
        ("x-ms-version", VERSION),
        ("Cache-Control", "no-cache"),
        ("X-Content-Type-Options", "nosniff"),
        ("Server", concat!("tablerelay/", env!("CARGO_PKG_VERSION"))),
    ] {
        put(headers, name, value);
    }
    if let Some(id) = client_id {
        headers.insert("x-ms-client-request-id", id);
    }
    response
}

/// The version of the REST API that is spoken.
const VERSION: &str = "2020-12-06";

/// A continuation may hold more than ASCII, which a header can carry all the same.
fn put(headers: &mut HeaderMap, name: &'static str, value: &str) {
    if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::from_bytes(value.as_bytes())) {
        headers.insert(name, value);
    }
}

impl Shared {
    async fn reply(&self, request: Request, id: &str) -> Result<Reply, Unanswered> {
        let (parts, body) = request.into_parts();
        let host = header(&parts.headers, "host").unwrap_or("localhost");
        let path = parts.uri.path().to_owned();
        let account = path.trim_start_matches('/').split('/').next().unwrap_or_default();
        let root = format!("/{account}");
        let context = Context {
            base: format!("http://{host}{root}"),
            account: account.to_owned(),
            root,
            request_id: id.to_owned(),
            now: self.runtime.now(),
        };
        let refused = |error: &StoreError| {
            let status = failure::status(error).unwrap_or(500);
            Ok(Reply::error(status, error, None, &context))
        };
        let Some(served) = self.accounts.get(account) else {
            return refused(&not_admitted("there is no such account"));
        };
        let mut incoming = Incoming {
            method: parts.method,
            path: path.strip_prefix(&context.root).unwrap_or_default().to_owned(),
            query: parts.uri.query().unwrap_or_default().to_owned(),
            headers: parts.headers,
            body: Bytes::new(),
        };
        // Before the body is read: whoever is not let in need not be listened to. It is read all the same, up to its
        // bound, or the client would find its connection closed and not hear why.
        let admitted = served.admission.admit(&incoming, &path, context.now);
        incoming.body = match timeout(ARRIVAL, to_bytes(body, MAX_BODY)).await {
            Ok(Ok(bytes)) => bytes,
            Ok(Err(error)) => {
                let message =
                    format!("The request body is too large and exceeds the maximum permissible limit: {error}.");
                return refused(&StoreError::answered(ErrorKind::Invalid, 413, "RequestBodyTooLarge", message));
            }
            Err(_) => {
                let message = format!("no whole body within {ARRIVAL:?}");
                return Err(Unanswered(StoreError::new(ErrorKind::Unreachable, message)));
            }
        };
        match admitted {
            Ok(()) => answer(&*served.tables, &incoming, &context).await,
            Err(error) => refused(&error),
        }
    }
}
