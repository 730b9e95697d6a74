//! Rows that one region alone writes, by two writers in turn whose clocks are 400 ms apart and neither of which looks at
//! what the other wrote. What the region's store makes of it has to be everywhere.

use rand::RngExt;
use rand::rngs::StdRng;
use tablerelay::model::{Etag, PartitionKey, RowId, RowKey, TableName};
use tablerelay::stores::{Condition, Operation};
use tablerelay::writer::{WriteError, Writer, Written};

use super::author::Author;
use super::book::Book;
use super::values::{properties, small};

const PARTITIONS: usize = 6;
const ROWS: usize = 10;

/// Writes `steps` times.
pub async fn write(author: &Author<'_>, steps: usize, mut random: StdRng) -> Book {
    let mut own = Own { author, table: TableName::new("Own").expect("a table"), book: Book::default() };
    for step in 0..steps {
        own.step(step, &mut random).await;
    }
    own.book
}

struct Own<'a> {
    author: &'a Author<'a>,
    table: TableName,
    book: Book,
}

impl Own<'_> {
    async fn step(&mut self, step: usize, random: &mut StdRng) {
        let writer = if random.random() { &self.author.fast } else { &self.author.slow };
        let partition = format!("{} {}", self.author.site.region, random.random_range(0..PARTITIONS));
        let row = format!("row {}", random.random_range(0..ROWS));
        let id = RowId::new(self.table.clone(), PartitionKey::new(&*partition), RowKey::new(&*row));
        let body = small(&partition, &row, &format!("step {step}"), random);
        match random.random_range(0..100) {
            0..30 => {
                let result = writer.insert_or_replace(&self.table, &body, None).await;
                self.note(&id, result, |book, id| book.put(id, properties(&body)));
            }
            30..45 => {
                let result = writer.insert_or_merge(&self.table, &body, None).await;
                self.note(&id, result, |book, id| book.merge(id, properties(&body)));
            }
            45..60 => {
                let result = writer.delete(&self.table, &id.partition, &id.row, Condition::Present, None).await;
                self.note(&id, result, Book::delete);
            }
            60..68 => {
                let result = writer.insert(&self.table, &body, None).await;
                self.note(&id, result, |book, id| book.put(id, properties(&body)));
            }
            68..76 => self.conditional(writer, id, random.random()).await,
            _ => self.transaction(writer, &partition, random).await,
        }
    }

    /// Reads, then replaces or deletes what was read: on its ETag, or on one that no row has.
    async fn conditional(&mut self, writer: &Writer, id: RowId, stale: bool) {
        let tables = self.author.site.store.home();
        let Ok(Some(found)) = tables.get(&id.table, &id.partition, &id.row).await else { return };
        let etag = if stale { Etag::new("W/\"datetime'2001-01-01T00%3A00%3A00.0000000Z'\"") } else { found.etag };
        let condition = Condition::Matches(etag);
        let version = found.body.version().cloned();
        if stale {
            let result = writer.delete(&id.table, &id.partition, &id.row, condition, version.as_ref()).await;
            assert!(result.is_err(), "a delete on an ETag that no row has took effect: {id}");
            return;
        }
        let result = writer.replace(&id.table, &found.body, condition, version.as_ref()).await;
        self.note(&id, result, |book, id| book.put(id, properties(&found.body)));
    }

    /// A transaction over some rows of a partition, deletes of those that are there among them.
    async fn transaction(&mut self, writer: &Writer, partition: &str, random: &mut StdRng) {
        let mut operations = Vec::new();
        for row in (0..ROWS).filter(|_| random.random_bool(0.5)).collect::<Vec<_>>() {
            let row = format!("row {row}");
            let id = RowId::new(self.table.clone(), PartitionKey::new(partition), RowKey::new(&*row));
            let body = small(partition, &row, "in a transaction", random);
            operations.push(match random.random_range(0..3) {
                0 => Operation::InsertOrReplace(body),
                1 => Operation::InsertOrMerge(body),
                _ if self.book.row(&id).is_none() => Operation::InsertOrReplace(body),
                _ => Operation::Delete { partition: id.partition, row: id.row, condition: Condition::Present },
            });
        }
        if operations.is_empty() {
            return;
        }
        let result = writer.transaction(&self.table, &PartitionKey::new(partition), operations.clone(), None).await;
        for operation in &operations {
            let id = RowId::new(self.table.clone(), operation.partition().clone(), operation.row().clone());
            self.note(&id, result.clone(), |book, id| match operation {
                Operation::Delete { .. } => book.delete(id),
                Operation::InsertOrMerge(body) => book.merge(id, properties(body)),
                _ => book.put(id, operation.body().map(properties).unwrap_or_default()),
            });
        }
    }

    fn note(&mut self, id: &RowId, result: Result<Written, WriteError>, done: impl FnOnce(&mut Book, RowId)) {
        if self.author.note(&mut self.book, id, &result) {
            done(&mut self.book, id.clone());
        }
    }
}
