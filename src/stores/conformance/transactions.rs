//! Entity group transactions: all or nothing, in order, with the index of the operation at fault.

use super::bench::{Bench, body, body_with, delete, expect_error, expect_failure};
use super::suite::{Context, Outcome, cases, fail, same};
use crate::stores::{Condition, ErrorKind, Operation, Query, Scope, limits};

cases! {
    /// Cases about transactions.
    pub(super) const CASES: Bench = [
        every_kind_of_operation_goes_in_one_transaction,
        the_etags_of_a_transaction_are_the_ones_that_are_read,
        a_transaction_that_fails_names_the_operation_and_applies_nothing,
        a_transaction_fails_at_its_first_fault,
        a_transaction_of_one_operation_goes_through,
        a_transaction_of_100_operations_goes_through,
        a_transaction_of_101_operations_is_refused,
        a_transaction_of_nothing_is_refused,
        a_row_twice_in_a_transaction_is_refused,
        two_partitions_in_a_transaction_are_refused,
        a_transaction_just_under_4_mib_goes_through,
        a_transaction_of_4_mib_is_refused,
        a_transaction_of_1_mib_rows_goes_through,
    ];
}

fn partition() -> Query {
    Query::new(Scope::Partition { partition: "p".into(), from: None, through: None })
}

fn insert(row: &str) -> Operation {
    Operation::Insert(body("p", row))
}

async fn every_kind_of_operation_goes_in_one_transaction(bench: Bench) -> Outcome {
    for row in ["replace", "merge", "delete", "upsert", "upmerge", "etag"] {
        bench.put(&insert(row)).await?;
    }
    let etag = bench.row("p", "etag").await?.etag;
    let with_a = |row: &str| body_with("p", row, r#","A":"new""#);
    let operations = [
        Operation::Insert(with_a("insert")?),
        Operation::Replace(with_a("replace")?, Condition::Present),
        Operation::Merge(with_a("merge")?, Condition::Present),
        delete("p", "delete", Condition::Present),
        Operation::InsertOrReplace(with_a("upsert")?),
        Operation::InsertOrReplace(with_a("upserted")?),
        Operation::InsertOrMerge(with_a("upmerge")?),
        Operation::InsertOrMerge(with_a("upmerged")?),
        delete("p", "etag", Condition::Matches(etag)),
    ];
    let etags = bench.transact("p", &operations).await?;
    let deleted: Vec<_> = (0..etags.len()).filter(|index| etags[*index].is_none()).collect();
    same("the operations without an ETag", deleted, vec![3, 8])?;
    for (row, text) in [
        ("insert", None),
        ("replace", None),
        ("merge", Some("merge")),
        ("upsert", None),
        ("upserted", None),
        ("upmerge", Some("upmerge")),
        ("upmerged", None),
    ] {
        let found = bench.row("p", row).await?;
        same(&format!("A of {row}"), found.body.string("A").as_deref(), Some("new"))?;
        same(&format!("Text of {row}"), found.body.string("Text").as_deref(), text)?;
    }
    bench.expect_missing("p", "delete").await?;
    bench.expect_missing("p", "etag").await
}

async fn the_etags_of_a_transaction_are_the_ones_that_are_read(bench: Bench) -> Outcome {
    let rows = ["c", "a", "d", "b"];
    let etags = bench.transact("p", &rows.map(insert)).await?;
    same("the number of ETags", etags.len(), rows.len())?;
    for (row, etag) in rows.iter().zip(&etags) {
        same(&format!("the ETag of {row}"), Some(&bench.row("p", row).await?.etag), etag.as_ref())?;
    }
    // And they hold: the next transaction is conditional on them.
    let Some(conditions) = etags.into_iter().collect::<Option<Vec<_>>>() else {
        return fail("an insert in a transaction should return its ETag");
    };
    let deletes: Vec<_> =
        rows.iter().zip(conditions).map(|(row, etag)| delete("p", row, Condition::Matches(etag))).collect();
    bench.transact("p", &deletes).await?;
    same("the row keys", bench.keys(&partition()).await?, Vec::new())
}

async fn a_transaction_that_fails_names_the_operation_and_applies_nothing(bench: Bench) -> Outcome {
    let stale = bench.put(&insert("there")).await?;
    let fresh = bench.put(&Operation::Replace(body("p", "there"), Condition::Present)).await?;
    let faults = [
        ("an insert of a row that is there", insert("there"), ErrorKind::AlreadyExists),
        (
            "a replace on a stale ETag",
            Operation::Replace(body("p", "there"), Condition::Matches(stale.clone())),
            ErrorKind::Precondition,
        ),
        (
            "a merge on a stale ETag",
            Operation::Merge(body("p", "there"), Condition::Matches(stale.clone())),
            ErrorKind::Precondition,
        ),
        ("a delete on a stale ETag", delete("p", "there", Condition::Matches(stale.clone())), ErrorKind::Precondition),
        (
            "a replace of a missing row",
            Operation::Replace(body("p", "missing"), Condition::Present),
            ErrorKind::NotFound,
        ),
        ("a merge into a missing row", Operation::Merge(body("p", "missing"), Condition::Present), ErrorKind::NotFound),
        ("a delete of a missing row", delete("p", "missing", Condition::Present), ErrorKind::NotFound),
    ];
    for (what, fault, kind) in faults {
        for index in [0, 2, 4, 11] {
            let mut operations: Vec<_> = (0..11).map(|i| insert(&format!("new{i}"))).collect();
            operations.insert(index, fault.clone());
            let what = format!("{what} as operation {index}");
            expect_failure(&what, bench.transact("p", &operations).await, kind, Some(index))?;
            same(&format!("the row keys after {what}"), bench.keys(&partition()).await?, vec!["there".to_owned()])?;
            same("the ETag of the row that was there", bench.row("p", "there").await?.etag, fresh.clone())?;
        }
    }
    Ok(())
}

async fn a_transaction_fails_at_its_first_fault(bench: Bench) -> Outcome {
    let operations =
        [insert("a"), delete("p", "missing", Condition::Present), insert("b"), delete("p", "gone", Condition::Present)];
    expect_failure("the transaction", bench.transact("p", &operations).await, ErrorKind::NotFound, Some(1))?;
    same("the row keys", bench.keys(&partition()).await?, Vec::new())
}

async fn a_transaction_of_one_operation_goes_through(bench: Bench) -> Outcome {
    bench.transact("p", &[insert("a")]).await?;
    expect_failure("an insert again", bench.transact("p", &[insert("a")]).await, ErrorKind::AlreadyExists, Some(0))?;
    bench.transact("p", &[delete("p", "a", Condition::Present)]).await?;
    bench.expect_missing("p", "a").await
}

fn many(count: usize) -> Vec<Operation> {
    (0..count).map(|i| insert(&format!("{i:03}"))).collect()
}

async fn a_transaction_of_100_operations_goes_through(bench: Bench) -> Outcome {
    same("the number of ETags", bench.transact("p", &many(100)).await?.iter().flatten().count(), 100)?;
    let expected: Vec<_> = (0..100).map(|i| format!("{i:03}")).collect();
    same("the row keys", bench.keys(&partition()).await?, expected)?;
    let mut operations = many(100);
    operations[..99].iter_mut().for_each(|operation| {
        *operation = delete("p", operation.row().as_str(), Condition::Present);
    });
    expect_failure("the last", bench.transact("p", &operations).await, ErrorKind::AlreadyExists, Some(99))?;
    same("the number of rows", bench.keys(&partition()).await?.len(), 100)
}

async fn a_transaction_of_101_operations_is_refused(bench: Bench) -> Outcome {
    expect_failure("the transaction", bench.transact("p", &many(101)).await, ErrorKind::Invalid, None)?;
    same("the row keys", bench.keys(&partition()).await?, Vec::new())
}

async fn a_transaction_of_nothing_is_refused(bench: Bench) -> Outcome {
    expect_failure("the transaction", bench.transact("p", &[]).await, ErrorKind::Invalid, None)
}

async fn a_row_twice_in_a_transaction_is_refused(bench: Bench) -> Outcome {
    for again in [insert("a"), Operation::InsertOrReplace(body("p", "a")), delete("p", "a", Condition::Present)] {
        let operations = [insert("a"), insert("b"), again];
        expect_failure("the transaction", bench.transact("p", &operations).await, ErrorKind::Invalid, Some(2))?;
    }
    same("the row keys", bench.keys(&partition()).await?, Vec::new())
}

async fn two_partitions_in_a_transaction_are_refused(bench: Bench) -> Outcome {
    for other in
        [Operation::Insert(body("q", "b")), Operation::Insert(body("P", "b")), delete("q", "b", Condition::Present)]
    {
        let result = bench.transact("p", &[insert("a"), other]).await;
        expect_failure("the transaction", result, ErrorKind::Invalid, Some(1))?;
    }
    bench.expect_missing("p", "a").await?;
    bench.expect_missing("q", "b").await
}

/// A row whose operation takes `bytes` in a transaction, by our own count, in strings of at most 32,000 units.
fn sized(row: &str, bytes: usize) -> Result<Operation, super::Failure> {
    let make = |text: usize| {
        let properties: String = (0..text.div_ceil(32_000))
            .map(|i| format!(r#","S{i:02}":"{}""#, "s".repeat(32_000.min(text - i * 32_000))))
            .collect();
        Ok(Operation::InsertOrReplace(body_with("p", row, &properties)?))
    };
    // Twice: the names of the properties take bytes too.
    let excess = limits::operation_bytes(&make(bytes)?).saturating_sub(bytes);
    let rest = limits::operation_bytes(&make(bytes - excess)?);
    make(bytes - excess - rest.saturating_sub(bytes))
}

async fn a_transaction_just_under_4_mib_goes_through(bench: Bench) -> Outcome {
    let each = (limits::MAX_TRANSACTION_BYTES - limits::ENVELOPE_BYTES) / 12 - 100;
    let operations = (0..12).map(|i| sized(&i.to_string(), each)).collect::<Result<Vec<_>, _>>()?;
    bench.transact("p", &operations).await?;
    same(
        "the number of rows",
        bench.keys(&Query { select: Some(vec!["Text".into()]), ..partition() }).await?.len(),
        12,
    )?;
    // Rows, not bytes, are what comes back in pages: all of it in one.
    let (rows, _) = bench.pages(&partition()).await?;
    same("the number of rows in full", rows.len(), 12)
}

async fn a_transaction_of_4_mib_is_refused(bench: Bench) -> Outcome {
    let each = limits::MAX_TRANSACTION_BYTES / 12 + 100;
    let operations = (0..12).map(|i| sized(&i.to_string(), each)).collect::<Result<Vec<_>, _>>()?;
    match bench.transact("p", &operations).await {
        Err(failed) => expect_error::<()>("the transaction", Err(failed.error), ErrorKind::Invalid)?,
        Ok(_) => return fail("a transaction of 4 MiB should be refused"),
    }
    same("the row keys", bench.keys(&partition()).await?, Vec::new())
}

async fn a_transaction_of_1_mib_rows_goes_through(bench: Bench) -> Outcome {
    // As Azure counts, a row of ASCII strings takes twice what its JSON does: 512 KiB here are 1 MiB there.
    let operations = (0..7).map(|i| sized(&i.to_string(), 500 * 1024)).collect::<Result<Vec<_>, _>>()?;
    bench.transact("p", &operations).await.at("writing")?;
    for i in 0..7 {
        bench.row("p", &i.to_string()).await?;
    }
    Ok(())
}
