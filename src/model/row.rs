//! Rows, carried as the JSON they came in.
//!
//! Only the keys, `Timestamp`, the ETag and `RelayVersion` are read out of a row. The properties and their
//! `@odata.type` stay the text that the server sent, which makes every EDM type exact by construction, and cheap:
//! nobody has to know what an Int64 is to carry it. What is dropped differs by region anyway: `odata.*` and
//! `Timestamp`.

use std::borrow::Cow;
use std::cell::LazyCell;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use serde::de::{self, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::{PartitionKey, Region, RowKey, Time, Version};

/// What the name of a property is followed by where its type is told.
const TYPE: &str = "@odata.type";

/// JSON that is no row.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RowError {
    /// Not a JSON object.
    #[error("a row should be a JSON object: {0}")]
    Json(String),
    /// A key is absent or no string.
    #[error("a row should have a string {0}")]
    Key(&'static str),
    /// A time that does not parse.
    #[error("a row's Timestamp should be a UTC time, not {0:?}")]
    Timestamp(String),
}

/// An ETag as the server wrote it; only compared and sent back.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Etag(Arc<str>);

impl Etag {
    /// Takes the server's text, quotes and `W/` included.
    pub fn new(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }

    /// The text for an `If-Match` header.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Etag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a row says, without what differs by region: keys, `RelayVersion`, properties with their types.
///
/// Its JSON begins with `PartitionKey`, `RowKey` and, where there is one, `RelayVersion`; the rest follows in the order
/// in which it came.
#[derive(Clone, PartialEq, Eq)]
pub struct RowBody {
    partition: PartitionKey,
    row: RowKey,
    version: Option<Version>,
    json: Arc<str>,
}

/// A row as a store returned it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// What it says.
    pub body: RowBody,
    /// Its ETag in the store that returned it.
    pub etag: Etag,
    /// When that store last wrote it, by that store's clock.
    pub timestamp: Time,
}

impl Row {
    /// Reads a row from a server's reply: one JSON object with `PartitionKey`, `RowKey`, `Timestamp`, its properties
    /// and `odata.etag`, for which `etag` (the reply's header) is the fallback.
    ///
    /// # Errors
    /// [`RowError`] where it is no object, or keys, `Timestamp` or any ETag are missing.
    pub fn from_wire(json: &str, etag: Option<Etag>) -> Result<Self, RowError> {
        let fields = Fields::parse(json)?;
        let stamp = fields.text("Timestamp").ok_or(RowError::Key("Timestamp"))?;
        let timestamp = Time::parse_storage(&stamp).map_err(|_| RowError::Timestamp(stamp.to_string()))?;
        // An empty one would make a condition of nothing.
        let own = fields.text("odata.etag").filter(|text| !text.is_empty()).map(|text| Etag::new(text.as_ref()));
        let etag = own.or(etag);
        let body = RowBody::of(&fields)?;
        Ok(Self { body, etag: etag.ok_or(RowError::Key("odata.etag"))?, timestamp })
    }

    /// Its version; where it carries none that parses, the implicit one of `region`, the region that holds it.
    pub fn version(&self, region: &Region) -> Version {
        self.body.version.clone().unwrap_or_else(|| Version::implicit(self.timestamp, region))
    }
}

impl RowBody {
    /// Reads a row body from JSON: `PartitionKey`, `RowKey`, properties. `odata.*` and `Timestamp` are dropped.
    ///
    /// # Errors
    /// [`RowError`] where it is no object or lacks a key.
    pub fn parse(json: &str) -> Result<Self, RowError> {
        Self::of(&Fields::parse(json)?)
    }

    fn of(fields: &Fields<'_>) -> Result<Self, RowError> {
        let partition = fields.text("PartitionKey").ok_or(RowError::Key("PartitionKey"))?;
        let row = fields.text("RowKey").ok_or(RowError::Key("RowKey"))?;
        let version = fields.text(Version::PROPERTY).and_then(|text| Version::parse(&text).ok());
        let mut json = JsonObject::with_keys(&partition, &row);
        if let Some(raw) = fields.raw(Version::PROPERTY) {
            json.raw(Version::PROPERTY, raw);
        }
        fields.write_properties(&mut json);
        Ok(Self {
            partition: PartitionKey::new(partition.as_ref()),
            row: RowKey::new(row.as_ref()),
            version,
            json: json.finish(),
        })
    }

    /// Begins a body that we make ourselves: a record, a tombstone, link state.
    pub fn builder(partition: &PartitionKey, row: &RowKey) -> BodyBuilder {
        BodyBuilder {
            json: JsonObject::with_keys(partition.as_str(), row.as_str()),
            partition: partition.clone(),
            row: row.clone(),
        }
    }

    /// The same row carrying `version`.
    pub fn stamped(&self, version: &Version) -> Self {
        if self.version.as_ref() == Some(version) {
            return self.clone();
        }
        let mut json = JsonObject::with_keys(self.partition.as_str(), self.row.as_str());
        json.string(Version::PROPERTY, version.as_str());
        // Its own JSON was written by `JsonObject`, so it parses.
        if let Ok(fields) = Fields::parse(&self.json) {
            fields.write_properties(&mut json);
        }
        Self { json: json.finish(), version: Some(version.clone()), ..self.clone() }
    }

    /// The same row with no other properties than those that `keeps` names. Each takes its type along; keys and version stay.
    pub fn with_properties(&self, keeps: impl Fn(&str) -> bool) -> Self {
        // Its own JSON was written by `JsonObject`, so it parses.
        let Ok(mut fields) = Fields::parse(&self.json) else { return self.clone() };
        let mut json = JsonObject::with_keys(self.partition.as_str(), self.row.as_str());
        if let Some(raw) = fields.raw(Version::PROPERTY) {
            json.raw(Version::PROPERTY, raw);
        }
        fields.0.retain(|(name, _)| keeps(name.strip_suffix(TYPE).unwrap_or(name)));
        fields.write_properties(&mut json);
        Self { json: json.finish(), ..self.clone() }
    }

    /// Its partition key.
    pub fn partition(&self) -> &PartitionKey {
        &self.partition
    }

    /// Its row key.
    pub fn row(&self) -> &RowKey {
        &self.row
    }

    /// The version that it carries, where it carries one that parses.
    pub fn version(&self) -> Option<&Version> {
        self.version.as_ref()
    }

    /// The JSON object: what is sent to a store and kept in a cache.
    pub fn json(&self) -> &Arc<str> {
        &self.json
    }

    /// A string property, by name.
    pub fn string(&self, name: &str) -> Option<String> {
        Fields::parse(&self.json).ok()?.text(name).map(Cow::into_owned)
    }

    /// An Edm.DateTime property, by name; `None` where it has another type.
    pub fn date_time(&self, name: &str) -> Option<Time> {
        let fields = Fields::parse(&self.json).ok()?;
        let typed = fields.text(&format!("{name}{TYPE}"))? == "Edm.DateTime";
        Time::parse_storage(&fields.text(name)?).ok().filter(|_| typed)
    }
}

impl fmt::Debug for RowBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Properties are the customer's: they stay out of logs.
        f.debug_struct("RowBody")
            .field("partition", &self.partition)
            .field("row", &self.row)
            .field("version", &self.version)
            .field("bytes", &self.json.len())
            .finish_non_exhaustive()
    }
}

/// Builds the body of a system row, property by property.
#[derive(Debug)]
pub struct BodyBuilder {
    json: JsonObject,
    partition: PartitionKey,
    row: RowKey,
}

impl BodyBuilder {
    /// Adds an Edm.String.
    #[must_use]
    pub fn string(mut self, name: &str, value: &str) -> Self {
        self.json.string(name, value);
        self
    }

    /// Adds an Edm.String where there is a value.
    #[must_use]
    pub fn maybe(self, name: &str, value: Option<&str>) -> Self {
        match value {
            Some(value) => self.string(name, value),
            None => self,
        }
    }

    /// Adds an Edm.Int64.
    #[must_use]
    pub fn int64(mut self, name: &str, value: i64) -> Self {
        self.json.string(&format!("{name}@odata.type"), "Edm.Int64");
        self.json.string(name, &value.to_string());
        self
    }

    /// The body.
    pub fn finish(self) -> RowBody {
        RowBody { json: self.json.finish(), partition: self.partition, row: self.row, version: None }
    }
}

/// A JSON object while it is written.
#[derive(Debug)]
struct JsonObject(String);

impl JsonObject {
    fn with_keys(partition: &str, row: &str) -> Self {
        let mut object = Self(String::with_capacity(256));
        object.0.push('{');
        object.string("PartitionKey", partition);
        object.string("RowKey", row);
        object
    }

    fn name(&mut self, name: &str) {
        if self.0.len() > 1 {
            self.0.push(',');
        }
        self.quoted(name);
        self.0.push(':');
    }

    fn quoted(&mut self, text: &str) {
        self.0.push_str(&serde_json::Value::from(text).to_string());
    }

    fn string(&mut self, name: &str, value: &str) {
        self.name(name);
        self.quoted(value);
    }

    fn raw(&mut self, name: &str, value: &str) {
        self.name(name);
        self.0.push_str(value);
    }

    fn finish(mut self) -> Arc<str> {
        self.0.push('}');
        self.0.into()
    }
}

/// The fields of a JSON object in their order, values left as text.
struct Fields<'a>(Vec<(Cow<'a, str>, &'a str)>);

impl<'a> Fields<'a> {
    fn parse(json: &'a str) -> Result<Self, RowError> {
        let mut deserializer = serde_json::Deserializer::from_str(json);
        let fields = deserializer.deserialize_map(FieldsVisitor).map_err(|err| RowError::Json(err.to_string()))?;
        deserializer.end().map_err(|err| RowError::Json(err.to_string()))?;
        Ok(fields)
    }

    fn raw(&self, name: &str) -> Option<&'a str> {
        self.0.iter().find(|(field, _)| field == name).map(|(_, value)| *value)
    }

    fn text(&self, name: &str) -> Option<Cow<'a, str>> {
        let raw = self.raw(name)?;
        // A string without escapes is borrowed, which is nearly all of them.
        match raw.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
            Some(inner) if !inner.contains('\\') => Some(Cow::Borrowed(inner)),
            _ => serde_json::from_str::<String>(raw).ok().map(Cow::Owned),
        }
    }

    /// Everything but keys, version, `Timestamp` and `odata.*`. A number with a fraction or an exponent is a Double
    /// and is said to be one: `1.0` without its type would come back as an Int32 from some servers.
    fn write_properties(&self, json: &mut JsonObject) {
        const OURS: [&str; 4] = ["PartitionKey", "RowKey", "Timestamp", Version::PROPERTY];
        // Most rows have no number of this kind; one that has thousands is not searched thousands of times.
        let annotated: LazyCell<BTreeSet<&str>, _> =
            LazyCell::new(|| self.0.iter().filter_map(|(name, _)| name.strip_suffix(TYPE)).collect());
        for (name, value) in &self.0 {
            let subject = name.strip_suffix(TYPE).unwrap_or(name);
            if name.starts_with("odata.") || OURS.contains(&subject) {
                continue;
            }
            let number = value.starts_with(|c: char| c == '-' || c.is_ascii_digit());
            if number && value.contains(['.', 'e', 'E']) && !annotated.contains(&**name) {
                json.string(&format!("{name}@odata.type"), "Edm.Double");
            }
            json.raw(name, value);
        }
    }
}

struct FieldsVisitor;

impl<'de> Visitor<'de> for FieldsVisitor {
    type Value = Fields<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut fields = Vec::with_capacity(map.size_hint().unwrap_or(8));
        while let Some((name, value)) = map.next_entry::<Name<'de>, &'de RawValue>()? {
            fields.push((name.0, value.get()));
        }
        Ok(Fields(fields))
    }
}

/// A field's name, borrowed where it has no escapes.
struct Name<'a>(Cow<'a, str>);

impl<'de> de::Deserialize<'de> for Name<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NameVisitor;
        impl<'de> Visitor<'de> for NameVisitor {
            type Value = Name<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a field name")
            }
            fn visit_borrowed_str<E: de::Error>(self, name: &'de str) -> Result<Self::Value, E> {
                Ok(Name(Cow::Borrowed(name)))
            }
            fn visit_str<E: de::Error>(self, name: &str) -> Result<Self::Value, E> {
                Ok(Name(Cow::Owned(name.to_owned())))
            }
        }
        deserializer.deserialize_str(NameVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WIRE: &str = r#"{"odata.etag":"W/\"datetime'1'\"","PartitionKey":"it's","RowKey":"a\"b","Timestamp":"2026-11-22T12:18:00.12Z",
        "Big@odata.type":"Edm.Int64","Big":"9223372036854775807","D":1.50,"N":-7,"RelayVersion":"2026-11-22T12:18:00.1234567Z@west.7f3a9c1b","\u00e9":null}"#;

    #[test]
    fn values_stay_the_text_they_came_in() {
        let row = Row::from_wire(WIRE, None).unwrap();
        assert_eq!(row.etag.as_str(), "W/\"datetime'1'\"");
        assert_eq!(row.timestamp.to_string(), "2026-11-22T12:18:00.1200000Z");
        assert_eq!(
            &**row.body.json(),
            r#"{"PartitionKey":"it's","RowKey":"a\"b","RelayVersion":"2026-11-22T12:18:00.1234567Z@west.7f3a9c1b","Big@odata.type":"Edm.Int64","Big":"9223372036854775807","D@odata.type":"Edm.Double","D":1.50,"N":-7,"é":null}"#
        );
        assert_eq!(RowBody::parse(row.body.json()).unwrap(), row.body, "a body is a fixed point");
    }

    #[test]
    fn a_stamp_replaces_the_version_and_nothing_else() {
        let row = Row::from_wire(WIRE, None).unwrap();
        let version = Version::parse("2027-01-01T00:00:00.0000000Z@north.00000001").unwrap();
        let stamped = row.body.stamped(&version);
        assert_eq!(stamped.version(), Some(&version));
        assert_eq!(stamped.stamped(row.body.version().unwrap()), row.body);
    }

    #[test]
    fn a_version_that_does_not_parse_is_implicit() {
        let wire = r#"{"odata.etag":"x","PartitionKey":"","RowKey":"","Timestamp":"2026-11-22T12:18:00Z","RelayVersion":"later"}"#;
        let row = Row::from_wire(wire, None).unwrap();
        let region = Region::new("west").unwrap();
        assert_eq!(row.version(&region).as_str(), "2026-11-22T12:18:00.0000000Z@west.00000000");
        assert_eq!(row.body.stamped(&row.version(&region)).json().matches("RelayVersion").count(), 1);
    }

    #[test]
    fn what_is_no_row_is_named() {
        assert_eq!(RowBody::parse(r#"{"PartitionKey":"a"}"#), Err(RowError::Key("RowKey")));
        assert_eq!(RowBody::parse(r#"{"PartitionKey":1,"RowKey":""}"#), Err(RowError::Key("PartitionKey")));
        assert!(matches!(RowBody::parse("[]"), Err(RowError::Json(_))));
        assert!(matches!(RowBody::parse(r#"{"PartitionKey":"a","RowKey":"b"} x"#), Err(RowError::Json(_))));
    }

    #[test]
    fn debug_output_has_no_properties() {
        let text = format!("{:?}", Row::from_wire(WIRE, None).unwrap());
        assert!(!text.contains("9223372036854775807"), "{text}");
    }
}
