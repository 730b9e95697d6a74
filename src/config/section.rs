//! Reading a table of the raw form: typed, keeping every problem, and remembering which keys exist.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use super::document::{Node, Table, Value};
use super::environment::normal;
use super::problem::{Origin, Problem};

/// A type that a setting can have.
pub(super) trait Setting: Sized {
    /// What a value should be, for messages: "a duration with its unit".
    fn expected() -> String;

    /// Reads a value; the error says more than [`expected`](Self::expected) does, or is empty.
    ///
    /// # Errors
    /// The value is not what it should be.
    fn read(value: &Value) -> Result<Self, String>;

    /// Whether a message may show the value.
    const SHOWN: bool = true;
}

/// A setting that has a least and a greatest value.
pub(super) trait Measure: Setting + PartialOrd {
    /// The value as it is written in the file.
    fn render(&self) -> String;
}

/// What reading a configuration found: what is wrong, and every key that was asked for.
#[derive(Debug, Default)]
pub(super) struct Findings {
    problems: RefCell<Vec<Problem>>,
    keys: RefCell<BTreeSet<String>>,
}

impl Findings {
    pub fn add(&self, problem: Problem) {
        self.problems.borrow_mut().push(problem);
    }

    /// The problems, and all keys that exist, names of the user's written `*`.
    pub fn into_parts(self) -> (Vec<Problem>, BTreeSet<String>) {
        (self.problems.into_inner(), self.keys.into_inner())
    }
}

/// One table while it is read.
pub(super) struct Section<'a> {
    /// The key of the table, as in `region.west`.
    path: String,
    /// The same with the user's names as `*`: `region.*`.
    pattern: String,
    origin: Origin,
    table: &'a Table,
    findings: &'a Findings,
    known: RefCell<BTreeSet<&'static str>>,
}

static NOTHING: Table = Table::new();

impl<'a> Section<'a> {
    /// The whole file.
    pub fn root(table: &'a Table, findings: &'a Findings) -> Self {
        let known = RefCell::default();
        Self { path: String::new(), pattern: String::new(), origin: Origin::File, table, findings, known }
    }

    /// The full name of this table.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The full name of a key of this table.
    fn key(&self, key: &str) -> String {
        join(&self.path, key)
    }

    /// Notes a problem with a key of this table, at its line where it is there.
    pub fn problem(&self, key: &str, message: impl Into<String>) {
        let origin = self.table.get(key).map_or(&self.origin, |node| &node.origin).clone();
        let key = if key.is_empty() { self.path.clone() } else { self.key(key) };
        self.findings.add(Problem { origin, key, message: message.into() });
    }

    /// Whether the key is given, right or wrong.
    pub fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    fn node(&self, key: &'static str) -> Option<&'a Node> {
        self.known.borrow_mut().insert(key);
        self.findings.keys.borrow_mut().insert(join(&self.pattern, key));
        self.table.get(key)
    }

    /// A setting that may be absent. One that is wrong is a problem, and absent.
    pub fn get<T: Setting>(&self, key: &'static str) -> Option<T> {
        let node = self.node(key)?;
        if matches!(node.value, Value::Unreadable) {
            return None;
        }
        match T::read(&node.value) {
            Ok(value) => Some(value),
            Err(why) => {
                let is = if T::SHOWN { format!(", but is {}", node.value.shown()) } else { String::new() };
                let why = if why.is_empty() { why } else { format!("; {why}") };
                self.problem(key, format!("should be {}{is}{why}", T::expected()));
                None
            }
        }
    }

    /// A setting with a default.
    pub fn or<T: Setting>(&self, key: &'static str, default: T) -> T {
        self.get(key).unwrap_or(default)
    }

    /// A setting with a default that must lie within bounds.
    pub fn within<T: Measure>(&self, key: &'static str, default: T, bounds: RangeInclusive<T>) -> T {
        match self.get::<T>(key) {
            Some(value) if bounds.contains(&value) => value,
            Some(value) => {
                let (low, high) = (bounds.start().render(), bounds.end().render());
                self.problem(key, format!("should be from {low} to {high}, but is {}", value.render()));
                default
            }
            None => default,
        }
    }

    /// A setting that must be there.
    pub fn required<T: Setting>(&self, key: &'static str) -> Option<T> {
        if self.node(key).is_none() {
            self.problem(key, format!("is missing; it should be {}", T::expected()));
            return None;
        }
        self.get(key)
    }

    /// A table of ours, empty where it is absent.
    pub fn table(&self, key: &'static str) -> Section<'a> {
        let node = self.node(key);
        self.child(key, key, node)
    }

    /// A table of ours that may be absent.
    pub fn optional_table(&self, key: &'static str) -> Option<Section<'a>> {
        let node = self.node(key)?;
        Some(self.child(key, key, Some(node)))
    }

    /// The tables under names that the user chose. Two that differ in case, `-` and `_` alone are a problem, since no
    /// variable could override just one of them.
    pub fn named(&self, key: &'static str) -> Vec<(&'a str, Section<'a>)> {
        let section = self.table(key);
        let mut seen: Vec<String> = Vec::new();
        for name in section.table.keys() {
            if seen.contains(&normal(name)) {
                section.problem(name, "another name differs from it only in case, - or _; names should differ in more");
            }
            seen.push(normal(name));
        }
        section.table.iter().map(|(name, node)| (name.as_str(), section.child(name, "*", Some(node)))).collect()
    }

    fn child(&self, key: &str, pattern: &str, node: Option<&'a Node>) -> Section<'a> {
        let (origin, table) = match node {
            Some(Node { origin, value: Value::Table(table) }) => (origin, table),
            Some(Node { origin, value }) => {
                self.problem(key, format!("should be a table, but is {}", value.shown()));
                (origin, &NOTHING)
            }
            None => (&self.origin, &NOTHING),
        };
        Section {
            path: join(&self.path, key),
            pattern: join(&self.pattern, pattern),
            origin: origin.clone(),
            table,
            findings: self.findings,
            known: RefCell::default(),
        }
    }

    /// Ends the reading of this table: what nobody asked for is unknown.
    pub fn finish(self) {
        let known = self.known.borrow();
        for key in self.table.keys().filter(|key| !known.contains(key.as_str())) {
            let meant = nearest(key, known.iter().copied());
            let hint = match meant {
                Some(meant) => format!("did you mean {meant}?"),
                None => format!("it should be one of {}", known.iter().copied().collect::<Vec<_>>().join(", ")),
            };
            self.problem(key, format!("there is no such key; {hint}"));
        }
    }
}

fn join(path: &str, key: &str) -> String {
    // A name that TOML would have to quote is quoted here too.
    let bare = key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_') && !key.is_empty();
    let key = if bare || key == "*" { key.to_owned() } else { format!("{key:?}") };
    if path.is_empty() { key } else { format!("{path}.{key}") }
}

/// The word that was probably meant: it was not typed to its end, or at most a third of its letters differ.
pub(super) fn nearest<'a>(typed: &str, words: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let typed = normal(typed);
    let distance = |word: &str| match normal(word) {
        word if typed.len() >= 3 && word.starts_with(&typed) => 1,
        word => strsim::damerau_levenshtein(&typed, &word),
    };
    let near = words.into_iter().map(|word| (distance(word), word)).min()?;
    (near.0 * 3 <= near.1.chars().count().max(3)).then_some(near.1)
}
