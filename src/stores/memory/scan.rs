//! Queries: a range of keys, page by page.

use std::num::NonZeroU16;
use std::ops::Bound::{self, Excluded, Included, Unbounded};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::errors;
use super::properties;
use super::state::Table;
use crate::model::{PartitionKey, Row, RowKey};
use crate::stores::{Continuation, Page, Query, Scope, StoreError, limits};

/// The next page of `query`. With `page_rows` pages are as short, and the first one is empty.
pub(super) fn page(table: &Table, query: &Query, page_rows: Option<NonZeroU16>) -> Result<Page, StoreError> {
    limits::check_query(query).map_err(errors::refused)?;
    let top = query.top.unwrap_or(limits::MAX_PAGE);
    let resume = query.continuation.as_ref().map(Resume::decode).transpose()?;
    let most = match (page_rows, &resume) {
        (Some(_), None) => 0,
        (Some(rows), Some(_)) => top.min(rows.get()),
        (None, _) => top,
    };
    let mut rows = Range::new(&query.scope, resume.as_ref()).rows(table);
    let mut page = Page { rows: Vec::with_capacity(usize::from(most.min(64))), continuation: None };
    for row in rows.by_ref().take(usize::from(most)) {
        page.rows.push(match &query.select {
            Some(names) => Row { body: properties::selected(&row.body, names)?, ..row.clone() },
            None => row.clone(),
        });
    }
    page.continuation = rows.next().map(Resume::encode);
    Ok(page)
}

/// Which part of a table is read.
struct Range<'a> {
    partitions: (Bound<&'a PartitionKey>, Bound<&'a PartitionKey>),
    rows: (Bound<&'a RowKey>, Bound<&'a RowKey>),
    resume: Option<&'a Resume>,
}

impl<'a> Range<'a> {
    fn new(scope: &'a Scope, resume: Option<&'a Resume>) -> Self {
        let (mut partitions, mut rows) = ((Unbounded, Unbounded), (Unbounded, Unbounded));
        match scope {
            Scope::Table => {}
            Scope::Partitions { from, until } => {
                partitions = (from.as_ref().map_or(Unbounded, Included), until.as_ref().map_or(Unbounded, Excluded));
            }
            Scope::Partition { partition, from, through } => {
                partitions = (Included(partition), Included(partition));
                rows = (from.as_ref().map_or(Unbounded, Included), through.as_ref().map_or(Unbounded, Included));
            }
        }
        if let Some(resume) = resume {
            partitions.0 = later(partitions.0, &resume.partition);
        }
        Self { partitions, rows, resume }
    }

    fn rows<'t>(self, table: &'t Table) -> impl Iterator<Item = &'t Row> + use<'a, 't> {
        let partitions = not_empty(self.partitions).map(|range| table.range::<PartitionKey, _>(range));
        partitions.into_iter().flatten().flat_map(move |(partition, rows)| {
            let mut range = self.rows;
            if let Some(Resume { row: Some(row), .. }) = self.resume.filter(|resume| resume.partition == *partition) {
                range.0 = later(range.0, row);
            }
            let rows = not_empty(range).map(|range| rows.range::<RowKey, _>(range));
            rows.into_iter().flatten().map(|(_, row)| row)
        })
    }
}

fn later<'a, K: Ord>(bound: Bound<&'a K>, resume: &'a K) -> Bound<&'a K> {
    match bound {
        Included(key) | Excluded(key) if key > resume => bound,
        _ => Included(resume),
    }
}

/// A range that ends before it begins holds nothing; the map would panic.
fn not_empty<'a, K: Ord>(range: (Bound<&'a K>, Bound<&'a K>)) -> Option<(Bound<&'a K>, Bound<&'a K>)> {
    let holds_some = match range {
        (Included(from), Included(through)) => from <= through,
        (Included(from), Excluded(until)) => from < until,
        _ => true,
    };
    holds_some.then_some(range)
}

/// Where a page begins: the first row that the one before did not return.
struct Resume {
    partition: PartitionKey,
    row: Option<RowKey>,
}

impl Resume {
    /// In Azure's form, `1!<length>!<base64>`, so that nobody takes it for a key.
    fn encode(row: &Row) -> Continuation {
        let token = |key: &str| {
            let encoded = URL_SAFE_NO_PAD.encode(key);
            format!("1!{}!{encoded}", encoded.len())
        };
        Continuation {
            next_partition: token(row.body.partition().as_str()),
            next_row: Some(token(row.body.row().as_str())),
        }
    }

    fn decode(continuation: &Continuation) -> Result<Self, StoreError> {
        let key = |token: &str| {
            let encoded = token.strip_prefix("1!").and_then(|rest| rest.split_once('!')).map(|(_, encoded)| encoded);
            let key = encoded.and_then(|encoded| URL_SAFE_NO_PAD.decode(encoded).ok());
            key.and_then(|key| String::from_utf8(key).ok())
                .ok_or_else(|| errors::invalid("InvalidInput", "the continuation token is none of this store's"))
        };
        Ok(Self {
            partition: PartitionKey::new(key(&continuation.next_partition)?),
            row: continuation.next_row.as_deref().map(key).transpose()?.map(RowKey::new),
        })
    }
}
