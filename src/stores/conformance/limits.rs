//! A row's limits: what is within them is accepted, what is beyond is refused and leaves nothing.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::bench::{Bench, body, body_with, delete, expect_error, expect_failure};
use super::quirks::MERGED_LIMITS;
use super::suite::{Context, Failure, Outcome, cases, same};
use crate::model::{Etag, RowBody};
use crate::stores::{Condition, ErrorKind, Operation, TransactionError, limits};

cases! {
    /// Cases about limits.
    pub(super) const CASES: Bench = [
        a_row_of_1_mib_is_accepted_and_one_beyond_is_refused,
        a_row_of_252_properties_is_accepted_and_one_of_253_is_refused,
        a_merge_that_makes_a_row_too_large_is_refused(MERGED_LIMITS => a_merge_makes_a_row_as_large_as_it_likes),
        a_property_name_has_at_most_255_units,
        a_property_name_is_an_identifier,
        a_string_has_at_most_32_k_units,
        a_binary_has_at_most_64_kib,
        an_integer_without_a_type_is_an_int32,
        a_property_is_no_array_and_no_object,
    ];
}

fn row(properties: &str) -> Result<RowBody, Failure> {
    body_with("p", "r", properties)
}

/// Written and read back, by every kind of write.
async fn accepted(bench: &Bench, body: RowBody) -> Outcome {
    let properties = body.json().matches("\":").count();
    for operation in [
        Operation::InsertOrReplace(body.clone()),
        Operation::Replace(body.clone(), Condition::Present),
        Operation::Merge(body.clone(), Condition::Present),
    ] {
        bench.put(&operation).await?;
        bench.transact("p", &[operation]).await?;
        same("the number of fields", bench.row("p", "r").await?.body.json().matches("\":").count(), properties)?;
    }
    bench.write(&delete("p", "r", Condition::Present)).await?;
    Ok(())
}

async fn refused(bench: &Bench, row: RowBody) -> Outcome {
    for operation in
        [Operation::Insert(row.clone()), Operation::InsertOrReplace(row.clone()), Operation::InsertOrMerge(row)]
    {
        expect_error("the row", bench.write(&operation).await, ErrorKind::Invalid)?;
        let result = bench.transact("p", &[Operation::Insert(body("p", "good")), operation]).await;
        expect_failure("the transaction", result, ErrorKind::Invalid, Some(1))?;
    }
    bench.expect_missing("p", "good").await?;
    bench.expect_missing("p", "r").await
}

async fn a_row_of_1_mib_is_accepted_and_one_beyond_is_refused(bench: Bench) -> Outcome {
    // 15 strings of 32 Ki units: 8 bytes, 3 × 2 for the name, 4 and 65,536 for the value. Keys and all: 4 + 2 × 2.
    let full: String = (10..25).map(|i| format!(r#","S{i}":"{}""#, "s".repeat(32 * 1024))).collect();
    let rest = (limits::MAX_ROW_BYTES - (4 + 4) - 15 * (8 + 6 + 4 + 65_536) - (8 + 6 + 4)) / 2;
    let with = |units: usize| row(&format!(r#"{full},"S25":"{}""#, "s".repeat(units)));
    accepted(&bench, with(rest)?).await.at("1 MiB")?;
    refused(&bench, with(rest + 1)?).await.at("1 MiB and 2 bytes")
}

async fn a_row_of_252_properties_is_accepted_and_one_of_253_is_refused(bench: Bench) -> Outcome {
    let with = |count: usize| row(&(0..count).map(|i| format!(r#","P{i}":{i}"#)).collect::<String>());
    accepted(&bench, with(252)?).await.at("252")?;
    refused(&bench, with(253)?).await.at("253")
}

/// A row of 200 properties, and a merge of so many others.
async fn merge(bench: &Bench, count: usize) -> Result<Result<Vec<Option<Etag>>, TransactionError>, Failure> {
    let numbered =
        |from: usize, count: usize| row(&(from..from + count).map(|i| format!(r#","P{i}":{i}"#)).collect::<String>());
    bench.put(&Operation::InsertOrReplace(numbered(0, 200)?)).await?;
    let operations =
        [Operation::InsertOrReplace(body("p", "good")), Operation::Merge(numbered(200, count)?, Condition::Present)];
    Ok(bench.transact("p", &operations).await)
}

async fn a_merge_that_makes_a_row_too_large_is_refused(bench: Bench) -> Outcome {
    expect_failure("a merge to 253 properties", merge(&bench, 53).await?, ErrorKind::Invalid, Some(1))?;
    bench.expect_missing("p", "good").await?;
    same("P200", bench.row("p", "r").await?.body.json().contains("\"P200\":"), false)?;
    merge(&bench, 52).await??;
    same("P251", bench.row("p", "r").await?.body.json().contains("\"P251\":251"), true)
}

async fn a_merge_makes_a_row_as_large_as_it_likes(bench: Bench) -> Outcome {
    merge(&bench, 53).await??;
    same("P252", bench.row("p", "r").await?.body.json().contains("\"P252\":252"), true)
}

async fn a_property_name_has_at_most_255_units(bench: Bench) -> Outcome {
    let named = |units: usize| row(&format!(r#","{}":1"#, "é".repeat(units)));
    accepted(&bench, named(255)?).await.at("255")?;
    refused(&bench, named(256)?).await.at("256")
}

async fn a_property_name_is_an_identifier(bench: Bench) -> Outcome {
    for bad in ["", "a b", "a-b", "1a", "a.b", "a'b", "a/b", "a\\u0000"] {
        refused(&bench, row(&format!(r#","{bad}":1"#))?).await.at(bad)?;
    }
    Ok(())
}

async fn a_string_has_at_most_32_k_units(bench: Bench) -> Outcome {
    // Escaped, since Azurite spoils large bodies beyond ASCII.
    for (text, units) in [("s", 32 * 1024), ("\\u00e9", 32 * 1024), ("\\ud83d\\ude00", 16 * 1024)] {
        let with = |count: usize| row(&format!(r#","S":"{}""#, text.repeat(count)));
        accepted(&bench, with(units)?).await.at(text)?;
        refused(&bench, with(units + 1)?).await.at(text)?;
    }
    Ok(())
}

async fn a_binary_has_at_most_64_kib(bench: Bench) -> Outcome {
    let with =
        |bytes: usize| row(&format!(r#","B@odata.type":"Edm.Binary","B":"{}""#, STANDARD.encode(vec![7; bytes])));
    accepted(&bench, with(64 * 1024)?).await.at("64 KiB")?;
    refused(&bench, with(64 * 1024 + 1)?).await.at("64 KiB and a byte")
}

async fn an_integer_without_a_type_is_an_int32(bench: Bench) -> Outcome {
    for bad in ["2147483648", "-2147483649", "9223372036854775807"] {
        refused(&bench, row(&format!(r#","I":{bad}"#))?).await.at(bad)?;
    }
    Ok(())
}

async fn a_property_is_no_array_and_no_object(bench: Bench) -> Outcome {
    for bad in ["[]", "[1]", "{}", r#"{"a":1}"#] {
        refused(&bench, row(&format!(r#","V":{bad}"#))?).await.at(bad)?;
    }
    Ok(())
}
