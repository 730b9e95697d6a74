//! Inputs that nobody wrote: arbitrary bytes, and the corpus with a few things done to it.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::{Config, RngAlgorithm, TestError, TestRng, TestRunner};

use super::corpus;
use super::properties::{Property, TARGETS};

/// Cases of each kind for each target; `FUZZ_CASES` asks for others.
const CASES: u32 = 1_500;

/// Pieces that mean something to one parser or another.
const PIECES: [&str; 36] = [
    "\"",
    "'",
    "\\",
    "\\u0000",
    "\\ud800",
    "{",
    "}",
    "[",
    "]",
    "(",
    ")",
    ",",
    ":",
    ";",
    "=",
    "%",
    "%00",
    "%FF",
    "$",
    "${A}",
    "\r\n",
    "\n\n",
    "--",
    "~1",
    "\u{feff}",
    "😀",
    "é",
    "null",
    "-0",
    "1e999",
    "18446744073709551615",
    "not ",
    " or ",
    "@odata.type",
    "RelayVersion",
    "\0",
];

#[derive(Debug, Clone)]
enum Edit {
    /// One byte becomes another.
    Byte(Index, u8),
    /// From here to there is gone.
    Cut(Index, Index),
    /// From here to there stands there again, so many times.
    Repeat(Index, Index, u8),
    /// A piece comes in.
    Insert(Index, &'static str),
    /// What comes after here comes out of another input.
    Splice(Index, Index),
}

fn edit() -> impl Strategy<Value = Edit> {
    let at = any::<Index>;
    prop_oneof![
        (at(), any::<u8>()).prop_map(|(at, byte)| Edit::Byte(at, byte)),
        (at(), at()).prop_map(|(from, to)| Edit::Cut(from, to)),
        (at(), at(), 1u8..20).prop_map(|(from, to, times)| Edit::Repeat(from, to, times)),
        (at(), select(&PIECES[..])).prop_map(|(at, piece)| Edit::Insert(at, piece)),
        (at(), at()).prop_map(|(at, from)| Edit::Splice(at, from)),
    ]
}

/// At most this long: repetitions of repetitions prove nothing more.
const LONGEST: usize = 32 * 1_024;

fn edited(mut input: Vec<u8>, edits: &[Edit], other: &[u8]) -> Vec<u8> {
    for edit in edits {
        let place = |index: &Index| index.index(input.len() + 1);
        let range = |a: &Index, b: &Index| place(a).min(place(b))..place(a).max(place(b));
        match edit {
            Edit::Byte(..) if input.is_empty() => {}
            Edit::Byte(at, byte) => {
                let at = at.index(input.len());
                input[at] = *byte;
            }
            Edit::Cut(from, to) => drop(input.drain(range(from, to))),
            Edit::Repeat(from, to, times) => {
                let range = range(from, to);
                let (end, piece) = (range.end, input[range].repeat(usize::from(*times)));
                input.splice(end..end, piece);
            }
            Edit::Insert(at, piece) => {
                let at = place(at);
                input.splice(at..at, piece.bytes());
            }
            Edit::Splice(at, from) => {
                input.truncate(place(at));
                input.extend_from_slice(&other[from.index(other.len() + 1)..]);
            }
        }
        input.truncate(LONGEST);
    }
    input
}

/// The same cases each time, so that a failure is one of this change; other ones where more are asked for.
fn run(strategy: impl Strategy<Value = Vec<u8>>, target: &str, property: Property) {
    let asked: Option<u32> = std::env::var("FUZZ_CASES").ok().and_then(|cases| cases.parse().ok());
    let config = Config { cases: asked.unwrap_or(CASES), failure_persistence: None, ..Config::default() };
    let mut runner = match asked {
        Some(_) => TestRunner::new(config),
        None => TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha)),
    };
    let result = runner.run(&strategy, |input| {
        property(&input);
        Ok(())
    });
    if let Err(TestError::Fail(why, input)) = &result {
        let text = String::from_utf8_lossy(input);
        panic!("{target}: {why}; put this into fuzz/corpus/{target}:\n{text}\n{input:?}");
    }
    result.expect("no case is rejected");
}

fn mutate(name: &str) {
    let (target, property) = TARGETS.into_iter().find(|(target, _)| *target == name).expect("a target");
    let inputs: Vec<Vec<u8>> = corpus(target).into_iter().map(|(_, input)| input).collect();
    let mutation = (select(inputs.clone()), vec(edit(), 1..6), select(inputs));
    run(mutation.prop_map(|(input, edits, other)| edited(input, &edits, &other)), target, property);
    run(vec(any::<u8>(), 0..400), target, property);
    run(any::<String>().prop_map(String::into_bytes), target, property);
}

macro_rules! mutations {
    ($($test:ident: $target:literal,)*) => {
        $(#[test]
        fn $test() {
            mutate($target);
        })*
    };
}

mutations! {
    whatever_a_configuration_says_is_understood_or_named: "configuration",
    whatever_a_connection_string_says_is_understood_or_named: "connection_string",
    whatever_an_error_says_is_bounded: "error_reply",
    whatever_stands_in_a_feed_is_understood_or_goes_whole_into_quarantine: "feed_row",
    whatever_a_page_holds_is_rows_or_an_error: "page_reply",
    whatever_a_message_says_is_understood_or_goes_whole_into_quarantine: "queue_message",
    whatever_is_asked_of_the_table_api_has_an_answer: "table_request",
    whatever_a_transaction_is_answered_half_a_reply_is_no_success: "transaction_reply",
}
