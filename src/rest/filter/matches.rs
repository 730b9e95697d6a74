//! Whether a filter holds for a row.

use std::cell::OnceCell;
use std::cmp::Ordering;

use super::value::Value;
use super::{Filter, Operand, Operator};
use crate::model::Row;
use crate::stores::limits::Properties;

/// What a filter asks for values.
pub(in crate::rest) trait Subject {
    /// The value of a property; nothing where there is none.
    fn value(&self, name: &str) -> Option<Value>;
}

/// A row whose properties are read when a filter first asks for one: most ask for keys alone.
pub(in crate::rest) struct RowSubject<'a> {
    row: &'a Row,
    properties: OnceCell<Option<Properties<'a>>>,
}

impl<'a> RowSubject<'a> {
    fn new(row: &'a Row) -> Self {
        Self { row, properties: OnceCell::new() }
    }
}

impl Subject for RowSubject<'_> {
    fn value(&self, name: &str) -> Option<Value> {
        match name {
            "PartitionKey" => Some(Value::String(self.row.body.partition().as_str().to_owned())),
            "RowKey" => Some(Value::String(self.row.body.row().as_str().to_owned())),
            "Timestamp" => Some(Value::DateTime(self.row.timestamp)),
            _ => {
                let properties = self.properties.get_or_init(|| Properties::of(&self.row.body).ok()).as_ref()?;
                Value::of(properties.0.iter().find(|property| property.name == name)?)
            }
        }
    }
}

/// Whether `filter` holds for a row.
pub(in crate::rest) fn holds(filter: &Filter, row: &Row) -> bool {
    filter.holds(&RowSubject::new(row))
}

impl Filter {
    /// Whether it holds for what has these values.
    pub(in crate::rest) fn holds(&self, subject: &impl Subject) -> bool {
        match self {
            Self::And(a, b) => a.holds(subject) && b.holds(subject),
            Self::Or(a, b) => a.holds(subject) || b.holds(subject),
            Self::Not(a) => !a.holds(subject),
            Self::True(operand) => operand.value(subject) == Some(Value::Boolean(true)),
            Self::Compare(a, operator, b) => match (a.value(subject), b.value(subject)) {
                (Some(a), Some(b)) => operator.accepts(&a, &b),
                _ => false,
            },
        }
    }
}

impl Operand {
    fn value(&self, subject: &impl Subject) -> Option<Value> {
        match self {
            Self::Property(name) => subject.value(name),
            Self::Literal(value) => Some(value.clone()),
        }
    }
}

impl Operator {
    fn accepts(self, a: &Value, b: &Value) -> bool {
        let Some(order) = a.compare(b) else { return false };
        match self {
            Self::Equal => order == Ordering::Equal,
            Self::NotEqual => order != Ordering::Equal,
            Self::Greater => order == Ordering::Greater,
            Self::GreaterOrEqual => order != Ordering::Less,
            Self::Less => order == Ordering::Less,
            Self::LessOrEqual => order != Ordering::Greater,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::parse;
    use super::*;

    const ROW: &str = r#"{"odata.etag":"x","PartitionKey":"it's","RowKey":"r","Timestamp":"2026-11-22T12:18:00Z",
        "S":"text","I":7,"B":true,"L@odata.type":"Edm.Int64","L":"9007199254740993","D@odata.type":"Edm.Double","D":1.5,
        "N@odata.type":"Edm.Double","N":"NaN","T@odata.type":"Edm.DateTime","T":"2026-11-22T12:18:00.1234567Z",
        "G@odata.type":"Edm.Guid","G":"C9DA6455-213D-42C9-9A79-3E9149A57833","X@odata.type":"Edm.Binary","X":"AAEC"}"#;

    fn accepts(filter: &str) -> bool {
        holds(&parse(filter).unwrap(), &Row::from_wire(ROW, None).unwrap())
    }

    #[test]
    fn literals_of_every_type_are_compared() {
        for filter in [
            "PartitionKey eq 'it''s' and RowKey ge 'r'",
            "Timestamp le datetime'2026-11-22T12:18:00Z'",
            "S eq 'text'",
            "S gt 'tex' and S lt 'texu' and S ne 'other'",
            "I eq 7",
            "I eq 7L",
            "I lt 7.5",
            "7 eq I",
            "8 gt I",
            "B",
            "B eq true",
            "not (B eq false)",
            "L eq 9007199254740993L",
            "L gt 9007199254740992L",
            "D eq 1.5 and D ge 1",
            "T eq datetime'2026-11-22T12:18:00.1234567Z'",
            "T gt datetime'2026-11-22T12:18:00.1234566Z'",
            "G eq guid'c9da6455-213d-42c9-9a79-3e9149a57833'",
            "X eq X'000102'",
            "X lt binary'000103'",
            "(S eq 'no' or I eq 7) and not (S eq 'no' and I eq 7)",
        ] {
            assert!(accepts(filter), "{filter}");
        }
    }

    #[test]
    fn what_is_missing_or_of_another_type_does_not_hold() {
        for filter in [
            "Missing eq 'x'",
            "Missing ne 'x'",
            "S eq 7",
            "S ne 7",
            "I eq '7'",
            "N eq NaN",
            "N lt 1.0",
            "Missing",
            "S",
            "PartitionKey lt 'it'",
        ] {
            assert!(!accepts(filter), "{filter}");
        }
        assert!(accepts("not (Missing eq 'x')"));
    }
}
