//! Files and functions stay small enough to be read in one go.

use super::source::Source;
use super::tree;
use super::{Finding, lines, none};

/// Most lines in a file, its tests apart.
const FILE: usize = 600;
/// Most lines in the median file, its tests apart.
const MEDIAN: usize = 150;
/// Most lines in a function, from `fn` to its closing brace.
const FUNCTION: usize = 70;

/// The lines that count: all of a file of tests, all but the tests of another.
fn length(source: &Source) -> usize {
    match source.shipped().count() {
        0 => source.lines.len(),
        shipped => shipped,
    }
}

fn too_long(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    if length(source) > FILE {
        let remedy = format!("{} lines without tests, {FILE} at most; split it by what it knows", length(source));
        findings.push(Finding::new(&source.path, FILE, remedy));
    }
    for function in &source.functions {
        let long = function.last - function.first + 1;
        if long > FUNCTION {
            let remedy = format!("`{}` has {long} lines, {FUNCTION} at most; give its steps names", function.name);
            findings.push(Finding::new(&source.path, function.first + 1, remedy));
        }
    }
    findings
}

fn median(mut lengths: Vec<usize>) -> usize {
    lengths.sort_unstable();
    lengths.get(lengths.len() / 2).copied().unwrap_or_default()
}

#[test]
fn no_file_and_no_function_is_too_long() {
    none(tree::sources().iter().flat_map(too_long));
}

#[test]
fn the_median_file_is_short() {
    let sources = tree::sources();
    let lengths = sources.iter().filter(|source| source.path.starts_with("src/")).map(length).collect();
    let median = median(lengths);
    assert!(median <= MEDIAN, "src/*.rs: the median file has {median} lines without tests, {MEDIAN} at most");
}

#[test]
fn a_long_function_and_a_long_file_are_found() {
    let function = |name: &str, lines: usize| format!("fn {name}() {{\n{}}}\n", "    x();\n".repeat(lines - 2));
    let text = function("a", FUNCTION) + &function("b", FUNCTION + 1);
    assert_eq!(lines(&too_long(&Source::new("src/x.rs", &text))), [FUNCTION + 1]);
    let file = |lines: usize| Source::new("src/x.rs", &"a();\n".repeat(lines));
    assert!(too_long(&file(FILE)).is_empty());
    assert_eq!(lines(&too_long(&file(FILE + 1))), [FILE]);
    let tests = format!("a();\n#[cfg(test)]\nmod tests {{\n{}}}\n", "    a();\n".repeat(FILE));
    assert!(too_long(&Source::new("src/x.rs", &tests)).is_empty());
}

#[test]
fn the_median_is_the_middle_one() {
    assert_eq!(median(vec![900, 10, 20]), 20);
    assert_eq!(median(Vec::new()), 0);
}
