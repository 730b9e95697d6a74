//! `rebalance`: rows move to the accounts that the configuration wants them in.

use clap::Args;
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::arguments::{ConfigFile, Output};
use super::exit::Failure;
use super::output;
use super::progress::Progress;
use super::settings::{of_region, settings};
use super::signals::until_asked;
use crate::daemon::Connector;
use crate::model::{ClosedList, Region};
use crate::ops::{Backfill, Rebalance, RebalanceStep, Rebalanced};
use crate::runtime::Runtime;

/// What can be typed.
#[derive(Debug, Args)]
pub(super) struct RebalanceCommand {
    #[command(flatten)]
    pub config: ConfigFile,
    /// The region whose rows are to move
    #[arg(long, value_name = "NAME", env = "TABLERELAY_REGION", hide_env_values = true, value_parser = Region::new)]
    pub region: Region,
    /// How much of what an account bears is taken at the most, in percent
    #[arg(long, value_name = "PERCENT", default_value_t = 25, value_parser = clap::value_parser!(u8).range(1..=100))]
    pub share: u8,
    /// What an account bears, in rows a second
    #[arg(long, value_name = "ROWS", default_value_t = Backfill::ACCOUNT_ROWS, value_parser = clap::value_parser!(u32).range(10..))]
    pub account_rows: u32,
    /// The form of the result
    #[arg(long, value_name = "FORM", default_value = "table")]
    pub output: Output,
}

pub(super) async fn rebalance(command: &RebalanceCommand) -> Result<(), Failure> {
    let rebalance = prepared(command)?;
    let mut progress = Progress::new();
    let mut last = None;
    let mut tell = |step: RebalanceStep, rows: u64| {
        if last.replace(step) != Some(step) {
            info!(region = %command.region, step = step.as_str(), "{}", step.meaning());
        }
        progress.tell(step.to_string(), rows, || info!(region = %command.region, %step, rows, "rows move"));
    };
    let work = async |stop: &CancellationToken| rebalance.run(stop, &mut tell).await;
    let done = until_asked(work).await?;
    progress.end();
    let done = done?;
    match command.output {
        Output::Json => output::print_json(&done)?,
        Output::Table => output::print(&render(&done))?,
    }
    Ok(())
}

fn prepared(command: &RebalanceCommand) -> Result<Rebalance, Failure> {
    let (settings, region, runtime) = (settings(&command.config.file)?, &command.region, Runtime::system());
    let own = of_region(&settings, region)?;
    let connector = Connector::new(&settings.http, runtime.clone()).map_err(Failure::usage)?;
    let connector = connector.for_window(settings.replication.settle_window);
    Ok(Rebalance {
        store: connector.region(region, own, false).map_err(Failure::usage)?,
        tables: settings.tables,
        share_percent: command.share,
        account_rows: command.account_rows,
        settle_window: settings.replication.settle_window,
        lease: settings.replication.lease,
        runtime,
    })
}

fn render(done: &Rebalanced) -> String {
    let Rebalanced { region, epoch, brought, deleted, left, passes, seconds, .. } = done;
    if *passes == 0 {
        return format!("The rows of {region} are where the configuration wants them: epoch {epoch}.");
    }
    let left = match left {
        0 => String::new(),
        left => format!(
            "\n{left} rows lie where no route leads, and their places have nothing of them: they were there before, nobody reads \
             them, and they are left alone."
        ),
    };
    format!(
        "The rows of {region} are where the configuration wants them: epoch {epoch}, after {seconds:.0} s and {passes} passes. \
         This run brought {brought} rows and tombstones over, and deleted {deleted} where they had been.{left}"
    )
}
