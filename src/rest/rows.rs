//! Rows and tables as JSON, with as much metadata as was asked for.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::context::Context;
use super::options::Metadata;
use crate::model::{Etag, Row, TableName, Time};
use crate::stores::StoreError;
use crate::stores::limits::{Properties, Property};

/// Everything but RFC 3986's unreserved characters.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// How rows of one table are written.
#[derive(Debug, Clone, Copy)]
pub(super) struct Writer<'a> {
    pub(super) context: &'a Context,
    pub(super) table: &'a TableName,
    pub(super) metadata: Metadata,
    pub(super) select: Option<&'a [String]>,
}

impl Writer<'_> {
    /// One row that is a reply of its own.
    ///
    /// # Errors
    /// Those of a row that the store should never have held.
    pub(super) fn entity(&self, row: &Row) -> Result<String, StoreError> {
        let mut object = Object::new();
        if self.metadata != Metadata::None {
            object.string("odata.metadata", &format!("{}/$metadata#{}/@Element", self.context.base, self.table));
        }
        self.fields(&mut object, row)?;
        Ok(object.finish())
    }

    /// A page of rows.
    ///
    /// # Errors
    /// As [`Writer::entity`].
    pub(super) fn page(&self, rows: &[Row]) -> Result<String, StoreError> {
        let mut text = String::from("{");
        if self.metadata != Metadata::None {
            let metadata = quoted(&format!("{}/$metadata#{}", self.context.base, self.table));
            text.push_str(&format!("\"odata.metadata\":{metadata},"));
        }
        text.push_str("\"value\":[");
        for (index, row) in rows.iter().enumerate() {
            if index > 0 {
                text.push(',');
            }
            let mut object = Object::new();
            self.fields(&mut object, row)?;
            text.push_str(&object.finish());
        }
        text.push_str("]}");
        Ok(text)
    }

    fn fields(&self, object: &mut Object, row: &Row) -> Result<(), StoreError> {
        let wanted = |name: &str| self.select.is_none_or(|names| names.iter().any(|wanted| wanted == name));
        let (partition, key) = (row.body.partition().as_str(), row.body.row().as_str());
        if self.metadata == Metadata::Full {
            let id = format!("{}(PartitionKey='{}',RowKey='{}')", self.table, encoded(partition), encoded(key));
            object.string("odata.type", &format!("{}.{}", self.context.account, self.table));
            object.string("odata.id", &format!("{}/{id}", self.context.base));
            object.string("odata.editLink", &id);
        }
        if self.metadata != Metadata::None {
            object.string("odata.etag", row.etag.as_str());
        }
        for (name, value) in [("PartitionKey", partition), ("RowKey", key)] {
            if wanted(name) {
                object.string(name, value);
            }
        }
        // An insert is answered without one where the store's ETag does not tell it.
        if wanted("Timestamp") && row.timestamp != Time::EPOCH {
            if self.metadata == Metadata::Full {
                object.string("Timestamp@odata.type", "Edm.DateTime");
            }
            object.string("Timestamp", &row.timestamp.to_string());
        }
        for property in Properties::of(&row.body)?.0.iter().filter(|property| wanted(&property.name)) {
            if let Some(edm) = self.annotation(property) {
                object.string(&format!("{}@odata.type", property.name), edm);
            }
            match property.edm.as_deref() {
                // A Double is told from an Int32 by its fraction alone.
                Some("Edm.Double") if is_whole(property.value) => {
                    object.raw(&property.name, &format!("{}.0", property.value));
                }
                _ => object.raw(&property.name, property.value),
            }
        }
        Ok(())
    }

    /// The type of a property, where JSON does not tell it by itself.
    fn annotation<'p>(&self, property: &'p Property<'_>) -> Option<&'p str> {
        let edm = property.edm.as_deref().filter(|_| self.metadata != Metadata::None)?;
        let told = match edm {
            "Edm.String" | "Edm.Boolean" | "Edm.Int32" => true,
            // Those that are no numbers are written as strings.
            "Edm.Double" => !property.value.starts_with('"'),
            _ => false,
        };
        (!told).then_some(edm)
    }
}

fn is_whole(number: &str) -> bool {
    !number.starts_with('"') && !number.contains(['.', 'e', 'E'])
}

/// A page of the names of tables.
pub(super) fn tables(context: &Context, metadata: Metadata, names: &[TableName]) -> String {
    let names: Vec<String> = names.iter().map(|name| table_fields(context, metadata, name).finish()).collect();
    let head = match metadata {
        Metadata::None => String::new(),
        _ => format!("\"odata.metadata\":{},", quoted(&format!("{}/$metadata#Tables", context.base))),
    };
    format!("{{{head}\"value\":[{}]}}", names.join(","))
}

/// One table that is a reply of its own.
pub(super) fn table(context: &Context, metadata: Metadata, name: &TableName) -> String {
    let fields = table_fields(context, metadata, name).finish();
    match metadata {
        Metadata::None => fields,
        _ => {
            let head = quoted(&format!("{}/$metadata#Tables/@Element", context.base));
            fields.replacen('{', &format!("{{\"odata.metadata\":{head},"), 1)
        }
    }
}

fn table_fields(context: &Context, metadata: Metadata, name: &TableName) -> Object {
    let mut object = Object::new();
    if metadata == Metadata::Full {
        object.string("odata.type", &format!("{}.Tables", context.account));
        object.string("odata.id", &format!("{}/Tables('{name}')", context.base));
        object.string("odata.editLink", &format!("Tables('{name}')"));
    }
    object.string("TableName", name.as_str());
    object
}

/// The time in an ETag of Azure's form, `W/"datetime'2026-11-22T12%3A18%3A00.1234567Z'"`.
pub(super) fn stamp(etag: &Etag) -> Option<Time> {
    let text = etag.as_str().strip_prefix("W/\"datetime'")?.strip_suffix("'\"")?;
    Time::parse_storage(&text.replace("%3A", ":")).ok()
}

/// A key as it stands in an address: its quotes doubled, then percent-encoded.
pub(super) fn encoded(key: &str) -> String {
    utf8_percent_encode(&key.replace('\'', "''"), RESERVED).to_string()
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// A JSON object while it is written.
struct Object(String);

impl Object {
    fn new() -> Self {
        Self(String::from("{"))
    }

    fn raw(&mut self, name: &str, value: &str) {
        if self.0.len() > 1 {
            self.0.push(',');
        }
        self.0.push_str(&quoted(name));
        self.0.push(':');
        self.0.push_str(value);
    }

    fn string(&mut self, name: &str, value: &str) {
        self.raw(name, &quoted(value));
    }

    fn finish(mut self) -> String {
        self.0.push('}');
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WIRE: &str = r#"{"odata.etag":"W/\"1\"","PartitionKey":"it's","RowKey":"a b","Timestamp":"2026-11-22T12:18:00.12Z",
        "S@odata.type":"Edm.String","S":"é\"","I":7,"L@odata.type":"Edm.Int64","L":"7","D":1.50,"W@odata.type":"Edm.Double",
        "W":3,"N@odata.type":"Edm.Double","N":"NaN"}"#;

    fn written(metadata: Metadata, select: Option<&[String]>) -> String {
        let context = Context {
            account: "acct".into(),
            root: "/acct".into(),
            base: "http://h/acct".into(),
            request_id: String::new(),
            now: Time::EPOCH,
        };
        let table = TableName::new("Orders").unwrap();
        let row = Row::from_wire(WIRE, None).unwrap();
        Writer { context: &context, table: &table, metadata, select }.entity(&row).unwrap()
    }

    #[test]
    fn minimal_metadata_tells_the_types_that_json_does_not() {
        assert_eq!(
            written(Metadata::Minimal, None),
            r#"{"odata.metadata":"http://h/acct/$metadata#Orders/@Element","odata.etag":"W/\"1\"","PartitionKey":"it's","RowKey":"a b","Timestamp":"2026-11-22T12:18:00.1200000Z","S":"é\"","I":7,"L@odata.type":"Edm.Int64","L":"7","D":1.50,"W":3.0,"N@odata.type":"Edm.Double","N":"NaN"}"#
        );
    }

    #[test]
    fn no_metadata_are_values_alone_and_full_ones_have_addresses() {
        let names = ["RowKey".to_owned(), "L".to_owned()];
        assert_eq!(written(Metadata::None, Some(&names)), r#"{"RowKey":"a b","L":"7"}"#);
        assert_eq!(
            written(Metadata::Full, Some(&names)),
            r#"{"odata.metadata":"http://h/acct/$metadata#Orders/@Element","odata.type":"acct.Orders","odata.id":"http://h/acct/Orders(PartitionKey='it%27%27s',RowKey='a%20b')","odata.editLink":"Orders(PartitionKey='it%27%27s',RowKey='a%20b')","odata.etag":"W/\"1\"","RowKey":"a b","L@odata.type":"Edm.Int64","L":"7"}"#
        );
        assert!(written(Metadata::Full, None).contains(r#""Timestamp@odata.type":"Edm.DateTime","Timestamp":"2026"#));
    }

    #[test]
    fn an_etag_of_azures_form_tells_the_time() {
        let etag = Etag::new("W/\"datetime'2026-11-22T12%3A18%3A00.1234567Z'\"");
        assert_eq!(stamp(&etag).unwrap().to_string(), "2026-11-22T12:18:00.1234567Z");
        assert_eq!(stamp(&Etag::new("W/\"1\"")), None);
    }
}
