//! The environment: overrides of single keys, and variables inside strings.

use std::collections::BTreeMap;

use super::document::{Node, Table, Text, Value};
use super::problem::{Origin, Problem};

/// The variables of a process. A value that is no Unicode is `None`.
#[derive(Clone, Default)]
pub struct Environment(BTreeMap<String, Option<String>>);

impl std::fmt::Debug for Environment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Values may be secrets.
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// What a name begins with that overrides a key.
const PREFIX: &str = "TABLERELAY__";
/// Between the parts of a key.
const SEPARATOR: &str = "__";
/// Most parts of a key: `region.NAME.account.NAME.connection_string` has five, and a name of 24 characters may hold as
/// many separators again.
const MAX_PARTS: usize = 32;

impl Environment {
    /// This process's variables. One whose name is no Unicode cannot be meant.
    pub fn process() -> Self {
        let variables = std::env::vars_os();
        Self(variables.filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()))).collect())
    }

    /// Just these variables.
    pub fn of<'a>(variables: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        Self(variables.into_iter().map(|(name, value)| (name.to_owned(), Some(value.to_owned()))).collect())
    }

    /// The value of a variable, where it is set and Unicode.
    pub(super) fn get(&self, name: &str) -> Option<String> {
        self.0.get(name)?.clone()
    }

    /// Puts every variable that overrides a key in the place of what the file says: `TABLERELAY__REGION__WEST__ROLE`
    /// is `region.west.role`, compared without case, `-` written `_`.
    ///
    /// The value is taken as it is; `${…}` is for the file.
    pub(super) fn override_keys(&self, table: &mut Table, problems: &mut Vec<Problem>) {
        let mut seen: BTreeMap<String, &str> = BTreeMap::new();
        let prefix = normal(PREFIX);
        for (name, value) in &self.0 {
            let normal = normal(name);
            let Some(rest) = normal.strip_prefix(&prefix) else { continue };
            let mut problem = |message: String| {
                problems.push(Problem { origin: Origin::Variable(name.clone()), key: String::new(), message });
            };
            let Some(value) = value else {
                problem("the value should be Unicode text".to_owned());
                continue;
            };
            if rest.split(SEPARATOR).count() > MAX_PARTS {
                problem(format!("it has over {MAX_PARTS} parts between {SEPARATOR}, more than any key"));
                continue;
            }
            if let Some(other) = seen.insert(rest.to_owned(), name) {
                problem(format!("{other} names the same key; there should be one of them"));
                continue;
            }
            let origin = Origin::Variable(name.clone());
            if let Err(message) = place(table, &mut Vec::new(), rest, &Text::literal(value), &origin) {
                problem(message);
            }
        }
    }

    /// Puts the value of `NAME` in the place of `${NAME}`, and `$` in that of `$$`, in every string of the file. What
    /// was overridden is none of the file's any more.
    pub(super) fn expand(&self, table: &mut Table, path: &str, problems: &mut Vec<Problem>) {
        for (key, node) in table {
            let key = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            match &mut node.value {
                Value::Table(table) => self.expand(table, &key, problems),
                Value::Text(_) if matches!(node.origin, Origin::Variable(_)) => {}
                Value::Text(text) => match self.expanded(&text.written) {
                    Ok(expanded) => text.expanded = expanded,
                    Err(message) => {
                        problems.push(Problem { origin: node.origin.clone(), key, message });
                        node.value = Value::Unreadable;
                    }
                },
                Value::List(items) => {
                    for text in items {
                        match self.expanded(&text.written) {
                            Ok(expanded) => text.expanded = expanded,
                            Err(message) => {
                                problems.push(Problem { origin: node.origin.clone(), key, message });
                                node.value = Value::Unreadable;
                                break;
                            }
                        }
                    }
                }
                _ => {}
            }
        }
    }

    fn expanded(&self, text: &str) -> Result<String, String> {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('$') {
            out.push_str(before);
            if let Some(after) = after.strip_prefix('$') {
                out.push('$');
                rest = after;
                continue;
            }
            let name = after.strip_prefix('{').and_then(|after| after.split_once('}'));
            let (name, after) = name.filter(|(name, _)| is_name(name)).ok_or_else(|| {
                "a $ should begin a variable, as in ${NAME}; a dollar itself is written $$".to_owned()
            })?;
            match self.0.get(name) {
                Some(Some(value)) => out.push_str(value),
                Some(None) => {
                    return Err(format!("the value of the environment variable {name} should be Unicode text"));
                }
                None => return Err(format!("the environment variable {name} is not set; set it before starting")),
            }
            rest = after;
        }
        out.push_str(rest);
        Ok(out)
    }
}

fn is_name(name: &str) -> bool {
    !name.starts_with(|c: char| c.is_ascii_digit())
        && !name.is_empty()
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// How names are compared: without case, `-` as `_`.
pub(super) fn normal(name: &str) -> String {
    name.to_ascii_lowercase().replace('-', "_")
}

/// Puts `value` at the key that `rest` names, below `table`.
///
/// Where a key of the file fits, it is that one: the longest, since a region may be called `a--b`. A key that is not in
/// the file is made: names of regions and accounts have no `_`, so it becomes `-`; keys of ours have no `-`.
fn place(table: &mut Table, path: &mut Vec<String>, rest: &str, value: &Text, origin: &Origin) -> Result<(), String> {
    let fits = |key: &&String| {
        let after = rest.strip_prefix(&*normal(key));
        after.is_some_and(|after| after.is_empty() || after.starts_with(SEPARATOR))
    };
    let (key, after) = match table.keys().filter(fits).max_by_key(|key| key.len()) {
        Some(key) => (key.clone(), rest[key.len()..].strip_prefix(SEPARATOR)),
        None => {
            let (first, after) = rest.split_once(SEPARATOR).map_or((rest, None), |(first, after)| (first, Some(after)));
            (if is_named(path) { first.replace('_', "-") } else { first.to_owned() }, after)
        }
    };
    if key.is_empty() || after == Some("") {
        return Err("the name should be TABLERELAY__ and the parts of a key, with __ between them".to_owned());
    }
    let Some(after) = after else {
        if let Some(Node { value: Value::Table(_), .. }) = table.get(&key) {
            path.push(key);
            return Err(format!("{} is a table; name one of its keys", path.join(".")));
        }
        table.insert(key, Node { origin: origin.clone(), value: Value::Text(value.clone()) });
        return Ok(());
    };
    path.push(key.clone());
    let empty = || Node { origin: origin.clone(), value: Value::Table(Table::new()) };
    match &mut table.entry(key).or_insert_with(empty).value {
        Value::Table(table) => place(table, path, after, value, origin),
        _ => Err(format!("{} should be a table", path.join("."))),
    }
}

/// Whether the keys of this table are names that the user chose, rather than keys of ours.
fn is_named(path: &[String]) -> bool {
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    matches!(
        path.as_slice(),
        ["region"] | ["region", _, "account" | "route"] | ["table"] | ["copy"] | ["copy", _, "account" | "table"]
    )
}

#[cfg(test)]
mod tests {
    use super::super::document::parse;
    use super::*;

    fn overridden(file: &str, variables: &[(&str, &str)]) -> (Table, Vec<Problem>) {
        let mut problems = Vec::new();
        let mut table = parse(file, &mut problems);
        let environment = Environment::of(variables.iter().copied());
        environment.override_keys(&mut table, &mut problems);
        environment.expand(&mut table, "", &mut problems);
        (table, problems)
    }

    fn at<'a>(table: &'a Table, path: &str) -> &'a str {
        let (first, rest) = path.split_once('/').map_or((path, None), |(first, rest)| (first, Some(rest)));
        match (&table.get(first).unwrap_or_else(|| panic!("no {first} in {table:?}")).value, rest) {
            (Value::Table(table), Some(rest)) => at(table, rest),
            (Value::Text(text), None) => &text.expanded,
            (other, _) => panic!("{path}: {other:?}"),
        }
    }

    #[test]
    fn a_variable_overrides_its_key_without_case_and_dashes() {
        let file = "[region.north-1]\nrole = \"replica\"\n[region.a]\n[region.a--b]\nrole = \"replica\"";
        let (table, problems) = overridden(
            file,
            &[
                ("TABLERELAY__REGION__NORTH_1__ROLE", "standby"),
                ("tablerelay__Region__A__B__Role", "writer"),
                ("TABLERELAY__REPLICATION__SETTLE_WINDOW", "5s"),
                ("TABLERELAY__REGION__FAR_EAST__ACCOUNT__E_1__SAS", "$x"),
                ("TABLERELAY_CONFIG", "not an override"),
            ],
        );
        assert_eq!(problems, []);
        assert_eq!(at(&table, "region/north-1/role"), "standby");
        assert_eq!(at(&table, "region/a--b/role"), "writer");
        assert_eq!(at(&table, "replication/settle_window"), "5s");
        assert_eq!(at(&table, "region/far-east/account/e-1/sas"), "$x");
    }

    #[test]
    fn variables_that_collide_or_lead_nowhere_are_errors() {
        let (_, problems) = overridden(
            "[log]\nlevel = \"info\"",
            &[
                ("TABLERELAY__LOG__FORMAT", "json"),
                ("tablerelay__log__format", "human"),
                ("TABLERELAY__LOG", "x"),
                ("TABLERELAY__LOG__LEVEL__OF", "x"),
                ("TABLERELAY__", "x"),
                ("TABLERELAY__LOG__", "x"),
            ],
        );
        let text: Vec<_> = problems.iter().map(|problem| format!("{:?} {}", problem.origin, problem.message)).collect();
        assert_eq!(text.len(), 5, "{text:#?}");
        for words in ["names the same key", "log is a table", "log.level should be a table", "the parts of a key"] {
            assert!(text.iter().any(|line| line.contains(words)), "{words}: {text:#?}");
        }
    }

    #[test]
    fn what_is_overridden_needs_no_variable_of_the_file() {
        let (table, problems) = overridden("[log]\nlevel = \"${UNSET}\"", &[("TABLERELAY__LOG__LEVEL", "${x}")]);
        assert_eq!((at(&table, "log/level"), problems), ("${x}", Vec::new()));
    }

    #[test]
    fn strings_take_variables_and_dollars() {
        let file = "a = \"x${ONE}y${_2}$$z\"\nb = '${ONE'\nc = '$ONE'\nd = '${TWO}'\ne = '${1}'\nf = '${}'\ng = 'x$'";
        let (table, problems) = overridden(file, &[("ONE", "1$$"), ("_2", "")]);
        assert_eq!(at(&table, "a"), "x1$$y$z");
        assert_eq!(
            problems.iter().map(|problem| problem.key.as_str()).collect::<Vec<_>>(),
            ["b", "c", "d", "e", "f", "g"]
        );
        assert!(problems[2].message.contains("TWO is not set"), "{problems:?}");
    }
}
