//! The types that a setting can have, and how each is read.

use std::net::SocketAddr;
use std::time::Duration;

use super::document::Value;
use super::duration;
use super::secret::Secret;
use super::section::{Measure, Setting, nearest};
use crate::cache::{CacheMode, KeyTemplate};
use crate::closed_list;
use crate::model::ClosedList;
use crate::stores::azure::CredentialKind;
use crate::stores::redis::{RedisUrl, TargetError};

closed_list! {
    /// The consistencies of a table, by their names in the file.
    pub enum Kind {
        Eventual = "eventual", "every region has every change at some time", "none";
        Bounded = "bounded", "a region that is further behind than max_staleness is not offered to readers", "none";
        Synchronous = "synchronous", "a write of the Rust writer returns once `copies` destinations have it", "none";
    }
}

fn text(value: &Value) -> Result<&str, String> {
    match value {
        Value::Text(text) => Ok(&text.expanded),
        _ => Err(String::new()),
    }
}

/// A variable of the environment has text alone: numbers and booleans are read out of it.
fn whole(value: &Value) -> Option<u64> {
    match value {
        Value::Integer(number) => u64::try_from(*number).ok(),
        Value::Text(text) => text.expanded.parse().ok(),
        _ => None,
    }
}

/// One of some words; where it is none of them, which one was probably meant.
fn word<T: Copy>(value: &Value, words: &[(&'static str, T)]) -> Result<T, String> {
    let typed = text(value)?;
    if let Some((_, item)) = words.iter().find(|(word, _)| *word == typed) {
        return Ok(*item);
    }
    Err(nearest(typed, words.iter().map(|(word, _)| *word))
        .map_or_else(String::new, |near| format!("did you mean {near:?}?")))
}

fn one_of<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    let words: Vec<_> = words.into_iter().map(|word| format!("{word:?}")).collect();
    match words.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("one of {} and {last}", rest.join(", ")),
        _ => words.concat(),
    }
}

impl<T: ClosedList> Setting for T {
    fn expected() -> String {
        one_of(T::ALL.iter().map(|item| item.as_str()))
    }

    fn read(value: &Value) -> Result<Self, String> {
        let words: Vec<_> = T::ALL.iter().map(|item| (item.as_str(), *item)).collect();
        word(value, &words)
    }
}

impl Setting for CredentialKind {
    fn expected() -> String {
        one_of(Self::ALL.iter().map(|kind| kind.as_str()))
    }

    fn read(value: &Value) -> Result<Self, String> {
        word(value, &Self::ALL.map(|kind| (kind.as_str(), kind)))
    }
}

/// The modes of a cache, by their names in the file.
pub(super) const CACHE_MODES: [(&str, CacheMode); 3] = [
    ("write-through", CacheMode::WriteThrough),
    ("refresh-existing", CacheMode::RefreshExisting),
    ("invalidate", CacheMode::Invalidate),
];

impl Setting for CacheMode {
    fn expected() -> String {
        one_of(CACHE_MODES.map(|(word, _)| word))
    }

    fn read(value: &Value) -> Result<Self, String> {
        word(value, &CACHE_MODES)
    }
}

impl Setting for bool {
    fn expected() -> String {
        "true or false".to_owned()
    }

    fn read(value: &Value) -> Result<Self, String> {
        match value {
            Value::Boolean(value) => Ok(*value),
            Value::Text(text) => text.expanded.parse().map_err(|_| String::new()),
            _ => Err(String::new()),
        }
    }
}

impl Setting for u32 {
    fn expected() -> String {
        "a whole number".to_owned()
    }

    fn read(value: &Value) -> Result<Self, String> {
        whole(value).and_then(|number| Self::try_from(number).ok()).ok_or_else(String::new)
    }
}

impl Measure for u32 {
    fn render(&self) -> String {
        self.to_string()
    }
}

impl Setting for Duration {
    fn expected() -> String {
        duration::EXPECTED.to_owned()
    }

    fn read(value: &Value) -> Result<Self, String> {
        duration::parse(text(value)?).ok_or_else(String::new)
    }
}

impl Measure for Duration {
    fn render(&self) -> String {
        format!("{:?}", duration::render(*self))
    }
}

impl Setting for SocketAddr {
    fn expected() -> String {
        "an address and a port, as in \"127.0.0.1:9464\" or \"[::1]:9464\"".to_owned()
    }

    fn read(value: &Value) -> Result<Self, String> {
        text(value)?.parse().map_err(|_| String::new())
    }
}

/// A list of names. A variable of the environment has them with commas between.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Names(pub Vec<String>);

impl Setting for Names {
    fn expected() -> String {
        "a list of names, as in [\"one\", \"two\"]".to_owned()
    }

    fn read(value: &Value) -> Result<Self, String> {
        let names: Vec<String> = match value {
            Value::List(items) => items.iter().map(|text| text.expanded.clone()).collect(),
            Value::Text(text) => text.expanded.split(',').map(|name| name.trim().to_owned()).collect(),
            _ => return Err(String::new()),
        };
        if names.is_empty() || names.iter().any(String::is_empty) {
            return Err("neither it nor a name should be empty".to_owned());
        }
        Ok(Self(names))
    }
}

/// Text that is not empty and is no secret.
impl Setting for String {
    fn expected() -> String {
        "a string".to_owned()
    }

    fn read(value: &Value) -> Result<Self, String> {
        match text(value)? {
            "" => Err("it should not be empty".to_owned()),
            text => Ok(text.to_owned()),
        }
    }
}

impl Setting for Secret {
    const SHOWN: bool = false;

    fn expected() -> String {
        "a string, best taken from the environment as in \"${NAME}\"".to_owned()
    }

    fn read(value: &Value) -> Result<Self, String> {
        match text(value)? {
            "" => Err("it is empty".to_owned()),
            text => Ok(Self::new(text)),
        }
    }
}

impl Setting for KeyTemplate {
    fn expected() -> String {
        "a template with {table}, {partitionKey} and {rowKey}".to_owned()
    }

    fn read(value: &Value) -> Result<Self, String> {
        Self::parse(text(value)?).map_err(|err| err.to_string())
    }
}

impl Setting for RedisUrl {
    const SHOWN: bool = false;

    fn expected() -> String {
        "redis://[[USER]:PASSWORD@]HOST[:PORT][/DATABASE], or rediss:// for TLS".to_owned()
    }

    fn read(value: &Value) -> Result<Self, String> {
        Self::parse(text(value)?).map_err(|err| match err {
            TargetError::Url(why) => why,
            err => err.to_string(),
        })
    }
}
