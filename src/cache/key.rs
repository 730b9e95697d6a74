//! Which key of the cache a row has.

use std::fmt;
use std::str::FromStr;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::model::RowId;

/// All but RFC 3986's unreserved characters.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A template that would not give every row a key of its own, or that does not parse.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// Braces around something else than one of the three parts.
    #[error(
        "{{{0}}} is no part of a row: it should be {{table}}, {{partitionKey}} or {{rowKey}} ({{{{ stands for a brace)"
    )]
    Unknown(String),
    /// A brace without its partner.
    #[error(
        "the brace at character {0} has no partner: a brace that belongs to the key should be written {{{{ or }}}}"
    )]
    Brace(usize),
    /// A part is missing, so that rows which differ in nothing else would share a key.
    #[error("it lacks {{{0}}}, without which rows would share a key: it should be like {DEFAULT}")]
    Missing(&'static str),
    /// Two parts with nothing between them that tells where one ends.
    #[error(
        "nothing between {{{0}}} and {{{1}}} tells where one ends, so that rows would share a key: a character that is \
         no letter, no digit and none of - . _ ~ % should stand there, as in {DEFAULT}"
    )]
    Ambiguous(&'static str, &'static str),
}

/// The default: `{table}:{partitionKey}:{rowKey}`.
const DEFAULT: &str = "{table}:{partitionKey}:{rowKey}";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Table,
    Partition,
    Row,
}

impl Part {
    const ALL: [Self; 3] = [Self::Table, Self::Partition, Self::Row];

    fn name(self) -> &'static str {
        match self {
            Self::Table => "table",
            Self::Partition => "partitionKey",
            Self::Row => "rowKey",
        }
    }

    fn of(self, id: &RowId) -> &str {
        match self {
            Self::Table => id.table.lower(),
            Self::Partition => id.partition.as_str(),
            Self::Row => id.row.as_str(),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    Part(Part),
}

/// How the key of a row is made: the parts `{table}`, `{partitionKey}` and `{rowKey}` with text between them.
///
/// The table comes in lower case, and of each part everything but RFC 3986's unreserved characters is percent-encoded.
/// A template is refused unless no two rows can share a key: all three parts are there, and between two of them stands
/// a character that an encoded part never holds.
///
/// `{{` and `}}` stand for braces of the key itself. A Redis cluster hashes only what is between the first two of them,
/// so `{{{table}:{partitionKey}}}:{rowKey}` keeps a partition in one slot.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyTemplate(Vec<Piece>);

impl KeyTemplate {
    /// Reads a template.
    ///
    /// # Errors
    /// [`TemplateError`] where it does not parse, or could give two rows the same key.
    pub fn parse(template: &str) -> Result<Self, TemplateError> {
        let pieces = pieces(template)?;
        check(&pieces)?;
        Ok(Self(pieces))
    }

    /// The key of a row.
    pub fn key(&self, id: &RowId) -> String {
        let mut key = String::with_capacity(64);
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => key.push_str(text),
                Piece::Part(part) => key.extend(utf8_percent_encode(part.of(id), ENCODED)),
            }
        }
        key
    }
}

fn pieces(template: &str) -> Result<Vec<Piece>, TemplateError> {
    let mut pieces = Vec::new();
    let mut text = String::new();
    let mut chars = template.chars().enumerate().peekable();
    while let Some((at, c)) = chars.next() {
        if !matches!(c, '{' | '}') || chars.next_if(|(_, next)| *next == c).is_some() {
            text.push(c);
            continue;
        }
        let name = match c {
            '{' => name(chars.by_ref().map(|(_, c)| c)),
            _ => None,
        };
        let name = name.ok_or(TemplateError::Brace(at + 1))?;
        let part = Part::ALL.into_iter().find(|part| part.name() == name);
        let part = part.ok_or(TemplateError::Unknown(name))?;
        if !text.is_empty() {
            pieces.push(Piece::Text(std::mem::take(&mut text)));
        }
        pieces.push(Piece::Part(part));
    }
    if !text.is_empty() {
        pieces.push(Piece::Text(text));
    }
    Ok(pieces)
}

/// What stands before the closing brace, where there is one.
fn name(chars: impl Iterator<Item = char>) -> Option<String> {
    let mut name = String::new();
    for c in chars {
        if c == '}' {
            return Some(name);
        }
        name.push(c);
    }
    None
}

/// No two rows share a key when every part is there and can be read back. It can, since the text between two parts
/// holds a character that no encoded part holds: its first appearance ends the part before.
fn check(pieces: &[Piece]) -> Result<(), TemplateError> {
    let missing = Part::ALL.into_iter().find(|part| !pieces.contains(&Piece::Part(*part)));
    if let Some(part) = missing {
        return Err(TemplateError::Missing(part.name()));
    }
    let in_a_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_' | '~' | '%');
    let mut before: Option<Part> = None;
    for piece in pieces {
        match (piece, before) {
            (Piece::Text(text), _) if text.chars().all(in_a_part) => {}
            (Piece::Text(_), _) => before = None,
            (Piece::Part(part), Some(before)) => return Err(TemplateError::Ambiguous(before.name(), part.name())),
            (Piece::Part(part), None) => before = Some(*part),
        }
    }
    Ok(())
}

impl Default for KeyTemplate {
    fn default() -> Self {
        let text = |text: &str| Piece::Text(text.to_owned());
        let [table, partition, row] = Part::ALL.map(Piece::Part);
        Self(vec![table, text(":"), partition, text(":"), row])
    }
}

impl FromStr for KeyTemplate {
    type Err = TemplateError;

    fn from_str(template: &str) -> Result<Self, TemplateError> {
        Self::parse(template)
    }
}

impl fmt::Display for KeyTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => f.write_str(&text.replace('{', "{{").replace('}', "}}"))?,
                Piece::Part(part) => write!(f, "{{{}}}", part.name())?,
            }
        }
        Ok(())
    }
}

impl fmt::Debug for KeyTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.to_string())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::model::TableName;
    use proptest::prelude::*;

    fn id(table: &str, partition: &str, row: &str) -> RowId {
        RowId::new(TableName::new(table).unwrap(), partition.into(), row.into())
    }

    #[test]
    fn the_default_key_is_the_documented_one() {
        let template = KeyTemplate::default();
        assert_eq!(template, KeyTemplate::parse(DEFAULT).unwrap());
        assert_eq!(template.key(&id("Orders", "it's", "42")), "orders:it%27s:42");
        assert_eq!(template.key(&id("orders", "", "")), "orders::");
        assert_eq!(template.key(&id("orders", "100 %", "a:b{c}")), "orders:100%20%25:a%3Ab%7Bc%7D");
        assert_eq!(template.key(&id("orders", "日本", "A-z_0.~")), "orders:%E6%97%A5%E6%9C%AC:A-z_0.~");
    }

    #[test]
    fn a_pair_of_braces_is_a_brace_of_the_key() {
        let template = KeyTemplate::parse("{{{table}:{partitionKey}}}:{rowKey}").unwrap();
        assert_eq!(template.key(&id("Orders", "p", "r")), "{orders:p}:r");
        assert_eq!(KeyTemplate::parse(&template.to_string()).unwrap(), template);
    }

    #[test]
    fn a_template_that_lets_rows_share_a_key_is_refused() {
        let error = |template: &str| KeyTemplate::parse(template).unwrap_err();
        assert_eq!(error("{partitionKey}:{rowKey}"), TemplateError::Missing("table"));
        assert_eq!(error("{table}:{partitionKey}"), TemplateError::Missing("rowKey"));
        assert_eq!(error("{table}{partitionKey}:{rowKey}"), TemplateError::Ambiguous("table", "partitionKey"));
        assert_eq!(error("{table}:{partitionKey}-%20{rowKey}"), TemplateError::Ambiguous("partitionKey", "rowKey"));
        assert_eq!(error("{table}:{pk}:{rowKey}"), TemplateError::Unknown("pk".into()));
        assert_eq!(error("{table}:{partitionKey}:{rowKey"), TemplateError::Brace(24));
        assert_eq!(error("table}"), TemplateError::Brace(6));
        assert!(KeyTemplate::parse("app-{table}-é{partitionKey}x/y{rowKey}end").is_ok());
    }

    #[test]
    fn errors_say_what_it_should_be() {
        let said = |template: &str| KeyTemplate::parse(template).unwrap_err().to_string();
        assert!(said("{table}:{PartitionKey}:{rowKey}").contains("{PartitionKey} is no part"));
        assert!(said("{table}:{PartitionKey}:{rowKey}").contains("({{ stands for a brace)"));
        assert!(said("{table}:{rowKey}").contains("lacks {partitionKey}"));
        assert!(said("{table}:{rowKey}").ends_with(DEFAULT));
        assert!(said("{table}:{partitionKey}{rowKey}").contains("between {partitionKey} and {rowKey}"));
    }

    /// Rows that would share keys if anything of them could be mistaken for what stands between.
    fn rows() -> Vec<RowId> {
        let keys =
            ["", "a", "b", "ab", "aa", "ba", "-", "a-", "-b", ":", "a:", ":b", "%3A", "é", "2", "{", "}", "|", "%"];
        let row = |table, partition: &str| keys.map(|row| id(table, partition, row));
        ["aaa", "aab", "aaaa", "aaa2"].iter().flat_map(|table| keys.iter().flat_map(|key| row(table, key))).collect()
    }

    fn templates() -> impl Strategy<Value = String> {
        let parts = Just(["{table}", "{partitionKey}", "{rowKey}"]).prop_shuffle();
        let text = prop_oneof![Just(""), Just("{{"), Just("}}"), Just("%3A"), Just("a:")];
        let text = proptest::array::uniform4(prop_oneof![text.prop_map(str::to_owned), "[ab:%~é|2-]{0,2}"]);
        (parts, text).prop_map(|(p, t)| format!("{}{}{}{}{}{}{}", t[0], p[0], t[1], p[1], t[2], p[2], t[3]))
    }

    proptest! {
        #[test]
        fn no_two_rows_share_a_key(template in templates()) {
            if let Ok(template) = KeyTemplate::parse(&template) {
                let mut seen = BTreeMap::new();
                for row in rows() {
                    let key = template.key(&row);
                    prop_assert_eq!(seen.insert(key.clone(), row.clone()), None, "{} is {} too", row, key);
                }
                prop_assert_eq!(&KeyTemplate::parse(&template.to_string()).unwrap(), &template);
            }
        }

        #[test]
        fn rows_whose_parts_join_alike_have_different_keys(text in "[ab:]{0,6}", at in 0usize..7, other in 0usize..7) {
            let (at, other) = (at.min(text.len()), other.min(text.len()));
            let row = |at| id("orders", &text[..at], &text[at..]);
            let template = KeyTemplate::default();
            prop_assert_eq!(template.key(&row(at)) == template.key(&row(other)), at == other);
        }
    }
}
