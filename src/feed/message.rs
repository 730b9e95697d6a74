//! The queue form of an announcement: a message of the queue `relay-changes`.

use base64::Engine as _;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use serde::Deserialize;
use serde_json::Value;

use super::record::{Draft, text};
use super::{Malformed, Reason};
use crate::model::{Change, RowKey};

/// Standard base64, with padding or without: SDKs differ.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Reads a message: JSON `{"table","partition","puts":[],"deletes":[],"version"}`, or base64 of it, which Azure
/// Functions and older SDKs send. `puts` or `deletes` may be absent, other fields are ignored.
///
/// # Errors
/// [`Malformed`] where it breaks the protocol, as with a record.
pub fn decode_message(message: &str) -> Result<Change, Malformed> {
    let plain = trimmed(message);
    if plain.starts_with('{') {
        return decode(plain);
    }
    let bad = |detail: String| Malformed::new(Reason::BadJson, detail);
    let bytes = BASE64
        .decode(plain)
        .map_err(|err| bad(format!("the message should be a JSON object, or base64 of one; as base64: {err}")))?;
    let json = String::from_utf8(bytes).map_err(|err| bad(format!("the message's base64 should hold UTF-8: {err}")))?;
    decode(trimmed(&json))
}

/// Without white space and the byte order mark that .NET puts in front.
fn trimmed(text: &str) -> &str {
    text.trim().trim_start_matches('\u{feff}')
}

/// Writes a message down, as plain JSON. One that names more rows than a record holds is for the caller to split.
pub fn encode_message(change: &Change) -> String {
    let rows = |rows: &[RowKey]| rows.iter().map(|row| Value::from(row.as_str())).collect::<Vec<_>>();
    let mut json = serde_json::json!({
        "table": change.table.as_str(),
        "partition": change.partition.as_str(),
        "puts": rows(&change.puts),
        "deletes": rows(&change.deletes),
        "version": change.version.as_str(),
    });
    if let Some(base) = &change.base {
        json["base"] = base.as_str().into();
    }
    json.to_string()
}

#[derive(Deserialize)]
struct Wire {
    table: Option<Value>,
    partition: Option<Value>,
    puts: Option<Value>,
    deletes: Option<Value>,
    version: Option<Value>,
    base: Option<Value>,
}

fn decode(json: &str) -> Result<Change, Malformed> {
    let wire: Wire = serde_json::from_str(json)
        .map_err(|err| Malformed::new(Reason::BadJson, format!("the message should be a JSON object: {err}")))?;
    let draft = Draft {
        table: text("table", wire.table)?,
        partition: text("partition", wire.partition)?,
        puts: keys("puts", wire.puts)?,
        deletes: keys("deletes", wire.deletes)?,
        version: text("version", wire.version)?,
        base: wire.base,
    };
    draft.checked()
}

/// A JSON array of row keys; absent or null is empty.
fn keys(field: &str, value: Option<Value>) -> Result<Vec<RowKey>, Malformed> {
    let bad = || Malformed::new(Reason::BadJson, format!("{field} should be an array of strings"));
    let items = match value {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Array(items)) => items,
        Some(_) => return Err(bad()),
    };
    items.iter().map(|item| item.as_str().map(RowKey::from).ok_or_else(bad)).collect()
}
