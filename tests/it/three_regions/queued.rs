//! A writer that has no use for the feed: it writes its rows first and sends the queue form afterwards, plain and in
//! base64 in turn.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use rand::RngExt;
use rand::rngs::StdRng;
use tablerelay::feed::encode_message;
use tablerelay::model::{Change, HybridClock, PartitionKey, RowId, RowKey, TableName, WriterId};
use tablerelay::runtime::Runtime;
use tablerelay::stores::{Condition, ErrorKind, Operation, Queue, StoreError};
use tokio::time::Instant;

use super::author::Author;
use super::book::Book;
use super::values::{properties, small};
use super::{MAX_CLOCK_SKEW, PATIENCE};

/// Writes `steps` times.
pub async fn write(author: &Author<'_>, steps: usize, mut random: StdRng) -> Book {
    let clock = HybridClock::new(author.site.region.clone(), WriterId(random.random()), MAX_CLOCK_SKEW);
    let queue = author.site.store.accounts()[0].queue.clone().expect("the account has a queue");
    let table = TableName::new("Queued").expect("a table");
    let mut queued = Queued { author, table, queue, clock, book: Book::default() };
    for step in 0..steps {
        queued.step(step, &mut random).await;
    }
    queued.book
}

struct Queued<'a> {
    author: &'a Author<'a>,
    table: TableName,
    queue: Arc<dyn Queue>,
    clock: HybridClock,
    book: Book,
}

impl Queued<'_> {
    async fn step(&mut self, step: usize, random: &mut StdRng) {
        let (partition, row) = (format!("{}'s \"queue\"", self.author.site.region), format!("<row> {}", step % 12));
        let id = RowId::new(self.table.clone(), PartitionKey::new(&*partition), RowKey::new(&*row));
        let now = Runtime::system().now();
        let version = self.clock.issue(now, None).expect("nothing is read, so nothing is ahead");
        let body = small(&partition, &row, &format!("step {step}"), random);
        let deletes = self.book.row(&id).is_some() && random.random_bool(0.4);
        let operation = match deletes {
            true => Operation::Delete {
                partition: id.partition.clone(),
                row: id.row.clone(),
                condition: Condition::Present,
            },
            false => Operation::InsertOrReplace(body.stamped(&version)),
        };
        let written = self.author.site.store.home().write(&self.table, &operation).await;
        let keys = |named: bool| if named { vec![id.row.clone()] } else { vec![] };
        let (table, partition) = (self.table.clone(), id.partition.clone());
        let change = Change { table, partition, puts: keys(!deletes), deletes: keys(deletes), version, base: None };
        let message = encode_message(&change);
        let text = if step.is_multiple_of(2) { message } else { BASE64.encode(message) };
        match (written, self.eventually_sent(&text).await) {
            (Ok(_), Ok(())) if deletes => self.book.delete(id),
            (Ok(_), Ok(())) => self.book.put(id, properties(&body)),
            (written, sent) => self.trouble(id, written.err().or(sent.err())),
        }
        self.book.acknowledged += 1;
    }

    /// A server that is restarted takes a message a little later. A row whose message is lost is promised nothing: the regions
    /// need not even agree on it.
    async fn eventually_sent(&self, text: &str) -> Result<(), StoreError> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.queue.send(text).await {
                Err(error) if error.kind == ErrorKind::Unreachable && Instant::now() < deadline => {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                sent => return sent,
            }
        }
    }

    /// A delete of a row that is not there is still a fact; all else leaves the row uncertain.
    fn trouble(&mut self, id: RowId, err: Option<StoreError>) {
        match err {
            Some(err) if err.kind == ErrorKind::NotFound => self.book.delete(id),
            err => {
                self.book.troubles.push(format!("{id}: {err:?}"));
                self.book.uncertain.insert(id);
            }
        }
    }
}
