//! The account: its tables, and its clock.

use std::time::Duration;

use tokio::time::Instant;

use super::bench::{Bench, body, delete, expect_error, expect_failure};
use super::quirks::TABLE_CASE;
use super::suite::{Failure, Outcome, cases, ensure, same};
use crate::model::{Row, TableName};
use crate::stores::{Condition, ErrorKind, Operation, Query, Scope, StoreError};

cases! {
    /// Cases about an account.
    pub(super) const CASES: Bench = [
        a_missing_table_is_named_as_such_by_every_request,
        a_table_is_created_once,
        a_table_is_deleted_with_its_rows,
        a_table_is_found_by_its_name_in_any_case(TABLE_CASE => a_table_is_found_by_its_name_as_it_was_created),
        a_table_is_listed_as_it_was_created,
        the_clock_is_the_servers,
        the_clock_advances,
    ];
}

fn name(text: &str) -> Result<TableName, Failure> {
    TableName::new(text).map_err(|err| Failure(err.to_string()))
}

async fn a_missing_table_is_named_as_such_by_every_request(bench: Bench) -> Outcome {
    let bench = Bench { table: name(&format!("{}x", bench.table))?, ..bench };
    let missing = ErrorKind::NoTable;
    expect_error("a point read", bench.get("p", "r").await, missing)?;
    expect_error("a query", bench.tables.query(&bench.table, &Query::new(Scope::Table)).await, missing)?;
    for operation in [
        Operation::Insert(body("p", "r")),
        Operation::Replace(body("p", "r"), Condition::Present),
        Operation::Merge(body("p", "r"), Condition::Present),
        Operation::InsertOrReplace(body("p", "r")),
        Operation::InsertOrMerge(body("p", "r")),
        delete("p", "r", Condition::Present),
    ] {
        expect_error(&format!("{operation:?}"), bench.write(&operation).await, missing)?;
        match bench.transact("p", &[operation.clone(), Operation::Insert(body("p", "s"))]).await {
            // Which operation is named, if any, is the server's affair.
            Err(failed) => expect_error::<()>(&format!("a transaction of {operation:?}"), Err(failed.error), missing)?,
            Ok(_) => expect_failure::<()>("a transaction", Ok(()), missing, None)?,
        }
    }
    Ok(())
}

async fn a_table_is_created_once(bench: Bench) -> Outcome {
    same("creating again", bench.tables.create_table(&bench.table).await?, false)?;
    let shouted = name(&bench.table.as_str().to_uppercase())?;
    same("creating again in capitals", bench.tables.create_table(&shouted).await?, false)
}

async fn a_table_is_deleted_with_its_rows(bench: Bench) -> Outcome {
    // Azure takes its time over a deleted table and refuses to make it again meanwhile, so it is not tried here.
    bench.put(&Operation::Insert(body("p", "r"))).await?;
    same("deleting", bench.tables.delete_table(&bench.table).await?, true)?;
    expect_error("a point read", bench.get("p", "r").await, ErrorKind::NoTable)?;
    let listed = bench.tables.tables().await?;
    ensure(!listed.contains(&bench.table), || "a deleted table should not be listed".to_owned())?;
    same("deleting again", bench.tables.delete_table(&bench.table).await?, false)
}

/// Reads a row of the table by its name in capitals.
async fn shout(bench: &Bench) -> Result<Result<Option<Row>, StoreError>, Failure> {
    bench.put(&Operation::Insert(body("p", "r"))).await?;
    Ok(bench.tables.get(&name(&bench.table.as_str().to_uppercase())?, &"p".into(), &"r".into()).await)
}

async fn a_table_is_found_by_its_name_in_any_case(bench: Bench) -> Outcome {
    ensure(shout(&bench).await??.is_some(), || "the row should be found by the table's name in capitals".to_owned())
}

async fn a_table_is_found_by_its_name_as_it_was_created(bench: Bench) -> Outcome {
    expect_error("reading by the table's name in capitals", shout(&bench).await?, ErrorKind::NoTable)
}

async fn a_table_is_listed_as_it_was_created(bench: Bench) -> Outcome {
    let created = name(&format!("{}MixedCase", bench.table))?;
    ensure(bench.tables.create_table(&created).await?, || format!("{created} was there already"))?;
    let listed = bench.tables.tables().await?;
    let found = listed.iter().find(|table| **table == created).map(TableName::as_str);
    same("the listed name", found, Some(created.as_str()))?;
    ensure(listed.contains(&bench.table), || format!("{} should be listed too", bench.table))
}

async fn the_clock_is_the_servers(bench: Bench) -> Outcome {
    bench.put(&Operation::Insert(body("p", "r"))).await?;
    let stamp = bench.row("p", "r").await?.timestamp;
    let Some(now) = bench.tables.clock().at(Instant::now()) else {
        return super::fail("the clock should know the time after a reply");
    };
    let (most, least) = (stamp + Duration::from_secs(5), stamp - Duration::from_secs(2));
    ensure(least < now && now < most, || format!("the clock should be close to the last timestamp {stamp}, not {now}"))
}

async fn the_clock_advances(bench: Bench) -> Outcome {
    bench.get("p", "r").await?;
    let (clock, instant) = (bench.tables.clock(), Instant::now());
    let (now, later) = (clock.at(instant), clock.at(instant + Duration::from_secs(60)));
    same("the clock a minute on", later, now.map(|now| now + Duration::from_secs(60)))?;
    for _ in 0..10 {
        bench.get("p", "r").await?;
        ensure(clock.at(instant) >= now, || "the clock should not go back".to_owned())?;
    }
    Ok(())
}
