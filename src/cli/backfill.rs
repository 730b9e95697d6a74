//! `backfill`: tables of a region that holds data already, copied to another one.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::info;

use super::arguments::{BackfillCommand, BackfillPair, BackfillStart, BackfillWork, Output};
use super::exit::Failure;
use super::failover::whoever;
use super::output;
use super::progress::Progress;
use super::regions::{self, follow_routes};
use super::settings::settings;
use super::signals::until_asked;
use crate::config::Settings;
use crate::daemon::{Connector, tuned_by};
use crate::model::{ClosedList, TableName};
use crate::ops::{
    Backfill, BackfillError, BackfillProgress, BackfillState, Backfilled, BackfilledTable, Copied, Planned,
    PlannedTable,
};
use crate::runtime::Runtime;

pub(super) async fn backfill(command: &BackfillCommand) -> Result<(), Failure> {
    let (pair, stamp) = match command {
        BackfillCommand::Plan(pair) | BackfillCommand::Pause(pair) | BackfillCommand::Status(pair) => (pair, false),
        BackfillCommand::Resume(work) | BackfillCommand::Start(BackfillStart { work, .. }) => (&work.pair, work.stamp),
    };
    let backfill = prepared(pair, stamp, &settings(&pair.config.file)?)?;
    follow_routes(&backfill.regions).await?;
    match command {
        BackfillCommand::Plan(pair) => {
            let mut progress = Progress::new();
            let planned = backfill.plan(&mut |so_far| tell(&mut progress, so_far)).await;
            progress.end();
            print(pair.output, &planned.map_err(refused)?, render_plan)
        }
        BackfillCommand::Pause(pair) => {
            let far = backfill.pause().await.map_err(refused)?;
            print(pair.output, &far, render)
        }
        BackfillCommand::Status(pair) => {
            let far = backfill.status().await.map_err(refused)?;
            print(pair.output, &far, render)
        }
        BackfillCommand::Start(BackfillStart { work, again }) => {
            let run = async |stop: &CancellationToken, progress: &mut Progress| {
                backfill.start(*again, stop, &mut |so_far| tell(progress, so_far)).await
            };
            work_through(work, run).await
        }
        BackfillCommand::Resume(work) => {
            let run = async |stop: &CancellationToken, progress: &mut Progress| {
                backfill.resume(stop, &mut |so_far| tell(progress, so_far)).await
            };
            work_through(work, run).await
        }
    }
}

async fn work_through(
    work: &BackfillWork,
    run: impl AsyncFnOnce(&CancellationToken, &mut Progress) -> Result<Backfilled, BackfillError>,
) -> Result<(), Failure> {
    let mut progress = Progress::new();
    let far = until_asked(async |stop: &CancellationToken| run(stop, &mut progress).await).await?;
    progress.end();
    print(work.pair.output, &far.map_err(refused)?, render)
}

fn refused(error: BackfillError) -> Failure {
    if error.is_usage() { Failure::usage(error) } else { Failure::from(error) }
}

fn print<T: serde::Serialize>(form: Output, told: &T, render: impl Fn(&T) -> String) -> Result<(), Failure> {
    match form {
        Output::Json => output::print_json(told)?,
        Output::Table => output::print(&render(told))?,
    }
    Ok(())
}

fn prepared(pair: &BackfillPair, stamp: bool, settings: &Settings) -> Result<Backfill, Failure> {
    let runtime = Runtime::system();
    let connector = Connector::new(&settings.http, runtime.clone()).map_err(Failure::usage)?;
    let connector = connector.for_window(settings.replication.settle_window);
    let regions = settings.regions.iter().map(|(name, settings)| connector.region(name, settings, false));
    Ok(Backfill {
        regions: regions.collect::<Result<_, _>>().map_err(Failure::usage)?,
        copies: regions::copies(settings, &connector)?,
        from: pair.from.clone(),
        to: pair.to.clone(),
        tables: settings.tables.clone(),
        only: pair.table.clone(),
        share_percent: pair.share,
        account_rows: pair.account_rows,
        stamp,
        range_rows: Backfill::RANGE_ROWS,
        owner: format!("{} (process {}, {:08x})", whoever(), std::process::id(), runtime.random() as u32),
        roles: settings.roles(),
        line: tuned_by(settings),
        runtime,
    })
}

fn tell(progress: &mut Progress, so_far: BackfillProgress<'_>) {
    let table = |table: &TableName| table.as_str().to_owned();
    match so_far {
        BackfillProgress::Sampling(of) => {
            progress
                .tell(format!("{of}: looking where its rows stand;"), 0, || info!(table = table(of), "taking samples"));
        }
        BackfillProgress::Waiting(of) => {
            let word = "another command has held it a moment ago; if that was killed, this goes on in a few seconds;";
            progress.tell(format!("{of}: {word}"), 0, || {
                info!(table = table(of), "waiting for the hold of another command")
            });
        }
        BackfillProgress::At(far) => {
            let (rows, all, rate) = (far.rows(), far.estimate(), far.rows_per_second as u64);
            let (copied, ranges) = far.ranges(Copied::Copied);
            let (verified, _) = far.ranges(Copied::Verified);
            let left = left(far);
            let message =
                format!("{verified} of {ranges} ranges verified, {copied} copied; {rate} rows/s, {left} left");
            progress.tell_of(message, (rows, all), || {
                info!(from = %far.from, to = %far.to, rows, about = all, rate, left, ranges, copied, verified, "copying");
            });
        }
    }
}

/// How long it takes yet, for people.
fn left(far: &Backfilled) -> String {
    let seconds = far.seconds_left.filter(|seconds| seconds.is_finite() && *seconds < 1e9);
    seconds.map_or_else(|| "unknown".to_owned(), |seconds| output::age(Duration::from_secs_f64(seconds)))
}

fn mebibytes(bytes: u64) -> String {
    format!("{:.1}", bytes as f64 / (1_024.0 * 1_024.0))
}

fn render_plan(planned: &Planned) -> String {
    let Planned { from, to, share_percent, .. } = planned;
    if planned.tables.is_empty() {
        return format!("{from} holds none of the tables that are replicated: there is nothing to copy.");
    }
    let heads = ["TABLE", "ROWS", "MIB", "WITHOUT VERSION", "RANGES", "REQUESTS", "TAKES"];
    let mut table = output::table(&heads);
    for PlannedTable { table: name, rows, counted, bytes, unversioned_percent, ranges, requests, seconds } in
        &planned.tables
    {
        let about = |n: u64| if *counted { n.to_string() } else { format!("about {n}") };
        table.add_row([
            name.clone(),
            about(*rows),
            mebibytes(*bytes),
            format!("{unversioned_percent} %"),
            ranges.to_string(),
            format!("about {requests}"),
            output::duration(Duration::from_secs_f64(*seconds)),
        ]);
    }
    let rows: u64 = planned.tables.iter().map(|table| table.rows).sum();
    let seconds: f64 = planned.tables.iter().map(|table| table.seconds).sum();
    let took = output::age(Duration::from_secs_f64(seconds));
    format!(
        "{}\n\n{from} to {to}: about {rows} rows; at {share_percent} % of an account's rate it takes {took} or more, copied and compared. Nothing was written.",
        output::render(&table)
    )
}

fn render(far: &Backfilled) -> String {
    let Backfilled { from, to, .. } = far;
    if far.tables.is_empty() {
        return format!("{from} holds none of the tables that are replicated: there is nothing to copy.");
    }
    let mut heads = vec!["TABLE".to_owned(), "STATE".to_owned()];
    heads.extend(Copied::ALL.iter().map(|copy| copy.as_str().to_uppercase()));
    heads.extend(
        ["ROWS", "OF ABOUT", "MIB", "WRITTEN", "MENDED", "WAITING", "QUARANTINED", "THERE ALONE", "ERRORS"]
            .map(str::to_owned),
    );
    let mut table = output::table(&heads.iter().map(String::as_str).collect::<Vec<_>>());
    for of in &far.tables {
        let mut cells = vec![of.table.clone(), of.state.to_string()];
        cells.extend(Copied::ALL.iter().map(|copy| of.ranges.get(copy).copied().unwrap_or_default().to_string()));
        cells.extend([of.rows.to_string(), of.estimate.to_string(), mebibytes(of.bytes)]);
        let counts = [of.written, of.mended, of.waiting, of.quarantined, of.extra, of.errors];
        cells.extend(counts.map(|count| count.to_string()));
        table.add_row(cells);
    }
    let mut parts = vec![output::render(&table)];
    parts.extend(far.tables.iter().filter_map(word));
    let (verified, ranges) = far.ranges(Copied::Verified);
    let rows = far.rows();
    parts.push(match far.is_done() {
        true => format!("{from} to {to}: {rows} rows copied and verified"),
        false => {
            let rate = far.rows_per_second as u64;
            let at = if rate > 0 { format!("; {rate} rows/s, {} left", left(far)) } else { String::new() };
            let about = far.estimate();
            format!("{from} to {to}: {rows} of about {about} rows copied, {verified} of {ranges} ranges verified{at}")
        }
    });
    parts.join("\n\n")
}

/// What is to be said of a table beyond its numbers.
fn word(of: &BackfilledTable) -> Option<String> {
    let mut words = Vec::new();
    match (of.state, &of.owner) {
        (BackfillState::Running, Some(owner)) => words.push(format!("{owner} is at work on it")),
        (BackfillState::Paused | BackfillState::Interrupted, _) => {
            words.push("`tablerelay backfill resume` goes on".to_owned());
        }
        _ => {}
    }
    if of.quarantined > 0 {
        words.push("`tablerelay quarantine list` says what cannot be applied".to_owned());
    }
    if of.extra > 0 {
        words.push("what stands there alone was left: `tablerelay verify` names it".to_owned());
    }
    if let (Some(error), false) = (&of.last_error, of.state == BackfillState::Done) {
        words.push(format!("the last error: {error}"));
    }
    (!words.is_empty()).then(|| format!("{}: {}", of.table, words.join("; ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Region, Time};

    fn far() -> Backfilled {
        let region = |name| Region::new(name).unwrap();
        let orders = BackfilledTable {
            table: "orders".to_owned(),
            state: BackfillState::Interrupted,
            owner: None,
            began: Time::EPOCH,
            ended: None,
            ranges: [(Copied::Pending, 2), (Copied::Verified, 1)].into(),
            estimate: 9_000,
            rows: 3_000,
            bytes: 3 * 1_024 * 1_024,
            written: 2_999,
            stamped: 0,
            quarantined: 1,
            mended: 4,
            waiting: 5,
            extra: 6,
            errors: 7,
            last_error: Some("503 ServerBusy".to_owned()),
        };
        Backfilled {
            schema: 1,
            from: region("west"),
            to: region("north"),
            tables: vec![orders],
            rows_per_second: 100.0,
            seconds_left: Some(60.0),
        }
    }

    #[test]
    fn a_table_for_people_says_how_far_it_is_and_what_to_do() {
        let mut far = far();
        let text = render(&far);
        let cells: Vec<&str> = text.lines().nth(1).unwrap().split_whitespace().collect();
        let expected = "orders interrupted 2 0 0 1 3000 9000 3.0 2999 4 5 1 6 7";
        assert_eq!(cells.join(" "), expected);
        for words in [
            "`tablerelay backfill resume` goes on",
            "quarantine list",
            "left: `tablerelay verify` names it",
            "the last error: 503 ServerBusy",
            "west to north: 3000 of about 9000 rows copied, 1 of 3 ranges verified; 100 rows/s, 60 s left",
        ] {
            assert!(text.contains(words), "{words}: {text}");
        }
        (far.tables[0].state, far.tables[0].extra, far.tables[0].quarantined) = (BackfillState::Done, 0, 0);
        let text = render(&far);
        assert!(text.ends_with("west to north: 3000 rows copied and verified"), "{text}");
        assert!(!text.contains("the last error"), "{text}");
        assert!(render(&Backfilled { tables: vec![], ..far }).contains("nothing to copy"));
    }

    #[test]
    fn a_plan_says_what_is_counted_and_what_is_a_guess() {
        let table = |counted| PlannedTable {
            table: "orders".to_owned(),
            rows: 1_000_000,
            counted,
            bytes: 200 * 1_024 * 1_024,
            unversioned_percent: 12.5,
            ranges: 64,
            requests: 34_000,
            seconds: 200.0,
        };
        let region = |name| Region::new(name).unwrap();
        let (from, to) = (region("west"), region("north"));
        let tables = vec![table(true), table(false)];
        let planned = Planned { schema: 1, from, to, share_percent: 50, tables, sampled_by: 40 };
        let text = render_plan(&planned);
        for words in
            ["about 1000000", "200.0", "12.5 %", "3 min 20 s", "at 50 % of an account's rate it takes 6 min 40 s"]
        {
            assert!(text.contains(words), "{words}: {text}");
        }
    }
}
