//! Queries: ranges, order, pages, selection.

use super::bench::{Bench, body, body_with, expect_error};
use super::keys::ODD;
use super::suite::{Context, Outcome, cases, ensure, same};
use crate::model::{PartitionKey, RowKey};
use crate::stores::{ErrorKind, Operation, Query, Scope};

cases! {
    /// Cases about queries.
    pub(super) const CASES: Bench = [
        an_empty_table_has_no_rows_and_no_next_page,
        rows_come_in_ordinal_order_of_their_keys,
        a_range_of_rows_includes_both_ends,
        a_range_of_partitions_excludes_its_end,
        a_range_that_ends_before_it_begins_is_empty,
        ranges_take_any_allowed_key,
        a_prefix_finds_what_begins_with_it,
        top_ends_a_page_and_the_next_one_goes_on,
        more_than_1000_rows_come_in_pages,
        pages_go_on_over_partitions,
        a_page_has_1_to_1000_rows,
        a_selection_has_the_keys_and_what_was_named,
    ];
}

fn all() -> Query {
    Query::new(Scope::Table)
}

fn range(from: Option<&str>, through: Option<&str>) -> Query {
    let bound = |key: Option<&str>| key.map(RowKey::from);
    Query::new(Scope::Partition { partition: "p".into(), from: bound(from), through: bound(through) })
}

fn partitions(from: Option<&str>, until: Option<&str>) -> Query {
    let bound = |key: Option<&str>| key.map(PartitionKey::from);
    Query::new(Scope::Partitions { from: bound(from), until: bound(until) })
}

async fn expect_keys(bench: &Bench, what: &str, query: &Query, expected: &[&str]) -> Outcome {
    let expected: Vec<_> = expected.iter().map(|key| (*key).to_owned()).collect();
    same(&format!("the row keys of {what}"), bench.keys(query).await.at(what)?, expected)
}

async fn an_empty_table_has_no_rows_and_no_next_page(bench: Bench) -> Outcome {
    for (what, query) in [
        ("the table", all()),
        ("a partition", range(None, None)),
        ("a range", range(Some("a"), Some("b"))),
        ("partitions", partitions(Some("a"), None)),
        ("a prefix", Query::prefix("p".into(), "c:")),
    ] {
        same(what, bench.pages(&query).await.at(what)?, (Vec::new(), 1))?;
    }
    Ok(())
}

async fn rows_come_in_ordinal_order_of_their_keys(bench: Bench) -> Outcome {
    let ordered = ["", "!", "-", "1", "10", "2", "A", "Z", "_", "a", "aa", "b", "z", "~", "é", "日", "\u{ff5e}"];
    for key in ordered.iter().rev() {
        bench.put(&Operation::Insert(body("p", key))).await.at(key)?;
    }
    expect_keys(&bench, "the partition", &range(None, None), &ordered).await?;
    for key in ordered.iter().rev() {
        bench.put(&Operation::Insert(body(key, key))).await.at(key)?;
    }
    let mut both = ordered.to_vec();
    let at = ordered.iter().position(|key| *key > "p").unwrap_or(ordered.len());
    both.splice(at..at, ordered);
    expect_keys(&bench, "the table", &all(), &both).await
}

async fn letters(bench: &Bench) -> Outcome {
    bench.load("p", ["a", "b", "b1", "c", "d"].map(str::to_owned)).await
}

async fn a_range_of_rows_includes_both_ends(bench: Bench) -> Outcome {
    letters(&bench).await?;
    bench.put(&Operation::Insert(body("o", "b"))).await?;
    bench.put(&Operation::Insert(body("q", "b"))).await?;
    expect_keys(&bench, "b to c", &range(Some("b"), Some("c")), &["b", "b1", "c"]).await?;
    expect_keys(&bench, "b to b", &range(Some("b"), Some("b")), &["b"]).await?;
    expect_keys(&bench, "from c", &range(Some("c"), None), &["c", "d"]).await?;
    expect_keys(&bench, "through b", &range(None, Some("b")), &["a", "b"]).await?;
    expect_keys(&bench, "between rows", &range(Some("b0"), Some("bz")), &["b1"]).await?;
    expect_keys(&bench, "past the end", &range(Some("e"), None), &[]).await
}

async fn a_range_of_partitions_excludes_its_end(bench: Bench) -> Outcome {
    for partition in ["a", "b", "c", "d"] {
        bench.put(&Operation::Insert(body(partition, partition))).await?;
    }
    expect_keys(&bench, "b until d", &partitions(Some("b"), Some("d")), &["b", "c"]).await?;
    expect_keys(&bench, "from c", &partitions(Some("c"), None), &["c", "d"]).await?;
    expect_keys(&bench, "until b", &partitions(None, Some("b")), &["a"]).await?;
    expect_keys(&bench, "b until b", &partitions(Some("b"), Some("b")), &[]).await?;
    expect_keys(&bench, "all", &partitions(None, None), &["a", "b", "c", "d"]).await
}

async fn a_range_that_ends_before_it_begins_is_empty(bench: Bench) -> Outcome {
    letters(&bench).await?;
    expect_keys(&bench, "c to b", &range(Some("c"), Some("b")), &[]).await?;
    expect_keys(&bench, "z until a", &partitions(Some("z"), Some("a")), &[]).await
}

async fn ranges_take_any_allowed_key(bench: Bench) -> Outcome {
    for key in ODD {
        bench.put(&Operation::Insert(body("p", key))).await?;
    }
    for key in ODD {
        expect_keys(&bench, key, &range(Some(key), Some(key)), &[key]).await?;
    }
    for key in ODD {
        bench.put(&Operation::Insert(body(key, "r"))).await?;
        let scope = Scope::Partition { partition: (*key).into(), from: None, through: None };
        expect_keys(&bench, key, &Query::new(scope), &["r"]).await?;
    }
    Ok(())
}

async fn a_prefix_finds_what_begins_with_it(bench: Bench) -> Outcome {
    let keys = ["b", "c", "c9", "c:", "c:2026", "c:2027~1", "c:日", "d", "t:", "t:00"];
    bench.load("p", keys.map(str::to_owned)).await?;
    let prefix = |prefix| Query::prefix("p".into(), prefix);
    expect_keys(&bench, "c:", &prefix("c:"), &["c:", "c:2026", "c:2027~1", "c:日"]).await?;
    expect_keys(&bench, "t:", &prefix("t:"), &["t:", "t:00"]).await?;
    expect_keys(&bench, "x:", &prefix("x:"), &[]).await
}

async fn top_ends_a_page_and_the_next_one_goes_on(bench: Bench) -> Outcome {
    bench.load("p", (0..10).map(|i| i.to_string())).await?;
    let mut query = Query { top: Some(4), ..range(Some("1"), None) };
    let mut sizes = Vec::new();
    let mut keys = Vec::new();
    loop {
        let page = bench.tables.query(&bench.table, &query).await?;
        ensure(page.rows.len() <= 4, || format!("a page of at most 4 rows has {}", page.rows.len()))?;
        sizes.push(page.rows.len());
        keys.extend(page.rows.iter().map(|row| row.body.row().as_str().to_owned()));
        query.continuation = page.continuation;
        if query.continuation.is_none() || sizes.len() > 20 {
            break;
        }
    }
    same("the first page", sizes[0], 4)?;
    same("the row keys", keys, (1..10).map(|i| i.to_string()).collect())
}

async fn more_than_1000_rows_come_in_pages(bench: Bench) -> Outcome {
    let keys: Vec<_> = (0..1_150).map(|i| format!("{i:04}")).collect();
    bench.load("p", keys.clone()).await?;
    let (rows, pages) = bench.pages(&range(None, None)).await?;
    same("the row keys", rows.iter().map(|row| row.body.row().as_str().to_owned()).collect(), keys.clone())?;
    ensure(pages >= 2, || "1,150 rows should take two pages or more".to_owned())?;
    same("the row keys of a range", bench.keys(&range(Some("0100"), Some("1120"))).await?, keys[100..=1_120].to_vec())?;
    let first = bench.tables.query(&bench.table, &range(None, None)).await?;
    ensure(first.rows.len() <= 1_000, || format!("a page should have at most 1,000 rows, not {}", first.rows.len()))
}

async fn pages_go_on_over_partitions(bench: Bench) -> Outcome {
    let mut expected = Vec::new();
    for partition in ["", "a", "it's", "z"] {
        let keys: Vec<_> = (0..7).map(|i| format!("{partition}{i}")).collect();
        bench.load(partition, keys.clone()).await?;
        expected.extend(keys);
    }
    for top in [1, 3, 7, 10] {
        let query = Query { top: Some(top), ..all() };
        same(&format!("the row keys in pages of {top}"), bench.keys(&query).await?, expected.clone())?;
        let query = Query { top: Some(top), ..partitions(Some("a"), Some("z")) };
        same(
            &format!("the row keys of a and it's in pages of {top}"),
            bench.keys(&query).await?,
            expected[7..21].to_vec(),
        )?;
    }
    Ok(())
}

async fn a_page_has_1_to_1000_rows(bench: Bench) -> Outcome {
    for bad in [0, 1_001] {
        let query = Query { top: Some(bad), ..all() };
        expect_error(&format!("a page of {bad}"), bench.tables.query(&bench.table, &query).await, ErrorKind::Invalid)?;
    }
    bench.tables.query(&bench.table, &Query { top: Some(1_000), ..all() }).await?;
    Ok(())
}

async fn a_selection_has_the_keys_and_what_was_named(bench: Bench) -> Outcome {
    let properties = r#","A@odata.type":"Edm.Int64","A":"1","B":"two","C":3,"RelayVersion":"2026-11-22T12:18:00.1234567Z@west.7f3a9c1b""#;
    let etag = bench.put(&Operation::Insert(body_with("p", "r", properties)?)).await?;
    let select = |names: &[&str]| Query { select: Some(names.iter().map(|name| (*name).into()).collect()), ..all() };
    let (rows, _) = bench.pages(&select(&["A", "Missing"])).await?;
    same("the number of rows", rows.len(), 1)?;
    let (row, whole) = (&rows[0], bench.row("p", "r").await?);
    same("the keys", (row.body.partition().as_str(), row.body.row().as_str()), ("p", "r"))?;
    same("the ETag", &row.etag, &etag)?;
    same("the timestamp", row.timestamp, whole.timestamp)?;
    same("A", row.body.string("A").as_deref(), Some("1"))?;
    ensure(row.body.json().contains(r#""A@odata.type":"Edm.Int64""#), || "A should keep its type".to_owned())?;
    same("B and the version", (row.body.string("B"), row.body.version()), (None, None))?;
    let (rows, _) = bench.pages(&select(&["RelayVersion"])).await?;
    same("the version", rows[0].body.version(), whole.body.version())?;
    same("A", rows[0].body.string("A"), None)
}
