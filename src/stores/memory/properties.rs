//! Merging and selecting properties without touching their values: every value stays the text it came in.

use super::errors;
use crate::model::RowBody;
use crate::stores::StoreError;
use crate::stores::limits::{Properties, Property};

/// The row without its nulls, which Azure does not store.
pub(super) fn without_nulls(body: &RowBody) -> Result<RowBody, StoreError> {
    // Hardly any row has one; a string that holds `:null` only costs the longer way.
    if !body.json().contains(":null") {
        return Ok(body.clone());
    }
    rebuilt(body, &Properties::of(body)?.0)
}

/// `current` with the properties of `changes` put in; nulls leave a property as it is.
pub(super) fn merged(current: &RowBody, changes: &RowBody) -> Result<RowBody, StoreError> {
    let mut properties = Properties::of(current)?.0;
    for change in Properties::of(changes)?.0 {
        match properties.iter_mut().find(|property| property.name == change.name) {
            Some(property) => *property = change,
            None => properties.push(change),
        }
    }
    rebuilt(current, &properties)
}

/// The keys of the row and those of its properties that are named.
pub(super) fn selected(body: &RowBody, names: &[String]) -> Result<RowBody, StoreError> {
    let mut properties = Properties::of(body)?.0;
    properties.retain(|property| names.iter().any(|name| *name == property.name));
    rebuilt(body, &properties)
}

fn rebuilt(body: &RowBody, properties: &[Property<'_>]) -> Result<RowBody, StoreError> {
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    let mut json = String::with_capacity(body.json().len());
    json.push_str(&format!(
        r#"{{"PartitionKey":{},"RowKey":{}"#,
        quoted(body.partition().as_str()),
        quoted(body.row().as_str())
    ));
    for property in properties {
        if let Some(edm) = &property.edm {
            json.push_str(&format!(",{}:{}", quoted(&format!("{}@odata.type", property.name)), quoted(edm)));
        }
        json.push_str(&format!(",{}:{}", quoted(&property.name), property.value));
    }
    json.push('}');
    RowBody::parse(&json).map_err(|err| errors::invalid("InvalidInput", err.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(properties: &str) -> RowBody {
        RowBody::parse(&format!(r#"{{"PartitionKey":"p","RowKey":"r"{properties}}}"#)).unwrap()
    }

    #[test]
    fn a_merge_replaces_value_and_type_and_keeps_the_rest() {
        let current = body(r#","A@odata.type":"Edm.Int64","A":"1","B":"two","C":3"#);
        let changes = body(r#","A":true,"D@odata.type":"Edm.Double","D":1.50,"B":null"#);
        let expected = body(r#","A":true,"B":"two","C":3,"D@odata.type":"Edm.Double","D":1.50"#);
        assert_eq!(merged(&current, &changes).unwrap(), expected);
    }

    #[test]
    fn nulls_are_left_out_with_their_type() {
        let with = body(r#","N@odata.type":"Edm.Int64","N":null,"S":"a:null","Z":null"#);
        assert_eq!(without_nulls(&with).unwrap(), body(r#","S":"a:null""#));
    }

    #[test]
    fn a_selection_keeps_types() {
        let row = body(r#","A@odata.type":"Edm.Int64","A":"1","B":"two""#);
        assert_eq!(selected(&row, &["A".into(), "X".into()]).unwrap(), body(r#","A@odata.type":"Edm.Int64","A":"1""#));
    }
}
