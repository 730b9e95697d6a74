//! Real Azurite, the emulator of Azure Storage, as a child process.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use tablerelay::model::TableName;
use tempfile::TempDir;

use super::process::Process;

/// How many accounts an instance has: each test takes a fresh one.
const ACCOUNTS: usize = 200;

/// An Azurite on free ports. It ends when it is dropped.
pub struct Azurite {
    process: Mutex<Process>,
    tables: u16,
    queue: u16,
    taken: AtomicUsize,
    tls: Option<Tls>,
    /// Where it keeps its data, if not in memory.
    disk: Option<TempDir>,
    /// More arguments.
    more: Vec<String>,
    /// Whether it says a line for each request.
    telling: bool,
}

struct Tls {
    certificate: String,
    /// Holds the files for as long as Azurite may read them.
    _files: TempDir,
}

/// One account of an [`Azurite`].
pub struct TestAccount {
    pub name: String,
    pub key: Vec<u8>,
    pub table_endpoint: String,
    pub queue_endpoint: String,
}

impl TestAccount {
    /// A connection string with the account's key.
    pub fn connection_string(&self) -> String {
        format!(
            "DefaultEndpointsProtocol=http;AccountName={};AccountKey={};TableEndpoint={};QueueEndpoint={};",
            self.name,
            BASE64.encode(&self.key),
            self.table_endpoint,
            self.queue_endpoint
        )
    }
}

/// Where Azurite is: `TABLERELAY_AZURITE`, else what `npm ci` put into the repository.
fn program() -> PathBuf {
    let program = std::env::var_os("TABLERELAY_AZURITE")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("node_modules/.bin/azurite"), PathBuf::from);
    assert!(
        program.exists(),
        "Azurite is not installed at {}: run ./test, which installs it, or set TABLERELAY_AZURITE to its path",
        program.display()
    );
    program
}

impl Azurite {
    /// Starts one over plain HTTP, with its data in memory.
    pub fn start() -> Self {
        Self::launch(vec![], None, None, false)
    }

    /// Starts one whose data outlive it: see [`start_again`](Self::start_again).
    pub fn start_on_disk() -> Self {
        Self::launch(vec![], None, Some(TempDir::new().expect("a temporary directory")), false)
    }

    /// The same, and every request to it is told: see [`reads_of_whole`](Self::reads_of_whole).
    pub fn start_on_disk_and_tell() -> Self {
        Self::launch(vec![], None, Some(TempDir::new().expect("a temporary directory")), true)
    }

    /// The queries of a table that were not about one partition, since it was last asked or resumed; and how many requests were
    /// about the table at all.
    pub fn reads_of_whole(&self, table: &TableName) -> (Vec<String>, usize) {
        assert!(self.telling, "it does not tell");
        let said = self.process().said();
        let about = |line: &String| line.contains(&format!("/{table}")) && line.contains(" HTTP/1.1\"");
        let about: Vec<String> = said.into_iter().filter(about).collect();
        let whole = |line: &&String| line.contains("\"GET ") && !line.contains("PartitionKey");
        (about.iter().filter(whole).cloned().collect(), about.len())
    }

    /// Ends it as a machine does that is restarted for an update, and starts it on the same ports with the same data. (Killed
    /// it would forget what it acknowledged in the last seconds, which a storage account never does.)
    pub fn start_again(&self) {
        self.stop();
        self.resume();
    }

    /// Ends it like that. Nobody listens on its ports until [`resume`](Self::resume).
    pub fn stop(&self) {
        assert!(self.disk.is_some(), "its data would be lost");
        self.process().terminate();
    }

    /// Starts it on the same ports with the same data, after [`stop`](Self::stop).
    pub fn resume(&self) {
        let ports = [self.queue, self.tables];
        (*self.process(), ..) = spawn(ports, &self.more, self.disk.as_ref(), self.telling);
    }

    fn process(&self) -> MutexGuard<'_, Process> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts one over HTTPS that takes bearer tokens. See [`Azurite::certificate`].
    pub fn start_with_oauth() -> Self {
        let files = TempDir::new().expect("a temporary directory");
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()])
            .expect("a certificate can be made");
        let (cert, key) = (files.path().join("cert.pem"), files.path().join("key.pem"));
        std::fs::write(&cert, made.cert.pem()).expect("the certificate is written");
        std::fs::write(&key, made.signing_key.serialize_pem()).expect("the key is written");
        let path = |path: &Path| path.to_str().expect("a UTF-8 path").to_owned();
        let arguments = ["--oauth", "basic", "--cert", &path(&cert), "--key", &path(&key)].map(str::to_owned);
        Self::launch(arguments.into(), Some(Tls { certificate: made.cert.pem(), _files: files }), None, false)
    }

    /// The one that tests of this process share.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Azurite> = OnceLock::new();
        SHARED.get_or_init(Self::start)
    }

    fn launch(more: Vec<String>, tls: Option<Tls>, disk: Option<TempDir>, telling: bool) -> Self {
        // Port 0: the system chooses, and Azurite says what it got.
        let (process, queue, tables) = spawn([0, 0], &more, disk.as_ref(), telling);
        Self { process: Mutex::new(process), tables, queue, taken: AtomicUsize::new(0), tls, disk, more, telling }
    }

    /// It stops answering, and keeps its connections, until [`thaw`](Self::thaw).
    pub fn freeze(&self) {
        self.process().signal("STOP");
    }

    /// It goes on where it stood.
    pub fn thaw(&self) {
        self.process().signal("CONT");
    }

    /// An account that nobody else in this instance uses.
    pub fn account(&self) -> TestAccount {
        let index = self.taken.fetch_add(1, Ordering::Relaxed);
        assert!(index < ACCOUNTS, "all {ACCOUNTS} accounts of this Azurite are taken");
        let (scheme, name) = (if self.tls.is_some() { "https" } else { "http" }, name(index));
        let endpoint = |port: u16| format!("{scheme}://127.0.0.1:{port}/{name}");
        TestAccount {
            table_endpoint: endpoint(self.tables),
            queue_endpoint: endpoint(self.queue),
            key: key(index),
            name,
        }
    }

    /// The certificate to trust, as PEM, of one that speaks HTTPS.
    pub fn certificate(&self) -> &str {
        &self.tls.as_ref().expect("this Azurite speaks plain HTTP").certificate
    }
}

/// Starts the program on these ports for queues and tables; returns it and the ports that it has.
fn spawn([queue, tables]: [u16; 2], more: &[String], disk: Option<&TempDir>, telling: bool) -> (Process, u16, u16) {
    let (queue, tables) = (queue.to_string(), tables.to_string());
    let mut arguments = vec!["--blobPort", "0", "--queuePort", &queue, "--tablePort", &tables];
    arguments.push("--disableTelemetry");
    if !telling {
        arguments.push("--silent");
    }
    match disk {
        Some(disk) => arguments.extend(["--location", disk.path().to_str().expect("a UTF-8 path")]),
        None => arguments.push("--inMemoryPersistence"),
    }
    // Its default of 5 s cuts connections that a test has let rest.
    arguments.extend(["--tableKeepAliveTimeout", "300", "--queueKeepAliveTimeout", "300"]);
    arguments.extend(more.iter().map(String::as_str));
    let accounts: Vec<String> = (0..ACCOUNTS).map(|i| format!("{}:{}", name(i), BASE64.encode(key(i)))).collect();
    let environment = [("AZURITE_ACCOUNTS", accounts.join(";"))];
    let environment = environment.each_ref().map(|(name, value)| (*name, value.as_str()));
    let process = Process::start(&program(), &arguments, &environment, &std::env::temp_dir());
    let port = |service: &str| {
        let says = format!("Azurite {service} service is successfully listening at ");
        process.wait_for(&says, |line| line.strip_prefix(&says)?.rsplit(':').next()?.trim().parse().ok())
    };
    let (queue, tables) = (port("Queue"), port("Table"));
    (process, queue, tables)
}

fn name(index: usize) -> String {
    format!("account{index:03}")
}

fn key(index: usize) -> Vec<u8> {
    format!("the key of account {index:03}, which opens nothing but a test").into_bytes()
}
