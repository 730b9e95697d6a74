//! `conflicts list` and `show`: what two regions changed at the same time, and which of the two stands.

use std::collections::BTreeMap;

use serde::Serialize;

use super::arguments::{Conflicts, Output, ShowConflict};
use super::exit::Failure;
use super::output;
use super::regions::{self, Unreachable};
use crate::feed::Shard;
use crate::model::{ClosedList, Region, RowKey, SystemTable, Time};
use crate::replicator::{Conflict, Side};
use crate::stores::{ErrorKind, Query, RegionStore, Scope};

/// What `conflicts list --output json` prints, and `show` with one conflict.
#[derive(Debug, Serialize)]
struct Report {
    schema: u32,
    /// Oldest first.
    conflicts: Vec<Shown>,
    /// Regions that hold more than the limit.
    more_in: Vec<Region>,
    unreachable: Vec<Unreachable>,
}

/// A conflict as it is printed.
#[derive(Debug, Serialize)]
struct Shown {
    id: String,
    /// In whose `RelayConflicts` it is: the regions whose daemons met it.
    regions: Vec<Region>,
    at: Time,
    table: String,
    partition: String,
    row: String,
    winner: ShownSide,
    loser: ShownSide,
    decision: &'static str,
    meaning: &'static str,
    remedy: &'static str,
    source: Region,
    destination: Region,
    /// By how much the winner's clock was ahead of the loser's, estimated.
    skew_milliseconds: Option<i64>,
    /// Whether the winner's region could be asked if it had seen the loser.
    certain: bool,
}

#[derive(Debug, Serialize)]
struct ShownSide {
    version: String,
    region: String,
    stored: Option<Time>,
    deleted: bool,
    /// The row as JSON; in `show` alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    row: Option<String>,
    /// UTF-16 units that `row` lacks.
    #[serde(skip_serializing_if = "Option::is_none")]
    cut: Option<usize>,
}

impl ShownSide {
    fn of(side: Side, whole: bool) -> Self {
        Self {
            region: side.version.region().to_owned(),
            version: side.version.to_string(),
            stored: side.stored,
            deleted: side.row.is_none(),
            row: side.row.filter(|_| whole),
            cut: (side.cut > 0 && whole).then_some(side.cut),
        }
    }

    fn render(&self, name: &str) -> Vec<String> {
        let stored = self.stored.map_or_else(|| "at a time that is not known".to_owned(), |time| format!("at {time}"));
        let mut lines = vec![format!("{name:<12} {} stored {stored}", self.version)];
        lines.push(match (&self.row, self.deleted) {
            (_, true) => "             (the row was deleted)".to_owned(),
            (row, _) => format!("             {}", row.as_deref().unwrap_or_default()),
        });
        lines.extend(
            self.cut.map(|cut| format!("             and {cut} UTF-16 units that the journal had no room for")),
        );
        lines
    }
}

impl Shown {
    fn of(region: &Region, conflict: Conflict, whole: bool) -> Self {
        Self {
            id: conflict.id(),
            regions: vec![region.clone()],
            at: conflict.at,
            skew_milliseconds: conflict.skew_millis(),
            table: conflict.row.table.to_string(),
            partition: conflict.row.partition.to_string(),
            row: conflict.row.row.to_string(),
            winner: ShownSide::of(conflict.winner, whole),
            loser: ShownSide::of(conflict.loser, whole),
            decision: conflict.decision.as_str(),
            meaning: conflict.decision.meaning(),
            remedy: conflict.decision.remedy(),
            source: conflict.source,
            destination: conflict.destination,
            certain: conflict.asked,
        }
    }

    fn render(&self) -> String {
        let regions: Vec<_> = self.regions.iter().map(Region::as_str).collect();
        let skew = self.skew_milliseconds.map_or_else(|| "not known".to_owned(), |skew| format!("{skew} ms"));
        let mut lines = vec![
            format!("id           {}", self.id),
            format!("journal of   {}", regions.join(", ")),
            format!("at           {}", self.at),
            format!("table        {}", self.table),
            format!("partition    {}", self.partition),
            format!("row          {}", self.row),
            format!("decision     {}: {}", self.decision, self.meaning),
            format!("remedy       {}", self.remedy),
            format!("link         {} to {}, where the loser was overwritten", self.source, self.destination),
            format!("skew         {skew}, by which the winner's clock was ahead of the loser's (an estimate)"),
        ];
        if !self.certain {
            lines.push("certain      no: the winner's region could not be asked whether it had the loser".to_owned());
        }
        lines.extend(self.winner.render("winner"));
        lines.extend(self.loser.render("loser"));
        lines.join("\n")
    }
}

pub(super) async fn list(command: &Conflicts) -> Result<(), Failure> {
    let stores = regions::stores(&command.config.file)?;
    let limit = usize::try_from(command.limit).unwrap_or(usize::MAX);
    let report = collect(&stores, limit, command.table.as_deref()).await;
    match command.output {
        Output::Json => output::print_json(&report)?,
        Output::Table => output::print(&report.render())?,
    }
    regions::report(&report.unreachable, stores.len())
}

async fn collect(stores: &[RegionStore], limit: usize, table: Option<&str>) -> Report {
    let (answered, unreachable) = regions::ask(stores, |store| async move {
        regions::rows(store, SystemTable::Conflicts, Query::new(Scope::Table), limit).await
    })
    .await;
    let (mut found, mut more_in) = (Vec::new(), Vec::new());
    for (region, (rows, more)) in answered {
        found.extend(
            rows.iter()
                .filter_map(|row| regions::readable(Conflict::decode(row)))
                .map(|conflict| Shown::of(region, conflict, false)),
        );
        more_in.extend(more.then(|| region.clone()));
    }
    found.retain(|shown| table.is_none_or(|table| shown.table.eq_ignore_ascii_case(table)));
    Report { schema: 1, conflicts: merged(found), more_in, unreachable }
}

/// The same conflict, met by the daemons of several regions, is one.
fn merged(found: Vec<Shown>) -> Vec<Shown> {
    let mut by_id: BTreeMap<String, Shown> = BTreeMap::new();
    for shown in found {
        match by_id.get_mut(&shown.id) {
            Some(known) => known.regions.extend(shown.regions),
            None => drop(by_id.insert(shown.id.clone(), shown)),
        }
    }
    let mut conflicts: Vec<Shown> = by_id.into_values().collect();
    conflicts.sort_by(|a, b| (a.at, &a.id).cmp(&(b.at, &b.id)));
    conflicts
}

impl Report {
    fn render(&self) -> String {
        if self.conflicts.is_empty() {
            return output::nothing("There are no conflicts", self.unreachable.is_empty());
        }
        let mut table = output::table(&["ID", "AT", "TABLE", "PARTITION", "ROW", "WINNER", "LOSER", "DECISION"]);
        for shown in &self.conflicts {
            table.add_row([
                shown.id.clone(),
                output::time(shown.at),
                shown.table.clone(),
                shown.partition.clone(),
                shown.row.clone(),
                shown.winner.version.clone(),
                shown.loser.version.clone(),
                shown.decision.to_owned(),
            ]);
        }
        let mut text = output::render(&table);
        for region in &self.more_in {
            text.push_str(&format!("\nThere is more in {region}; raise --limit to see it."));
        }
        text
    }
}

pub(super) async fn show(command: &ShowConflict) -> Result<(), Failure> {
    let stores = regions::stores(&command.config.file)?;
    let (answered, unreachable) = regions::ask(&stores, |store| async {
        let key = RowKey::new(command.id.as_str());
        // It stands in the shard of its row, which is not known yet.
        for shard in Shard::all() {
            match store.home().get(&SystemTable::Conflicts.name(), &shard.partition(), &key).await {
                Ok(None) => {}
                Err(error) if error.kind == ErrorKind::NoTable => return Ok(None),
                row => return row,
            }
        }
        Ok(None)
    })
    .await;
    let found = answered
        .into_iter()
        .filter_map(|(region, row)| Some(Shown::of(region, regions::readable(Conflict::decode(&row?))?, true)));
    let found = merged(found.collect());
    if found.is_empty() {
        regions::report(&unreachable, stores.len())?;
        let id = &command.id;
        return Err(anyhow::anyhow!(
            "no region that answers has {id}; `tablerelay conflicts list` shows what there is"
        )
        .into());
    }
    match command.output {
        Output::Table => output::print(&found.iter().map(Shown::render).collect::<Vec<_>>().join("\n\n"))?,
        Output::Json => {
            let report = Report { schema: 1, conflicts: found, more_in: Vec::new(), unreachable: unreachable.clone() };
            output::print_json(&report)?;
        }
    }
    regions::report(&unreachable, stores.len())
}
