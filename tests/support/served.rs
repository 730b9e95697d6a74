//! The memory store as a server, within the test.

use std::sync::Arc;

use tablerelay::model::Time;
use tablerelay::rest::memory::{MemoryAccount, MemoryServer};
use tablerelay::runtime::Runtime;
use tablerelay::stores::memory::{Faults, MemoryTables};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// A server with one account. It ends when it is dropped.
pub struct ServedStore {
    /// What a client is given.
    pub connection_string: String,
    /// Where its faults are asked for over HTTP.
    pub control: String,
    /// The store behind it.
    pub store: Arc<MemoryTables>,
    _tasks: JoinSet<()>,
}

const KEY: &[u8] = b"the key of an account in memory, which opens nothing but a test";

impl ServedStore {
    /// Starts one.
    pub async fn start() -> Self {
        Self::with_clock(Runtime::system()).await
    }

    /// Starts one whose clock is wrong by so much.
    pub async fn skewed(seconds: i64) -> Self {
        Self::with_clock(Runtime::system().skewed(seconds * Time::TICKS_PER_SECOND)).await
    }

    async fn with_clock(runtime: Runtime) -> Self {
        let account = MemoryAccount::new("acct1", KEY).expect("a name and a key");
        let address = "127.0.0.1:0".parse().expect("an address");
        let server = MemoryServer::bind(address, [account], runtime).await.expect("loopback has free ports");
        let connection_string = server.connection_string("acct1").expect("the account is there");
        let store = server.store("acct1").expect("the account is there").clone();
        let address = server.address();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { server.run(CancellationToken::new()).await.expect("the listener works") });
        Self { connection_string, control: format!("http://{address}/_control/acct1"), store, _tasks: tasks }
    }

    /// The handle to what goes wrong.
    pub fn faults(&self) -> Faults {
        self.store.faults()
    }
}
