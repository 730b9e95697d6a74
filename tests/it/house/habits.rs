//! Habits of the code: what may not be written, or only with a reason beside it.

use super::source::{Line, Source};
use super::tree;
use super::{Finding, lines, none};

/// Rooms whose outcome may not hang on the order of a hash map.
const ORDERED: [&str; 9] =
    ["feed", "batch", "resolve", "apply", "cache", "settle", "topology", "throttle", "replicator"];
/// Rooms that talk to a terminal.
const TALKING: [&str; 3] = ["cli", "demo", "main"];
/// The one room that names metrics.
const NAMING: &str = "telemetry";
/// Functions that may sleep in a test: they poll a condition, with a deadline.
const POLLING: [&str; 2] = ["eventually", "within"];

fn room(source: &Source) -> &str {
    source.module().first().copied().unwrap_or_default()
}

fn find<'a>(
    source: &'a Source,
    remedy: &'static str,
    broken: impl Fn(usize, &'a Line) -> bool + 'a,
) -> impl Iterator<Item = Finding> + 'a {
    let at = source.numbered().filter(move |(number, line)| broken(*number, line));
    at.map(move |(number, _)| Finding::new(&source.path, number, remedy))
}

fn unproven_unwraps(source: &Source) -> Vec<Finding> {
    let remedy = "unwrap/expect outside tests; return an error, or prove beside it in a comment that it cannot fail";
    find(source, remedy, |number, line| {
        // With a message behind it: other things may have a method of that name.
        let expects = line.code.contains(".expect(\"") || line.code.ends_with(".expect(");
        let panics = line.code.contains(".unwrap()") || expects;
        !line.test && panics && !source.is_explained(number)
    })
    .collect()
}

fn unfinished(source: &Source) -> Vec<Finding> {
    let remedy = "unfinished or left from debugging; finish it, or return an error that says what is missing";
    find(source, remedy, |_, line| ["todo!(", "unimplemented!(", "dbg!("].iter().any(|call| line.code.contains(call)))
        .collect()
}

fn ignored_tests(source: &Source) -> Vec<Finding> {
    let remedy = "an ignored test tells nobody anything; mend it or take it out";
    find(source, remedy, |_, line| line.code.contains("#[ignore") || line.code.contains(", ignore)]")).collect()
}

/// In paused time a sleep costs nothing and is exact; elsewhere it is a guess. A benchmark may set a pace with it.
fn real_sleeps(source: &Source) -> Vec<Finding> {
    let remedy = "a test may not sleep; wait for the condition with a deadline, or pause time (start_paused = true)";
    // Nothing in the simulator lives in real time.
    let virtual_time = source.path.starts_with("tests/sim/");
    find(source, remedy, move |number, line| {
        let code = &line.code;
        let sleeps = code.contains("sleep(") && !code.contains("fn ") && !code.trim_start().starts_with("use ");
        line.test
            && sleeps
            && !virtual_time
            && !source.path.starts_with("benches/")
            && !is_polling_or_paused(source, number)
    })
    .collect()
}

/// The line is in a function that polls, in a test of paused time, or in a file all of whose tests are.
fn is_polling_or_paused(source: &Source, number: usize) -> bool {
    let says = |word: &'static str| source.lines.iter().filter(move |line| line.code.contains(word));
    let real = says("#[tokio::test").any(|line| !line.code.contains("start_paused = true"));
    if says("start_paused").next().is_some() && !real {
        return true;
    }
    let around = source.functions.iter().filter(|function| (function.first..=function.last).contains(&(number - 1)));
    around.into_iter().any(|function| {
        let paused = |line: &Line| line.code.contains("start_paused = true");
        POLLING.iter().any(|name| function.name.starts_with(name))
            || source.lines[function.attributes..=function.first].iter().any(paused)
    })
}

fn metric_names(source: &Source) -> Vec<Finding> {
    let remedy = "a metric's name stands in telemetry alone; call the function there";
    find(source, remedy, |_, line| {
        !line.test && room(source) != NAMING && line.literal.split(' ').any(|word| word.starts_with("tablerelay_"))
    })
    .collect()
}

fn hash_maps(source: &Source) -> Vec<Finding> {
    let remedy =
        "a hash map's order differs from run to run; use a BTreeMap, or say in a comment that it is never iterated";
    find(source, remedy, |number, line| {
        let hashed = ["HashMap", "HashSet"].iter().any(|name| line.code.contains(name));
        let explained = source.is_explained(number) && {
            let above = number.checked_sub(2).and_then(|index| source.lines.get(index));
            let comment = |line: &Line| line.comment.contains("never iterated");
            comment(line) || above.is_some_and(comment)
        };
        !line.test && hashed && ORDERED.contains(&room(source)) && !line.code.starts_with("use ") && !explained
    })
    .collect()
}

fn unbiased_selects(source: &Source) -> Vec<Finding> {
    let remedy = "select! picks at random; begin it with `biased;` and put what must not starve first";
    find(source, remedy, |number, line| {
        let Some((_, behind)) = line.code.split_once("select! {") else { return false };
        let below = source.lines[number..].iter().map(|line| line.code.trim());
        let first = std::iter::once(behind.trim()).chain(below).find(|code| !code.is_empty());
        !first.is_some_and(|code| code.starts_with("biased;"))
    })
    .collect()
}

fn prints(source: &Source) -> Vec<Finding> {
    let remedy = "prints past the log; use tracing, or leave it to cli";
    find(source, remedy, |_, line| {
        let print = ["println!(", "eprintln!(", " print!(", "eprint!("].iter().any(|call| line.code.contains(call));
        !line.test && print && !TALKING.contains(&room(source))
    })
    .collect()
}

fn silenced_lints(source: &Source) -> Vec<Finding> {
    let remedy = "a lint is silenced without a reason; write `#[expect(…, reason = \"…\")]`";
    find(source, remedy, |number, line| {
        let code = line.code.trim_start();
        let opens = ["#[allow(", "#![allow(", "#[expect(", "#![expect("].iter().any(|lint| code.starts_with(lint));
        let until = source.lines[number - 1..].iter().take(6).position(|line| line.code.contains(")]")).unwrap_or(0);
        let reasoned = source.lines[number - 1..=number - 1 + until].iter().any(|line| line.code.contains("reason ="));
        opens && !reasoned
    })
    .collect()
}

/// rustdoc resolves the links of both in the scope of the outer one, where they lead nowhere.
fn doubled_documentation(source: &Source) -> Vec<Finding> {
    let remedy = "a module's documentation stands inside it; make this a plain comment";
    find(source, remedy, |number, line| {
        let code = line.code.trim();
        let declares = code.starts_with("pub mod ") && code.ends_with(';');
        let above = number.checked_sub(2).and_then(|index| source.lines.get(index));
        declares && above.is_some_and(|line| line.code.trim().is_empty() && line.comment.starts_with('/'))
    })
    .collect()
}

/// A rule with a text that breaks it on its second line and nowhere else.
type Habit = (&'static str, fn(&Source) -> Vec<Finding>, &'static str);

const HABITS: [Habit; 11] = [
    (
        "unwrap",
        unproven_unwraps,
        "fn a() { b.expect(&c); }\nx.unwrap();\n// Never empty: checked above.\nx.expect(\"\");\n",
    ),
    ("unfinished", unfinished, "fn a() {}\nfn b() { todo!() }\n// todo!()\n"),
    ("ignored", ignored_tests, "#[test]\n#[ignore = \"slow\"]\nfn a() {}\n"),
    (
        "sleep",
        real_sleeps,
        "#[cfg(test)] mod tests { fn a() {\nsleep(x); }\n#[tokio::test]\nfn c() {}\n#[t(start_paused = true)]\nfn b() { sleep(x) }\nfn eventually() { sleep(x) } }\n",
    ),
    (
        "metric",
        metric_names,
        "// tablerelay_lag_seconds\nfn a() { counter(\"tablerelay_lag_seconds\") }\nlet b = \"tablerelay\";\n",
    ),
    (
        "hash map",
        hash_maps,
        "use std::collections::HashMap;\nstruct A { b: HashMap<C, D> }\n// Looked up, never iterated.\nlet e = HashSet::new();\n",
    ),
    (
        "select",
        unbiased_selects,
        "fn a() {\nselect! {\n x = y => {} }\ntokio::select! {\n    biased;\n x = y => {} } }\n",
    ),
    ("print", prints, "use x;\nfn a() { println!(\"\"); }\ninfo!(\"println!()\");\n"),
    (
        "silenced",
        silenced_lints,
        "#[expect(clippy::a, reason = \"b\")]\n#[allow(clippy::a)]\n#[allow(\n    dead_code,\n    reason = \"c\"\n)]\nfn a() {}\n",
    ),
    ("doubled", doubled_documentation, "/// What it is for.\npub mod a;\n\n// What it is for.\npub mod b;\n"),
    (
        "test name",
        unclear_test_names,
        "#[cfg(test)] mod tests {\n#[test] fn works() {}\n#[test] fn a_quote_is_doubled() {}\n}\n",
    ),
];

/// A test's name is a sentence: what holds, or what happens when.
fn unclear_test_names(source: &Source) -> Vec<Finding> {
    let named = |function: &&super::source::Function| {
        let head = &source.lines[function.attributes..=function.first];
        let test = head.iter().any(|line| line.code.contains("#[test]") || line.code.contains("#[tokio::test"));
        test && function.name.split('_').count() < 3
    };
    let broken = source.functions.iter().filter(named);
    let finding = |function: &super::source::Function| {
        let remedy = format!("`{}` does not say what holds; name the test with a sentence", function.name);
        Finding::new(&source.path, function.first + 1, remedy)
    };
    broken.map(finding).collect()
}

#[test]
fn good_habits_are_kept() {
    let sources = tree::sources();
    let all = HABITS.iter().flat_map(|(_, rule, _)| sources.iter().flat_map(rule));
    // Its own fixtures break the rules on purpose, but stand in literals, which the rules do not read.
    none(all);
}

#[test]
fn each_habit_can_be_broken() {
    for (name, rule, fixture) in HABITS {
        let findings = rule(&Source::new("src/batch/x.rs", fixture));
        assert_eq!(lines(&findings), [2], "{name}: {findings:?}");
    }
}
