//! The raw form of a configuration: a tree of values, each of which knows where it came from.

use std::collections::BTreeMap;
use std::fmt;

use toml::de::{DeTable, DeValue};

use super::problem::{Origin, Problem};

/// A value and where it came from.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub origin: Origin,
    pub value: Value,
}

/// A table of the file.
pub(super) type Table = BTreeMap<String, Node>;

/// A value as it was written.
#[derive(Debug, Clone)]
pub(super) enum Value {
    Text(Text),
    Integer(i64),
    Boolean(bool),
    List(Vec<Text>),
    Table(Table),
    /// What it is could not be found out, and a problem says why: no other problem should come of it.
    Unreadable,
    /// Nothing of ours has this shape: a float, a date, an array of anything but strings.
    Other(&'static str),
}

/// A string of the file, as it was written and with its variables put in.
///
/// Only what was written is ever shown: what a variable holds may be a secret.
#[derive(Clone)]
pub(super) struct Text {
    pub written: String,
    pub expanded: String,
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&super::secret::MASK, f)
    }
}

impl Text {
    pub fn literal(text: &str) -> Self {
        Self { written: text.to_owned(), expanded: text.to_owned() }
    }
}

impl Value {
    /// The value for a message: short, and as it was written.
    pub fn shown(&self) -> String {
        match self {
            Self::Text(text) => shortened(&text.written),
            Self::Integer(number) => number.to_string(),
            Self::Boolean(value) => value.to_string(),
            Self::List(_) => "a list".to_owned(),
            Self::Table(_) => "a table".to_owned(),
            Self::Unreadable => "unknown".to_owned(),
            Self::Other(shape) => (*shape).to_owned(),
        }
    }
}

/// Most characters of a value that a message shows. A secret in the wrong place is longer, as a rule.
const MOST_SHOWN: usize = 24;

fn shortened(text: &str) -> String {
    match text.char_indices().nth(MOST_SHOWN) {
        None => format!("{text:?}"),
        Some((end, _)) => format!("{:?}…", &text[..end]),
    }
}

/// Reads TOML. Whatever cannot be read is a problem with its line; the rest comes back all the same, so that one
/// missing quote does not hide what else is wrong.
///
/// The parser's own report quotes the line at fault, which may hold a secret: only its message and the line's number
/// are kept.
pub(super) fn parse(text: &str, problems: &mut Vec<Problem>) -> Table {
    let lines = Lines::of(text);
    let (table, errors) = DeTable::parse_recoverable(text);
    for error in errors {
        let origin = error.span().map_or(Origin::File, |span| Origin::Line(lines.number(span.start)));
        let message = format!("this is not TOML: {}", error.message());
        problems.push(Problem { origin, key: String::new(), message });
    }
    convert(table.get_ref(), &lines)
}

fn convert(table: &DeTable<'_>, lines: &Lines) -> Table {
    let node = |(key, value): (&toml::Spanned<std::borrow::Cow<'_, str>>, &toml::Spanned<DeValue<'_>>)| {
        let origin = Origin::Line(lines.number(key.span().start));
        let value = match value.get_ref() {
            DeValue::String(text) => Value::Text(Text::literal(text)),
            DeValue::Integer(number) => {
                let digits = number.as_str().replace('_', "");
                i64::from_str_radix(&digits, number.radix()).map_or(Value::Other("a huge number"), Value::Integer)
            }
            DeValue::Boolean(value) => Value::Boolean(*value),
            DeValue::Table(table) => Value::Table(convert(table, lines)),
            DeValue::Float(_) => Value::Other("a number with a fraction"),
            DeValue::Datetime(_) => Value::Other("a date or time"),
            DeValue::Array(items) => list(items.iter().map(toml::Spanned::get_ref)),
        };
        (key.get_ref().to_string(), Node { origin, value })
    };
    table.iter().map(node).collect()
}

/// An array, where all that is in it are strings.
fn list<'a>(items: impl Iterator<Item = &'a DeValue<'a>>) -> Value {
    let text = |item: &DeValue<'_>| match item {
        DeValue::String(text) => Some(Text::literal(text)),
        _ => None,
    };
    items.map(text).collect::<Option<_>>().map_or(Value::Other("an array of other things than strings"), Value::List)
}

/// Where the lines of a text begin.
struct Lines(Vec<usize>);

impl Lines {
    fn of(text: &str) -> Self {
        let after = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at + 1);
        Self(std::iter::once(0).chain(after).collect())
    }

    fn number(&self, at: usize) -> usize {
        self.0.partition_point(|start| *start <= at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_know_their_line() {
        let table = parse("# first\n[a.b]\nc = 1_000\nd = 0xff\n", &mut Vec::new());
        let Value::Table(a) = &table["a"].value else { panic!("{table:?}") };
        let Value::Table(b) = &a["b"].value else { panic!("{table:?}") };
        assert_eq!((&a["b"].origin, &b["c"].origin), (&Origin::Line(2), &Origin::Line(3)));
        assert!(matches!((&b["c"].value, &b["d"].value), (Value::Integer(1_000), Value::Integer(255))));
    }

    #[test]
    fn a_value_is_in_no_debug_output() {
        let text = format!("{:?}", parse("[a]\nb = \"hunter2\"", &mut Vec::new()));
        assert!(text.contains("Line(2)") && !text.contains("hunter"), "{text}");
    }

    #[test]
    fn what_is_no_toml_is_named_by_its_line_and_never_quoted() {
        let mut problems = Vec::new();
        parse("a = 1\nb = \"hunter2\nc = hunter3\n[d\ne = 1\na = 2\n", &mut problems);
        let text = format!("{problems:?}");
        assert!(problems.len() >= 3, "{text}");
        assert!(problems.iter().all(|problem| matches!(problem.origin, Origin::Line(2..))), "{text}");
        assert!(!text.contains("hunter"), "{text}");
    }
}
