//! `cache warm`: a region's cache filled from its tables.

use std::time::Duration;

use tracing::info;

use super::arguments::{Output, Warm};
use super::exit::Failure;
use super::output;
use super::progress::Progress;
use super::regions::follow_routes;
use super::settings::{of_region, settings};
use crate::config::Settings;
use crate::daemon::Connector;
use crate::model::ClosedList;
use crate::ops::{Warmed, Warming};
use crate::runtime::Runtime;
use crate::stores::CacheMode;
use crate::telemetry::metrics::CacheOutcome;

pub(super) async fn warm(command: &Warm) -> Result<(), Failure> {
    let settings = settings(&command.config.file)?;
    let warming = warming(command, &settings)?;
    follow_routes(std::slice::from_ref(&warming.region)).await?;
    let mut progress = Progress::new();
    let done = warming.run(&mut |so_far| tell(&mut progress, so_far)).await;
    progress.end();
    let warmed = done?;
    match command.output {
        Output::Json => output::print_json(&warmed)?,
        Output::Table => output::print(&render(&warmed))?,
    }
    Ok(())
}

fn warming(command: &Warm, settings: &Settings) -> Result<Warming, Failure> {
    let region = &command.region;
    let own = of_region(settings, region)?;
    let Some(cache) = &own.cache else {
        return Err(Failure::usage(anyhow::anyhow!("region.{region} has no cache that could be warmed")));
    };
    if cache.mode != CacheMode::WriteThrough {
        let mode = cache.mode.as_str();
        return Err(Failure::from(anyhow::anyhow!(
            "region.{region}.cache.mode is {mode}: only its readers put rows into this cache, and warming would put in \
             none; with mode = \"write-through\" it would be warmed"
        )));
    }
    let runtime = Runtime::system();
    let connector = Connector::new(&settings.http, runtime.clone()).map_err(Failure::usage)?;
    Ok(Warming {
        region: connector.region(region, own, false).map_err(Failure::usage)?,
        rate: command.rate.unwrap_or(cache.warm_rate),
        cache: connector.cache(region, cache).map_err(Failure::usage)?,
        tables: settings.tables.clone(),
        only: command.table.clone(),
        max_clock_skew: settings.replication.max_clock_skew,
        runtime,
    })
}

fn tell(progress: &mut Progress, warmed: &Warmed) {
    let table = warmed.tables.last().map(|last| last.table.to_string()).unwrap_or_default();
    progress.tell(table.clone(), warmed.rows, || {
        info!(region = %warmed.region, table, rows = warmed.rows, "warming the cache");
    });
}

fn render(warmed: &Warmed) -> String {
    if warmed.tables.is_empty() {
        return format!("{} holds none of the tables that are replicated.", warmed.region);
    }
    let mut table = output::table(&["TABLE", "ROWS", "STORED", "CURRENT", "NEWER", "OTHER", "LEFT OUT"]);
    for done in &warmed.tables {
        let of = |outcome| done.outcomes.get(&outcome).copied().unwrap_or_default();
        let named = [CacheOutcome::Stored, CacheOutcome::Current, CacheOutcome::Newer];
        let other = CacheOutcome::ALL.iter().filter(|outcome| !named.contains(outcome)).map(|outcome| of(*outcome));
        let mut cells = vec![done.table.to_string(), done.rows.to_string()];
        cells.extend(named.map(|outcome| of(outcome).to_string()));
        cells.extend([other.sum::<u64>().to_string(), done.left_out.to_string()]);
        table.add_row(cells);
    }
    let took = output::duration(Duration::from_secs_f64(warmed.seconds));
    format!("{}\n{} rows of {} in {took}", output::render(&table), warmed.rows, warmed.region)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Region, TableName};
    use crate::ops::WarmedTable;

    #[test]
    fn a_summary_adds_up_by_table() {
        let outcomes = [(CacheOutcome::Stored, 7), (CacheOutcome::Full, 1), (CacheOutcome::Foreign, 1)].into();
        let orders = WarmedTable { table: TableName::new("orders").unwrap(), rows: 10, outcomes, left_out: 1 };
        let region = Region::new("west").unwrap();
        let warmed = Warmed { schema: 1, region, tables: vec![orders], rows: 10, seconds: 1.5 };
        let text = render(&warmed);
        let cells: Vec<&str> = text.lines().nth(1).unwrap().split_whitespace().collect();
        assert_eq!(cells, ["orders", "10", "7", "0", "0", "2", "1"]);
        assert!(text.ends_with("10 rows of west in 1.500 s"), "{text}");
        assert!(render(&Warmed { tables: vec![], ..warmed }).contains("holds none"));
    }
}
