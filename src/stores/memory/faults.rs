//! What can go wrong with a request on its way: latency, a cut line, and faults by script or by rule.

use std::collections::VecDeque;
use std::fmt;
use std::num::NonZeroU16;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use crate::model::{PartitionKey, RowKey, TableName};
use crate::runtime::Runtime;
use crate::stores::{ErrorKind, Operation, StoreError};

/// What a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RequestKind {
    /// One row.
    Get,
    /// A page of rows.
    Query,
    /// A single write.
    Write,
    /// An entity group transaction.
    Transact,
    /// Creating a table.
    CreateTable,
    /// Deleting a table.
    DeleteTable,
    /// The names of the tables.
    ListTables,
    /// Creating the queue.
    CreateQueue,
    /// Sending a message.
    Send,
    /// Receiving messages.
    Receive,
    /// Deleting a message.
    DeleteMessage,
    /// Refreshing keys of a cache.
    Refresh,
    /// One key of a cache.
    GetCached,
}

impl RequestKind {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::Get,
        Self::Query,
        Self::Write,
        Self::Transact,
        Self::CreateTable,
        Self::DeleteTable,
        Self::ListTables,
        Self::CreateQueue,
        Self::Send,
        Self::Receive,
        Self::DeleteMessage,
        Self::Refresh,
        Self::GetCached,
    ];
}

/// A request as a rule sees it.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// What it asks for.
    pub kind: RequestKind,
    /// The table, where it names one.
    pub table: Option<&'a TableName>,
    /// The partition, where it is about one.
    pub partition: Option<&'a PartitionKey>,
    /// The row, where it is about one.
    pub row: Option<&'a RowKey>,
    /// What it writes; empty for what does not write rows.
    pub operations: &'a [Operation],
}

impl<'a> Request<'a> {
    /// A request that names nothing yet.
    pub fn new(kind: RequestKind) -> Self {
        Self { kind, table: None, partition: None, row: None, operations: &[] }
    }

    pub(super) fn of(kind: RequestKind, table: &'a TableName) -> Self {
        Self { table: Some(table), ..Self::new(kind) }
    }
}

/// What goes wrong with one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// It fails and nothing takes effect.
    Before(StoreError),
    /// It takes effect, and fails all the same: the outcome is unknown to the caller.
    After(StoreError),
    /// It takes so much longer on its way to the server.
    Delay(Duration),
    /// Its reply takes so much longer; what it says is as old.
    DelayReply(Duration),
    /// It is given up on at once, and a write takes effect so much later, on its conditions as they are then. At most
    /// 1,024 writes of an account are under way like this; what comes beyond is lost.
    Late(Duration),
    /// It takes effect and is answered, and a write takes effect once more so much later, on its conditions as they are
    /// then: a duplicate that the network, or a library's retry, has sent.
    Twice(Duration),
    /// It waits before it takes effect, until [`Faults::release`].
    Freeze,
}

impl Fault {
    /// 503 `ServerBusy`, before effect, asking to wait for so long.
    pub fn throttled(retry_after: Duration) -> Self {
        let busy = StoreError::answered(ErrorKind::Throttled, 503, "ServerBusy", "the server is busy");
        Self::Before(StoreError { retry_after: Some(retry_after), ..busy })
    }

    /// The request is lost: no reply and no effect.
    pub fn lost_request() -> Self {
        Self::Before(StoreError::new(ErrorKind::Unreachable, "the connection was reset"))
    }

    /// The reply is lost: the request took effect.
    pub fn lost_reply() -> Self {
        Self::After(StoreError::new(ErrorKind::Unreachable, "the connection was reset before the reply arrived"))
    }
}

type Rule = Arc<dyn Fn(&Request<'_>) -> Option<Fault> + Send + Sync>;

/// The handle to an account's faults. Clones share them; an account without faults answers at once.
#[derive(Clone, Default)]
pub struct Faults(Arc<Shared>);

#[derive(Default)]
struct Shared {
    settings: Mutex<Settings>,
    release: Notify,
    frozen: AtomicUsize,
    requests: [AtomicU64; RequestKind::ALL.len()],
}

#[derive(Default)]
struct Settings {
    latency: Duration,
    jitter: Duration,
    cut: bool,
    page_rows: Option<NonZeroU16>,
    script: VecDeque<(RequestKind, Fault)>,
    rule: Option<Rule>,
}

/// Most scripted faults that may wait for their requests.
const MAX_SCRIPT: usize = 10_000;

impl Faults {
    /// No faults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Every request takes `base` from asking to reply, plus an evenly drawn part of `jitter`; half of it on the way in.
    pub fn set_latency(&self, base: Duration, jitter: Duration) {
        let mut settings = self.settings();
        (settings.latency, settings.jitter) = (base, jitter);
    }

    /// Cuts the account off, or heals it. A request that has taken effect when the line is cut loses its reply.
    pub fn cut(&self, cut: bool) {
        self.settings().cut = cut;
    }

    /// Whether the account is cut off.
    pub fn is_cut(&self) -> bool {
        self.settings().cut
    }

    /// Pages of a query end after so many rows, as they do in Azure where a query crosses from one partition server to
    /// the next; the first page is empty and has a continuation, which Azure's documentation allows for as well.
    pub fn set_short_pages(&self, rows: Option<NonZeroU16>) {
        self.settings().page_rows = rows;
    }

    /// The next request of this kind meets `fault`; each further call is about the one after. Scripted faults come
    /// before the rule.
    ///
    /// # Panics
    /// Where 10,000 faults are waiting already.
    pub fn fail_next(&self, kind: RequestKind, fault: Fault) {
        let mut settings = self.settings();
        assert!(settings.script.len() < MAX_SCRIPT, "{MAX_SCRIPT} scripted faults are waiting already");
        settings.script.push_back((kind, fault));
    }

    /// Asks `rule` about every request from now on. It must not wait; it may use this handle.
    pub fn set_rule(&self, rule: impl Fn(&Request<'_>) -> Option<Fault> + Send + Sync + 'static) {
        self.settings().rule = Some(Arc::new(rule));
    }

    /// Forgets the rule and the scripted faults, heals the line and lets the frozen requests go. Latency stays.
    pub fn clear(&self) {
        let mut settings = self.settings();
        *settings = Settings { latency: settings.latency, jitter: settings.jitter, ..Settings::default() };
        drop(settings);
        self.release();
    }

    /// Lets all requests go that are frozen now.
    pub fn release(&self) {
        self.0.release.notify_waiters();
    }

    /// How many requests are frozen.
    pub fn frozen(&self) -> usize {
        self.0.frozen.load(Relaxed)
    }

    /// How many requests of this kind were sent, faulty ones included.
    pub fn requests(&self, kind: RequestKind) -> u64 {
        self.0.requests[kind as usize].load(Relaxed)
    }

    /// How many requests were sent.
    pub fn all_requests(&self) -> u64 {
        RequestKind::ALL.iter().map(|kind| self.requests(*kind)).sum()
    }

    pub(super) fn page_rows(&self) -> Option<NonZeroU16> {
        self.settings().page_rows
    }

    /// Counts a request and says how long it takes and what goes wrong with it.
    pub(super) fn meet(&self, request: &Request<'_>, runtime: &Runtime) -> (Duration, Option<Fault>) {
        self.0.requests[request.kind as usize].fetch_add(1, Relaxed);
        let mut settings = self.settings();
        let (latency, jitter) = (settings.latency, settings.jitter);
        let scripted = settings.script.iter().position(|(kind, _)| *kind == request.kind);
        let scripted = scripted.and_then(|at| settings.script.remove(at)).map(|(_, fault)| fault);
        let rule = settings.rule.clone();
        drop(settings);
        let latency = if jitter.is_zero() { latency } else { latency + runtime.jitter(jitter) };
        (latency, scripted.or_else(|| rule.and_then(|rule| rule(request))))
    }

    pub(super) async fn freeze(&self) {
        // First what a release wakes, then what says that there is something to release.
        let released = self.0.release.notified();
        let _counted = Frozen::new(&self.0.frozen);
        released.await;
    }

    fn settings(&self) -> MutexGuard<'_, Settings> {
        self.0.settings.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let settings = self.settings();
        f.debug_struct("Faults")
            .field("latency", &settings.latency)
            .field("jitter", &settings.jitter)
            .field("cut", &settings.cut)
            .field("scripted", &settings.script.len())
            .field("rule", &settings.rule.is_some())
            .finish_non_exhaustive()
    }
}

/// Counts a frozen request for as long as it is waited for.
struct Frozen<'a>(&'a AtomicUsize);

impl<'a> Frozen<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Relaxed);
        Self(count)
    }
}

impl Drop for Frozen<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}
