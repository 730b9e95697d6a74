//! Single writes: what each makes of a row that is there and of one that is not, and on which condition.

use super::bench::{Bench, body, body_with, delete, expect_error};
use super::suite::{Context, Outcome, cases, ensure, same};
use crate::model::{Etag, RowBody};
use crate::stores::{Condition, ErrorKind, Operation};

cases! {
    /// Cases about single writes.
    pub(super) const CASES: Bench = [
        insert_creates_and_never_overwrites,
        replace_needs_the_row_and_leaves_nothing_of_it,
        merge_needs_the_row_and_keeps_the_rest_of_it,
        insert_or_replace_does_either,
        insert_or_merge_does_either,
        delete_needs_the_row,
        a_stale_etag_is_refused_and_changes_nothing,
        a_write_on_an_etag_needs_the_row,
        the_etag_of_a_write_is_the_one_that_is_read,
        every_write_makes_a_new_etag,
        a_row_that_was_deleted_and_put_again_has_another_etag,
    ];
}

fn one() -> RowBody {
    body("p", "r")
}

/// The row as A = `a` alone, or with what is kept of `one`.
async fn expect_row(bench: &Bench, text: Option<&str>, a: Option<&str>) -> Outcome {
    let found = bench.row("p", "r").await?;
    same("the property Text", found.body.string("Text").as_deref(), text)?;
    same("the property A", found.body.string("A").as_deref(), a)
}

fn with_a(a: &str) -> Result<RowBody, super::Failure> {
    body_with("p", "r", &format!(r#","A":"{a}""#))
}

async fn insert_creates_and_never_overwrites(bench: Bench) -> Outcome {
    bench.put(&Operation::Insert(one())).await?;
    let again = bench.write(&Operation::Insert(with_a("second")?)).await;
    expect_error("an insert of a row that is there", again, ErrorKind::AlreadyExists)?;
    expect_row(&bench, Some("r"), None).await
}

async fn replace_needs_the_row_and_leaves_nothing_of_it(bench: Bench) -> Outcome {
    let replace = Operation::Replace(with_a("new")?, Condition::Present);
    expect_error("a replace of a missing row", bench.write(&replace).await, ErrorKind::NotFound)?;
    bench.expect_missing("p", "r").await?;
    bench.put(&Operation::Insert(one())).await?;
    bench.put(&replace).await?;
    expect_row(&bench, None, Some("new")).await
}

async fn merge_needs_the_row_and_keeps_the_rest_of_it(bench: Bench) -> Outcome {
    let merge = Operation::Merge(with_a("new")?, Condition::Present);
    expect_error("a merge into a missing row", bench.write(&merge).await, ErrorKind::NotFound)?;
    bench.expect_missing("p", "r").await?;
    bench.put(&Operation::Insert(one())).await?;
    bench.put(&merge).await?;
    expect_row(&bench, Some("r"), Some("new")).await?;
    bench.put(&Operation::Merge(with_a("newer")?, Condition::Present)).await?;
    expect_row(&bench, Some("r"), Some("newer")).await?;
    // A merge may change the type of a property.
    let number = body_with("p", "r", r#","A@odata.type":"Edm.Int64","A":"7","Text":false"#)?;
    bench.put(&Operation::Merge(number, Condition::Present)).await?;
    let found = bench.row("p", "r").await?;
    let json = found.body.json();
    ensure(json.contains(r#""A@odata.type":"Edm.Int64""#) && json.contains(r#""Text":false"#), || {
        "a merge should replace value and type".to_owned()
    })
}

async fn insert_or_replace_does_either(bench: Bench) -> Outcome {
    bench.put(&Operation::InsertOrReplace(one())).await?;
    expect_row(&bench, Some("r"), None).await?;
    bench.put(&Operation::InsertOrReplace(with_a("new")?)).await?;
    expect_row(&bench, None, Some("new")).await
}

async fn insert_or_merge_does_either(bench: Bench) -> Outcome {
    bench.put(&Operation::InsertOrMerge(one())).await?;
    expect_row(&bench, Some("r"), None).await?;
    bench.put(&Operation::InsertOrMerge(with_a("new")?)).await?;
    expect_row(&bench, Some("r"), Some("new")).await
}

async fn delete_needs_the_row(bench: Bench) -> Outcome {
    let missing = bench.write(&delete("p", "r", Condition::Present)).await;
    expect_error("a delete of a missing row", missing, ErrorKind::NotFound)?;
    bench.put(&Operation::Insert(one())).await?;
    same("the ETag of a delete", bench.write(&delete("p", "r", Condition::Present)).await?, None)?;
    bench.expect_missing("p", "r").await
}

async fn a_stale_etag_is_refused_and_changes_nothing(bench: Bench) -> Outcome {
    let stale = bench.put(&Operation::Insert(one())).await?;
    let fresh = bench.put(&Operation::Merge(one(), Condition::Matches(stale.clone()))).await?;
    let condition = || Condition::Matches(stale.clone());
    let replace = Operation::Replace(with_a("lost")?, condition());
    expect_error("a replace", bench.write(&replace).await, ErrorKind::Precondition)?;
    let merge = Operation::Merge(with_a("lost")?, condition());
    expect_error("a merge", bench.write(&merge).await, ErrorKind::Precondition)?;
    expect_error("a delete", bench.write(&delete("p", "r", condition())).await, ErrorKind::Precondition)?;
    expect_row(&bench, Some("r"), None).await?;
    same("the ETag", bench.row("p", "r").await?.etag, fresh.clone())?;
    let fresh = bench.put(&Operation::Replace(with_a("new")?, Condition::Matches(fresh))).await?;
    bench.write(&delete("p", "r", Condition::Matches(fresh))).await?;
    bench.expect_missing("p", "r").await
}

async fn a_write_on_an_etag_needs_the_row(bench: Bench) -> Outcome {
    let etag = bench.put(&Operation::Insert(one())).await?;
    bench.write(&delete("p", "r", Condition::Present)).await?;
    let condition = || Condition::Matches(etag.clone());
    let replace = bench.write(&Operation::Replace(one(), condition())).await;
    expect_error("a replace", replace, ErrorKind::NotFound)?;
    expect_error("a merge", bench.write(&Operation::Merge(one(), condition())).await, ErrorKind::NotFound)?;
    expect_error("a delete", bench.write(&delete("p", "r", condition())).await, ErrorKind::NotFound)?;
    bench.expect_missing("p", "r").await
}

/// Every kind of write that puts a row, in an order in which each succeeds.
fn puts() -> [(&'static str, Operation); 5] {
    [
        ("insert", Operation::Insert(one())),
        ("replace", Operation::Replace(one(), Condition::Present)),
        ("merge", Operation::Merge(one(), Condition::Present)),
        ("insert or replace", Operation::InsertOrReplace(one())),
        ("insert or merge", Operation::InsertOrMerge(one())),
    ]
}

async fn the_etag_of_a_write_is_the_one_that_is_read(bench: Bench) -> Outcome {
    for (what, operation) in puts() {
        let etag = bench.put(&operation).await.at(what)?;
        same(&format!("the ETag read after {what}"), bench.row("p", "r").await?.etag, etag.clone())?;
        let (rows, _) = bench.pages(&crate::stores::Query::new(crate::stores::Scope::Table)).await?;
        let queried: Vec<Etag> = rows.into_iter().map(|row| row.etag).collect();
        same(&format!("the ETag queried after {what}"), queried, vec![etag])?;
    }
    Ok(())
}

async fn every_write_makes_a_new_etag(bench: Bench) -> Outcome {
    let mut seen: Vec<Etag> = Vec::new();
    for (what, operation) in puts() {
        let etag = bench.put(&operation).await.at(what)?;
        ensure(!seen.contains(&etag), || format!("{what} should make a new ETag, not {etag:?} again"))?;
        seen.push(etag);
    }
    Ok(())
}

async fn a_row_that_was_deleted_and_put_again_has_another_etag(bench: Bench) -> Outcome {
    let first = bench.put(&Operation::Insert(one())).await?;
    bench.write(&delete("p", "r", Condition::Present)).await?;
    bench.put(&Operation::Insert(with_a("again")?)).await?;
    let stale = bench.write(&delete("p", "r", Condition::Matches(first))).await;
    expect_error("a delete on the ETag of the earlier row", stale, ErrorKind::Precondition)?;
    expect_row(&bench, None, Some("again")).await
}
