//! Writers that crash between announcing and writing.

use rand::RngExt;
use rand::rngs::StdRng;
use tablerelay::model::{Change, HybridClock, PartitionKey, RowId, RowKey, TableName, WriterId};
use tablerelay::runtime::Runtime;
use tablerelay::stores::Condition;
use tablerelay::writer::announce;

use super::author::{Author, short_life};
use super::book::Book;
use super::values::{properties, small};
use super::{MAX_CLOCK_SKEW, SETTLE_WINDOW};

/// Crashes `crashes` times in each way.
pub async fn write(author: &Author<'_>, crashes: usize, mut random: StdRng) -> Book {
    let mut book = Book::default();
    let table = TableName::new("Crashed").expect("a table");
    let mut clock = HybridClock::new(author.site.region.clone(), WriterId(random.random()), MAX_CLOCK_SKEW);
    let partition = format!("{} %41", author.site.region);
    for number in 0..crashes {
        let id = |row: &str| RowId::new(table.clone(), PartitionKey::new(&*partition), RowKey::new(row));
        // Announced and never written: there is no such row.
        let never = id(&format!("never {number}"));
        announce_only(author, &mut clock, &never, false).await;
        book.delete(never);
        // Put, and then a delete of it announced and not done: the row stays, whatever its tombstone says.
        let stays = id(&format!("stays {number}"));
        let body = small(&partition, stays.row.as_str(), "it stays", &mut random);
        let put = author.right.insert_or_replace(&table, &body, None).await;
        if author.note(&mut book, &stays, &put) {
            book.put(stays.clone(), properties(&body));
        }
        announce_only(author, &mut clock, &stays, true).await;
        // Dropped at some point: who knows.
        let dropped = id(&format!("dropped {}", number % 5));
        let body = small(&partition, dropped.row.as_str(), &format!("crash {number}"), &mut random);
        let life = short_life(random.random());
        let _ = match random.random_range(0..3) {
            0 => {
                let delete = author.fast.delete(&table, &dropped.partition, &dropped.row, Condition::Present, None);
                tokio::time::timeout(life, delete).await
            }
            _ => tokio::time::timeout(life, author.slow.insert_or_replace(&table, &body, None)).await,
        };
        book.uncertain.insert(dropped);
    }
    book
}

/// The first step alone, of a put or a delete.
async fn announce_only(author: &Author<'_>, clock: &mut HybridClock, id: &RowId, delete: bool) {
    let runtime = Runtime::system();
    let version = clock.issue(runtime.now(), None).expect("nothing is read, so nothing is ahead");
    let keys = |named: bool| if named { vec![id.row.clone()] } else { vec![] };
    let (table, partition) = (id.table.clone(), id.partition.clone());
    let change = Change { table, partition, puts: keys(!delete), deletes: keys(delete), version, base: None };
    // Long, since a crashed writer's announcement may come at any time.
    let deadline = runtime.instant() + 10 * SETTLE_WINDOW;
    let tables = author.site.store.home().as_ref();
    let announced = announce(tables, &runtime, &change, &Default::default(), deadline).await;
    announced.unwrap_or_else(|err| panic!("{id} could not be announced: {err}"));
}
