//! `failover`: the role of a writer moved, with everything that there is to know before and after.

use std::io::{BufRead, IsTerminal, Write};
use std::time::Duration;

use indicatif::ProgressBar;
use serde::Serialize;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::arguments::{FailoverCommand, Output};
use super::exit::Failure;
use super::output;
use super::regions::follow_routes;
use super::settings::settings;
use super::signals::until_asked;
use crate::config::Settings;
use crate::daemon::Connector;
use crate::model::{Region, Time};
use crate::ops::{Done, Failover, FailoverError, LinkRisk, Owed, Progress, Risk, RiskRow, Survey};
use crate::runtime::Runtime;
use crate::topology::Refusal;

/// How often a log line says how far it is.
const EVERY: Duration = Duration::from_secs(5);
/// How long one request may take: a region that hangs is asked again.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);
/// Rows at risk that are printed; the JSON has them all.
const PRINTED: usize = 10;

/// What `--output json` prints.
#[derive(Debug, Serialize)]
struct Report<'a> {
    schema: u32,
    survey: Option<&'a Survey>,
    done: &'a Done,
}

pub(super) async fn failover(command: &FailoverCommand) -> Result<(), Failure> {
    let settings = settings(&command.config.file)?;
    let failover = prepared(command, &settings)?;
    follow_routes(&failover.regions).await?;
    let mut shown = Shown::new();
    let (survey, done) = if command.force {
        let survey = failover.survey(command.again).await.map_err(failure)?;
        if command.output == Output::Table {
            output::print(&at_risk(&survey))?;
        }
        confirm(command, &survey)?;
        let done = failover.force(&survey, &mut |progress| shown.tell(&progress)).await;
        (Some(survey), done)
    } else {
        let tell = &mut |progress| shown.tell(&progress);
        let work = async |stop: &CancellationToken| failover.planned(command.deadline, stop, tell).await;
        (None, until_asked(work).await?)
    };
    shown.end();
    let done = done.map_err(failure)?;
    match command.output {
        Output::Json => output::print_json(&Report { schema: 1, survey: survey.as_ref(), done: &done })?,
        Output::Table => output::print(&render(&done))?,
    }
    if !done.serving {
        let to = &command.to;
        return Err(Failure::from(anyhow::anyhow!(
            "the role has moved to {to}, but no daemon of {to} has said that it serves; see whether one runs, and start it"
        )));
    }
    Ok(())
}

fn failure(error: FailoverError) -> Failure {
    match error {
        FailoverError::Refused(Refusal::NoRegion { .. }) => Failure::usage(error),
        error => Failure::from(error),
    }
}

fn prepared(command: &FailoverCommand, settings: &Settings) -> Result<Failover, Failure> {
    let runtime = Runtime::system();
    let connector = Connector::new(&settings.http, runtime.clone()).map_err(Failure::usage)?.within(PATIENCE);
    let regions = settings.regions.iter().map(|(name, settings)| connector.region(name, settings, false));
    Ok(Failover {
        regions: regions.collect::<Result<_, _>>().map_err(Failure::usage)?,
        file: settings.roles(),
        to: command.to.clone(),
        from: command.from.clone(),
        who: command.who.clone().unwrap_or_else(whoever),
        why: command.why.clone().unwrap_or_default(),
        lease: settings.replication.lease,
        cool_down: settings.failover.cool_down,
        runtime,
    })
}

/// Who is at the keyboard, as far as the system tells.
pub(super) fn whoever() -> String {
    let variable = |names: &[&str]| names.iter().find_map(|name| std::env::var(name).ok().filter(|it| !it.is_empty()));
    let host = variable(&["HOSTNAME", "COMPUTERNAME"]);
    let host = host.or_else(|| std::fs::read_to_string("/etc/hostname").ok().map(|text| text.trim().to_owned()));
    let user = variable(&["USER", "LOGNAME", "USERNAME"]).unwrap_or_else(|| "somebody".to_owned());
    host.map_or_else(|| user.clone(), |host| format!("{user}@{host}"))
}

/// Asks at the terminal, unless it was answered before.
fn confirm(command: &FailoverCommand, survey: &Survey) -> Result<(), Failure> {
    if command.yes {
        return Ok(());
    }
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        return Err(Failure::from(anyhow::anyhow!(
            "nothing was done: it would have to be confirmed; say --yes in a script"
        )));
    }
    let to = &survey.planned.to;
    eprint!("Type {to} to make it the writer now, anything else to leave all as it is: ");
    std::io::stderr().flush()?;
    let mut typed = String::new();
    stdin.lock().read_line(&mut typed)?;
    if typed.trim() == to.as_str() {
        return Ok(());
    }
    Err(Failure::from(anyhow::anyhow!("nothing was done")))
}

/// What a forced failover would leave behind, for people.
fn at_risk(survey: &Survey) -> String {
    let Survey { now, planned, risk, owed, untold, .. } = survey;
    let mut text = format!("Epoch {} ({}) would be followed by {}:", now.mark.epoch, now.kind, now.mark.epoch + 1);
    for (region, role) in &planned.roles {
        let before = now.roles.get(region).filter(|before| *before != role);
        let was = before.map(|before| format!(", was {before}")).unwrap_or_default();
        text.push_str(&format!("\n  {region}: {role}{was}"));
    }
    if let Some(Risk { from, links, .. }) = risk {
        text.push_str(&format!("\n\nWhat {from} holds and others do not have:\n"));
        text.push_str(&of_links(links.iter().map(|link| (from, link))));
    }
    if !owed.is_empty() {
        text.push_str("\n\nWhat regions that gave their role up by plan before have yet to deliver:\n");
        text.push_str(&of_links(owed.iter().map(|Owed { from, link, .. }| (from, link))));
    }
    for region in untold {
        text.push_str(&format!("\n\nThe trail of {region} could not be read: regions that gave their role up before may owe more than is told."));
    }
    text
}

/// A table of links, and below it the rows that one side lacks, as far as they are known.
fn of_links<'a>(links: impl Iterator<Item = (&'a Region, &'a LinkRisk)>) -> String {
    let mut table = output::table(&["LINK", "ROWS", "EXACT", "LAST SYNC TIME", "PUBLISHED", "WHY"]);
    let mut named = String::new();
    for (from, link) in links {
        let LinkRisk { to, rows, at_least, exact, last_sync, published, why, .. } = link;
        let bound = if *at_least { "at least " } else { "" };
        let time = |time: &Option<_>| time.map_or_else(|| "never".to_owned(), output::time);
        table.add_row([
            format!("{from} to {to}"),
            rows.map_or_else(|| "unknown".to_owned(), |rows| format!("{bound}{rows}")),
            if *exact { "yes" } else { "no, an estimate" }.to_owned(),
            time(last_sync),
            time(published),
            why.clone().unwrap_or_default(),
        ]);
        for row in link.named.iter().take(PRINTED) {
            let RiskRow { table, partition, row, version, deleted } = row;
            let what = if *deleted { "deleted" } else { "written" };
            named.push_str(&format!("\n{to} lacks {table}({partition:?},{row:?}), {what} as {version}"));
        }
        if link.named.len() > PRINTED {
            let more = rows.unwrap_or_default() - PRINTED as u64;
            named.push_str(&format!("\n{to} lacks {more} more; --output json names them"));
        }
    }
    output::render(&table) + &named
}

fn render(done: &Done) -> String {
    let assignment = &done.assignment;
    let roles = assignment.roles.iter().map(|(region, role)| format!("{region} ({role})"));
    let roles = roles.collect::<Vec<_>>().join(", ");
    let mut text = format!("Epoch {}: {roles}", assignment.mark.epoch);
    if done.serving {
        let to = assignment.to.as_ref().map_or("-", Region::as_str);
        text.push_str(&format!("\n{to} serves writes, {:.1} s after this began", done.seconds));
    }
    for region in &done.unreached {
        text.push_str(&format!(
            "\n{region} could not be told; it hears of it when it is back, before it does anything else"
        ));
    }
    text
}

/// How far it is: a line that changes on a terminal, log lines elsewhere.
struct Shown {
    bar: Option<ProgressBar>,
    said: Option<std::mem::Discriminant<Progress>>,
    next: Instant,
}

impl Shown {
    fn new() -> Self {
        let bar = std::io::stderr().is_terminal().then(ProgressBar::new_spinner);
        Self { bar, said: None, next: Instant::now() }
    }

    fn tell(&mut self, progress: &Progress) {
        let text = words(progress);
        if let Some(bar) = &self.bar {
            bar.set_message(text);
            return bar.tick();
        }
        let kind = std::mem::discriminant(progress);
        if self.said != Some(kind) || Instant::now() >= self.next {
            (self.said, self.next) = (Some(kind), Instant::now() + EVERY);
            info!("{text}");
        }
    }

    fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn known(time: &Option<Time>) -> String {
    time.map_or_else(|| "nothing known yet".to_owned(), |time| time.to_string())
}

pub(super) fn words(progress: &Progress) -> String {
    match progress {
        Progress::Stopping { region, heard, daemons } => {
            format!("{region} takes no more writes: {heard} of {daemons} daemons have heard")
        }
        Progress::Owed { region, last_sync, until, published } => {
            let said = published.map_or_else(|| "never told of".to_owned(), |time| format!("last told of at {time}"));
            let synced = known(last_sync);
            format!("waiting for what {region} wrote before it gave its role up: up to {synced} of {until}, {said}")
        }
        Progress::Draining { region, last_sync, until, waiting } => {
            let synced = known(last_sync);
            format!("what {region} wrote is on its way: up to {synced} of {until}; {waiting} rows wait")
        }
        Progress::Moved { epoch } => format!("the role has moved: epoch {epoch}"),
        Progress::Taking { region } => format!("waiting for the word of a daemon of {region}"),
    }
}
