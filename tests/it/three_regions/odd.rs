//! Odd keys and all types, through the whole life of a row; and transactions of a hundred rows.

use rand::RngExt;
use rand::rngs::StdRng;
use tablerelay::model::{PartitionKey, RowId, RowKey, TableName};
use tablerelay::stores::{Condition, Operation};

use super::author::Author;
use super::book::Book;
use super::values::{ODD_KEYS, of_every_type, properties, small};

/// Each region writes its third of the odd keys, as partition keys and as row keys.
pub async fn write(author: &Author<'_>, mut random: StdRng) -> Book {
    let table = TableName::new("Odd").expect("a table");
    let mut odd = Odd { author, table, book: Book::default() };
    // Azurite refuses keys of over 512 characters.
    let long = ["k".repeat(512), "é".repeat(512), "😀".repeat(256)];
    let keys = ODD_KEYS.iter().copied().chain(long.iter().map(String::as_str));
    let keys: Vec<_> = keys.enumerate().filter(|(number, _)| number % 3 == author.number).map(|(_, key)| key).collect();
    for (number, key) in keys.iter().enumerate() {
        let place = author.site.region.as_str();
        odd.lives(place, key, number, &mut random).await;
        odd.lives(key, key, number + 1, &mut random).await;
    }
    odd.together(&keys, &mut random).await;
    odd.hundred(&mut random).await;
    odd.book
}

struct Odd<'a> {
    author: &'a Author<'a>,
    table: TableName,
    book: Book,
}

impl Odd<'_> {
    /// Inserted, and then one of: replaced, merged into, deleted, deleted and made again.
    async fn lives(&mut self, partition: &str, row: &str, number: usize, random: &mut StdRng) {
        let writer = &self.author.right;
        let id = RowId::new(self.table.clone(), PartitionKey::new(partition), RowKey::new(row));
        let body = of_every_type(partition, row, random);
        let inserted = writer.insert(&self.table, &body, None).await;
        if !self.author.note(&mut self.book, &id, &inserted) {
            return;
        }
        self.book.put(id.clone(), properties(&body));
        let body = of_every_type(partition, row, random);
        let etag = inserted.as_ref().ok().and_then(|written| written.etag().cloned());
        let condition = etag.map_or(Condition::Present, Condition::Matches);
        if number % 4 < 2 {
            let result = match number % 4 {
                0 => writer.replace(&self.table, &body, condition, None).await,
                _ => writer.merge(&self.table, &body, Condition::Present, None).await,
            };
            if self.author.note(&mut self.book, &id, &result) {
                self.book.put(id, properties(&body));
            }
            return;
        }
        let result = writer.delete(&self.table, &id.partition, &id.row, Condition::Present, None).await;
        if self.author.note(&mut self.book, &id, &result) {
            self.book.delete(id.clone());
        }
        if number % 4 == 3 {
            let result = writer.insert(&self.table, &body, None).await;
            if self.author.note(&mut self.book, &id, &result) {
                self.book.put(id, properties(&body));
            }
        }
    }

    /// Odd row keys in one transaction, but for those that Azurite cannot read in one.
    async fn together(&mut self, keys: &[&str], random: &mut StdRng) {
        let partition = format!("it's 100 % of {} & 日本", self.author.site.region);
        let keys = keys.iter().filter(|key| !key.contains("',") && !key.contains('\u{2028}') && key.len() < 500);
        self.transaction(&partition, keys.map(|key| (*key).to_owned()).collect(), random).await;
    }

    async fn hundred(&mut self, random: &mut StdRng) {
        let partition = format!("a hundred of {}", self.author.site.region);
        self.transaction(&partition, (0..100).map(|row| format!("{row:03}")).collect(), random).await;
        let some = (0..100).filter(|_| random.random_bool(0.3)).map(|row| format!("{row:03}")).collect();
        self.transaction(&partition, some, random).await;
    }

    async fn transaction(&mut self, partition: &str, rows: Vec<String>, random: &mut StdRng) {
        let large = rows.len() > 20;
        let body = |row: &String| {
            if large { small(partition, row, "one of many", random) } else { of_every_type(partition, row, random) }
        };
        let bodies: Vec<_> = rows.iter().map(body).collect();
        let operations = bodies.iter().cloned().map(Operation::InsertOrReplace).collect();
        let partition = PartitionKey::new(partition);
        let result = self.author.right.transaction(&self.table, &partition, operations, None).await;
        for body in &bodies {
            let id = RowId::new(self.table.clone(), partition.clone(), body.row().clone());
            if self.author.note(&mut self.book, &id, &result) {
                self.book.put(id, properties(body));
            }
        }
    }
}
