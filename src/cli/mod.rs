//! The commands. Each reads its arguments, asks the rooms that know, and prints; what went wrong says what to do next.

mod arguments;
mod backfill;
mod cache;
mod conflicts;
mod demo;
mod drill;
mod exit;
mod failover;
mod inspect;
mod output;
mod progress;
mod quarantine;
mod rebalance;
mod regions;
mod restore;
mod route;
mod run;
mod settings;
mod signals;
mod status;
mod store;
mod verify;
mod wait;

use std::process::ExitCode;

use clap::Parser;

use crate::telemetry::{LogFormat, LogLevel, log};
use arguments::{
    Arguments, CacheCommand, Command, ConfigCommand, ConflictsCommand, Log, QuarantineCommand, StoreCommand,
};
use exit::{Exit, Failure};

/// Runs the command that the process was called with.
pub fn main() -> ExitCode {
    // Help goes out with 0, a usage error with 2, as clap does by itself.
    let arguments = Arguments::parse();
    match dispatch(arguments) {
        Ok(()) => Exit::Done.into(),
        Err(failure) => {
            failure.tell();
            failure.exit.into()
        }
    }
}

fn dispatch(arguments: Arguments) -> Result<(), Failure> {
    let log = arguments.log;
    // What a person waits for at a terminal tells its own story; only what goes wrong on the way is added.
    let quiet = || -> Result<(), Failure> {
        Ok(log::install(log.format.unwrap_or(LogFormat::Human), log.level.unwrap_or(LogLevel::Warn))?)
    };
    match arguments.command {
        Command::Run(command) => run::run(&command, log),
        Command::Demo(command) => demo::demo(&command, log),
        Command::Config(ConfigCommand::Check(file)) => settings::check(&file),
        Command::Config(ConfigCommand::Print(file)) => settings::print(&file),
        Command::Status(command) => quiet().and_then(|()| on_runtime(status::status(&command))),
        Command::Wait(command) => quiet().and_then(|()| on_runtime(wait::wait(&command))),
        Command::Failover(command) => {
            telling(log)?;
            on_runtime(failover::failover(&command))
        }
        Command::Drill(command) => {
            telling(log)?;
            on_runtime(drill::drill(&command))
        }
        Command::Verify(command) => telling(log).and_then(|()| on_runtime(verify::verify(&command))),
        Command::Restore(command) => telling(log).and_then(|()| on_runtime(restore::restore(&command))),
        Command::Backfill(command) => telling(log).and_then(|()| on_runtime(backfill::backfill(&command))),
        Command::Inspect(command) => {
            quiet()?;
            on_runtime(inspect::inspect(&command))
        }
        Command::Rebalance(command) => telling(log).and_then(|()| on_runtime(rebalance::rebalance(&command))),
        Command::Route(command) => telling(log).and_then(|()| on_runtime(route::route(&command))),
        Command::Quarantine(QuarantineCommand::List(command)) => {
            quiet()?;
            on_runtime(quarantine::list(&command))
        }
        Command::Quarantine(QuarantineCommand::Show(command)) => {
            quiet()?;
            on_runtime(quarantine::show(&command))
        }
        Command::Quarantine(QuarantineCommand::Replay(command)) => {
            quiet()?;
            on_runtime(quarantine::replay(&command))
        }
        Command::Quarantine(QuarantineCommand::Drop(command)) => {
            quiet()?;
            on_runtime(quarantine::discard(&command))
        }
        Command::Cache(CacheCommand::Warm(command)) => {
            telling(log)?;
            on_runtime(cache::warm(&command))
        }
        Command::Conflicts(ConflictsCommand::List(command)) => {
            quiet()?;
            on_runtime(conflicts::list(&command))
        }
        Command::Conflicts(ConflictsCommand::Show(command)) => {
            quiet()?;
            on_runtime(conflicts::show(&command))
        }
        Command::Store(StoreCommand::Serve(command)) => {
            quiet()?;
            on_runtime(store::serve(&command))
        }
    }
}

/// Without a terminal to draw on, how far it is becomes log lines.
fn telling(log: Log) -> Result<(), Failure> {
    let level = if progress::draws() { LogLevel::Warn } else { LogLevel::Info };
    Ok(log::install(log.format.unwrap_or(LogFormat::Human), log.level.unwrap_or(level))?)
}

/// How long what is left over may take to end after the command has.
const LEFT_OVER: std::time::Duration = std::time::Duration::from_millis(500);

fn on_runtime<E>(command: impl Future<Output = Result<(), E>>) -> Result<(), Failure>
where
    Failure: From<E>,
{
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let result = runtime.block_on(command);
    runtime.shutdown_timeout(LEFT_OVER);
    Ok(result?)
}
