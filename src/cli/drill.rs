//! `drill`: the loss of a region rehearsed, and a report of it.

use std::io::IsTerminal;
use std::mem::Discriminant;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use indicatif::ProgressBar;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::arguments::{DrillCommand, ReportForm};
use super::exit::Failure;
use super::failover::{PATIENCE, whoever, words};
use super::output;
use super::regions::follow_routes;
use super::settings::{of_region, settings};
use super::signals::until_asked;
use crate::config::Settings;
use crate::daemon::Connector;
use crate::model::ClosedList;
use crate::ops::{Drill, DrillError, DrillProgress, DrillReport, DrillVerdict, Progress};
use crate::runtime::Runtime;

/// How often a log line says how far it is.
const EVERY: Duration = Duration::from_secs(5);

pub(super) async fn drill(command: &DrillCommand) -> Result<(), Failure> {
    let settings = settings(&command.config.file)?;
    let drill = prepared(command, &settings)?;
    confirmed(command)?;
    follow_routes(&drill.regions).await?;
    let shown = Shown::new();
    let work = async |stop: &CancellationToken| drill.run(stop, &|progress| shown.tell(&progress)).await;
    let report = until_asked(work).await?;
    shown.end();
    let report = report.map_err(|error| match error {
        DrillError::Region(_) => Failure::usage(error),
        error => Failure::from(anyhow::Error::from(error).context("nothing was done")),
    })?;
    match command.output {
        ReportForm::Markdown => output::print(&report.markdown())?,
        ReportForm::Json => output::print_json(&report)?,
    }
    concluded(&report)
}

fn prepared(command: &DrillCommand, settings: &Settings) -> Result<Drill, Failure> {
    let runtime = Runtime::system();
    let connector = Connector::new(&settings.http, runtime.clone()).map_err(Failure::usage)?.within(PATIENCE);
    let regions = settings.regions.iter().map(|(name, settings)| connector.region(name, settings, false));
    let regions: Vec<_> = regions.collect::<Result<_, _>>().map_err(Failure::usage)?;
    of_region(settings, &command.region)?;
    if command.hold >= command.deadline {
        return Err(Failure::usage(anyhow::anyhow!(
            "--hold should be shorter than --deadline, when the cut ends by itself"
        )));
    }
    Ok(Drill {
        regions,
        file: settings.roles(),
        region: command.region.clone(),
        tables: settings.tables.clone(),
        who: command.who.clone().unwrap_or_else(whoever),
        why: command.why.clone().unwrap_or_default(),
        hold: command.hold,
        deadline: command.deadline,
        lease: settings.replication.lease,
        cool_down: settings.failover.cool_down,
        runtime,
    })
}

fn confirmed(command: &DrillCommand) -> Result<(), Failure> {
    if command.yes {
        return Ok(());
    }
    let DrillCommand { region, hold, deadline, .. } = command;
    Err(Failure::from(anyhow::anyhow!(
        "nothing was done: it would have to be confirmed with --yes. This would cut {region} off from all other regions, for {hold:?} at \
         least and {deadline:?} at most: nothing passes between them, and /health/read and /health/write answer 503 in {region}. If {region} \
         is a writer, its role is forced to another region (what {region} has not sent by then comes late) and brought back by a \
         planned failover. At the end all rows of all replicated tables are read in every region"
    )))
}

fn concluded(report: &DrillReport) -> Result<(), Failure> {
    match report.verdict() {
        DrillVerdict::Equal => Ok(()),
        DrillVerdict::Different => {
            let differences = report.compared.as_ref().map_or(0, crate::ops::Comparison::differences);
            Err(Failure::differences(anyhow::anyhow!(
                "{differences} rows differ between regions; the report names them"
            )))
        }
        DrillVerdict::Failed => {
            let failed = report.failed.as_ref();
            let (step, why) = failed.map_or(("-", "-"), |failed| (failed.step.as_str(), failed.why.as_str()));
            Err(Failure::from(anyhow::anyhow!(
                "the drill ended at the step {step}: {why}; the report says what to do next"
            )))
        }
    }
}

/// How far it is: a line that changes on a terminal, log lines elsewhere.
struct Shown {
    bar: Option<ProgressBar>,
    said: Mutex<(Option<Kind>, Instant)>,
}

/// What is told once, and then again every few seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Begins,
    Waits,
    Failover(Discriminant<Progress>),
}

impl Shown {
    fn new() -> Self {
        let bar = std::io::stderr().is_terminal().then(ProgressBar::new_spinner);
        Self { bar, said: Mutex::new((None, Instant::now())) }
    }

    fn tell(&self, progress: &DrillProgress) {
        let (kind, text) = match progress {
            DrillProgress::Begins(step) => (Kind::Begins, format!("{step}: {}", step.meaning())),
            DrillProgress::Waits(text) => (Kind::Waits, text.clone()),
            DrillProgress::Failover(progress) => (Kind::Failover(std::mem::discriminant(progress)), words(progress)),
        };
        if let Some(bar) = &self.bar {
            bar.set_message(text);
            return bar.tick();
        }
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if kind == Kind::Begins || said.0 != Some(kind) || Instant::now() >= said.1 {
            *said = (Some(kind), Instant::now() + EVERY);
            info!("{text}");
        }
    }

    fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
