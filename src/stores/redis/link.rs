//! The connection: opened when it is needed, thrown away when it is lost.

use std::io;
use std::time::Duration;

use futures::{StreamExt, stream};
use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::cluster::ClusterClient;
use redis::cluster_async::ClusterConnection;
use redis::io::tcp::TcpSettings;
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionInfo, Pipeline, RedisError, RedisResult, TlsCertificates, Value,
};
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::credential::TokenProvider;
use super::failure::is_lost;
use super::{RedisTarget, TargetError};
use crate::runtime::Runtime;
use crate::stores::tls;

/// Most commands of one request that are under way in a cluster.
const IN_FLIGHT: usize = 128;
/// How often a cluster sends a command again that a node refused for the moment or has moved.
const CLUSTER_RETRIES: u32 = 4;
/// Longest wait between two of these.
const CLUSTER_RETRY_WAIT: Duration = Duration::from_millis(250);

/// What became of the commands of a request: a result for each, in order.
pub(super) type Results = Vec<RedisResult<Value>>;

/// One connection to Redis, or to a cluster. Requests share it.
pub(super) struct Link {
    opener: Opener,
    connect_timeout: Duration,
    response_timeout: Duration,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Which connection it is, so that several requests that lose it replace it once.
    number: u64,
    connection: Option<Connection>,
    /// Whether a request found it lost. A cluster's connection is meant to mend itself, but may wait for itself for ever
    /// when a node goes while others redirect to it (seen with redis 1.8.1); so it is replaced as well.
    doubtful: bool,
}

#[derive(Clone)]
enum Connection {
    Single(MultiplexedConnection),
    Cluster(ClusterConnection),
}

enum Opener {
    Single(Box<Client>, Box<AsyncConnectionConfig>),
    Cluster(Box<ClusterClient>),
}

/// A request that failed as a whole.
struct Failed {
    error: RedisError,
    /// Whether the connection had been used before, so that another one may do better.
    stale: bool,
}

impl Link {
    /// Prepares a connection; nothing is sent yet.
    pub(super) fn new(target: &RedisTarget, runtime: &Runtime) -> Result<Self, TargetError> {
        target.check()?;
        if target.url.is_tls() {
            tls::install_provider();
        }
        let provider = target.credential.clone().map(|credential| TokenProvider::new(credential, runtime.clone()));
        let opener = if target.cluster { cluster(target, provider)? } else { single(target, provider)? };
        let (connect_timeout, response_timeout) = (target.connect_timeout, target.response_timeout);
        Ok(Self { opener, connect_timeout, response_timeout, state: Mutex::default() })
    }

    /// Sends commands, each of which must be such that it may be sent twice.
    ///
    /// A connection that was idle may have been lost since: where one that was there already fails, another is tried.
    pub(super) async fn send(&self, commands: &Pipeline) -> RedisResult<Results> {
        let results = match self.attempt(commands).await {
            Err(Failed { stale: true, .. }) => self.attempt(commands).await,
            results => results,
        };
        results.map_err(|failed| failed.error)
    }

    async fn attempt(&self, commands: &Pipeline) -> Result<Results, Failed> {
        let fresh = |error| Failed { error, stale: false };
        let opened = timeout(self.connect_timeout, self.connection()).await;
        let (connection, number, stale) = opened.unwrap_or_else(|_| Err(timed_out("connect"))).map_err(fresh)?;
        let sent = timeout(self.response_timeout, connection.send(commands)).await;
        let sent = sent.unwrap_or_else(|_| Err(timed_out("answer")));
        let lost = match &sent {
            Err(error) => Some(error),
            Ok(results) => results.iter().filter_map(|result| result.as_ref().err()).find(|error| is_lost(error)),
        };
        if let Some(error) = lost {
            let failed = Failed { error: error.clone(), stale };
            self.doubt(number).await;
            return Err(failed);
        }
        sent.map_err(fresh)
    }

    /// The connection, which one it is, and whether it was there already.
    async fn connection(&self) -> RedisResult<(Connection, u64, bool)> {
        let mut state = self.state.lock().await;
        let opened = match (&state.connection, state.doubtful) {
            (Some(connection), false) => return Ok((connection.clone(), state.number, true)),
            _ => self.opener.open().await,
        };
        let connection = match (opened, &state.connection) {
            (Ok(connection), _) => connection,
            // It may still know nodes of its cluster that answer, where the one that is configured does not.
            (Err(_), Some(connection @ Connection::Cluster(_))) => return Ok((connection.clone(), state.number, true)),
            (Err(error), _) => return Err(error),
        };
        *state = State { number: state.number + 1, connection: Some(connection.clone()), doubtful: false };
        Ok((connection, state.number, false))
    }

    async fn doubt(&self, number: u64) {
        let mut state = self.state.lock().await;
        state.doubtful |= state.number == number;
    }
}

impl Opener {
    async fn open(&self) -> RedisResult<Connection> {
        match self {
            Self::Single(client, config) => {
                client.get_multiplexed_async_connection_with_config(config).await.map(Connection::Single)
            }
            Self::Cluster(client) => client.get_async_connection().await.map(Connection::Cluster),
        }
    }
}

impl Connection {
    async fn send(&self, commands: &Pipeline) -> RedisResult<Results> {
        match self {
            Self::Single(connection) => commands.query_async(&mut connection.clone()).await,
            // Each command finds its node by its key, and follows it where it moves. Those of one node share a
            // connection to it, which makes a pipeline of them.
            Self::Cluster(connection) => {
                let sends: Vec<_> = commands.cmd_iter().map(|command| send_one(connection.clone(), command)).collect();
                Ok(stream::iter(sends).buffered(IN_FLIGHT).collect().await)
            }
        }
    }
}

async fn send_one(mut connection: ClusterConnection, command: &Cmd) -> RedisResult<Value> {
    connection.req_packed_command(command).await.and_then(Value::extract_error)
}

fn timed_out(what: &str) -> RedisError {
    io::Error::new(io::ErrorKind::TimedOut, format!("it took too long to {what}")).into()
}

fn info(target: &RedisTarget) -> ConnectionInfo {
    target.url.info().clone().set_tcp_settings(TcpSettings::default().set_nodelay(true))
}

fn certificates(target: &RedisTarget) -> Option<TlsCertificates> {
    let root_cert = Some(target.root_certificates.clone()?);
    Some(TlsCertificates { client_tls: None, root_cert })
}

fn single(target: &RedisTarget, provider: Option<TokenProvider>) -> Result<Opener, TargetError> {
    let client = match certificates(target) {
        Some(certificates) => Client::build_with_tls(info(target), certificates),
        None => Client::open(info(target)),
    };
    let client = client.map_err(|err| TargetError::Certificates(err.to_string()))?;
    let mut config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(target.connect_timeout))
        .set_response_timeout(Some(target.response_timeout));
    if let Some(provider) = provider {
        config = config.set_credentials_provider(provider);
    }
    Ok(Opener::Single(Box::new(client), Box::new(config)))
}

fn cluster(target: &RedisTarget, provider: Option<TokenProvider>) -> Result<Opener, TargetError> {
    let mut builder = ClusterClient::builder([info(target)])
        .connection_timeout(target.connect_timeout)
        .response_timeout(target.response_timeout)
        .retries(CLUSTER_RETRIES)
        .max_retry_wait(CLUSTER_RETRY_WAIT.as_millis() as u64)
        .tcp_settings(TcpSettings::default().set_nodelay(true));
    if let Some(certificates) = certificates(target) {
        builder = builder.certs(certificates);
    }
    if let Some(provider) = provider {
        builder = builder.set_credentials_provider(provider);
    }
    let client = builder.build().map_err(|err| TargetError::Certificates(err.to_string()))?;
    Ok(Opener::Cluster(Box::new(client)))
}
