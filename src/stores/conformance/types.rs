//! Values: every EDM type comes back as the type and the value that was written.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::bench::{Bench, body_with};
use super::quirks::MINUS_ZERO;
use super::suite::{Context, Failure, Outcome, cases, ensure, fail, same};
use crate::model::{RowBody, Time, Version};
use crate::stores::limits::Properties;
use crate::stores::{Condition, Operation, Query};

cases! {
    /// Cases about values.
    pub(super) const CASES: Bench = [
        strings_come_back_exactly,
        long_strings_beyond_ascii_come_back_exactly,
        text_that_looks_like_another_type_stays_text,
        integers_come_back_exactly,
        doubles_come_back_exactly,
        minus_zero_keeps_its_sign(MINUS_ZERO => minus_zero_loses_its_sign),
        doubles_that_are_no_numbers_come_back,
        date_times_keep_7_digits,
        guids_binaries_and_booleans_come_back_exactly,
        property_names_come_back_exactly,
        nulls_are_not_stored,
        the_version_comes_back,
        the_timestamp_is_the_servers,
    ];
}

/// Properties as JSON text: name, type where JSON does not tell, value.
type Written<'a> = &'a [(&'a str, Option<&'a str>, &'a str)];

fn properties(written: Written<'_>) -> String {
    let annotation = |name: &str, edm: Option<&str>| edm.map(|edm| format!(r#","{name}@odata.type":"{edm}""#));
    written
        .iter()
        .map(|(name, edm, value)| format!(r#"{},"{name}":{value}"#, annotation(name, *edm).unwrap_or_default()))
        .collect()
}

/// Writes the properties in every way there is, and reads them back in both.
async fn comes_back(bench: &Bench, written: Written<'_>) -> Outcome {
    let row = |row: &str| body_with("p", row, &properties(written));
    let empty = |row: &str| Ok::<_, Failure>(Operation::Insert(body_with("p", row, "")?));
    bench.put(&Operation::Insert(row("insert")?)).await.at("insert")?;
    bench.put(&Operation::InsertOrReplace(row("upsert")?)).await.at("insert or replace")?;
    bench.transact("p", &[Operation::Insert(row("transaction")?)]).await.at("transaction")?;
    for key in ["replace", "merge"] {
        bench.put(&empty(key)?).await?;
    }
    bench.put(&Operation::Replace(row("replace")?, Condition::Present)).await.at("replace")?;
    bench.put(&Operation::Merge(row("merge")?, Condition::Present)).await.at("merge")?;
    let expected = typed(&row("")?)?;
    for key in ["insert", "upsert", "transaction", "replace", "merge"] {
        let found = bench.row("p", key).await?;
        compare(&typed(&found.body)?, &expected).at((key, "point read"))?;
        let (rows, _) = bench.pages(&Query::rows("p".into(), key.into(), key.into())).await?;
        same("the rows in the row's own range", rows.len(), 1)?;
        compare(&typed(&rows[0].body)?, &expected).at((key, "query"))?;
        // What a destination does with what it read.
        bench.put(&Operation::InsertOrReplace(found.body)).await.at((key, "written back"))?;
        compare(&typed(&bench.row("p", key).await?.body)?, &expected).at((key, "written back"))?;
    }
    Ok(())
}

fn compare(got: &BTreeMap<String, Value>, expected: &BTreeMap<String, Value>) -> Outcome {
    for (name, value) in expected {
        match got.get(name) {
            Some(found) => same(name, found, value)?,
            None => return fail(format!("the property {name} is missing")),
        }
    }
    same("the number of properties", got.len(), expected.len())
}

/// A value by its type, so that two texts of one value are equal and two types never are.
#[derive(PartialEq)]
enum Value {
    String(String),
    Boolean(bool),
    Int32(i32),
    Int64(i64),
    /// By its bits: -0.0 is not 0.0, and NaN is itself.
    Double(u64),
    DateTime(Time),
    Guid(String),
    Binary(Vec<u8>),
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::String(text) => write!(f, "String {text:?}"),
            Self::Boolean(value) => write!(f, "Boolean {value}"),
            Self::Int32(value) => write!(f, "Int32 {value}"),
            Self::Int64(value) => write!(f, "Int64 {value}"),
            Self::Double(bits) => write!(f, "Double {:?}", f64::from_bits(*bits)),
            Self::DateTime(time) => write!(f, "DateTime {time}"),
            Self::Guid(text) => write!(f, "Guid {text}"),
            Self::Binary(bytes) => write!(f, "Binary of {} bytes", bytes.len()),
        }
    }
}

fn typed(body: &RowBody) -> Result<BTreeMap<String, Value>, Failure> {
    let properties = Properties::of(body)?;
    let value =
        |edm: Option<&str>, json: &str| value(edm, json).ok_or_else(|| Failure(format!("{json} is no {edm:?}")));
    let named = properties
        .0
        .iter()
        .map(|property| Ok((property.name.to_string(), value(property.edm.as_deref(), property.value)?)));
    named.collect()
}

fn value(edm: Option<&str>, json: &str) -> Option<Value> {
    let text = || serde_json::from_str::<String>(json).ok();
    Some(match edm {
        None if json.starts_with('"') => Value::String(text()?),
        None if json.contains(['.', 'e', 'E']) && !matches!(json, "true" | "false") => double(json.parse().ok()?),
        None => match json.parse() {
            Ok(value) => Value::Boolean(value),
            Err(_) => Value::Int32(json.parse().ok()?),
        },
        Some("Edm.String") => Value::String(text()?),
        Some("Edm.Boolean") => Value::Boolean(json.parse().ok()?),
        Some("Edm.Int32") => Value::Int32(json.parse().ok()?),
        Some("Edm.Int64") => Value::Int64(text()?.parse().ok()?),
        Some("Edm.Double") => double(match text() {
            Some(text) => text.parse().ok()?,
            None => json.parse().ok()?,
        }),
        Some("Edm.DateTime") => Value::DateTime(Time::parse_storage(&text()?).ok()?),
        Some("Edm.Guid") => Value::Guid(text()?.to_lowercase()),
        Some("Edm.Binary") => Value::Binary(STANDARD.decode(text()?).ok()?),
        Some(_) => return None,
    })
}

fn double(value: f64) -> Value {
    Value::Double(if value.is_nan() { f64::NAN.to_bits() } else { value.to_bits() })
}

async fn strings_come_back_exactly(bench: Bench) -> Outcome {
    let long = format!("\"{}\"", "l".repeat(32 * 1024));
    comes_back(
        &bench,
        &[
            ("Empty", None, r#""""#),
            ("Annotated", Some("Edm.String"), r#""a""#),
            ("Spaces", None, r#""  a  ""#),
            ("Quotes", None, r#""it's \"quoted\", \\ and \/""#),
            ("Control", None, r#""\t\n\r\u0001\u001f\u007f""#),
            ("Escaped", None, r#""\u00e9\ud83d\ude00""#),
            ("Unicode", None, r#""größe 日本 😀 עברית ﬁ e\u0301 \u2028""#),
            ("Markup", None, r#""<a href='x'>&amp;</a>]]>""#),
            ("Batch", None, r#""--batch_x\r\nContent-Type: application/http\r\n\r\n""#),
            ("Json", None, r#""{\"a\":[1,null]}""#),
            ("Long", None, &long),
        ],
    )
    .await
}

/// 90,000 bytes of characters of three bytes, shifted so that each pass splits them elsewhere.
fn long(shift: usize) -> String {
    "s".repeat(shift) + &"日".repeat(30_000)
}

async fn long_strings_beyond_ascii_come_back_exactly(bench: Bench) -> Outcome {
    for shift in 0..3 {
        let row = body_with("p", "r", &format!(r#","Long":"{}""#, long(shift)))?;
        bench.put(&Operation::InsertOrReplace(row.clone())).await?;
        let same = |found: &RowBody| found.string("Long").is_some_and(|text| text == long(shift));
        ensure(same(&bench.row("p", "r").await?.body), || "the text should come back".to_owned())?;
        bench.transact("p", &[Operation::InsertOrReplace(row)]).await?;
        ensure(same(&bench.row("p", "r").await?.body), || "the text should come back".to_owned())?;
    }
    Ok(())
}

async fn text_that_looks_like_another_type_stays_text(bench: Bench) -> Outcome {
    comes_back(
        &bench,
        &[
            ("Number", None, r#""42""#),
            ("Fraction", None, r#""1.0""#),
            ("NotANumber", None, r#""NaN""#),
            ("True", None, r#""true""#),
            ("Null", None, r#""null""#),
            ("Date", None, r#""2026-11-22T12:18:00.1234567Z""#),
            ("Guid", None, r#""c9da6455-213d-42c9-9a79-3e9149a57833""#),
            ("Binary", None, r#""AAECAw==""#),
        ],
    )
    .await
}

async fn integers_come_back_exactly(bench: Bench) -> Outcome {
    comes_back(
        &bench,
        &[
            ("Zero", None, "0"),
            ("Least32", None, "-2147483648"),
            ("Most32", None, "2147483647"),
            ("Annotated32", Some("Edm.Int32"), "7"),
            ("Zero64", Some("Edm.Int64"), r#""0""#),
            ("Small64", Some("Edm.Int64"), r#""-1""#),
            ("Least64", Some("Edm.Int64"), r#""-9223372036854775808""#),
            ("Most64", Some("Edm.Int64"), r#""9223372036854775807""#),
            ("BeyondDouble", Some("Edm.Int64"), r#""9007199254740993""#),
        ],
    )
    .await
}

async fn doubles_come_back_exactly(bench: Bench) -> Outcome {
    comes_back(
        &bench,
        &[
            ("One", Some("Edm.Double"), "1.0"),
            ("OneBare", None, "1.0"),
            ("Whole", Some("Edm.Double"), "3"),
            ("Zero", Some("Edm.Double"), "0.0"),
            ("Tenth", Some("Edm.Double"), "0.1"),
            ("Sum", None, "0.30000000000000004"),
            ("Huge", None, "1e300"),
            ("Most", None, "1.7976931348623157E308"),
            ("Tiny", None, "5e-324"),
            ("Beyond32", Some("Edm.Double"), "4294967296"),
            ("Beyond64", None, "1e21"),
            ("Negative", None, "-1.5"),
        ],
    )
    .await
}

async fn minus_zero_keeps_its_sign(bench: Bench) -> Outcome {
    comes_back(&bench, &[("MinusZero", Some("Edm.Double"), "-0.0"), ("Bare", None, "-0.0")]).await
}

async fn minus_zero_loses_its_sign(bench: Bench) -> Outcome {
    bench.put(&Operation::Insert(body_with("p", "r", r#","D@odata.type":"Edm.Double","D":-0.0"#)?)).await?;
    same("D", typed(&bench.row("p", "r").await?.body)?.remove("D"), Some(double(0.0)))
}

async fn doubles_that_are_no_numbers_come_back(bench: Bench) -> Outcome {
    comes_back(
        &bench,
        &[
            ("NotANumber", Some("Edm.Double"), r#""NaN""#),
            ("Infinite", Some("Edm.Double"), r#""Infinity""#),
            ("MinusInfinite", Some("Edm.Double"), r#""-Infinity""#),
        ],
    )
    .await
}

async fn date_times_keep_7_digits(bench: Bench) -> Outcome {
    comes_back(
        &bench,
        &[
            ("Seven", Some("Edm.DateTime"), r#""2026-11-22T12:18:00.1234567Z""#),
            ("Tick", Some("Edm.DateTime"), r#""2026-11-22T12:18:00.0000001Z""#),
            ("Three", Some("Edm.DateTime"), r#""2026-11-22T12:18:00.123Z""#),
            ("None", Some("Edm.DateTime"), r#""2026-11-22T12:18:00Z""#),
            ("First", Some("Edm.DateTime"), r#""1601-01-01T00:00:00Z""#),
            ("Last", Some("Edm.DateTime"), r#""9999-12-31T23:59:59.9999999Z""#),
        ],
    )
    .await
}

async fn guids_binaries_and_booleans_come_back_exactly(bench: Bench) -> Outcome {
    let every_byte = format!("\"{}\"", STANDARD.encode((0..=255).collect::<Vec<u8>>()));
    let full = format!("\"{}\"", STANDARD.encode([7; 64 * 1024]));
    comes_back(
        &bench,
        &[
            ("Guid", Some("Edm.Guid"), r#""c9da6455-213d-42c9-9a79-3e9149a57833""#),
            ("NoGuid", Some("Edm.Guid"), r#""00000000-0000-0000-0000-000000000000""#),
            ("NoBytes", Some("Edm.Binary"), r#""""#),
            ("OneByte", Some("Edm.Binary"), r#""AA==""#),
            ("EveryByte", Some("Edm.Binary"), &every_byte),
            ("Full", Some("Edm.Binary"), &full),
            ("True", None, "true"),
            ("False", Some("Edm.Boolean"), "false"),
        ],
    )
    .await
}

async fn property_names_come_back_exactly(bench: Bench) -> Outcome {
    let long = "n".repeat(255);
    comes_back(
        &bench,
        &[("a", None, "1"), ("A", None, "2"), ("_", None, "3"), ("größe_2", None, "4"), (&long, None, "5")],
    )
    .await
}

async fn nulls_are_not_stored(bench: Bench) -> Outcome {
    bench.put(&Operation::Insert(body_with("p", "r", r#","A":1,"B":null"#)?)).await?;
    compare(&typed(&bench.row("p", "r").await?.body)?, &typed(&body_with("p", "r", r#","A":1"#)?)?).at("insert")?;
    let merge = Operation::Merge(body_with("p", "r", r#","A":null,"C":3"#)?, Condition::Present);
    bench.put(&merge).await?;
    compare(&typed(&bench.row("p", "r").await?.body)?, &typed(&body_with("p", "r", r#","A":1,"C":3"#)?)?).at("merge")
}

async fn the_version_comes_back(bench: Bench) -> Outcome {
    let version = Version::parse("2026-11-22T12:18:00.1234567Z@westeurope.7f3a9c1b");
    let version = version.map_err(|err| Failure(err.to_string()))?;
    bench.put(&Operation::Insert(body_with("p", "r", r#","A":1"#)?.stamped(&version))).await?;
    let found = bench.row("p", "r").await?;
    same("the version", found.body.version(), Some(&version))?;
    same("the version of the row", &found.version(bench.tables.region()), &version)?;
    bench.put(&Operation::Insert(body_with("p", "bare", "")?)).await?;
    let bare = bench.row("p", "bare").await?;
    let implicit = Version::implicit(bare.timestamp, bench.tables.region());
    same("the version of a row without one", bare.version(bench.tables.region()), implicit)
}

async fn the_timestamp_is_the_servers(bench: Bench) -> Outcome {
    let claimed = body_with("p", "r", r#","Timestamp":"2001-01-01T00:00:00Z""#)?;
    bench.put(&Operation::Insert(claimed.clone())).await?;
    let first = bench.row("p", "r").await?.timestamp;
    let year = Time::from_unix_seconds(1_577_836_800);
    ensure(first > year, || format!("the timestamp should be the server's, not {first}"))?;
    bench.put(&Operation::Replace(claimed, Condition::Present)).await?;
    let second = bench.row("p", "r").await?.timestamp;
    ensure(second >= first, || format!("a later write should not be stamped {second}, before {first}"))
}
