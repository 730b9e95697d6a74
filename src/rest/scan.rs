//! A page of a query whose filter says more than a range of keys.

use super::filter::holds;
use super::request::Page;
use crate::stores::{self, Query, StoreError, Tables, limits};

/// How many rows are read for one page. Beyond it the page ends as it is, perhaps empty, with a continuation: so does
/// Azure where a filter finds little.
const MAX_READ: usize = 10_000;

/// The rows of a page and where the next one begins.
///
/// # Errors
/// The store's.
pub(super) async fn read(store: &dyn Tables, page: &Page) -> Result<stores::Page, StoreError> {
    let mut query = Query {
        scope: page.scan.scope.clone(),
        top: page.top,
        select: page.select.clone(),
        continuation: page.continuation.clone(),
    };
    if page.scan.filter.is_none() {
        return store.query(&page.table, &query).await;
    }
    // The filter may ask for properties that are not selected; what is written leaves them out again.
    query.select = None;
    let most = usize::from(page.top.unwrap_or(limits::MAX_PAGE));
    let (mut found, mut read) = (stores::Page::default(), 0);
    loop {
        let (next, rows_read) = fitting(store, page, &mut query, most - found.rows.len()).await?;
        read += rows_read;
        found.rows.extend(next.rows);
        found.continuation = next.continuation;
        if found.continuation.is_none() || found.rows.len() == most || read >= MAX_READ {
            return Ok(found);
        }
        query.continuation.clone_from(&found.continuation);
    }
}

/// The rows of one page of the store for which the filter holds, at most so many, and how many rows it was.
///
/// Where more fit, the page is read again, shorter: only the store can say where the next one begins then.
async fn fitting(
    store: &dyn Tables,
    page: &Page,
    query: &mut Query,
    most: usize,
) -> Result<(stores::Page, usize), StoreError> {
    query.top = Some(limits::MAX_PAGE);
    loop {
        let mut found = store.query(&page.table, query).await?;
        let read = found.rows.len();
        let fits = |row: &crate::model::Row| page.scan.filter.as_ref().is_none_or(|filter| holds(filter, row));
        let beyond = found.rows.iter().enumerate().filter(|(_, row)| fits(row)).nth(most);
        match beyond.and_then(|(place, _)| u16::try_from(place).ok()) {
            // The row at `place` is the first too many. It is not the first of all, since at least one is wanted.
            Some(place) => query.top = Some(place.max(1)),
            None => {
                found.rows.retain(fits);
                return Ok((found, read));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{AccountName, PartitionKey, Region, RowBody, RowKey, TableName, Time};
    use crate::rest::filter::{parse, scan};
    use crate::runtime::Runtime;
    use crate::stores::memory::MemoryTables;
    use crate::stores::{Continuation, Operation};
    use std::num::NonZeroU16;
    use std::sync::Arc;

    async fn store(rows: usize) -> (Arc<MemoryTables>, TableName) {
        let runtime = Runtime::simulated(Time::EPOCH, 1);
        let store = MemoryTables::new(Region::new("west").unwrap(), AccountName::new("west1").unwrap(), runtime);
        let table = TableName::new("Orders").unwrap();
        store.create_table(&table).await.unwrap();
        let insert = |row: usize| {
            let kind = if row.is_multiple_of(7) { "seventh" } else { "other" };
            let body = RowBody::builder(&PartitionKey::from("p"), &RowKey::new(format!("{row:05}")));
            Operation::Insert(body.string("Kind", kind).finish())
        };
        let all: Vec<_> = (0..rows).map(insert).collect();
        for chunk in all.chunks(100) {
            store.transact(&table, &"p".into(), chunk).await.unwrap();
        }
        (store, table)
    }

    fn asked(table: &TableName, top: Option<u16>, continuation: Option<Continuation>) -> Page {
        let scan = scan(Some(parse("PartitionKey eq 'p' and Kind eq 'seventh'").unwrap()));
        Page { table: table.clone(), scan, top, select: Some(vec!["RowKey".into()]), continuation }
    }

    /// The keys of all pages, and how many rows each had.
    async fn pages(store: &Arc<MemoryTables>, table: &TableName, top: Option<u16>) -> (Vec<String>, Vec<usize>) {
        let (mut keys, mut sizes, mut continuation) = (Vec::new(), Vec::new(), None);
        loop {
            let page = read(&**store, &asked(table, top, continuation)).await.unwrap();
            sizes.push(page.rows.len());
            keys.extend(page.rows.iter().map(|row| row.body.row().to_string()));
            continuation = page.continuation;
            if continuation.is_none() {
                return (keys, sizes);
            }
        }
    }

    fn sevenths(rows: usize) -> Vec<String> {
        (0..rows).step_by(7).map(|row| format!("{row:05}")).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_page_is_full_and_the_next_one_goes_on_where_it_ended() {
        let (store, table) = store(100).await;
        assert_eq!(pages(&store, &table, Some(4)).await, (sevenths(100), vec![4, 4, 4, 3]));
        assert_eq!(pages(&store, &table, Some(1)).await.0, sevenths(100));
        assert_eq!(pages(&store, &table, None).await, (sevenths(100), vec![15]));
        store.faults().set_short_pages(NonZeroU16::new(3));
        assert_eq!(pages(&store, &table, Some(4)).await.0, sevenths(100));
    }

    #[tokio::test(start_paused = true)]
    async fn a_filter_that_finds_little_gives_up_a_page_in_time() {
        let (store, table) = store(21_000).await;
        let (keys, sizes) = pages(&store, &table, None).await;
        assert_eq!(keys, sevenths(21_000));
        assert_eq!(sizes[0], 1_000, "a page is full before that many rows are read");
        let none = scan(Some(parse("Kind eq 'none'").unwrap()));
        let page = read(&*store, &Page { scan: none, ..asked(&table, None, None) }).await.unwrap();
        assert!(page.rows.is_empty() && page.continuation.is_some());
    }
}
