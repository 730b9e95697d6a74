//! The same rows from several regions. Each region has one writer for them, so its versions rise; between regions the
//! highest version decides.

use rand::RngExt;
use rand::rngs::StdRng;
use tablerelay::model::{PartitionKey, RowId, RowKey, TableName};
use tablerelay::stores::{Condition, Operation};
use tablerelay::writer::{WriteError, Written};

use super::author::Author;
use super::book::{Book, Said};
use super::values::{properties, small};

const PARTITIONS: usize = 8;
const ROWS: usize = 6;

/// Writes `steps` times.
pub async fn write(author: &Author<'_>, steps: usize, mut random: StdRng) -> Book {
    let mut contested =
        Contested { author, table: TableName::new("Contested").expect("a table"), book: Book::default() };
    for step in 0..steps {
        contested.step(step, &mut random).await;
    }
    contested.book
}

struct Contested<'a> {
    author: &'a Author<'a>,
    table: TableName,
    book: Book,
}

impl Contested<'_> {
    async fn step(&mut self, step: usize, random: &mut StdRng) {
        let writer = self.author.skewed();
        let partition = format!("everybody's {}", random.random_range(0..PARTITIONS));
        let row = format!("row {}", random.random_range(0..ROWS));
        let id = RowId::new(self.table.clone(), PartitionKey::new(&*partition), RowKey::new(&*row));
        let body = small(&partition, &row, &format!("{} {step}", self.author.site.region), random);
        match random.random_range(0..100) {
            0..40 => {
                let result = writer.insert_or_replace(&self.table, &body, None).await;
                self.note(&id, &result, Said::Row(properties(&body)));
            }
            40..55 => {
                let result = writer.insert_or_merge(&self.table, &body, None).await;
                self.note(&id, &result, Said::Merged);
            }
            55..70 => {
                let result = writer.delete(&self.table, &id.partition, &id.row, Condition::Present, None).await;
                self.note(&id, &result, Said::Gone);
            }
            70..85 => self.read_and_write(id).await,
            _ => {
                let rows: Vec<_> = (0..ROWS).filter(|_| random.random_bool(0.5)).collect();
                let bodies = rows.iter().map(|row| small(&partition, &format!("row {row}"), "together", random));
                let bodies: Vec<_> = bodies.collect();
                if bodies.is_empty() {
                    return;
                }
                let operations = bodies.iter().cloned().map(Operation::InsertOrReplace).collect();
                let result = writer.transaction(&self.table, &id.partition, operations, None).await;
                for body in bodies {
                    let id = RowId::new(self.table.clone(), id.partition.clone(), body.row().clone());
                    self.note(&id, &result, Said::Row(properties(&body)));
                }
            }
        }
    }

    /// Merges into what was read, on its ETag and above its version.
    async fn read_and_write(&mut self, id: RowId) {
        let Ok(Some(found)) = self.author.site.store.home().get(&id.table, &id.partition, &id.row).await else {
            return;
        };
        let condition = Condition::Matches(found.etag.clone());
        let over = found.body.version().cloned();
        let more = super::values::body(id.partition.as_str(), id.row.as_str(), r#","Seen":true"#);
        let result = self.author.skewed().merge(&self.table, &more, condition, over.as_ref()).await;
        let mut row = properties(&found.body);
        row.extend(properties(&more));
        self.note(&id, &result, Said::Row(row));
    }

    fn note(&mut self, id: &RowId, result: &Result<Written, WriteError>, said: Said) {
        if self.author.note(&mut self.book, id, result)
            && let Ok(written) = result
        {
            self.book.contest(id.clone(), written.version.clone(), said);
        }
    }
}
