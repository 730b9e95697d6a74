//! The row in a request's body.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;

use serde::de::{Deserializer, Error as _, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::failure::{invalid, unreadable};
use crate::model::{PartitionKey, RowBody, RowKey};
use crate::stores::StoreError;

/// Reads a row whose keys stand in its body.
///
/// # Errors
/// 400 `InvalidInput` where it is no JSON object, `PropertiesNeedValue` where a key is missing.
pub(super) fn row(json: &[u8]) -> Result<RowBody, StoreError> {
    let fields = Fields::parse(json)?;
    let key = |name: &str| match fields.key(name)? {
        Some(key) => Ok(key),
        None => Err(invalid("PropertiesNeedValue", format!("The values are not specified for {name}."))),
    };
    let (partition, row) = (PartitionKey::new(key(PARTITION)?), RowKey::new(key(ROW)?));
    fields.body(&partition, &row)
}

/// Reads a row whose keys stand in the path; in its body they may be missing, but not be others.
///
/// # Errors
/// 400 `InvalidInput`.
pub(super) fn row_at(json: &[u8], partition: &PartitionKey, row: &RowKey) -> Result<RowBody, StoreError> {
    let fields = Fields::parse(json)?;
    for (name, key) in [(PARTITION, partition.as_str()), (ROW, row.as_str())] {
        if fields.key(name)?.is_some_and(|own| own != key) {
            return Err(unreadable(format!("the {name} of the body should be the one of the path")));
        }
    }
    fields.body(partition, row)
}

/// The name in the body of a request to create a table.
///
/// # Errors
/// 400 `InvalidInput` where it is no JSON object, `PropertiesNeedValue` where there is no name.
pub(super) fn table_name(json: &[u8]) -> Result<String, StoreError> {
    let name = Fields::parse(json)?.key("TableName")?;
    name.ok_or_else(|| invalid("PropertiesNeedValue", "The values are not specified for TableName."))
}

const PARTITION: &str = "PartitionKey";
const ROW: &str = "RowKey";

/// The fields of a JSON object in their order, values left as text.
struct Fields<'a>(Vec<(String, &'a str)>);

impl<'a> Fields<'a> {
    fn parse(json: &'a [u8]) -> Result<Self, StoreError> {
        let wrong = |err: String| unreadable(format!("the body should be one JSON object: {err}"));
        let text = std::str::from_utf8(json).map_err(|err| wrong(err.to_string()))?;
        let mut deserializer = serde_json::Deserializer::from_str(text);
        let fields = deserializer.deserialize_map(FieldsVisitor).map_err(|err| wrong(err.to_string()))?;
        deserializer.end().map_err(|err| wrong(err.to_string()))?;
        Ok(fields)
    }

    fn key(&self, name: &str) -> Result<Option<String>, StoreError> {
        let Some((_, value)) = self.0.iter().find(|(field, _)| field == name) else { return Ok(None) };
        let wrong = |_| unreadable(format!("{name} should be a string"));
        serde_json::from_str(value).map_err(wrong)
    }

    /// A string as it is stored: without escapes that it does not need, so that two texts of one value are one. Some
    /// clients write the number of an Edm.Double as a string; it is stored as a number.
    fn text(&self, name: &str, value: &str) -> Result<Cow<'static, str>, StoreError> {
        let wrong = |err| unreadable(format!("the value of {name:?} is no text: {err}"));
        let text: String = serde_json::from_str(value).map_err(wrong)?;
        let number = self.is_double(name) && serde_json::from_str::<serde_json::Number>(&text).is_ok();
        Ok(Cow::Owned(if number { text.trim().to_owned() } else { serde_json::Value::from(text).to_string() }))
    }

    fn is_double(&self, name: &str) -> bool {
        let says = |field: &str| field.strip_suffix("@odata.type") == Some(name);
        self.0.iter().any(|(field, value)| says(field) && *value == "\"Edm.Double\"")
    }

    fn body(&self, partition: &PartitionKey, row: &RowKey) -> Result<RowBody, StoreError> {
        let quoted = |text: &str| serde_json::Value::from(text).to_string();
        let mut json = format!(r#"{{"{PARTITION}":{},"{ROW}":{}"#, quoted(partition.as_str()), quoted(row.as_str()));
        for (name, value) in self.0.iter().filter(|(name, _)| !matches!(name.as_str(), PARTITION | ROW)) {
            let value = match value.starts_with('"') && (value.contains('\\') || self.is_double(name)) {
                true => self.text(name, value)?,
                false => Cow::Borrowed(*value),
            };
            json.push_str(&format!(",{}:{value}", quoted(name)));
        }
        json.push('}');
        RowBody::parse(&json).map_err(|err| unreadable(err.to_string()))
    }
}

struct FieldsVisitor;

impl<'de> Visitor<'de> for FieldsVisitor {
    type Value = Fields<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut fields = Vec::with_capacity(16);
        let mut seen = BTreeSet::new();
        while let Some((name, value)) = map.next_entry::<String, &'de RawValue>()? {
            if !seen.insert(name.clone()) {
                return Err(A::Error::custom(format_args!("the property {name:?} stands there twice")));
            }
            fields.push((name, value.get()));
        }
        Ok(Fields(fields))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_from_the_path_or_from_the_body() {
        let json = br#"{"A":1,"RowKey":"r","PartitionKey":"it's"}"#;
        let expected = RowBody::parse(r#"{"PartitionKey":"it's","RowKey":"r","A":1}"#).unwrap();
        assert_eq!(row(json).unwrap(), expected);
        assert_eq!(row_at(json, &"it's".into(), &"r".into()).unwrap(), expected);
        assert_eq!(row_at(br#"{"A":1}"#, &"it's".into(), &"r".into()).unwrap(), expected);
        assert_eq!(row_at(json, &"p".into(), &"r".into()).unwrap_err().code, "InvalidInput");
        assert_eq!(row(br#"{"PartitionKey":"p"}"#).unwrap_err().code, "PropertiesNeedValue");
        assert_eq!(row(br#"{"PartitionKey":"p","RowKey":null}"#).unwrap_err().code, "PropertiesNeedValue");
        assert_eq!(row(br#"{"PartitionKey":"p","RowKey":1}"#).unwrap_err().code, "InvalidInput");
    }

    #[test]
    fn escapes_are_undone_and_other_values_stay_the_text_they_came_in() {
        let json =
            r#"{"PartitionKey":"\u00e9","RowKey":"","S":"\u65e5 \"\\\n","N":1.50,"L@odata.type":"Edm.Int64","L":"1"}"#;
        let found = row(json.as_bytes()).unwrap();
        let tail = r#""S":"日 \"\\\n","N@odata.type":"Edm.Double","N":1.50,"L@odata.type":"Edm.Int64","L":"1"}"#;
        assert_eq!(&**found.json(), format!(r#"{{"PartitionKey":"é","RowKey":"",{tail}"#));
    }

    #[test]
    fn a_double_that_is_written_as_a_string_is_stored_as_a_number() {
        let json = r#"{"A@odata.type":"Edm.Double","A":"1.0","N@odata.type":"Edm.Double","N":"NaN","S":"1.0"}"#;
        let found = row_at(json.as_bytes(), &"".into(), &"".into()).unwrap();
        assert!(
            found.json().ends_with(r#""A":1.0,"N@odata.type":"Edm.Double","N":"NaN","S":"1.0"}"#),
            "{}",
            found.json()
        );
    }

    #[test]
    fn what_is_no_object_is_refused() {
        for bad in ["", "[]", "{", "{} x", "1", r#"{"A":"\ud800"}"#, r#"{"A":1,"A":1}"#] {
            let at = row_at(bad.as_bytes(), &"p".into(), &"r".into());
            assert_eq!(at.unwrap_err().code, "InvalidInput", "{bad}");
        }
        assert_eq!(table_name(br#"{"TableName":"Orders"}"#).unwrap(), "Orders");
        assert_eq!(table_name(b"{}").unwrap_err().code, "PropertiesNeedValue");
    }
}
