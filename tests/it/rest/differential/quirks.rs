//! Where the two differ, by name. What no entry explains fails the test.
//!
//! An entry explains no more than it says: it looks at what was asked for and at both answers. Where both refuse, they
//! mostly differ in which of several faults they find first, and in the code; where Azurite accepts, it is laxer than Azure.

use std::collections::BTreeMap;

use super::act::{Act, Op, Place, Verb};
use super::wire::Answer;

/// A difference that is known.
pub struct Known {
    pub name: &'static str,
    /// What the memory store's server does: what Azure's documentation says, where it says something.
    pub served: &'static str,
    /// What Azurite does.
    pub azurite: &'static str,
    explains: fn(&Act, &Answer, &Answer) -> bool,
}

/// What explains that the answers to an act differ.
pub fn explained(act: &Act, served: &Answer, azurite: &Answer) -> Option<&'static Known> {
    KNOWN.iter().find(|known| (known.explains)(act, served, azurite))
}

/// All of them.
pub const KNOWN: &[Known] = &[
    Known {
        name: "unasked preference",
        served: "says Preference-Applied where a preference was sent",
        azurite: "says return-content where none was",
        explains: |act, served, azurite| {
            let said = Answer { preference: served.preference.clone(), ..azurite.clone() };
            matches!(act, Act::Write(_, None) | Act::CreateTable(_))
                && azurite.preference.as_deref() == Some("return-content")
                && *served == said
        },
    },
    Known {
        name: "typed null",
        served: "leaves out a null, with or without a type",
        azurite: "refuses a null with a type",
        explains: |act, served, azurite| {
            let null = |op: &Op| {
                op.verb != Verb::Delete && op.properties.contains(":null") && op.properties.contains("Edm.Int64")
            };
            let at_fault = refusal(azurite).filter(|refused| refused.code == "InvalidInput");
            let at_fault = at_fault.and_then(|refused| ops(act).get(refused.index.unwrap_or(0)));
            at_fault.is_some_and(null) && refusal(served).is_none_or(|refused| refused.code != "InvalidInput")
        },
    },
    Known {
        name: "laxness",
        served: "refuses rows, keys and transactions beyond Azure's limits, and values that are not of their type",
        azurite: "accepts them",
        explains: |act, served, azurite| {
            let refused = refusal(served).is_some_and(|refused| refused.is_of_the_request());
            refused && refusal(azurite).is_none() && !matches!(act, Act::Query { .. })
        },
    },
    Known {
        name: "order of checks",
        served: "looks at the request as a whole before it looks at the rows",
        azurite: "takes the operations one by one, and looks at the rows first",
        explains: |_, served, azurite| match (refusal(served), refusal(azurite)) {
            (Some(ours), Some(theirs)) => ours.is_of_the_request() && theirs.is_of_the_rows(),
            _ => false,
        },
    },
    Known {
        name: "codes of refusals",
        served: "gives the code of Azure's documentation",
        azurite: "gives InvalidInput, another or none",
        explains: |_, served, azurite| match (refusal(served), refusal(azurite)) {
            (Some(ours), Some(theirs)) => {
                ours.status == 400 && theirs.status == 400 && ours.index == theirs.index && ours.is_of_the_request()
            }
            _ => false,
        },
    },
    Known {
        name: "index of a whole",
        served: "names the operation that is one too many, or the second one of a row",
        azurite: "names the first operation, or none, for what is wrong with the whole",
        explains: |act, served, azurite| match (refusal(served), refusal(azurite)) {
            (Some(ours), Some(theirs)) => {
                let whole = ours.code == "InvalidDuplicateRow" || ops(act).len() > 100;
                whole && theirs.status == 400 && theirs.index == Some(0)
            }
            _ => false,
        },
    },
    Known {
        name: "several faults",
        served: "names what cannot be read before what is beyond a limit or of no type",
        azurite: "names another of the faults of a transaction",
        explains: |act, served, azurite| match (act, refusal(served), refusal(azurite)) {
            (Act::Transaction(ops), Some(ours), Some(theirs)) => {
                ops.len() > 1 && ours.is_of_the_request() && theirs.status == 400 && ours.index != theirs.index
            }
            _ => false,
        },
    },
    Known {
        name: "crash",
        served: "refuses the request, or says that the row is missing",
        azurite: "answers 500 to what it does not expect: an odd key in a batch, half a body, a long against another type",
        explains: |act, served, azurite| {
            let odd = |op: &Op| op.place.2.contains(['/', '\\', '?', '#', '\t', '\u{7f}', '\u{2028}']);
            let expected = match act {
                Act::Wrong(..) => refusal(served).is_some(),
                Act::Query { filter, .. } => filter.as_deref().is_some_and(|filter| filter.contains("L")),
                Act::Get { place, .. } | Act::BatchedGet(place) => place.2.contains(['/', '\\', '?', '#']),
                act => ops(act).iter().any(odd),
            };
            azurite.status == 500 && expected
        },
    },
    Known {
        name: "batched separators",
        served: "takes U+2028 in the address of a batched operation like any other character",
        azurite: "ends the key there, and may change another row",
        explains: |act, _, _| match act {
            Act::Transaction(ops) => ops.iter().any(|op| op.place.2.contains('\u{2028}')),
            Act::BatchedGet(place) => place.2.contains('\u{2028}'),
            _ => false,
        },
    },
    Known {
        name: "batched quotes",
        served: "reads a doubled quote with a comma behind it as a quote of the key",
        azurite: "ends the key there, and may write a row of another partition",
        explains: |act, _, _| match act {
            Act::Transaction(ops) => ops.iter().any(|op| op.place.2.contains("',")),
            Act::BatchedGet(place) => place.2.contains("',"),
            _ => false,
        },
    },
    Known {
        name: "batched reads",
        served: "answers a read in a batch as it answers it alone",
        azurite: "puts an index before the message, does not look at the key, knows no empty keys",
        explains: |act, served, azurite| {
            let Act::BatchedGet(place) = act else { return false };
            let indexed = Answer { index: azurite.index, ..served.clone() };
            let empty = (place.1.is_empty() || place.2.is_empty())
                && azurite.parts.first().is_some_and(|(status, _)| *status == 501);
            indexed == *azurite || empty
        },
    },
    Known {
        name: "keys of the body",
        served: "refuses a body whose keys are not those of the path",
        azurite: "takes the row",
        explains: |act, served, azurite| {
            let body = matches!(act, Act::Wrong("PUT", _, body) if body.contains("PartitionKey"));
            body && served.status == 400 && azurite.status == 204
        },
    },
    Known {
        name: "comparison across types",
        served: "finds no row by a value of another type than its own",
        azurite: "compares as JavaScript does: true is 1, a time is a text, and `ne` holds for whatever is of another type",
        explains: |act, served, azurite| {
            let Act::Query { filter: Some(filter), metadata, .. } = act else { return false };
            let Some((property, types)) = compared(filter) else { return false };
            let (extra, missing) = apart(azurite, served);
            // Without metadata, or where the property is not selected, its type cannot be seen.
            let hidden = *metadata == "nometadata";
            let another = |value: &String| !types.iter().any(|edm| value.starts_with(edm));
            let other = |row: &Row| hidden || row.get(property).is_none_or(another);
            served.status == 200 && azurite.status == 200 && missing.is_empty() && extra.iter().all(other)
        },
    },
    Known {
        name: "exponents",
        served: "reads 1e299 as a Double",
        azurite: "does not",
        explains: |act, served, azurite| {
            let exponent = matches!(act, Act::Query { filter: Some(filter), .. } if filter.contains("1e299"));
            exponent && served.status == 200 && apart(azurite, served).0.is_empty()
        },
    },
    Known {
        name: "open strings",
        served: "refuses a string in a filter without its closing quote",
        azurite: "closes it",
        explains: |act, served, azurite| {
            let open = matches!(act, Act::Query { filter: Some(filter), .. } if filter.ends_with("'open"));
            open && served.status == 400 && azurite.status == 200
        },
    },
];

/// The writes of an act.
pub fn ops(act: &Act) -> &[Op] {
    match act {
        Act::Write(op, _) => std::slice::from_ref(op),
        Act::Transaction(ops) => ops,
        _ => &[],
    }
}

/// The rows that Azurite may have changed in place of those of a transaction. Where a quote and a comma end its key, what
/// is behind the partition key belongs to it; where U+2028 ends it, nothing of the row key is left.
pub fn strays(act: &Act) -> Vec<Place> {
    let Act::Transaction(ops) = act else { return Vec::new() };
    let stray = |op: &Op| {
        let (table, partition, row) = &op.place;
        match () {
            () if row.contains("',") => Some((*table, format!("{partition}',RowKey='"), row.clone())),
            () if row.contains('\u{2028}') => Some((*table, partition.clone(), String::new())),
            () => None,
        }
    };
    ops.iter().filter_map(stray).collect()
}

/// A refusal, of a single request or of a transaction.
struct Refusal<'a> {
    status: u16,
    code: &'a str,
    index: Option<usize>,
}

fn refusal(answer: &Answer) -> Option<Refusal<'_>> {
    let status = match answer.parts.as_slice() {
        [(status, _)] => *status,
        _ => answer.status,
    };
    (status >= 400).then_some(Refusal { status, code: &answer.code, index: answer.index })
}

impl Refusal<'_> {
    /// For what the request says, whatever rows there are.
    fn is_of_the_request(&self) -> bool {
        const CODES: [&str; 13] = [
            "CommandsInBatchActOnDifferentPartitions",
            "EntityTooLarge",
            "InvalidDuplicateRow",
            "InvalidInput",
            "InvalidResourceName",
            "InvalidUri",
            "MissingRequiredHeader",
            "OutOfRangeInput",
            "PropertiesNeedValue",
            "PropertyNameInvalid",
            "PropertyNameTooLong",
            "PropertyValueTooLarge",
            "TooManyProperties",
        ];
        self.status == 400 && CODES.contains(&self.code)
    }

    /// For what rows and tables there are.
    fn is_of_the_rows(&self) -> bool {
        matches!(
            self.code,
            "ResourceNotFound" | "TableNotFound" | "EntityAlreadyExists" | "UpdateConditionNotSatisfied"
        )
    }
}

type Row = BTreeMap<String, String>;

/// The rows that only the first answer has, and those that only the second one has.
fn apart(one: &Answer, other: &Answer) -> (Vec<Row>, Vec<Row>) {
    let (mut extra, mut missing) = (Vec::new(), other.rows.clone());
    for row in &one.rows {
        match missing.iter().position(|known| known == row) {
            Some(place) => drop(missing.swap_remove(place)),
            None => extra.push(row.clone()),
        }
    }
    (extra, missing)
}

/// The one property that a filter compares, and the types of what it is compared with.
fn compared(filter: &str) -> Option<(&'static str, &'static [&'static str])> {
    const NUMBERS: &[&str] = &["Edm.Int32", "Edm.Int64", "Edm.Double"];
    let words: Vec<&str> = filter.split([' ', '(', ')']).collect();
    let property = *["A", "B", "C", "D", "E"].iter().find(|name| words.contains(*name))?;
    let types: &[&str] = match filter {
        _ if filter.contains("datetime'") => &["Edm.DateTime"],
        _ if filter.contains("guid'") => &["Edm.Guid"],
        _ if filter.contains("X'") || filter.contains("binary'") => &["Edm.Binary"],
        _ if filter.contains('\'') => &["Edm.String"],
        _ if words.contains(&"true") => &["Edm.Boolean"],
        _ => NUMBERS,
    };
    Some((property, types))
}

#[test]
fn every_known_difference_has_a_name_of_its_own_and_says_both_sides() {
    let mut names: Vec<_> = KNOWN.iter().map(|known| known.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), KNOWN.len());
    assert!(KNOWN.iter().all(|known| !known.served.is_empty() && !known.azurite.is_empty()));
}
