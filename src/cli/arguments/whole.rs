//! Arguments of commands over whole tables.

use clap::{Args, Subcommand};

use super::{ConfigFile, Output};
use crate::model::{Region, TableName};
use crate::ops::Backfill;

#[derive(Debug, Args)]
pub(in crate::cli) struct VerifyCommand {
    #[command(flatten)]
    pub config: ConfigFile,
    /// The region to start from
    #[arg(long, value_name = "NAME", value_parser = Region::new)]
    pub from: Region,
    /// The region that is compared with it
    #[arg(long, value_name = "NAME", value_parser = Region::new)]
    pub to: Region,
    /// One table alone
    #[arg(long, value_name = "NAME", value_parser = TableName::new)]
    pub table: Option<TableName>,
    /// One partition of it alone; may be empty
    #[arg(long, value_name = "KEY", allow_hyphen_values = true, requires = "table", conflicts_with = "resume")]
    pub partition: Option<String>,
    /// One row of that alone; may be empty
    #[arg(long, value_name = "KEY", allow_hyphen_values = true, requires = "partition")]
    pub row: Option<String>,
    /// Compare what rows say too, where their versions are the same: reads them whole
    #[arg(long)]
    pub content: bool,
    /// Make equal what differs
    #[arg(long)]
    pub repair: bool,
    /// Say what --repair would do, and do nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Go on where the last pass of these two regions ended early
    #[arg(long)]
    pub resume: bool,
    /// The form of the result
    #[arg(long, value_name = "FORM", default_value = "table")]
    pub output: Output,
}

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum BackfillCommand {
    /// Say by samples how many rows there are, how many requests it takes and how long; writes nothing
    Plan(BackfillPair),
    /// Copy, and compare what was copied, until all of it is verified
    ///
    /// Each table is cut into ranges, which are worked on side by side; a row in RelayControl of the first region says of each how
    /// far it is. Rows go the way of every change: nothing newer is written over, what is deleted meanwhile stays deleted, and a row
    /// without a version goes with its implicit one. Run a daemon in both regions before, so that what applications change
    /// meanwhile is brought. SIGTERM and `pause` end it well; killed at any moment, it is gone on with by `resume`.
    Start(BackfillStart),
    /// Ask the command that is at work on it to end, and wait until it has
    Pause(BackfillPair),
    /// Go on with what is not verified yet
    Resume(BackfillWork),
    /// Show how far it is
    Status(BackfillPair),
}

#[derive(Debug, Args)]
pub(in crate::cli) struct BackfillPair {
    #[command(flatten)]
    pub config: ConfigFile,
    /// The region that is copied from
    #[arg(long, value_name = "NAME", value_parser = Region::new)]
    pub from: Region,
    /// The region that is copied to
    #[arg(long, value_name = "NAME", value_parser = Region::new)]
    pub to: Region,
    /// One table alone
    #[arg(long, value_name = "NAME", value_parser = TableName::new)]
    pub table: Option<TableName>,
    /// How much of an account's rate it may take at the most, of a hundred
    #[arg(long, value_name = "PERCENT", default_value_t = 50, value_parser = clap::value_parser!(u8).range(1..=100))]
    pub share: u8,
    /// An account's rate, in rows a second: what Azure allows, unless the accounts were promised more
    #[arg(long, value_name = "N", default_value_t = Backfill::ACCOUNT_ROWS,
        value_parser = clap::value_parser!(u32).range(100..=10_000_000))]
    pub account_rows: u32,
    /// The form of the result
    #[arg(long, value_name = "FORM", default_value = "table")]
    pub output: Output,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct BackfillWork {
    #[command(flatten)]
    pub pair: BackfillPair,
    /// Give rows without a version theirs where they are copied from, too
    #[arg(long)]
    pub stamp: bool,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct BackfillStart {
    #[command(flatten)]
    pub work: BackfillWork,
    /// Begin anew where one was begun and is not done
    #[arg(long)]
    pub again: bool,
}
