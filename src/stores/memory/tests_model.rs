//! The memory store against a model that could not be simpler: a map that is copied before each transaction and put
//! back when one of its operations fails.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::MemoryTables;
use crate::model::{AccountName, Etag, Region, RowBody, TableName, Time};
use crate::runtime::Runtime;
use crate::stores::{Condition, ErrorKind, Operation, Tables};

/// What a generated operation does; properties are numbers by name.
#[derive(Debug, Clone)]
enum Act {
    Insert(Properties),
    Replace(Properties, On),
    Merge(Properties, On),
    InsertOrReplace(Properties),
    InsertOrMerge(Properties),
    Delete(On),
}

type Properties = BTreeMap<char, i32>;

#[derive(Debug, Clone, Copy)]
enum On {
    Present,
    /// The ETag that the model says is current; stale where the row is gone.
    Current,
    Stale,
}

/// A row of the model: its properties, and which write of the run put it.
type Model = BTreeMap<u8, (Properties, u64)>;

fn act() -> impl Strategy<Value = Act> {
    let properties = || prop::collection::btree_map(prop::char::range('A', 'D'), 0..100, 0..4);
    let on = || prop_oneof![Just(On::Present), Just(On::Current), Just(On::Stale)];
    prop_oneof![
        properties().prop_map(Act::Insert),
        (properties(), on()).prop_map(|(properties, on)| Act::Replace(properties, on)),
        (properties(), on()).prop_map(|(properties, on)| Act::Merge(properties, on)),
        properties().prop_map(Act::InsertOrReplace),
        properties().prop_map(Act::InsertOrMerge),
        on().prop_map(Act::Delete),
    ]
}

/// Distinct rows, most of them in an order other than theirs.
fn transaction() -> impl Strategy<Value = Vec<(u8, Act)>> {
    let rows = prop::collection::hash_set(0..6u8, 1..5).prop_map(|rows| rows.into_iter().collect::<Vec<_>>());
    rows.prop_flat_map(|rows| {
        let count = rows.len();
        (Just(rows), prop::collection::vec(act(), count))
    })
    .prop_map(|(rows, acts)| rows.into_iter().zip(acts).collect())
}

/// What the operation makes of the model, or what it fails as.
fn step(model: &mut Model, row: u8, act: &Act, write: u64) -> Result<(), ErrorKind> {
    let current = model.get(&row).cloned();
    let meets = |on: &On| match (on, &current) {
        (_, None) => Err(ErrorKind::NotFound),
        (On::Stale, Some(_)) => Err(ErrorKind::Precondition),
        (On::Present | On::Current, Some((properties, _))) => Ok(properties.clone()),
    };
    let merged = |mut kept: Properties, new: &Properties| {
        kept.extend(new);
        kept
    };
    let new = match act {
        Act::Insert(_) if current.is_some() => return Err(ErrorKind::AlreadyExists),
        Act::Insert(new) | Act::InsertOrReplace(new) => new.clone(),
        Act::Replace(new, on) => meets(on).map(|_| new.clone())?,
        Act::Merge(new, on) => merged(meets(on)?, new),
        Act::InsertOrMerge(new) => merged(current.map(|(kept, _)| kept).unwrap_or_default(), new),
        Act::Delete(on) => {
            meets(on)?;
            model.remove(&row);
            return Ok(());
        }
    };
    model.insert(row, (new, write));
    Ok(())
}

fn body(row: u8, properties: &Properties) -> RowBody {
    let properties: String = properties.iter().map(|(name, value)| format!(r#","{name}":{value}"#)).collect();
    RowBody::parse(&format!(r#"{{"PartitionKey":"p","RowKey":"{row}"{properties}}}"#)).unwrap()
}

fn operation(row: u8, act: &Act, etag: Option<&Etag>) -> Operation {
    let condition = |on: &On| match (on, etag) {
        (On::Present, _) => Condition::Present,
        (On::Current, Some(etag)) => Condition::Matches(etag.clone()),
        _ => Condition::Matches(Etag::new("W/\"datetime'2001-01-01T00%3A00%3A00.0000000Z'\"")),
    };
    match act {
        Act::Insert(new) => Operation::Insert(body(row, new)),
        Act::Replace(new, on) => Operation::Replace(body(row, new), condition(on)),
        Act::Merge(new, on) => Operation::Merge(body(row, new), condition(on)),
        Act::InsertOrReplace(new) => Operation::InsertOrReplace(body(row, new)),
        Act::InsertOrMerge(new) => Operation::InsertOrMerge(body(row, new)),
        Act::Delete(on) => {
            Operation::Delete { partition: "p".into(), row: row.to_string().as_str().into(), condition: condition(on) }
        }
    }
}

/// Runs the transactions on both and compares every reply and every state in between.
async fn agree(transactions: Vec<Vec<(u8, Act)>>) -> Result<(), TestCaseError> {
    let runtime = Runtime::simulated(Time::from_unix_seconds(0), 0);
    let store = MemoryTables::new(Region::new("west").unwrap(), AccountName::new("west1").unwrap(), runtime);
    let table = TableName::new("Rows").unwrap();
    store.create_table(&table).await.unwrap();
    let mut model = Model::new();
    // The ETag of each write that put a row.
    let mut etags: BTreeMap<u64, Etag> = BTreeMap::new();
    let mut writes = 0;
    for acts in transactions {
        let current = |row: &u8| model.get(row).and_then(|(_, write)| etags.get(write));
        let operations: Vec<_> = acts.iter().map(|(row, act)| operation(*row, act, current(row))).collect();
        let before = model.clone();
        let first = writes;
        let expected = acts.iter().enumerate().try_for_each(|(index, (row, act))| {
            writes += 1;
            step(&mut model, *row, act, writes).map_err(|kind| (Some(index), kind))
        });
        match store.transact(&table, &"p".into(), &operations).await {
            Ok(replies) => {
                prop_assert_eq!(expected, Ok(()));
                for (write, etag) in (first + 1..).zip(replies) {
                    let etag_is_new = etag.as_ref().is_none_or(|etag| etags.values().all(|old| old != etag));
                    prop_assert!(etag_is_new, "an ETag came twice: {:?}", etag);
                    etags.extend(etag.map(|etag| (write, etag)));
                }
            }
            Err(failed) => {
                prop_assert_eq!(expected, Err((failed.index, failed.error.kind)));
                model = before;
            }
        }
        let rows = store.snapshot(&table);
        prop_assert_eq!(rows.len(), model.len());
        for (found, (row, (properties, write))) in rows.iter().zip(&model) {
            let fields = |body: &RowBody| serde_json::from_str::<serde_json::Value>(body.json()).unwrap();
            prop_assert_eq!(fields(&found.body), fields(&body(*row, properties)));
            prop_assert_eq!(Some(&found.etag), etags.get(write));
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn a_transaction_is_all_or_nothing(transactions in prop::collection::vec(transaction(), 1..30)) {
        futures::executor::block_on(agree(transactions))?;
    }
}
