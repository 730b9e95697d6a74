//! Azure's limits, checked before anything is sent.
//!
//! Shared by all adapters, since Azurite accepts much that Azure refuses: several partitions in a transaction, rows
//! over 1 MiB, 300 properties. Each refusal carries the error code that Azure would have answered with. Sources:
//! "Understanding the Table service data model", "Performing entity group transactions" and "Table service error
//! codes" in Microsoft's reference of the storage services.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;
use std::time::Duration;

use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::{ErrorKind, Operation, Query, StoreError, TransactionError};
use crate::model::{PartitionKey, RowBody, RowKey};

/// Most operations in a transaction.
pub const MAX_OPERATIONS: usize = 100;
/// A transaction's request body has to stay below this many bytes.
pub const MAX_TRANSACTION_BYTES: usize = 4 * 1024 * 1024;
/// Most bytes in a row, by Azure's own reckoning (see [`check_body`]).
pub const MAX_ROW_BYTES: usize = 1024 * 1024;
/// Most properties in a row besides PartitionKey, RowKey and Timestamp.
pub const MAX_PROPERTIES: usize = 252;
/// Most UTF-16 units in a property's name.
pub const MAX_PROPERTY_NAME: usize = 255;
/// Most UTF-16 units in a string property.
pub const MAX_STRING_UNITS: usize = 32 * 1024;
/// Most bytes in a binary property.
pub const MAX_BINARY_BYTES: usize = 64 * 1024;
/// Most rows in a page of a query.
pub const MAX_PAGE: u16 = 1_000;
/// Most messages in one receive.
pub const MAX_RECEIVE: u8 = 32;
/// Most seconds that a received message is hidden: 7 days.
pub const MAX_HIDDEN_SECONDS: u32 = 7 * 24 * 60 * 60;
/// Most bytes in a queue message's text.
pub const MAX_MESSAGE_BYTES: usize = 64 * 1024;

fn refused(code: &str, message: String) -> StoreError {
    StoreError { code: code.to_owned(), ..StoreError::new(ErrorKind::Invalid, message) }
}

/// Refuses keys that Azure forbids.
///
/// # Errors
/// `OutOfRangeInput` for a forbidden character, `PropertyValueTooLarge` for a key over 1 KiB.
pub fn check_keys(partition: &PartitionKey, row: &RowKey) -> Result<(), StoreError> {
    use crate::model::KeyError;
    partition.check().and_then(|()| row.check()).map_err(|err| match err {
        KeyError::Forbidden { .. } => refused("OutOfRangeInput", err.to_string()),
        KeyError::TooLong { .. } => refused("PropertyValueTooLarge", err.to_string()),
    })
}

/// Refuses a row that Azure would refuse.
///
/// The size of a row is Azure's reckoning: 4 bytes, 2 for each UTF-16 unit of both keys, and for each property 8 bytes,
/// 2 for each unit of its name, and its value (string: 2 for each unit + 4; binary: its bytes + 4; else 1 to 16).
///
/// # Errors
/// `TooManyProperties`, `PropertyNameTooLong`, `PropertyNameInvalid`, `PropertyValueTooLarge`, `EntityTooLarge`,
/// `InvalidInput` (a value that is no EDM type), and those of [`check_keys`].
pub fn check_body(body: &RowBody) -> Result<(), StoreError> {
    check_keys(body.partition(), body.row())?;
    let properties = Properties::of(body)?;
    if properties.0.len() > MAX_PROPERTIES {
        return Err(refused(
            "TooManyProperties",
            format!(
                "the row has {} properties besides its keys; Azure allows {MAX_PROPERTIES}, RelayVersion among them",
                properties.0.len()
            ),
        ));
    }
    for property in &properties.0 {
        property.check()?;
    }
    // No value takes more than two bytes for each byte of its JSON, plus what each property costs of itself.
    if body.json().len() * 2 + properties.0.len() * 32 > MAX_ROW_BYTES {
        let bytes = 4 + 2 * (units(body.partition().as_str()) + units(body.row().as_str())) + properties.bytes();
        if bytes > MAX_ROW_BYTES {
            return Err(refused(
                "EntityTooLarge",
                format!("the row has {bytes} bytes as Azure counts them; it allows {MAX_ROW_BYTES}"),
            ));
        }
    }
    Ok(())
}

/// Refuses a query that Azure would refuse.
///
/// # Errors
/// `OutOfRangeInput` for a page size outside 1 to 1,000.
pub fn check_query(query: &Query) -> Result<(), StoreError> {
    match query.top {
        Some(top) if !(1..=MAX_PAGE).contains(&top) => {
            Err(refused("OutOfRangeInput", format!("a page has 1 to {MAX_PAGE} rows, not {top}")))
        }
        _ => Ok(()),
    }
}

/// Refuses to receive what Azure would not give: 1 to 32 messages, hidden for 1 second to 7 days. Returns the whole
/// seconds that they are hidden for, rounded up: longer is safe, shorter is not.
///
/// # Errors
/// `OutOfRangeQueryParameterValue`.
pub fn check_receive(max: u8, hidden: Duration) -> Result<u32, StoreError> {
    let code = "OutOfRangeQueryParameterValue";
    if !(1..=MAX_RECEIVE).contains(&max) {
        return Err(refused(code, format!("a request receives 1 to {MAX_RECEIVE} messages, not {max}")));
    }
    let seconds = hidden.as_secs().saturating_add(u64::from(hidden.subsec_nanos() > 0));
    let allowed = u32::try_from(seconds).ok().filter(|seconds| (1..=MAX_HIDDEN_SECONDS).contains(seconds));
    allowed.ok_or_else(|| refused(code, format!("a message is hidden for 1 second to 7 days, not {hidden:?}")))
}

/// Refuses a queue message that Azure would refuse.
///
/// # Errors
/// `RequestBodyTooLarge` for a text over 64 KiB, `InvalidXmlDocument` for one with a character that XML has not, since
/// that is what a message travels as.
pub fn check_message(text: &str) -> Result<(), StoreError> {
    if text.len() > MAX_MESSAGE_BYTES {
        let message = format!("the message has {} bytes; Azure allows {MAX_MESSAGE_BYTES}", text.len());
        return Err(refused("RequestBodyTooLarge", message));
    }
    let bad =
        |c: &char| matches!(c, '\u{0}'..='\u{8}' | '\u{b}' | '\u{c}' | '\u{e}'..='\u{1f}' | '\u{fffe}' | '\u{ffff}');
    match text.chars().find(bad) {
        Some(bad) => Err(refused("InvalidXmlDocument", format!("the message holds {bad:?}, which XML has not"))),
        None => Ok(()),
    }
}

/// Refuses a single write that Azure would refuse.
///
/// # Errors
/// Those of [`check_body`] and [`check_keys`].
pub fn check_operation(operation: &Operation) -> Result<(), StoreError> {
    match operation.body() {
        Some(body) => check_body(body),
        None => check_keys(operation.partition(), operation.row()),
    }
}

/// Refuses a transaction that Azure would refuse: 1 to 100 operations, each on its own row of `partition`, under
/// 4 MiB together by [`operation_bytes`].
///
/// # Errors
/// `InvalidInput` (empty, over 100), `CommandsInBatchActOnDifferentPartitions`, `InvalidDuplicateRow`,
/// `RequestBodyTooLarge`, and those of [`check_operation`], with the index of the operation at fault.
pub fn check_transaction(partition: &PartitionKey, operations: &[Operation]) -> Result<(), TransactionError> {
    let count = operations.len();
    if !(1..=MAX_OPERATIONS).contains(&count) {
        let message = format!("a transaction has 1 to {MAX_OPERATIONS} operations, not {count}");
        return Err(TransactionError { index: None, error: refused("InvalidInput", message) });
    }
    let mut seen = HashSet::with_capacity(count);
    let mut bytes = ENVELOPE_BYTES;
    for (index, operation) in operations.iter().enumerate() {
        let at = |error| TransactionError { index: Some(index), error };
        if operation.partition() != partition {
            let message =
                format!("the transaction is of partition {partition:?}, the row of {:?}", operation.partition());
            return Err(at(refused("CommandsInBatchActOnDifferentPartitions", message)));
        }
        if !seen.insert(operation.row()) {
            let message = format!("the row {:?} is in the transaction twice", operation.row());
            return Err(at(refused("InvalidDuplicateRow", message)));
        }
        check_operation(operation).map_err(at)?;
        bytes += operation_bytes(operation);
        if bytes >= MAX_TRANSACTION_BYTES {
            let message =
                format!("the transaction reaches {bytes} bytes with this operation; it should stay under 4 MiB");
            return Err(at(refused("RequestBodyTooLarge", message)));
        }
    }
    Ok(())
}

/// What the outer and the inner boundary of a transaction's body take.
pub const ENVELOPE_BYTES: usize = 512;

/// Bytes that an operation takes in the body of a transaction, or a little more: its JSON, its keys in the URL, and a
/// fixed share for method, host name and headers.
pub fn operation_bytes(operation: &Operation) -> usize {
    /// Boundary, headers, a host of 253 bytes, a table of 63.
    const FRAME: usize = 896;
    // A quote is doubled and each of the two percent-encoded.
    let key = |key: &str| key.bytes().map(|byte| if byte == b'\'' { 6 } else { 3 }).sum::<usize>();
    let etag = match operation.condition() {
        Some(super::Condition::Matches(etag)) => etag.as_str().len(),
        _ => 1,
    };
    let body = operation.body().map_or(0, |body| body.json().len());
    FRAME + key(operation.partition().as_str()) + key(operation.row().as_str()) + etag + body
}

fn units(text: &str) -> usize {
    if text.is_ascii() { text.len() } else { text.encode_utf16().count() }
}

/// The properties of a row that are not null, keys apart: Azure stores no nulls.
pub(crate) struct Properties<'a>(pub(crate) Vec<Property<'a>>);

pub(crate) struct Property<'a> {
    pub(crate) name: Cow<'a, str>,
    /// JSON text.
    pub(crate) value: &'a str,
    pub(crate) edm: Option<Cow<'a, str>>,
}

impl<'a> Properties<'a> {
    pub(crate) fn of(body: &'a RowBody) -> Result<Self, StoreError> {
        let invalid = |err: serde_json::Error| refused("InvalidInput", format!("the row is no JSON object: {err}"));
        let mut deserializer = serde_json::Deserializer::from_str(body.json());
        deserializer.deserialize_map(PropertiesVisitor).map_err(invalid)
    }

    fn bytes(&self) -> usize {
        self.0.iter().map(|property| 8 + 2 * units(&property.name) + property.value_bytes()).sum()
    }
}

impl Property<'_> {
    fn check(&self) -> Result<(), StoreError> {
        let name = &*self.name;
        if name.len() > MAX_PROPERTY_NAME && units(name) > MAX_PROPERTY_NAME {
            let start: String = name.chars().take(40).collect();
            return Err(refused(
                "PropertyNameTooLong",
                format!("the property name that begins with {start:?} has over {MAX_PROPERTY_NAME} characters"),
            ));
        }
        if !is_property_name(name) {
            return Err(refused(
                "PropertyNameInvalid",
                format!("{name:?} is no property name: it should be letters, digits and _, and not begin with a digit"),
            ));
        }
        match self.value.as_bytes().first() {
            Some(b'{' | b'[') | None => Err(refused(
                "InvalidInput",
                format!("the property {name:?} should be a string, number or boolean, not an array or object"),
            )),
            Some(b'"') => self.check_length(),
            Some(b'-' | b'0'..=b'9') => self.check_integer(),
            Some(_) => Ok(()),
        }
    }

    /// A JSON text is never shorter than the string in it, so most need no look.
    fn check_length(&self) -> Result<(), StoreError> {
        if self.value.len() <= MAX_STRING_UNITS {
            return Ok(());
        }
        let (length, most, what) = match self.edm.as_deref() {
            Some("Edm.Binary") => (self.binary_bytes(), MAX_BINARY_BYTES, "bytes"),
            _ => (self.string_units(), MAX_STRING_UNITS, "UTF-16 units"),
        };
        if length <= most {
            return Ok(());
        }
        let message = format!("the property {:?} has {length} {what}; Azure allows {most}", self.name);
        Err(refused("PropertyValueTooLarge", message))
    }

    /// A number without fraction, exponent and type is an Edm.Int32.
    fn check_integer(&self) -> Result<(), StoreError> {
        let short = self.value.len() < 10;
        if short || self.edm.is_some() || self.value.contains(['.', 'e', 'E']) || self.value.parse::<i32>().is_ok() {
            return Ok(());
        }
        let message =
            format!("the property {:?} has no type and should be an Edm.Int32, but is out of range", self.name);
        Err(refused("InvalidInput", message))
    }

    fn string_units(&self) -> usize {
        let inner = self.value.trim_matches('"');
        if !inner.contains('\\') {
            return units(inner);
        }
        serde_json::from_str::<Cow<'_, str>>(self.value).map_or(inner.len(), |text| units(&text))
    }

    fn binary_bytes(&self) -> usize {
        let units = self.string_units();
        let padding = self.value.trim_end_matches('"').bytes().rev().take_while(|byte| *byte == b'=').count();
        (units * 3 / 4).saturating_sub(padding)
    }

    fn value_bytes(&self) -> usize {
        match (self.edm.as_deref(), self.value.as_bytes().first()) {
            (Some("Edm.Binary"), _) => self.binary_bytes() + 4,
            (Some("Edm.Guid"), _) => 16,
            (Some("Edm.Int64" | "Edm.DateTime" | "Edm.Double"), _) => 8,
            (_, Some(b'"')) => 2 * self.string_units() + 4,
            (_, Some(b't' | b'f')) => 1,
            (Some("Edm.Int32") | None, _) if !self.value.contains(['.', 'e', 'E']) => 4,
            _ => 8,
        }
    }
}

/// Azure asks for a C# identifier. Outside ASCII only what is clearly none is refused here: the row may come from a
/// store that has accepted the name.
fn is_property_name(name: &str) -> bool {
    let allowed =
        |c: char| c.is_ascii_alphanumeric() || c == '_' || !(c.is_ascii() || c.is_control() || c.is_whitespace());
    !name.is_empty() && !name.starts_with(|c: char| c.is_ascii_digit()) && name.chars().all(allowed)
}

/// Behind a property's name: the name of its type.
const TYPE_SUFFIX: &str = "@odata.type";

struct PropertiesVisitor;

impl<'de> Visitor<'de> for PropertiesVisitor {
    type Value = Properties<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut properties: Vec<Property<'de>> = Vec::with_capacity(16);
        let mut types: Vec<(Cow<'de, str>, Cow<'de, str>)> = Vec::new();
        while let Some((name, value)) = map.next_entry::<Text<'de>, &'de RawValue>()? {
            let (name, value) = (name.0, value.get());
            if name.ends_with(TYPE_SUFFIX) {
                types.extend(serde_json::from_str(value).ok().map(|Text(edm)| (name, edm)));
            } else if !matches!(&*name, "PartitionKey" | "RowKey") && value != "null" {
                properties.push(Property { name, value, edm: None });
            }
        }
        // Types stand in the order of their properties, so each is looked for from where the last one was found.
        let mut next = 0;
        for (name, edm) in types {
            let subject = name.strip_suffix(TYPE_SUFFIX).unwrap_or_default();
            let mut places = (next..properties.len()).chain(0..next);
            if let Some(place) = places.find(|place| properties[*place].name == subject) {
                properties[place].edm = Some(edm);
                next = place + 1;
            }
        }
        Ok(Properties(properties))
    }
}

/// A string, borrowed where it has no escapes.
struct Text<'a>(Cow<'a, str>);

impl<'de> serde::Deserialize<'de> for Text<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextVisitor;
        impl<'de> Visitor<'de> for TextVisitor {
            type Value = Text<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }
            fn visit_borrowed_str<E: serde::de::Error>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Borrowed(text)))
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(TextVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stores::Condition;

    fn body(properties: &str) -> RowBody {
        RowBody::parse(&format!(r#"{{"PartitionKey":"p","RowKey":"r"{properties}}}"#)).unwrap()
    }

    fn code(result: Result<(), StoreError>) -> String {
        result.map_or_else(
            |err| {
                assert_eq!(err.kind, ErrorKind::Invalid);
                err.code
            },
            |()| "accepted".to_owned(),
        )
    }

    fn properties(count: usize) -> String {
        (0..count).map(|i| format!(r#","P{i}":{i}"#)).collect()
    }

    #[test]
    fn a_row_has_at_most_252_properties() {
        assert_eq!(code(check_body(&body(&properties(252)))), "accepted");
        assert_eq!(code(check_body(&body(&properties(253)))), "TooManyProperties");
        assert_eq!(code(check_body(&body(&(properties(252) + r#","Nothing":null"#)))), "accepted");
    }

    #[test]
    fn names_are_identifiers_of_at_most_255_units() {
        let named = |name: &str| code(check_body(&body(&format!(r#","{name}":1"#))));
        assert_eq!(named(&"é".repeat(255)), "accepted");
        assert_eq!(named(&"é".repeat(256)), "PropertyNameTooLong");
        assert_eq!(named("größe_2"), "accepted");
        for bad in ["", "a b", "a-b", "1a", "a.b", "a'b", "a\\u00a0b"] {
            assert_eq!(named(bad), "PropertyNameInvalid", "{bad}");
        }
    }

    #[test]
    fn strings_count_utf16_units_and_binaries_bytes() {
        let string = |text: &str| code(check_body(&body(&format!(r#","S":"{text}""#))));
        assert_eq!(string(&"é".repeat(32_768)), "accepted");
        assert_eq!(string(&"\\u00e9".repeat(32_768)), "accepted");
        assert_eq!(string(&"é".repeat(32_769)), "PropertyValueTooLarge");
        assert_eq!(string(&"😀".repeat(16_385)), "PropertyValueTooLarge");
        // 65,536 bytes are 87,382 characters and two of padding; the type may stand behind the value.
        let binary = |text: String| {
            let before = code(check_body(&body(&format!(r#","B@odata.type":"Edm.Binary","B":"{text}""#))));
            let behind = code(check_body(&body(&format!(r#","B":"{text}","B@odata.type":"Edm.Binary""#))));
            assert_eq!(before, behind);
            before
        };
        assert_eq!(binary("A".repeat(87_382) + "=="), "accepted");
        assert_eq!(binary("A".repeat(87_383) + "="), "PropertyValueTooLarge");
    }

    #[test]
    fn a_row_has_at_most_1_mib_as_azure_counts() {
        // 4 + 2 × 2 for the keys; 15 properties of 8 + 2 × 3 + 65,536 + 4 and one for the rest.
        let full: String = (10..25).map(|i| format!(r#","S{i}":"{}""#, "s".repeat(32_768))).collect();
        let rest = (MAX_ROW_BYTES - 8 - 15 * (8 + 6 + 65_536 + 4) - (8 + 6 + 4)) / 2;
        let with = |units: usize| code(check_body(&body(&format!(r#"{full},"S25":"{}""#, "s".repeat(units)))));
        assert_eq!(with(rest), "accepted");
        assert_eq!(with(rest + 1), "EntityTooLarge");
    }

    #[test]
    fn values_are_edm_types() {
        for bad in ["[1]", "{}", "2147483648", "-2147483649", "99999999999999999999"] {
            assert_eq!(code(check_body(&body(&format!(r#","V":{bad}"#)))), "InvalidInput", "{bad}");
        }
        for good in ["2147483647", "-2147483648", "1e300", "true", "null", "\"\""] {
            assert_eq!(code(check_body(&body(&format!(r#","V":{good}"#)))), "accepted", "{good}");
        }
    }

    #[test]
    fn keys_that_azure_forbids_are_refused() {
        assert_eq!(code(check_keys(&"a/b".into(), &"".into())), "OutOfRangeInput");
        assert_eq!(code(check_keys(&"".into(), &RowKey::new("k".repeat(1_025)))), "PropertyValueTooLarge");
        assert_eq!(code(check_keys(&"it's 100 %".into(), &"日本".into())), "accepted");
    }

    fn delete(partition: &str, row: &str) -> Operation {
        Operation::Delete { partition: partition.into(), row: row.into(), condition: Condition::Present }
    }

    #[test]
    fn a_transaction_is_refused_with_the_index_at_fault() {
        let check = |operations: &[Operation]| {
            let err = check_transaction(&"p".into(), operations).unwrap_err();
            (err.index, err.error.code)
        };
        assert_eq!(check(&[]), (None, "InvalidInput".into()));
        let many: Vec<_> = (0..101).map(|i| delete("p", &i.to_string())).collect();
        assert_eq!(check(&many), (None, "InvalidInput".into()));
        assert!(check_transaction(&"p".into(), &many[..100]).is_ok());
        assert_eq!(
            check(&[delete("p", "1"), delete("q", "2")]),
            (Some(1), "CommandsInBatchActOnDifferentPartitions".into())
        );
        assert_eq!(
            check(&[delete("p", "1"), delete("p", "2"), delete("p", "1")]),
            (Some(2), "InvalidDuplicateRow".into())
        );
        assert_eq!(check(&[delete("p", "1"), delete("p", "?")]), (Some(1), "OutOfRangeInput".into()));
    }

    #[test]
    fn a_message_is_xml_of_at_most_64_kib() {
        assert_eq!(code(check_message(&"x".repeat(MAX_MESSAGE_BYTES))), "accepted");
        assert_eq!(code(check_message(&"é".repeat(MAX_MESSAGE_BYTES / 2 + 1))), "RequestBodyTooLarge");
        assert_eq!(code(check_message("<&>\"'\n\t\r")), "accepted");
        assert_eq!(code(check_message("bell \u{7}")), "InvalidXmlDocument");
    }

    #[test]
    fn messages_are_hidden_for_whole_seconds_or_longer() {
        let seconds = |seconds: f64| check_receive(32, Duration::from_secs_f64(seconds)).map_err(|err| err.code);
        let refused = Err("OutOfRangeQueryParameterValue".to_owned());
        assert_eq!((seconds(0.1), seconds(30.0), seconds(1.001)), (Ok(1), Ok(30), Ok(2)));
        assert_eq!((seconds(0.0), seconds(604_800.1)), (refused.clone(), refused.clone()));
        let count = |max: u8| check_receive(max, Duration::from_secs(1)).map_err(|err| err.code);
        assert_eq!((count(0), count(1), count(33)), (refused.clone(), Ok(1), refused));
    }

    #[test]
    fn a_transaction_stays_under_4_mib() {
        let big = |row: usize| {
            let strings: String = (0..13).map(|i| format!(r#","S{i}":"{}""#, "s".repeat(32_000))).collect();
            let json = format!(r#"{{"PartitionKey":"p","RowKey":"{row}"{strings}}}"#);
            Operation::InsertOrReplace(RowBody::parse(&json).unwrap())
        };
        let operations: Vec<_> = (0..11).map(big).collect();
        assert!(check_transaction(&"p".into(), &operations[..10]).is_ok());
        let err = check_transaction(&"p".into(), &operations).unwrap_err();
        assert_eq!((err.index, err.error.code.as_str()), (Some(10), "RequestBodyTooLarge"));
    }
}
