//! Values of the EDM types, as literals and as they stand in rows.

use std::cmp::Ordering;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::model::Time;
use crate::stores::limits::Property;

/// A value by its type.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::rest) enum Value {
    String(String),
    Boolean(bool),
    Int32(i32),
    Int64(i64),
    Double(f64),
    DateTime(Time),
    /// In lower case.
    Guid(String),
    Binary(Vec<u8>),
}

impl Value {
    /// A literal of a type that is named: `datetime'…'`, `guid'…'`, `X'…'`, `binary'…'`.
    pub(super) fn typed(name: &str, text: &str) -> Result<Self, String> {
        let bad = |what: &str| format!("{name}'{text}' is no {what}");
        match name {
            "datetime" => date_time(text).map(Self::DateTime).ok_or_else(|| bad("time such as 2026-11-22T12:18:00Z")),
            "guid" => guid(text).map(Self::Guid).ok_or_else(|| bad("GUID")),
            "X" | "binary" => bytes(text).map(Self::Binary).ok_or_else(|| bad("even number of hex digits")),
            _ => Err(format!("{name:?} is no type of a literal: it should be datetime, guid, X or binary")),
        }
    }

    /// `7` is an Int32 where it fits, `7L` an Int64, `7.5`, `7e2` and `7d` are Doubles.
    pub(super) fn number(text: &str) -> Result<Self, String> {
        let bad = || format!("{text:?} is no number");
        if let Some(digits) = text.strip_suffix(['L', 'l']) {
            return digits.parse().map(Self::Int64).map_err(|_| bad());
        }
        if matches!(text, "-INF" | "-Infinity") {
            return Ok(Self::Double(f64::NEG_INFINITY));
        }
        let digits = text.strip_suffix(['d', 'D', 'f', 'F', 'm', 'M']).unwrap_or(text);
        if digits.len() == text.len() && !text.contains(['.', 'e', 'E']) {
            let number: i64 = text.parse().map_err(|_| bad())?;
            return Ok(i32::try_from(number).map_or(Self::Int64(number), Self::Int32));
        }
        let plain = digits.bytes().all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte));
        digits.parse().ok().filter(|_| plain).map(Self::Double).ok_or_else(bad)
    }

    /// The value of a property; nothing where it is none of its type.
    pub(super) fn of(property: &Property<'_>) -> Option<Self> {
        let json = property.value;
        let text = || serde_json::from_str::<String>(json).ok();
        match (property.edm.as_deref(), json.as_bytes().first()?) {
            (Some("Edm.Int64"), _) => text()?.parse().ok().map(Self::Int64),
            (Some("Edm.DateTime"), _) => date_time(&text()?).map(Self::DateTime),
            (Some("Edm.Guid"), _) => guid(&text()?).map(Self::Guid),
            (Some("Edm.Binary"), _) => BASE64.decode(text()?).ok().map(Self::Binary),
            (Some("Edm.Double"), b'"') => match &*text()? {
                "NaN" => Some(Self::Double(f64::NAN)),
                "Infinity" => Some(Self::Double(f64::INFINITY)),
                "-Infinity" => Some(Self::Double(f64::NEG_INFINITY)),
                _ => None,
            },
            (Some("Edm.Double"), _) => json.parse().ok().map(Self::Double),
            (_, b'"') => text().map(Self::String),
            (_, b't') => Some(Self::Boolean(true)),
            (_, b'f') => Some(Self::Boolean(false)),
            (_, _) if json.contains(['.', 'e', 'E']) => json.parse().ok().map(Self::Double),
            (_, _) => json.parse().ok().map(Self::Int32),
        }
    }

    /// How two values of one type stand to each other, all numbers being of one type. NaN stands to nothing.
    pub(super) fn compare(&self, other: &Self) -> Option<Ordering> {
        match (self, other) {
            (Self::String(a), Self::String(b)) => Some(a.encode_utf16().cmp(b.encode_utf16())),
            (Self::Boolean(a), Self::Boolean(b)) => Some(a.cmp(b)),
            (Self::DateTime(a), Self::DateTime(b)) => Some(a.cmp(b)),
            (Self::Guid(a), Self::Guid(b)) => Some(a.cmp(b)),
            (Self::Binary(a), Self::Binary(b)) => Some(a.cmp(b)),
            _ => match (self.integer(), other.integer()) {
                (Some(a), Some(b)) => Some(a.cmp(&b)),
                _ => self.double()?.partial_cmp(&other.double()?),
            },
        }
    }

    fn integer(&self) -> Option<i64> {
        match self {
            Self::Int32(number) => Some(i64::from(*number)),
            Self::Int64(number) => Some(*number),
            _ => None,
        }
    }

    fn double(&self) -> Option<f64> {
        match self {
            Self::Double(number) => Some(*number),
            _ => self.integer().map(|number| number as f64),
        }
    }
}

/// With or without `Z`, with 0 to 7 digits of a second.
fn date_time(text: &str) -> Option<Time> {
    let bare = text.strip_suffix('Z').or_else(|| text.strip_suffix("+00:00")).unwrap_or(text);
    Time::parse_storage(&format!("{bare}Z")).ok()
}

fn guid(text: &str) -> Option<String> {
    let fits = text.len() == 36 && uuid::Uuid::parse_str(text).is_ok();
    fits.then(|| text.to_ascii_lowercase())
}

fn bytes(hex: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> = hex.chars().map(|c| c.to_digit(16).map(|digit| digit as u8)).collect();
    let digits = digits.filter(|digits| digits.len() % 2 == 0)?;
    Some(digits.chunks(2).map(|pair| pair[0] * 16 + pair[1]).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_have_the_type_that_their_text_says() {
        for (text, value) in [
            ("7", Value::Int32(7)),
            ("-2147483649", Value::Int64(-2_147_483_649)),
            ("7L", Value::Int64(7)),
            ("7.0", Value::Double(7.0)),
            ("7e2", Value::Double(700.0)),
            ("7d", Value::Double(7.0)),
            ("-INF", Value::Double(f64::NEG_INFINITY)),
        ] {
            assert_eq!(Value::number(text).unwrap(), value, "{text}");
        }
        for bad in ["", "-", "1x", "0x10", "inf", "1L2", "1_000", "nan", "9223372036854775808"] {
            assert!(Value::number(bad).is_err(), "{bad}");
        }
        assert_eq!(Value::typed("X", "00fF").unwrap(), Value::Binary(vec![0, 255]));
        let time = Value::DateTime(Time::parse("2026-11-22T12:18:00.1000000Z").unwrap());
        for text in ["2026-11-22T12:18:00.1Z", "2026-11-22T12:18:00.1", "2026-11-22T12:18:00.1000000+00:00"] {
            assert_eq!(Value::typed("datetime", text).unwrap(), time);
        }
        for (name, bad) in [("X", "0"), ("X", "é0"), ("guid", "1"), ("datetime", "today"), ("geo", "1")] {
            assert!(Value::typed(name, bad).is_err(), "{name} {bad}");
        }
    }

    #[test]
    fn numbers_compare_across_their_types_and_nothing_else_does() {
        let most = Value::Int64(i64::MAX);
        assert_eq!(most.compare(&Value::Int64(i64::MAX - 1)), Some(Ordering::Greater), "not by way of a double");
        assert_eq!(Value::Int32(7).compare(&Value::Double(7.0)), Some(Ordering::Equal));
        assert_eq!(Value::Double(f64::NAN).compare(&Value::Double(f64::NAN)), None);
        assert_eq!(Value::String("7".into()).compare(&Value::Int32(7)), None);
        let (beyond, below) = (Value::String("\u{10000}".into()), Value::String("\u{ffff}".into()));
        assert_eq!(beyond.compare(&below), Some(Ordering::Less), "by UTF-16 units");
    }
}
