//! `verify`: two regions compared row by row, and made equal where that is asked for.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::info;

use super::arguments::{Output, VerifyCommand};
use super::exit::Failure;
use super::output;
use super::progress::Progress;
use super::regions::{self, follow_routes};
use super::settings::settings;
use super::signals::until_asked;
use crate::config::Settings;
use crate::daemon::{Connector, tuned_by};
use crate::model::ClosedList;
use crate::ops::{Differs, Fate, Has, Repair, Verified, VerifiedTable, Verify, VerifyError, Waits};
use crate::resolve::Difference;
use crate::runtime::Runtime;

/// Most rows that are named to people; `--output json` names more.
const NAMED: usize = 20;

pub(super) async fn verify(command: &VerifyCommand) -> Result<(), Failure> {
    let settings = settings(&command.config.file)?;
    let verify = prepared(command, &settings)?;
    follow_routes(&verify.regions).await?;
    let mut progress = Progress::new();
    let work = async |stop: &CancellationToken| verify.run(stop, &mut |so_far| tell(&mut progress, so_far)).await;
    let verified = until_asked(work).await?;
    progress.end();
    let verified = verified.map_err(|error: VerifyError| match error.is_usage() {
        true => Failure::usage(error),
        false => Failure::from(error),
    })?;
    match command.output {
        Output::Json => output::print_json(&verified)?,
        Output::Table => output::print(&render(&verified))?,
    }
    concluded(&verified)
}

fn prepared(command: &VerifyCommand, settings: &Settings) -> Result<Verify, Failure> {
    let runtime = Runtime::system();
    let connector = Connector::new(&settings.http, runtime.clone()).map_err(Failure::usage)?;
    let connector = connector.for_window(settings.replication.settle_window);
    let regions = settings.regions.iter().map(|(name, settings)| connector.region(name, settings, false));
    let regions = regions.collect::<Result<_, _>>().map_err(Failure::usage)?;
    let copies = regions::copies(settings, &connector)?;
    let (pair, line) = ((&command.from, &command.to), tuned_by(settings));
    Ok(Verify {
        copies,
        only: command.table.clone(),
        partition: command.partition.as_deref().map(Into::into),
        row: command.row.as_deref().map(Into::into),
        content: command.content,
        repair: match (command.dry_run, command.repair) {
            (true, _) => Repair::DryRun,
            (false, true) => Repair::Yes,
            (false, false) => Repair::No,
        },
        resume: command.resume,
        ..Verify::of(regions, pair, settings.tables.clone(), settings.roles(), line, runtime)
    })
}

fn concluded(verified: &Verified) -> Result<(), Failure> {
    if verified.is_equal() {
        return Ok(());
    }
    let Verified { from, to, .. } = verified;
    let left = verified.different() - verified.mended();
    let next = match verified.mended() {
        0 => "`tablerelay verify --repair` mends them, and says before with --dry-run what it would do".to_owned(),
        mended => format!("{mended} others are mended"),
    };
    Err(Failure::differences(anyhow::anyhow!("{left} rows differ between {from} and {to}; {next}")))
}

fn tell(progress: &mut Progress, verified: &Verified) {
    let table = verified.tables.last().map(|last| last.table.clone()).unwrap_or_default();
    let (rows, different) = (verified.rows(), verified.different());
    progress.tell(format!("{table}: {different} differ,"), rows, || {
        info!(from = %verified.from, to = %verified.to, table, rows, different, "comparing");
    });
}

fn render(verified: &Verified) -> String {
    let Verified { from, to, .. } = verified;
    if verified.tables.is_empty() {
        return format!("Neither {from} nor {to} holds any of the tables that are replicated.");
    }
    let mut parts = vec![summary(verified)];
    if !verified.named.is_empty() {
        parts.push(rows(verified));
    }
    let misplaced: u64 = verified.tables.iter().flat_map(|table| table.misplaced.values()).sum();
    if misplaced > 0 {
        parts.push(format!("{misplaced} rows lie in an account that the routes do not lead to: nobody reads them."));
    }
    let kept: u64 = verified.tables.iter().map(|table| table.kept).sum();
    if kept > 0 {
        parts.push(format!("{kept} rows that {from} does not have are kept in {to}, as its deletes are."));
    }
    if !verified.unasked.is_empty() {
        let unasked: Vec<&str> = verified.unasked.iter().map(crate::model::Region::as_str).collect();
        let unasked = unasked.join(", ");
        parts.push(format!("Not asked what waits there, since they do not answer: {unasked}."));
    }
    let took = output::duration(Duration::from_secs_f64(verified.seconds));
    let how = if verified.content { "whole" } else { "by version" };
    let verdict = match (verified.different(), verified.mended()) {
        (0, _) => "equal".to_owned(),
        (different, mended) if different == mended => format!("{mended} mended, now equal"),
        (different, 0) => format!("{different} differ"),
        (different, mended) => format!("{different} differ, {mended} of them mended"),
    };
    let waits = match verified.waits() {
        0 => String::new(),
        waits => format!(", {waits} wait to be brought or lie in quarantine"),
    };
    parts.push(format!("{from} to {to}: {verdict}{waits}; {} rows compared {how} in {took}", verified.rows()));
    parts.join("\n\n")
}

fn summary(verified: &Verified) -> String {
    let mut heads = vec!["TABLE".to_owned(), "ROWS".to_owned()];
    heads.extend(Difference::ALL.iter().map(|kind| kind.as_str().to_uppercase().replace('-', " ")));
    heads.extend(Waits::ALL.iter().map(|waits| waits.as_str().to_uppercase()));
    heads.push("MENDED".to_owned());
    let mut table = output::table(&heads.iter().map(String::as_str).collect::<Vec<_>>());
    for VerifiedTable { table: name, rows, differences, waiting, mended, .. } in &verified.tables {
        let mut cells = vec![name.clone(), rows.to_string()];
        cells.extend(Difference::ALL.iter().map(|kind| differences.get(kind).copied().unwrap_or_default().to_string()));
        cells.extend(Waits::ALL.iter().map(|waits| waiting.get(waits).copied().unwrap_or_default().to_string()));
        cells.push(mended.to_string());
        table.add_row(cells);
    }
    output::render(&table)
}

fn rows(verified: &Verified) -> String {
    let (from, to) = (verified.from.as_str().to_uppercase(), verified.to.as_str().to_uppercase());
    let mut table = output::table(&["ROW", "HOW", &from, &to, "WHAT"]);
    for differs in verified.named.iter().take(NAMED) {
        let Differs { table: name, partition, row, kind, .. } = differs;
        let (ours, theirs) = (has(&differs.from), has(&differs.to));
        table.add_row([format!("{name}({partition:?},{row:?})"), kind.to_string(), ours, theirs, what(differs)]);
    }
    let more = (verified.named.len().saturating_sub(NAMED)) as u64 + verified.left_out;
    let more = if more > 0 { format!("\nand {more} more; --output json names up to 2,000") } else { String::new() };
    format!("{}{more}", output::render(&table))
}

fn has(has: &Has) -> String {
    let version = has.version.as_deref().unwrap_or("nothing");
    match (&has.content, has.absent && has.version.is_some()) {
        (_, true) => format!("deleted as {version}"),
        (Some(content), false) => format!("{version} ({content})"),
        (None, false) => version.to_owned(),
    }
}

fn what(differs: &Differs) -> String {
    match (differs.waits, differs.fate) {
        (Some(waits), _) => format!("waits: {waits}"),
        (None, Fate::Found) => "differs".to_owned(),
        (None, Fate::Planned) => format!("would {}", differs.mend),
        (None, Fate::Mended) => format!("mended: {}", differs.mend),
        (None, Fate::Left) => format!("left: {}", differs.why.as_deref().unwrap_or("-")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Region, Time};
    use crate::resolve::Mend;

    fn differs(fate: Fate) -> Differs {
        let has = |version: Option<&str>| Has {
            version: version.map(str::to_owned),
            absent: version.is_none(),
            content: None,
        };
        Differs {
            table: "orders".to_owned(),
            partition: "p".to_owned(),
            row: "r".to_owned(),
            kind: Difference::Missing,
            from: has(Some("v1")),
            to: has(None),
            waits: None,
            mend: Mend::Copy,
            fate,
            why: None,
        }
    }

    #[test]
    fn a_table_for_people_says_what_differs_and_what_was_done() {
        let orders = VerifiedTable {
            table: "orders".to_owned(),
            rows: 10,
            differences: [(Difference::Missing, 2)].into(),
            waiting: [(Waits::Hinted, 3)].into(),
            ..VerifiedTable::default()
        };
        let region = |name| Region::new(name).unwrap();
        let mut verified = Verified {
            schema: 1,
            from: region("west"),
            to: region("north"),
            content: false,
            dry_run: false,
            began: Time::EPOCH,
            resumed: false,
            tables: vec![orders],
            named: vec![differs(Fate::Found), differs(Fate::Planned)],
            left_out: 1,
            unasked: vec![region("south")],
            seconds: 1.5,
        };
        let text = render(&verified);
        let cells: Vec<&str> = text.lines().nth(1).unwrap().split_whitespace().collect();
        assert_eq!(cells, ["orders", "10", "2", "0", "0", "0", "0", "0", "0", "0", "3", "0", "0"]);
        for words in [
            "orders(\"p\",\"r\")",
            "nothing",
            "would copy",
            "and 1 more",
            "they do not answer: south",
            "west to north: 2 differ, 3 wait to be brought or lie in quarantine; 10 rows compared by version in 1.500 s",
        ] {
            assert!(text.contains(words), "{words}: {text}");
        }
        assert!(concluded(&verified).is_err());
        verified.tables[0].mended = 2;
        assert!(render(&verified).contains("2 mended, now equal") && concluded(&verified).is_ok());
        assert!(render(&Verified { tables: vec![], ..verified }).contains("Neither west nor north"));
    }
}
