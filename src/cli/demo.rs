//! `demo`: three regions in one process, and what came out.

use std::io::{IsTerminal, stderr, stdout};

use indicatif::ProgressDrawTarget;

use super::arguments::{Demo, Log, Output};
use super::exit::Failure;
use super::{on_runtime, output};
use crate::demo::{DemoError, Options, Screen, Verdict, run};
use crate::runtime::Runtime;
use crate::telemetry::{LogFormat, LogLevel, log};

/// Seeds that are drawn are below this, so that a person can type one again.
const SEEDS: u64 = 1_000_000;

pub(super) fn demo(command: &Demo, lines: Log) -> Result<(), Failure> {
    let logs = lines.format.is_some() || lines.level.is_some();
    if logs {
        log::install(lines.format.unwrap_or(LogFormat::Human), lines.level.unwrap_or(LogLevel::Info))?;
    }
    let runtime = Runtime::system();
    let seed = command.seed.map_or_else(|| runtime.random() % SEEDS, u64::from);
    let options = Options { writing: command.writing, seed, rate: command.rate, spoil: command.spoil };
    let (mut screen, colour) = screen(command.output, logs);
    on_runtime(async move {
        let verdict = run(options, &runtime, &mut screen).await.map_err(failure)?;
        tell(&verdict, command, colour)
    })
}

/// Where it is watched: where the verdict goes, or beside it where that is for programs. A table would be torn by log
/// lines on the same terminal, so it makes way for them.
fn screen(output: Output, logs: bool) -> (Screen, bool) {
    let (terminal, target) = match output {
        Output::Table => (stdout().is_terminal(), ProgressDrawTarget::stdout()),
        Output::Json => (stderr().is_terminal(), ProgressDrawTarget::stderr()),
    };
    let colour = terminal && std::env::var_os("NO_COLOR").is_none();
    let torn = logs && stderr().is_terminal();
    let screen = match output {
        _ if terminal && !torn && !target.is_hidden() => Screen::live(target, colour),
        Output::Table => Screen::lines(Box::new(stdout())),
        Output::Json => Screen::lines(Box::new(stderr())),
    };
    (screen, colour)
}

fn tell(verdict: &Verdict, command: &Demo, colour: bool) -> anyhow::Result<()> {
    match command.output {
        Output::Table => output::write(&verdict.render(colour))?,
        Output::Json => output::print_json(verdict)?,
    }
    if verdict.is_equal() {
        return Ok(());
    }
    let seed = verdict.seed;
    anyhow::bail!("the demo did not end as it should have; `--seed {seed}` makes the same choices again")
}

/// A reader that has gone away has its answer, whoever wrote to it.
fn failure(error: DemoError) -> anyhow::Error {
    match error {
        DemoError::Screen(error) => error.into(),
        error => error.into(),
    }
}
