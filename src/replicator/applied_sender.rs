//! Writing the applied log of a destination, in bulk.

use tokio::sync::{mpsc, oneshot};

use super::tasks::{LineTask, Spawner};
use crate::feed::encode_arrivals;
use crate::model::{Region, RowBody, RowId, SystemTable, Time, Version, WriterId};
use crate::runtime::Runtime;
use crate::stores::limits::{MAX_OPERATIONS, MAX_TRANSACTION_BYTES};
use crate::stores::{ErrorKind, Operation, RegionStore, StoreError};

/// Batches that may wait for the one request under way: one per lane of sixteen shards and four accounts.
const WAITING: usize = 64;
/// Batches that one request takes along.
const TOGETHER: usize = 64;

struct Batch {
    rows: Vec<(RowId, Version)>,
    reply: oneshot::Sender<Result<(), StoreError>>,
}

/// Tells a destination which rows came in. Batches that arrive while a write is under way share the next one, as in a
/// group commit: the busier it is, the fewer requests a row costs.
#[derive(Debug, Clone)]
pub(super) struct AppliedSender(mpsc::Sender<Batch>);

impl AppliedSender {
    pub fn start(source: Region, store: RegionStore, writer: WriterId, runtime: Runtime, tasks: &Spawner) -> Self {
        let (sender, receiver) = mpsc::channel(WAITING);
        let log = Log { source, store, writer, runtime, last: Time::EPOCH };
        let on = format!("the log of {}", log.store.region());
        let stop = tasks.stop.clone();
        tasks.spawn(LineTask::AppliedSender, on, async move {
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                () = log.run(receiver) => {}
            }
        });
        Self(sender)
    }

    /// Returns once the rows are in the log, at the versions that came in. The rows may be told more than once.
    pub async fn append(&self, rows: Vec<(RowId, Version)>) -> Result<(), StoreError> {
        let gone = || StoreError::new(ErrorKind::Unreachable, "the applied log's task is stopping");
        let (reply, answer) = oneshot::channel();
        self.0.send(Batch { rows, reply }).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}

struct Log {
    source: Region,
    store: RegionStore,
    writer: WriterId,
    runtime: Runtime,
    last: Time,
}

impl Log {
    async fn run(mut self, mut receiver: mpsc::Receiver<Batch>) {
        let mut batches = Vec::new();
        while receiver.recv_many(&mut batches, TOGETHER).await > 0 {
            let mut rows: Vec<(RowId, Version)> = batches.iter().flat_map(|batch| batch.rows.iter().cloned()).collect();
            rows.sort();
            rows.dedup();
            let result = self.write(&rows).await;
            for batch in batches.drain(..) {
                // A lane that has stopped waiting is being shut down; its rows are told again after the restart.
                let _ = batch.reply.send(result.clone());
            }
        }
    }

    async fn write(&mut self, rows: &[(RowId, Version)]) -> Result<(), StoreError> {
        let home = self.store.home();
        let now = home.clock().at(self.runtime.instant()).unwrap_or_else(|| self.runtime.now());
        self.last = now.max(self.last.next());
        let bodies = encode_arrivals(&self.source, self.last, self.writer, 0, rows);
        for chunk in transactions(bodies) {
            let table = SystemTable::Applied.name();
            let partition = chunk[0].partition().clone();
            let written = match chunk.as_slice() {
                [one] => home.write(&table, one).await.map(drop),
                many => home.transact(&table, &partition, many).await.map(drop).map_err(|failure| failure.error),
            };
            written?;
        }
        Ok(())
    }
}

fn transactions(bodies: Vec<RowBody>) -> Vec<Vec<Operation>> {
    let (mut chunks, mut bytes) = (vec![Vec::new()], 0);
    for body in bodies {
        let size = crate::stores::limits::operation_bytes(&Operation::Insert(body.clone()));
        let last = chunks.len() - 1;
        if !chunks[last].is_empty()
            && (chunks[last].len() >= MAX_OPERATIONS || bytes + size >= MAX_TRANSACTION_BYTES / 2)
        {
            chunks.push(Vec::new());
            bytes = 0;
        }
        bytes += size;
        if let Some(chunk) = chunks.last_mut() {
            chunk.push(Operation::Insert(body));
        }
    }
    chunks.retain(|chunk| !chunk.is_empty());
    chunks
}
