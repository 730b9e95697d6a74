//! Keys: every character that Azure allows comes through, every one that it forbids is refused.

use super::bench::{Bench, body, body_with, delete, expect_error, expect_failure};
use super::quirks::{BATCHED_QUOTES, BATCHED_SEPARATORS, KEY_LENGTH};
use super::suite::{Context, Outcome, cases, ensure, same};
use crate::stores::{Condition, ErrorKind, Operation, Query, Scope};

cases! {
    /// Cases about keys.
    pub(super) const CASES: Bench = [
        any_allowed_row_key_comes_through,
        any_allowed_partition_key_comes_through,
        any_allowed_key_comes_through_a_transaction,
        a_quote_and_a_comma_in_a_key_come_through_a_transaction(BATCHED_QUOTES => a_quote_and_a_comma_end_a_batched_key),
        a_line_separator_in_a_value_comes_through_a_transaction,
        a_line_separator_in_a_key_comes_through_a_transaction(BATCHED_SEPARATORS => a_row_with_a_line_separator_in_its_key_is_not_found),
        both_keys_may_be_empty,
        keys_of_1_kib_come_through(KEY_LENGTH => keys_of_over_512_units_are_refused),
        keys_of_512_units_come_through,
        keys_over_1_kib_are_refused,
        keys_that_differ_in_case_or_form_are_different_rows,
        forbidden_key_characters_are_refused,
    ];
}

/// What breaks clients: literals of the query language, of URLs, of `$batch` and of JSON.
pub(super) const ODD: &[&str] = &[
    "it's",
    "'",
    "''",
    "',",
    "',RowKey='",
    "(a)",
    "a,b",
    "a b",
    " a",
    "a ",
    " ",
    "100 %",
    "%27",
    "%2F",
    "%",
    "a+b",
    "a&b=c;d",
    "$batch",
    "@odata",
    "a:b",
    "a.b",
    "trailing.",
    "trailing...",
    ".",
    "..",
    "\"quoted\"",
    "<a>",
    "{a}",
    "[a]",
    "a|b^c`d~e",
    "!*_-",
    "null",
    "true",
    "1",
    "007",
    "2026-11-22T12:18:00.1234567Z",
    "c:2026-11-22T12:18:00.1234567Z@westeurope.7f3a9c1b~1",
    "größe",
    "e\u{301}",
    "\u{a0}",
    "\u{200b}",
    "\u{2028}",
    "日本語",
    "עברית",
    "😀",
    "👩‍👩‍👧",
    "\u{fffd}",
    "\u{10ffff}",
];

async fn any_allowed_row_key_comes_through(bench: Bench) -> Outcome {
    for key in ODD {
        lives(&bench, "p", key).await.at(key)?;
    }
    Ok(())
}

async fn any_allowed_partition_key_comes_through(bench: Bench) -> Outcome {
    for key in ODD {
        lives(&bench, key, "r").await.at(key)?;
    }
    Ok(())
}

/// What [`BATCHED_QUOTES`] spoils.
const QUOTES: &[&str] = &["',", "',RowKey='"];
/// What [`BATCHED_SEPARATORS`] spoils.
const SEPARATORS: &[&str] = &["\u{2028}", "\u{2029}"];

async fn both_keys_may_be_empty(bench: Bench) -> Outcome {
    lives(&bench, "", "").await?;
    bench.transact("", &[Operation::Insert(body("", ""))]).await?;
    bench.row("", "").await.map(drop)
}

/// A row's whole life by single requests.
async fn lives(bench: &Bench, partition: &str, row: &str) -> Outcome {
    bench.expect_missing(partition, row).await?;
    let inserted = bench.put(&Operation::Insert(body(partition, row))).await.at("insert")?;
    let found = bench.row(partition, row).await?;
    same("the partition key", found.body.partition().as_str(), partition)?;
    same("the row key", found.body.row().as_str(), row)?;
    same("the text", found.body.string("Text").as_deref(), Some(row))?;
    let alone = Query::rows(partition.into(), row.into(), row.into());
    same("the row keys in its own range", bench.keys(&alone).await.at("range")?, vec![row.to_owned()])?;
    let replace = Operation::Replace(body(partition, row), Condition::Matches(inserted));
    let replaced = bench.put(&replace).await.at("replace")?;
    let merge = Operation::Merge(body_with(partition, row, r#","More":1"#)?, Condition::Matches(replaced));
    bench.put(&merge).await.at("merge")?;
    bench.put(&Operation::InsertOrMerge(body(partition, row))).await.at("insert or merge")?;
    let last = bench.put(&Operation::InsertOrReplace(body(partition, row))).await.at("insert or replace")?;
    bench.write(&delete(partition, row, Condition::Matches(last))).await.at("delete")?;
    bench.expect_missing(partition, row).await
}

async fn any_allowed_key_comes_through_a_transaction(bench: Bench) -> Outcome {
    let spoiled = |key: &&str| QUOTES.contains(key) || SEPARATORS.contains(key);
    let keys: Vec<_> = ODD.iter().filter(|key| !spoiled(key)).copied().collect();
    for partition in ["p", "it's 100 % a+b&c", "日本 😀"] {
        live_together(&bench, partition, &keys).await.at(partition)?;
    }
    Ok(())
}

/// The whole lives of rows, in transactions of all of them.
async fn live_together(bench: &Bench, partition: &str, keys: &[&str]) -> Outcome {
    let each = |operation: fn(&str, &str) -> Operation| -> Vec<_> {
        keys.iter().map(|key| operation(partition, key)).collect()
    };
    let inserts = each(|partition, key| Operation::Insert(body(partition, key)));
    bench.transact(partition, &inserts).await.at("insert")?;
    let all = Query::new(Scope::Partition { partition: partition.into(), from: None, through: None });
    let mut expected: Vec<_> = keys.iter().map(|key| (*key).to_owned()).collect();
    expected.sort_unstable_by(|a, b| a.encode_utf16().cmp(b.encode_utf16()));
    same("the row keys", bench.keys(&all).await?, expected)?;
    let replaces = each(|partition, key| Operation::Replace(body(partition, key), Condition::Present));
    bench.transact(partition, &replaces).await.at("replace")?;
    let merges = each(|partition, key| Operation::Merge(body(partition, key), Condition::Present));
    bench.transact(partition, &merges).await.at("merge")?;
    let upserts = each(|partition, key| Operation::InsertOrReplace(body(partition, key)));
    bench.transact(partition, &upserts).await.at("insert or replace")?;
    for key in keys {
        same("the text", bench.row(partition, key).await?.body.string("Text").as_deref(), Some(*key))?;
    }
    let deletes = each(|partition, key| delete(partition, key, Condition::Present));
    bench.transact(partition, &deletes).await.at("delete")?;
    same("the row keys after the deletes", bench.keys(&all).await?, Vec::new())
}

async fn a_quote_and_a_comma_in_a_key_come_through_a_transaction(bench: Bench) -> Outcome {
    live_together(&bench, "p", QUOTES).await?;
    live_together(&bench, QUOTES[1], &["r"]).await
}

async fn a_quote_and_a_comma_end_a_batched_key(bench: Bench) -> Outcome {
    for key in QUOTES {
        bench.put(&Operation::Insert(body("p", key))).await?;
        let replace = Operation::Replace(body("p", key), Condition::Present);
        expect_failure("a replace", bench.transact("p", &[replace]).await, ErrorKind::NotFound, Some(0)).at(key)?;
    }
    Ok(())
}

async fn a_line_separator_in_a_value_comes_through_a_transaction(bench: Bench) -> Outcome {
    for separator in SEPARATORS {
        let row = body_with("p", "r", &format!(r#","Text":"{separator}""#))?;
        bench.transact("p", &[Operation::InsertOrReplace(row)]).await.at(separator)?;
        same("the text", bench.row("p", "r").await?.body.string("Text").as_deref(), Some(*separator))?;
    }
    Ok(())
}

async fn a_line_separator_in_a_key_comes_through_a_transaction(bench: Bench) -> Outcome {
    live_together(&bench, "p", SEPARATORS).await?;
    live_together(&bench, SEPARATORS[0], &["r"]).await
}

async fn a_row_with_a_line_separator_in_its_key_is_not_found(bench: Bench) -> Outcome {
    for separator in SEPARATORS {
        bench.put(&Operation::Insert(body("p", separator))).await?;
        let delete = delete("p", separator, Condition::Present);
        expect_failure("a delete", bench.transact("p", &[delete]).await, ErrorKind::NotFound, Some(0)).at(separator)?;
    }
    Ok(())
}

async fn keys_of_512_units_come_through(bench: Bench) -> Outcome {
    keys_come_through(&bench, 512).await
}

async fn keys_of_1_kib_come_through(bench: Bench) -> Outcome {
    keys_come_through(&bench, 1_024).await
}

async fn keys_come_through(bench: &Bench, units: usize) -> Outcome {
    for key in ["k".repeat(units), "é".repeat(units), "😀".repeat(units / 2)] {
        lives(bench, "p", &key).await?;
        lives(bench, &key, "r").await?;
        bench.transact(&key, &[Operation::Insert(body(&key, &key))]).await?;
        bench.row(&key, &key).await?;
    }
    Ok(())
}

async fn keys_of_over_512_units_are_refused(bench: Bench) -> Outcome {
    for key in ["k".repeat(513), "é".repeat(1_024)] {
        expect_error("an insert", bench.write(&Operation::Insert(body("p", &key))).await, ErrorKind::Invalid)?;
    }
    Ok(())
}

async fn keys_over_1_kib_are_refused(bench: Bench) -> Outcome {
    for key in ["k".repeat(1_025), "é".repeat(1_025), "😀".repeat(513)] {
        refused(&bench, &key).await?;
    }
    Ok(())
}

async fn forbidden_key_characters_are_refused(bench: Bench) -> Outcome {
    for bad in ["/", "\\", "#", "?", "\t", "\n", "\r", "\u{0}", "\u{1f}", "\u{7f}", "\u{80}", "\u{9f}"] {
        refused(&bench, &format!("a{bad}b")).await.at(bad)?;
    }
    Ok(())
}

async fn refused(bench: &Bench, key: &str) -> Outcome {
    expect_error("an insert", bench.write(&Operation::Insert(body("p", key))).await, ErrorKind::Invalid)?;
    expect_error("an insert", bench.write(&Operation::Insert(body(key, "r"))).await, ErrorKind::Invalid)?;
    expect_error("a delete", bench.write(&delete("p", key, Condition::Present)).await, ErrorKind::Invalid)?;
    expect_error("a point read", bench.get("p", key).await, ErrorKind::Invalid)?;
    let operations = [Operation::Insert(body("p", "good")), Operation::Insert(body("p", key))];
    expect_failure("a transaction", bench.transact("p", &operations).await, ErrorKind::Invalid, Some(1))?;
    bench.expect_missing("p", "good").await
}

async fn keys_that_differ_in_case_or_form_are_different_rows(bench: Bench) -> Outcome {
    let keys = ["a", "A", "a ", "é", "e\u{301}", "ß", "ss"];
    for key in keys {
        bench.put(&Operation::Insert(body("p", key))).await.at(key)?;
    }
    for key in keys {
        same("the text", bench.row("p", key).await?.body.string("Text").as_deref(), Some(key))?;
    }
    bench.put(&Operation::Insert(body("P", "a"))).await?;
    let found = bench.keys(&Query::new(Scope::Partition { partition: "P".into(), from: None, through: None })).await?;
    ensure(found == ["a"], || format!("the partition \"P\" should hold one row, not {found:?}"))
}
