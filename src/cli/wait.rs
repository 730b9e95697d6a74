//! `wait`: until a region has a write.

use anyhow::anyhow;
use serde::Serialize;

use super::arguments::{Output, Wait as Arguments};
use super::exit::Failure;
use super::{output, regions, settings};
use crate::daemon::Connector;
use crate::model::{Region, RowId, Time};
use crate::ops::{Reached, Wait, Waited};
use crate::runtime::Runtime;

/// What `wait --output json` prints.
#[derive(Debug, Serialize)]
struct Report<'a> {
    schema: u32,
    version: &'a str,
    region: &'a Region,
    #[serde(flatten)]
    waited: &'a Waited,
}

pub(super) async fn wait(command: &Arguments) -> Result<(), Failure> {
    let settings = settings::settings(&command.config.file)?;
    let runtime = Runtime::system();
    let connector = Connector::new(&settings.http, runtime.clone()).map_err(Failure::usage)?;
    let store = |name: &Region| {
        let Some(region) = settings.regions.get(name) else {
            let known: Vec<_> = settings.regions.keys().map(Region::as_str).collect();
            return Err(Failure::usage(anyhow!(
                "there is no region {name}; the configuration has {}",
                known.join(", ")
            )));
        };
        connector.region(name, region, false).map_err(Failure::usage)
    };
    let row = match (&command.table, &command.partition, &command.row) {
        (Some(table), Some(partition), Some(row)) => {
            let id = RowId::new(table.clone(), partition.as_str().into(), row.as_str().into());
            id.partition.check().and_then(|()| id.row.check()).map_err(Failure::usage)?;
            if command.version.issued_in() != command.region {
                settings.tables.check(table).map_err(Failure::usage)?;
            }
            Some(id)
        }
        // The command line asks for all three or none.
        _ => None,
    };
    let issued_in = command.version.issued_in();
    let elsewhere = row.is_none() && issued_in != command.region;
    let wait = Wait {
        version: command.version.clone(),
        region: store(&command.region)?,
        source: if elsewhere { Some(store(&issued_in)?) } else { None },
        row,
        within: command.timeout,
        runtime,
    };
    regions::follow_routes(std::slice::from_ref(&wait.region)).await?;
    let waited = wait.run().await;
    match command.output {
        Output::Json => output::print_json(&Report {
            schema: 1,
            version: command.version.as_str(),
            region: &command.region,
            waited: &waited,
        })?,
        Output::Table if waited.reached => output::print(&told(&waited, &command.region))?,
        Output::Table => {}
    }
    if waited.reached { Ok(()) } else { Err(late(&waited, command)) }
}

fn told(waited: &Waited, region: &Region) -> String {
    let by = match &waited.by {
        Some(Reached::Row { version }) => format!("the row stands there with {version}"),
        Some(Reached::Tombstone { version }) => format!("the row is deleted there, with {version}"),
        Some(Reached::LastSync) => waited.last_sync.map(|time| format!("Last Sync Time is {time}")).unwrap_or_default(),
        Some(Reached::Source) | None => "the version was issued there".to_owned(),
    };
    format!("{region} has it after {:.3} s: {by}", waited.waited_seconds)
}

fn late(waited: &Waited, command: &Arguments) -> Failure {
    let sync = |time: Time| format!("; Last Sync Time is {time} there");
    let (sync, error) = (waited.last_sync.map(sync).unwrap_or_default(), waited.error.as_ref());
    let error = error.map(|error| format!("; the last look failed: {error}")).unwrap_or_default();
    let Arguments { version, region, .. } = command;
    let text = format!(
        "{region} did not have {version} within {:?} ({} looks){sync}{error}; `tablerelay status` says how the link does",
        command.timeout, waited.looks
    );
    Failure::timed_out(anyhow!(text))
}
