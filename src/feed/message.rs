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
    text.trim_matches(|c: char| c.is_whitespace() || c == '\u{feff}')
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::feed::samples;
    use proptest::prelude::*;

    const GOOD: &str = r#"{"table":"Orders","partition":"customer-17","puts":["a"],"deletes":["b"],"version":"2026-11-22T12:18:00.1234567Z@west.7f3a9c1b"}"#;

    #[test]
    fn plain_and_base64_say_the_same() {
        let change = decode_message(GOOD).unwrap();
        assert_eq!((change.puts.len(), change.deletes.len()), (1, 1));
        let marked = BASE64.encode(format!("\u{feff}{GOOD}"));
        for text in [BASE64.encode(GOOD), marked.trim_end_matches('=').to_owned(), format!("  {GOOD}\n")] {
            assert_eq!(decode_message(&text).unwrap(), change);
        }
    }

    #[test]
    fn each_fault_has_its_reason_and_names_its_field() {
        let with = |from: &str, to: &str| decode_message(&GOOD.replace(from, to)).unwrap_err();
        for (from, to, reason, detail) in [
            ("\"table\"", "\"tabel\"", Reason::BadJson, "table is missing"),
            ("[\"a\"]", "\"a\"", Reason::BadJson, "puts should be an array"),
            ("[\"b\"]", "[1]", Reason::BadJson, "deletes should be an array"),
            ("\"customer-17\"", "17", Reason::BadJson, "partition should be a string"),
            ("\"a\"", "\"b\"", Reason::Contradiction, "\"b\""),
            ("Orders", "RelayFeed", Reason::BadTable, "reserved"),
            (".1234567Z", "Z", Reason::BadVersion, "7 digits"),
            ("\"a\"", "\"a#\"", Reason::BadKey, "forbids"),
            ("{", "", Reason::BadJson, "base64"),
            ("}", "", Reason::BadJson, "JSON object"),
        ] {
            let found = with(from, to);
            assert_eq!(found.reason, reason, "{found}");
            assert!(found.detail.contains(detail), "{found} should say {detail}");
        }
        let none = GOOD.replace("[\"a\"]", "[]").replace("[\"b\"]", "null");
        assert_eq!(decode_message(&none).unwrap_err().reason, Reason::NoRows);
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(change in samples::change(60)) {
            let mut change = change;
            change.deletes.truncate(99);
            if !change.is_empty() {
                let text = encode_message(&change);
                prop_assert_eq!(decode_message(&text).unwrap(), change.clone());
                prop_assert_eq!(decode_message(&BASE64.encode(text)).unwrap(), change);
            }
        }

        #[test]
        fn no_text_makes_it_panic(text in any::<String>(), bytes in any::<Vec<u8>>(), at in 0usize..140) {
            let _ = decode_message(&text);
            let _ = decode_message(&BASE64.encode(bytes));
            let mut broken = GOOD.to_owned();
            broken.insert_str(at.min(GOOD.len()), &text);
            let _ = decode_message(&broken);
        }
    }
}
