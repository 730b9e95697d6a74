//! Whether a value is one of the type it says: a server that parses values refuses what is none.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::errors;
use crate::model::{RowBody, Time};
use crate::stores::limits::{Properties, Property};
use crate::stores::{Operation, StoreError};

/// The first moment of 1601, below which Azure has no Edm.DateTime.
const FIRST_DATE_TIME: &str = "1601-01-01T00:00:00.0000000Z";

/// Refuses a row with a value that is none of its type, whatever rows there are.
pub(super) fn check(operation: &Operation) -> Result<(), StoreError> {
    operation.body().map_or(Ok(()), check_body)
}

fn check_body(body: &RowBody) -> Result<(), StoreError> {
    // Without a type a value is what JSON says it is, which the limits have seen to.
    if !body.json().contains("@odata.type") {
        return Ok(());
    }
    for property in Properties::of(body)?.0 {
        let Some(edm) = property.edm.as_deref() else { continue };
        if !fits(edm, &property) {
            let message = format!("the value of the property {:?} is no {edm}", property.name);
            return Err(errors::invalid("InvalidInput", message));
        }
    }
    Ok(())
}

fn fits(edm: &str, property: &Property<'_>) -> bool {
    let value = property.value;
    let text = || serde_json::from_str::<String>(value).ok();
    match edm {
        "Edm.String" => value.starts_with('"'),
        "Edm.Boolean" => matches!(value, "true" | "false"),
        "Edm.Int32" => value.parse::<i32>().is_ok(),
        "Edm.Int64" => text().is_some_and(|text| text.parse::<i64>().is_ok()),
        "Edm.Double" => match text() {
            Some(text) => matches!(&*text, "NaN" | "Infinity" | "-Infinity"),
            None => value.parse::<f64>().is_ok_and(f64::is_finite),
        },
        "Edm.DateTime" => text().is_some_and(|text| is_date_time(&text)),
        "Edm.Guid" => text().is_some_and(|text| text.len() == 36 && uuid::Uuid::parse_str(&text).is_ok()),
        "Edm.Binary" => text().is_some_and(|text| STANDARD.decode(text).is_ok()),
        _ => false,
    }
}

fn is_date_time(text: &str) -> bool {
    match (Time::parse_storage(text), Time::parse(FIRST_DATE_TIME)) {
        (Ok(time), Ok(first)) => time >= first,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepts(edm: &str, value: &str) -> bool {
        let json = format!(r#"{{"PartitionKey":"p","RowKey":"r","V@odata.type":"{edm}","V":{value}}}"#);
        check_body(&RowBody::parse(&json).unwrap()).is_ok()
    }

    #[test]
    fn a_value_is_one_of_the_type_it_says() {
        for (edm, good, bad) in [
            ("Edm.String", r#""""#, "1"),
            ("Edm.Boolean", "true", r#""true""#),
            ("Edm.Int32", "-7", "2147483648"),
            ("Edm.Int64", r#""9223372036854775807""#, r#""9223372036854775808""#),
            ("Edm.Double", r#""-Infinity""#, r#""infinite""#),
            ("Edm.Double", "1.0", "1e999"),
            ("Edm.DateTime", r#""2026-11-22T12:18:00.1234567Z""#, r#""1600-12-31T23:59:59Z""#),
            ("Edm.DateTime", r#""1601-01-01T00:00:00Z""#, r#""2026-11-22T12:18:00""#),
            ("Edm.Guid", r#""c9da6455-213d-42c9-9a79-3e9149a57833""#, r#""c9da6455213d42c99a793e9149a57833""#),
            ("Edm.Binary", r#""AAECAw==""#, r#""AAECA""#),
            ("Edm.Int64", r#""1""#, "1"),
        ] {
            assert!(accepts(edm, good), "{edm} {good}");
            assert!(!accepts(edm, bad), "{edm} {bad}");
        }
        assert!(!accepts("Edm.Decimal", r#""1""#));
    }
}
