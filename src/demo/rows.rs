//! The rows that the writers write: odd keys, several types.

use serde_json::json;

use crate::model::{PartitionKey, RowBody, RowId, RowKey, TableName};
use crate::runtime::Runtime;

/// Customers, which are the partitions of `orders`.
const CUSTOMERS: [&str; 6] = ["acme", "O'Neill & sons", "café 100 %", "日本橋", "Straße 7", "a b+c=d;e,f"];
/// Hot rows: few enough that regions meet on them all the time.
const HOT_ROWS: u64 = 12;

/// The property by which a writer knows its own write again.
pub(super) const STEP: &str = "Step";

/// A customer.
pub(super) fn customer(runtime: &Runtime) -> PartitionKey {
    PartitionKey::from(CUSTOMERS[(runtime.random() % CUSTOMERS.len() as u64) as usize])
}

/// One of the hot rows.
pub(super) fn hot(stock: &TableName, runtime: &Runtime) -> RowId {
    let item = runtime.random() % HOT_ROWS;
    RowId::new(stock.clone(), PartitionKey::new(format!("shelf {}", item % 3)), RowKey::new(format!("item {item:02}")))
}

/// A whole order.
pub(super) fn order(id: &RowId, step: i64, runtime: &Runtime) -> RowBody {
    let cents = runtime.random() % 100_000;
    let json = json!({
        "PartitionKey": id.partition,
        "RowKey": id.row,
        "Step@odata.type": "Edm.Int64",
        STEP: step.to_string(),
        "Total": cents as f64 / 100.0,
        "Pieces": 1 + cents % 9,
        "Paid": cents.is_multiple_of(2),
        "Ordered@odata.type": "Edm.DateTime",
        "Ordered": runtime.now(),
        "Note": "to be left at the door",
    });
    // An object with both keys, written just above.
    RowBody::parse(&json.to_string()).expect("a row with both keys")
}

/// What a merge changes of an order.
pub(super) fn shipped(id: &RowId, step: i64) -> RowBody {
    RowBody::builder(&id.partition, &id.row).int64(STEP, step).string("State", "shipped").finish()
}

/// A hot row as `writer` writes it.
pub(super) fn stock(id: &RowId, writer: &str, step: i64) -> RowBody {
    RowBody::builder(&id.partition, &id.row).int64(STEP, step).string("Counted", writer).finish()
}

/// Which step of a writer a row is from.
pub(super) fn step_of(body: &RowBody) -> Option<i64> {
    body.string(STEP)?.parse().ok()
}

/// A row as somebody leaves it who never heard of versions.
pub(super) fn spoiled(row: &RowBody) -> RowBody {
    RowBody::builder(row.partition(), row.row()).string("Note", "changed behind the line's back").finish()
}
