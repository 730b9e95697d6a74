//! `run`: the daemon of one region.

use super::arguments::{Log, Run};
use super::exit::Failure;
use super::on_runtime;
use super::settings::settings;
use crate::daemon::{self, RunError};
use crate::telemetry::{Recorder, log};

pub(super) fn run(command: &Run, log: Log) -> Result<(), Failure> {
    let settings = settings(&command.config.file)?;
    log::install(log.format.unwrap_or(settings.log.format), log.level.unwrap_or(settings.log.level))?;
    let recorder = Recorder::install()?;
    on_runtime(async move { daemon::run(&settings, &command.region, recorder).await.map_err(failure) })
}

fn failure(error: RunError) -> Failure {
    match error {
        RunError::NoRegion { .. } | RunError::Connect(_) => Failure::usage(error),
        RunError::Listen { .. } | RunError::Signals(_) | RunError::Ended(_) => Failure::from(error),
    }
}
