//! `restore`: rows of a copy brought back into a region.

use std::time::Duration;

use clap::Args;
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::arguments::{ConfigFile, Output};
use super::exit::Failure;
use super::output;
use super::progress::Progress;
use super::regions;
use super::settings::settings;
use super::signals::until_asked;
use crate::daemon::Connector;
use crate::model::{ClosedList, Region, TableName};
use crate::ops::{Restore, RestoreError, Restored, RestoredRow, Restoring};
use crate::runtime::Runtime;
use crate::writer::WriterOptions;

/// Most rows that are named to people; `--output json` names more.
const NAMED: usize = 20;

#[derive(Debug, Args)]
pub(super) struct RestoreCommand {
    #[command(flatten)]
    pub config: ConfigFile,
    /// The copy to bring rows back from
    #[arg(long, value_name = "NAME", value_parser = Region::new)]
    pub from: Region,
    /// The region that writes them; it has to be a writer
    #[arg(long, value_name = "NAME", value_parser = Region::new)]
    pub to: Region,
    /// The table
    #[arg(long, value_name = "NAME", value_parser = TableName::new)]
    pub table: TableName,
    /// One partition of it alone; may be empty
    #[arg(long, value_name = "KEY", allow_hyphen_values = true)]
    pub partition: Option<String>,
    /// One row of that alone; may be empty
    #[arg(long, value_name = "KEY", allow_hyphen_values = true, requires = "partition")]
    pub row: Option<String>,
    /// Write over rows, too, that are newer in the region than in the copy
    #[arg(long)]
    pub over_newer: bool,
    /// Say what it would do, and do nothing
    #[arg(long)]
    pub dry_run: bool,
    /// The form of the result
    #[arg(long, value_name = "FORM", default_value = "table")]
    pub output: Output,
}

pub(super) async fn restore(command: &RestoreCommand) -> Result<(), Failure> {
    let restore = prepared(command)?;
    let mut progress = Progress::new();
    let work = async |stop: &CancellationToken| {
        let tell = &mut |so_far: &Restored| tell(&mut progress, so_far);
        tokio::select! {
            biased;
            () = stop.cancelled() => None,
            restored = restore.run(tell) => Some(restored),
        }
    };
    let restored = until_asked(work).await?;
    progress.end();
    let Some(restored) = restored else {
        return Err(anyhow::anyhow!("ended as asked; another run goes on with what is not restored yet").into());
    };
    let restored = restored.map_err(|error: RestoreError| match error.is_usage() {
        true => Failure::usage(error),
        false => Failure::from(error),
    })?;
    match command.output {
        Output::Json => output::print_json(&restored)?,
        Output::Table => output::print(&render(&restored))?,
    }
    concluded(&restored)
}

fn prepared(command: &RestoreCommand) -> Result<Restore, Failure> {
    let (settings, runtime) = (settings(&command.config.file)?, Runtime::system());
    let connector = Connector::new(&settings.http, runtime.clone()).map_err(Failure::usage)?;
    let connector = connector.for_window(settings.replication.settle_window);
    let regions = settings.regions.iter().map(|(name, settings)| connector.region(name, settings, false));
    let options = WriterOptions {
        settle_window: settings.replication.settle_window,
        max_clock_skew: settings.replication.max_clock_skew,
        ..WriterOptions::default()
    };
    Ok(Restore {
        regions: regions.collect::<Result<_, _>>().map_err(Failure::usage)?,
        copies: regions::copies(&settings, &connector)?,
        from: command.from.clone(),
        to: command.to.clone(),
        table: command.table.clone(),
        partition: command.partition.as_deref().map(Into::into),
        row: command.row.as_deref().map(Into::into),
        over_newer: command.over_newer,
        dry_run: command.dry_run,
        roles: settings.roles(),
        options,
        runtime,
    })
}

fn concluded(restored: &Restored) -> Result<(), Failure> {
    match restored.undone() {
        0 => Ok(()),
        undone => Err(anyhow::anyhow!("{undone} rows were not restored; another run tries them again").into()),
    }
}

fn tell(progress: &mut Progress, so_far: &Restored) {
    let (rows, written) = (so_far.rows, so_far.written());
    progress.tell(format!("{}: {written} restored,", so_far.table), rows, || {
        info!(from = %so_far.from, to = %so_far.to, table = so_far.table, rows, written, "restoring");
    });
}

fn render(restored: &Restored) -> String {
    let Restored { from, to, table, rows, dry_run, .. } = restored;
    let mut parts = Vec::new();
    if !restored.named.is_empty() {
        let mut shown =
            output::table(&["ROW", "WHAT", &to.as_str().to_uppercase(), &from.as_str().to_uppercase(), "GIVEN"]);
        for RestoredRow { partition, row, outcome, had, copy, version, why } in restored.named.iter().take(NAMED) {
            let text = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
            let what = match why {
                Some(why) => format!("{outcome}: {why}"),
                None => outcome.to_string(),
            };
            shown.add_row([format!("{table}({partition:?},{row:?})"), what, text(had), copy.clone(), text(version)]);
        }
        let more = restored.named.len().saturating_sub(NAMED) as u64 + restored.left_out;
        let more = if more > 0 { format!("\nand {more} more; --output json names up to 2,000") } else { String::new() };
        parts.push(format!("{}{more}", output::render(&shown)));
    }
    let counted = Restoring::ALL.iter().filter_map(|outcome| match restored.of(*outcome) {
        0 => None,
        rows => Some(format!("{rows} {outcome}")),
    });
    let counted: Vec<String> = counted.collect();
    let counted = if counted.is_empty() { "nothing is there".to_owned() } else { counted.join(", ") };
    let took = output::duration(Duration::from_secs_f64(restored.seconds));
    let would = if *dry_run { "; a dry run: nothing was written" } else { "" };
    parts.push(format!("{table} of {from} to {to}: {counted}; {rows} rows in {took}{would}"));
    parts.join("\n\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_for_people_says_what_was_restored_and_what_was_not() {
        let row = |row: &str, outcome, why: Option<&str>| RestoredRow {
            partition: "p".to_owned(),
            row: row.to_owned(),
            outcome,
            had: None,
            copy: "v1".to_owned(),
            version: None,
            why: why.map(str::to_owned),
        };
        let region = |name| Region::new(name).unwrap();
        let mut restored = Restored {
            schema: 1,
            from: region("backup"),
            to: region("west"),
            table: "orders".to_owned(),
            dry_run: true,
            rows: 9,
            outcomes: [(Restoring::Undeleted, 1), (Restoring::Equal, 7), (Restoring::Failed, 1)].into(),
            named: vec![row("a", Restoring::Undeleted, None), row("b", Restoring::Failed, Some("too large"))],
            left_out: 3,
            seconds: 1.5,
        };
        let text = render(&restored);
        for words in [
            "orders(\"p\",\"a\")",
            "failed: too large",
            "and 3 more",
            "orders of backup to west: 1 undeleted, 7 equal, 1 failed; 9 rows in 1.500 s; a dry run: nothing was written",
        ] {
            assert!(text.contains(words), "{words}: {text}");
        }
        assert!(concluded(&restored).is_err());
        restored.outcomes.remove(&Restoring::Failed);
        assert!(concluded(&restored).is_ok());
    }
}
