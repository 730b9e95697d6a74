//! `inspect`: what every region has of one row, side by side, and what will happen to it next.

mod gather;
mod outlook;
mod picture;
mod render;
#[cfg(test)]
mod tests;

use std::time::Duration;

use serde::Serialize;

use self::gather::{Site, gather};
use self::outlook::{Outlook, Prospect, outlook};
use self::picture::Picture;
use super::arguments::{Inspect, Output};
use super::exit::Failure;
use super::{output, regions, settings};
use crate::daemon::Connector;
use crate::model::{PartitionKey, RowId, RowKey, Time};
use crate::runtime::Runtime;

/// What `inspect --output json` prints.
#[derive(Debug, Serialize)]
struct Report {
    schema: u32,
    #[serde(flatten)]
    outlook: Outlook,
    #[serde(flatten)]
    picture: Picture,
}

/// Regions are not read at one moment: what looks stuck may have been on its way between two of them. So is looked again,
/// after so long.
const SECOND_LOOK: Duration = Duration::from_secs(1);

pub(super) async fn inspect(command: &Inspect) -> Result<(), Failure> {
    let settings = settings::settings(&command.config.file)?;
    let id = row(command)?;
    let runtime = Runtime::system();
    let connector = Connector::new(&settings.http, runtime.clone()).map_err(Failure::usage)?.within(regions::PATIENCE);
    let mut sites = Vec::new();
    for (name, region) in &settings.regions {
        let store = connector.region(name, region, false).map_err(Failure::usage)?;
        let cache = region.cache.as_ref().map(|cache| connector.cache(name, cache)).transpose();
        sites.push(Site { store, cache: cache.map_err(Failure::usage)? });
    }
    let stores: Vec<_> = sites.iter().map(|site| site.store.clone()).collect();
    regions::follow_routes(&stores).await?;
    let report = look(&sites, &id, settings.tables.matches(&id.table), || runtime.now()).await;
    match command.output {
        Output::Json => output::print_json(&report)?,
        Output::Table => output::print(&render::render(&report.outlook, &report.picture))?,
    }
    regions::report(&report.picture.unreachable, sites.len())
}

async fn look(sites: &[Site], id: &RowId, replicated: bool, now: impl Fn() -> Time) -> Report {
    let mut picture = gather(sites, id, now(), replicated).await;
    let mut answer = outlook(&picture);
    if answer.next == Prospect::Stuck {
        tokio::time::sleep(SECOND_LOOK).await;
        picture = gather(sites, id, now(), replicated).await;
        answer = outlook(&picture);
    }
    Report { schema: 1, outlook: answer, picture }
}

/// The row that was asked for.
///
/// # Errors
/// A key that Azure refuses, which no row has; a table of the program's own.
fn row(command: &Inspect) -> Result<RowId, Failure> {
    let id = RowId::new(command.table.clone(), PartitionKey::new(&*command.partition), RowKey::new(&*command.row));
    id.partition.check().map_err(Failure::usage)?;
    id.row.check().map_err(Failure::usage)?;
    if id.table.is_system() {
        return Err(Failure::usage(anyhow::anyhow!(
            "the table {} is one of the program's own, which are not replicated; name the table of the row",
            id.table
        )));
    }
    Ok(id)
}
