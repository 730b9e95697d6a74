//! Which room may import which. The table stands in ARCHITECTURE.md, so that what people read is what holds.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use super::source::Source;
use super::tree;
use super::{Finding, lines, none};

/// A room, as a path of modules: `model`, `stores/azure`.
type Room = String;

/// What each room may import, in the order of the table.
struct Table {
    order: Vec<Room>,
    may_import: BTreeMap<Room, BTreeSet<Room>>,
}

impl Table {
    /// Reads the rows ``| `room` | what for | `room`, `room` |``; `*` stands for every room.
    fn parse(document: &str) -> Self {
        let mut table = Table { order: Vec::new(), may_import: BTreeMap::new() };
        for line in document.lines().filter(|line| line.starts_with("| `")) {
            let cells: Vec<_> = line.trim_matches('|').split('|').collect();
            let [rooms, _, imports] = cells.as_slice() else { continue };
            for room in quoted(rooms) {
                table.order.push(room.clone());
                table.may_import.insert(room, quoted(imports).collect());
            }
        }
        table
    }

    /// The room that a path of modules lies in: the longest one that is in the table.
    fn room(&self, path: &[&str]) -> Option<&str> {
        (1..=path.len())
            .rev()
            .map(|length| path[..length].join("/"))
            .find_map(|room| self.order.iter().find(|known| **known == room).map(String::as_str))
    }

    fn allows(&self, from: &str, to: &str) -> bool {
        let allowed = self.may_import.get(from);
        from == to || allowed.is_some_and(|rooms| rooms.contains("*") || rooms.contains(to))
    }
}

fn quoted(cell: &str) -> impl Iterator<Item = String> + '_ {
    cell.split('`').skip(1).step_by(2).map(str::to_owned)
}

fn table() -> Table {
    let path = tree::root().join("ARCHITECTURE.md");
    Table::parse(&fs::read_to_string(path).expect("ARCHITECTURE.md is in the root"))
}

fn broken(table: &Table, source: &Source) -> Vec<Finding> {
    let mut module = source.module();
    if module == ["main"] {
        module = vec!["cli"];
    }
    if module == ["lib"] || module.is_empty() {
        return Vec::new();
    }
    let Some(room) = table.room(&module) else {
        let remedy =
            format!("room {:?} is not in the table of ARCHITECTURE.md; add it with what it may import", module[0]);
        return vec![Finding::new(&source.path, 1, remedy)];
    };
    let mut findings = Vec::new();
    for (number, path) in imported(source) {
        let path: Vec<_> = path.iter().map(String::as_str).collect();
        let Some(target) = table.room(&path) else { continue };
        if !table.allows(room, target) {
            let remedy = format!(
                "`{room}` may not import `{target}` (table in ARCHITECTURE.md); turn the dependency round, or pass \
                 what it needs as an argument"
            );
            findings.push(Finding::new(&source.path, number, remedy));
        }
    }
    findings
}

/// Every path into the crate that is not test code, as modules from the root, with its line.
fn imported(source: &Source) -> Vec<(usize, Vec<String>)> {
    // Joined into one text, since a `use` may span lines; `ends` leads back from a place to its line.
    let (mut code, mut ends) = (String::new(), Vec::new());
    for (number, line) in source.shipped() {
        code.push_str(&line.code);
        code.push('\n');
        ends.push((code.len(), number));
    }
    let number = |at: usize| ends.iter().find(|(end, _)| at < *end).map_or(0, |(_, number)| *number);
    let mut found = Vec::new();
    for root in ["crate::", "tablerelay::"] {
        for (at, _) in code.match_indices(root).filter(|(at, _)| starts_word(&code, *at)) {
            paths(&code[at + root.len()..], Vec::new(), &mut |path| found.push((number(at), path)));
        }
    }
    for (at, _) in code.match_indices("super::").filter(|(at, _)| starts_word(&code, *at)) {
        if code[..at].ends_with("super::") {
            continue;
        }
        let ups = code[at..].split("super::").take_while(|part| part.is_empty()).count();
        let module = source.module();
        let Some(above) = module.len().checked_sub(ups) else { continue };
        let base = module[..above].iter().map(|part| (*part).to_owned()).collect();
        let rest = &code[at + "super::".len() * ups..];
        paths(rest, base, &mut |path| found.push((number(at), path)));
    }
    found
}

fn starts_word(code: &str, at: usize) -> bool {
    !code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '$')
}

/// Walks `a::b::{c, d::e}` and reports each path.
fn paths(rest: &str, base: Vec<String>, report: &mut dyn FnMut(Vec<String>)) {
    let mut path = base;
    let mut rest = rest.trim_start();
    while let Some(end) = rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).or(Some(rest.len())) {
        if end > 0 {
            path.push(rest[..end].to_owned());
        }
        match rest[end..].strip_prefix("::") {
            Some(more) => rest = more.trim_start(),
            None => {
                rest = &rest[end..];
                break;
            }
        }
    }
    let Some(group) = rest.strip_prefix('{') else { return report(path) };
    let mut depth = 0;
    let mut start = 0;
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            ',' | '}' if depth == 0 => {
                if !group[start..at].trim().is_empty() {
                    paths(&group[start..at], path.clone(), report);
                }
                start = at + 1;
                if c == '}' {
                    return;
                }
            }
            '}' => depth -= 1,
            _ => {}
        }
    }
}

/// `lib.rs` declares the rooms in the order of the table.
fn out_of_order(table: &Table, lib: &Source) -> Vec<Finding> {
    let mut reached = 0;
    let mut findings = Vec::new();
    for (number, line) in lib.shipped() {
        let declared =
            line.code.trim().trim_start_matches("pub ").strip_prefix("mod ").and_then(|m| m.strip_suffix(';'));
        let Some(place) = declared.and_then(|name| table.order.iter().position(|room| room == name)) else { continue };
        if place < reached {
            let remedy = format!(
                "`{}` stands before `{}` in ARCHITECTURE.md; declare the rooms in the order of its table",
                table.order[place], table.order[reached]
            );
            findings.push(Finding::new(&lib.path, number, remedy));
        }
        reached = reached.max(place);
    }
    findings
}

#[test]
fn rooms_import_only_what_the_architecture_allows() {
    let table = table();
    assert!(table.order.len() > 5, "the table of rooms was not found in ARCHITECTURE.md");
    none(tree::sources().iter().flat_map(|source| broken(&table, source)));
}

#[test]
fn every_room_of_the_table_is_there() {
    let sources = tree::sources();
    let is_there = |room: &Room| {
        let (file, folder) = (format!("src/{room}.rs"), format!("src/{room}/"));
        sources.iter().any(|source| source.path == file || source.path.starts_with(&folder))
    };
    let gone: Vec<_> = table().order.into_iter().filter(|room| !is_there(room)).collect();
    assert!(gone.is_empty(), "ARCHITECTURE.md: {gone:?} are no rooms of src any more; take them out of the table");
}

#[test]
fn the_library_declares_its_rooms_in_the_order_of_the_line() {
    let sources = tree::sources();
    let lib = sources.iter().find(|source| source.path == "src/lib.rs").expect("src/lib.rs is there");
    none(out_of_order(&table(), lib));
}

mod fixtures {
    use super::*;

    const DOCUMENT: &str = "| `model` | nouns | nothing |\n| `feed` | records | `model` |\n\
                            | `stores` | traits | `model` |\n| `stores/azure` | adapter | `stores`, `model` |\n\
                            | `cli` | commands | `*` |\n";

    fn broken_lines(path: &str, text: &str) -> Vec<usize> {
        lines(&broken(&Table::parse(DOCUMENT), &Source::new(path, text)))
    }

    #[test]
    fn a_forbidden_import_is_found_in_every_form() {
        let text =
            "use crate::feed::A;\nuse crate::{\n    model::B,\n    feed::{C, D},\n};\nlet x = crate::feed::e();\n";
        assert_eq!(broken_lines("src/model/row.rs", text), [1, 2, 2, 6]);
        assert_eq!(broken_lines("src/model/row.rs", "use super::super::feed::A;\nuse super::row::B;\n"), [1]);
        assert_eq!(broken_lines("src/feed.rs", "use crate::stores::azure::A;\nuse crate::stores::B;\n"), [1, 2]);
    }

    #[test]
    fn an_allowed_import_is_not() {
        assert!(broken_lines("src/feed/codec.rs", "use crate::model::A;\nuse super::shard::B;\n").is_empty());
        assert!(broken_lines("src/stores/azure/mod.rs", "use super::Tables;\nuse crate::stores::Row;\n").is_empty());
        assert!(broken_lines("src/main.rs", "use tablerelay::stores::azure::A;\n").is_empty());
        assert!(broken_lines("src/model/row.rs", "#[cfg(test)]\nmod tests {\n    use crate::feed::A;\n}\n").is_empty());
    }

    #[test]
    fn an_adapter_is_not_imported_with_its_traits() {
        assert_eq!(broken_lines("src/stores/mod.rs", "use azure::Client;\nuse crate::stores::azure::Client;\n"), [2]);
    }

    #[test]
    fn an_unknown_room_is_named() {
        let source = Source::new("src/util/mod.rs", "fn a() {}\n");
        let findings = broken(&Table::parse(DOCUMENT), &source);
        assert!(findings[0].to_string().contains("util"), "{findings:?}");
    }

    #[test]
    fn the_order_of_rooms_is_held() {
        let lib = Source::new("src/lib.rs", "pub mod model;\npub mod stores;\npub mod feed;\n");
        assert_eq!(lines(&out_of_order(&Table::parse(DOCUMENT), &lib)), [3]);
    }
}
