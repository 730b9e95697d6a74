//! Properties by type and value, and the rows that the writers write.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use rand::RngExt;
use rand::rngs::StdRng;
use serde_json::Value as Json;
use tablerelay::model::{RowBody, Time, Version};

/// A value by its type, so that two texts of one value are equal and two types never are.
#[derive(Clone, PartialEq, Eq)]
pub struct Value {
    edm: String,
    canonical: String,
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}", self.edm, self.canonical.chars().take(80).collect::<String>())
    }
}

/// What a row says, keys and version apart.
pub type Properties = BTreeMap<String, Value>;

/// The properties of a row, by the types that the protocol of the Table service gives them.
pub fn properties(body: &RowBody) -> Properties {
    let fields: BTreeMap<String, Json> = serde_json::from_str(body.json()).expect("a row is a JSON object");
    let ours = ["PartitionKey", "RowKey", Version::PROPERTY];
    let named = fields.iter().filter(|(name, _)| !name.ends_with("@odata.type") && !ours.contains(&name.as_str()));
    let typed = named.map(|(name, value)| {
        let edm = fields.get(&format!("{name}@odata.type")).and_then(Json::as_str);
        (name.clone(), typed(edm, value))
    });
    typed.collect()
}

fn typed(edm: Option<&str>, value: &Json) -> Value {
    let edm = edm.unwrap_or(match value {
        Json::String(_) => "Edm.String",
        Json::Bool(_) => "Edm.Boolean",
        Json::Number(number) if number.is_i64() => "Edm.Int32",
        _ => "Edm.Double",
    });
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let canonical = match edm {
        "Edm.Double" => {
            let number: f64 = text.parse().expect("a double is a number");
            format!("{:016x} ({number})", if number.is_nan() { f64::NAN } else { number }.to_bits())
        }
        "Edm.DateTime" => Time::parse_storage(&text).expect("a time is one").to_string(),
        "Edm.Guid" => text.to_lowercase(),
        _ => text,
    };
    Value { edm: edm.to_owned(), canonical }
}

/// A row with one property of every type, and each type's hardest values in turn. Those that Azurite spoils by itself
/// are left out: the sign of -0.0, and characters beyond ASCII in requests too large for one piece.
pub fn of_every_type(partition: &str, row: &str, random: &mut StdRng) -> RowBody {
    let mut pick = |among: &[&str]| among[random.random_range(0..among.len())].to_owned();
    let string = pick(&[
        r#""""#,
        r#""  a  ""#,
        r#""it's \"q\", \\ / <&>""#,
        r#""\t\n\u0001""#,
        r#""größe 日本 😀""#,
        r#""NaN""#,
    ]);
    let int64 = pick(&["-9223372036854775808", "9223372036854775807", "9007199254740993", "0"]);
    let double = pick(&["1.0", "0.1", "1e300", "5e-324", "1.7976931348623157E308", r#""NaN""#, r#""-Infinity""#]);
    let time = pick(&["2026-11-22T12:18:00.1234567Z", "1601-01-01T00:00:00Z", "9999-12-31T23:59:59.9999999Z"]);
    let int32 = pick(&["-2147483648", "2147483647", "0"]);
    let boolean = pick(&["true", "false"]);
    let bytes: Vec<u8> = (0..random.random_range(0..300)).map(|_| random.random()).collect();
    let guid = uuid::Uuid::from_u128(random.random());
    let more = format!(
        r#","String":{string},"Int64@odata.type":"Edm.Int64","Int64":"{int64}","Int32":{int32},"Boolean":{boolean},
        "Double@odata.type":"Edm.Double","Double":{double},"Time@odata.type":"Edm.DateTime","Time":"{time}",
        "Guid@odata.type":"Edm.Guid","Guid":"{guid}","Binary@odata.type":"Edm.Binary","Binary":"{}""#,
        BASE64.encode(bytes)
    );
    body(partition, row, &more)
}

/// A row with a text, and one more property of its own now and then, so that a merge is seen as one.
pub fn small(partition: &str, row: &str, text: &str, random: &mut StdRng) -> RowBody {
    let extra = random.random_range(0..4);
    body(partition, row, &format!(r#","Text":{},"Extra{extra}":{}"#, Json::from(text), random.random_range(0..1_000)))
}

/// A row of these keys and this JSON behind them.
pub fn body(partition: &str, row: &str, more: &str) -> RowBody {
    let json = format!(r#"{{"PartitionKey":{},"RowKey":{}{more}}}"#, Json::from(partition), Json::from(row));
    RowBody::parse(&json).expect("it is a row")
}

/// What breaks clients: literals of the query language, of URLs, of `$batch`, of JSON and of Redis keys.
pub const ODD_KEYS: &[&str] = &[
    "",
    "it's",
    "'",
    "''",
    "',",
    "',RowKey='",
    "(a)",
    "a,b",
    "a b",
    " a",
    "a ",
    " ",
    "100 %",
    "%27",
    "%2F",
    "%",
    "a+b",
    "a&b=c;d",
    "$batch",
    "@odata",
    "a:b",
    "a:b:c",
    "trailing.",
    ".",
    "..",
    "\"quoted\"",
    "<a>",
    "{a}",
    "a|b^c`d~e",
    "null",
    "1",
    "007",
    "c:2026-11-22T12:18:00.1234567Z@east.7f3a9c1b~1",
    "t:00",
    "größe",
    "e\u{301}",
    "\u{a0}",
    "\u{200b}",
    "\u{2028}",
    "日本語",
    "עברית",
    "😀",
    "👩‍👩‍👧",
    "\u{fffd}",
    "\u{10ffff}",
];
