//! Real Redis servers: alone, with TLS, as a cluster.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, FromRedisValue};
use tempfile::TempDir;

use super::process::Process;
use super::{eventually, ports};

/// How a server is to be started.
#[derive(Default)]
pub struct Options {
    /// What goes behind `redis-server`: `["--maxmemory", "2mb"]`.
    pub arguments: Vec<String>,
    /// Environment variables.
    pub environment: Vec<(String, String)>,
    /// The default user's password.
    pub password: Option<String>,
    /// Whether there is a TLS port as well.
    pub tls: bool,
}

/// A redis-server of the test's own, which keeps nothing on disk. It ends when it is dropped.
pub struct Redis {
    process: Mutex<Option<Process>>,
    port: u16,
    tls: Option<Tls>,
    options: Options,
    directory: TempDir,
}

struct Tls {
    port: u16,
    authority: String,
}

/// Where a program of Redis is: beside `TABLERELAY_REDIS_SERVER`, else on the path.
fn program(name: &str) -> PathBuf {
    let chosen = std::env::var_os("TABLERELAY_REDIS_SERVER").map(|server| Path::new(&server).with_file_name(name));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = chosen.into_iter().chain(std::env::split_paths(&path).map(|folder| folder.join(name)));
    found.into_iter().find(|program| program.is_file()).unwrap_or_else(|| {
        panic!("{name} is not installed: run ./test, which installs it, or set TABLERELAY_REDIS_SERVER to its path")
    })
}

impl Redis {
    /// A server without a password.
    pub fn start() -> Self {
        Self::with(Options::default())
    }

    /// A server of a certain kind.
    pub fn with(options: Options) -> Self {
        let directory = tempfile::tempdir().expect("there is room for temporary files");
        let tls = options.tls.then(|| Tls { port: ports::free(), authority: certificate(directory.path()) });
        let redis = Self { process: Mutex::default(), port: ports::free(), tls, options, directory };
        redis.start_again();
        redis
    }

    /// Stops it, where it runs, and starts it on the same ports, empty but for what its options have it keep on disk.
    pub fn start_again(&self) {
        self.stop();
        let arguments = self.arguments();
        let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
        let environment: Vec<_> = self.options.environment.iter().map(|(name, value)| (&**name, &**value)).collect();
        let process = Process::start(&program("redis-server"), &arguments, &environment, self.directory.path());
        let ready = |line: &str| line.contains("Ready to accept connections").then_some(());
        process.wait_for("readiness", ready);
        *self.process() = Some(process);
    }

    /// It stops answering, and keeps its connections, until [`thaw`](Self::thaw).
    pub fn freeze(&self) {
        self.signal("STOP");
    }

    /// It goes on where it stood.
    pub fn thaw(&self) {
        self.signal("CONT");
    }

    fn signal(&self, name: &str) {
        self.process().as_ref().expect("it runs").signal(name);
    }

    /// Stops it. What it held is gone.
    pub fn stop(&self) {
        drop(self.process().take());
    }

    fn process(&self) -> MutexGuard<'_, Option<Process>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where it is, without TLS, with its password.
    pub fn url(&self) -> String {
        match &self.options.password {
            Some(password) => format!("redis://:{password}@127.0.0.1:{}/0", self.port),
            None => format!("redis://127.0.0.1:{}/0", self.port),
        }
    }

    /// Its port without TLS.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where it is with TLS.
    pub fn tls_url(&self) -> String {
        format!("rediss://localhost:{}/0", self.tls().port)
    }

    /// PEM of the authority that issued its certificate.
    pub fn authority(&self) -> Vec<u8> {
        self.tls().authority.clone().into_bytes()
    }

    fn tls(&self) -> &Tls {
        self.tls.as_ref().expect("it was started with TLS")
    }

    /// Sends a command past the adapter, over a connection of its own.
    pub async fn command<T: FromRedisValue>(&self, words: &[&str]) -> T {
        let mut connection = connect(&self.url()).await.expect("the server runs");
        let mut command = redis::Cmd::new();
        words.iter().for_each(|word| {
            command.arg(word);
        });
        command.query_async(&mut connection).await.unwrap_or_else(|err| panic!("{words:?}: {err}"))
    }

    fn arguments(&self) -> Vec<String> {
        let port = self.port.to_string();
        let mut words =
            ["--port", &port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"].map(str::to_owned).to_vec();
        let mut add = |option: &str, value: &str| words.extend([option.to_owned(), value.to_owned()]);
        if let Some(tls) = &self.tls {
            add("--tls-port", &tls.port.to_string());
            add("--tls-auth-clients", "no");
            add("--tls-cert-file", "server.pem");
            add("--tls-key-file", "server.key");
            add("--tls-ca-cert-file", "ca.pem");
        }
        if let Some(password) = &self.options.password {
            add("--requirepass", password);
        }
        words.extend(self.options.arguments.iter().cloned());
        words
    }
}

/// A cluster of three primaries without replicas.
pub struct Cluster {
    /// Its nodes.
    pub nodes: Vec<Redis>,
}

impl Cluster {
    /// Three servers that share the 16,384 slots.
    pub async fn start() -> Self {
        let mut nodes = Vec::new();
        for _ in 0..3 {
            let bus = ports::free().to_string();
            let arguments = ["--cluster-enabled", "yes", "--cluster-port", &bus, "--cluster-node-timeout", "2000"];
            let arguments = arguments.map(str::to_owned).to_vec();
            nodes.push(Redis::with(Options { arguments, ..Options::default() }));
        }
        let mut create = Command::new(program("redis-cli"));
        create.args(["--cluster", "create"]);
        create.args(nodes.iter().map(|node| format!("127.0.0.1:{}", node.port)));
        create.args(["--cluster-replicas", "0", "--cluster-yes"]);
        let created = create.output().expect("redis-cli runs");
        assert!(created.status.success(), "redis-cli: {}", String::from_utf8_lossy(&created.stdout));
        let cluster = Self { nodes };
        cluster.ready().await;
        cluster
    }

    /// Waits until every node agrees that all slots are served.
    pub async fn ready(&self) {
        for node in &self.nodes {
            eventually("the cluster is complete", || async {
                let info: String = node.command(&["CLUSTER", "INFO"]).await;
                info.contains("cluster_state:ok")
            })
            .await;
        }
    }
}

pub async fn connect(url: &str) -> redis::RedisResult<MultiplexedConnection> {
    let config = AsyncConnectionConfig::new().set_response_timeout(Some(Duration::from_secs(10)));
    let mut connection = Client::open(url)?.get_multiplexed_async_connection_with_config(&config).await?;
    redis::cmd("PING").exec_async(&mut connection).await?;
    Ok(connection)
}

/// Writes an authority and a certificate for localhost, and returns the authority's PEM.
fn certificate(directory: &Path) -> String {
    let key = || rcgen::KeyPair::generate().expect("a key can be made");
    let mut authority = rcgen::CertificateParams::default();
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let authority_key = key();
    let authority_pem = authority.self_signed(&authority_key).expect("an authority signs itself").pem();
    let issuer = rcgen::Issuer::new(authority, authority_key);
    let server_key = key();
    let server = rcgen::CertificateParams::new(["localhost".to_owned()]).expect("localhost is a name");
    let server = server.signed_by(&server_key, &issuer).expect("the authority signs");
    for (file, text) in
        [("ca.pem", &authority_pem), ("server.pem", &server.pem()), ("server.key", &server_key.serialize_pem())]
    {
        std::fs::write(directory.join(file), text).expect("the directory can be written to");
    }
    authority_pem
}
