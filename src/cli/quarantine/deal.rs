//! `quarantine replay` and `drop`: what becomes of an entry, in every region that has it.

use serde::Serialize;

use super::{none, stored};
use crate::cli::arguments::{Dropped, Output, Replayed};
use crate::cli::exit::Failure;
use crate::cli::output;
use crate::cli::regions::{self, Unreachable};
use crate::cli::settings::settings;
use crate::closed_list;
use crate::feed::Entry;
use crate::model::{ClosedList, Region, Row, Version};
use crate::replicator::{Replay, ReplayError, Taken, take_out};
use crate::runtime::Runtime;
use crate::stores::{RegionStore, StoreError};
use crate::writer::WriterOptions;

closed_list! {
    /// What was done about an entry.
    pub(in crate::cli) enum Dealt {
        Announced = "announced",
            "it was announced again",
            "none; if it is refused again, it is back under this ID";
        Restamped = "restamped",
            "its row has a new version, and is replicated like any other change",
            "none";
        Dropped = "dropped",
            "it was taken out of quarantine, and nothing else was done",
            "none; what it was about is not replicated until it is written again";
        Kept = "kept",
            "it was met again meanwhile, so it was not dropped",
            "look at it once more with `tablerelay quarantine show`, then drop it";
        Failed = "failed",
            "it could not be dealt with, and stays in quarantine",
            "read the error";
    }
}

/// What `quarantine replay` and `drop` print with `--output json`.
#[derive(Debug, Serialize)]
struct Report {
    schema: u32,
    /// The entry of this ID in each region that has one.
    entries: Vec<Done>,
    unreachable: Vec<Unreachable>,
}

#[derive(Debug, Serialize)]
struct Done {
    id: String,
    region: Region,
    dealt: Dealt,
    /// Whether it is out of quarantine. One that was announced and met again at once is not.
    taken_out: bool,
    /// The new versions, and the regions that hold them.
    stamped: Vec<Stamped>,
    error: Option<String>,
}

#[derive(Debug, Serialize)]
struct Stamped {
    region: Region,
    version: Version,
}

impl Done {
    fn new(store: &RegionStore, entry: &Entry, dealt: Dealt) -> Self {
        let (id, region) = (entry.id.clone(), store.region().clone());
        Self { id, region, dealt, taken_out: false, stamped: Vec::new(), error: None }
    }

    fn taken(self, taken: Taken) -> Self {
        Self { taken_out: taken == Taken::Out, ..self }
    }

    fn failed(store: &RegionStore, entry: &Entry, error: impl Into<anyhow::Error>) -> Self {
        Self { error: Some(format!("{:#}", error.into())), ..Self::new(store, entry, Dealt::Failed) }
    }

    /// What people read of it, a line each; nothing of what failed, which is the command's failure.
    fn lines(&self) -> Vec<String> {
        let Self { id, region, .. } = self;
        let mut lines: Vec<String> = match self.dealt {
            Dealt::Failed | Dealt::Kept => return Vec::new(),
            Dealt::Restamped => self
                .stamped
                .iter()
                .map(|Stamped { region, version }| {
                    format!("{id} of {region}: its row has version {version} now, and is replicated")
                })
                .collect(),
            Dealt::Announced => {
                vec![format!("{id} of {region}: announced again; if it is refused again, it is back under this ID")]
            }
            Dealt::Dropped => vec![format!(
                "{id} of {region}: dropped; what it was about is not replicated until it is written again"
            )],
        };
        if !self.taken_out {
            lines.push(format!("{id} of {region}: it was met again meanwhile, and stays in quarantine"));
        }
        lines
    }

    fn failure(&self) -> Option<String> {
        let Self { id, region, .. } = self;
        match self.dealt {
            Dealt::Failed => {
                Some(format!("{id} of {region} stays in quarantine: {}", self.error.as_deref().unwrap_or_default()))
            }
            Dealt::Kept => Some(format!("{id} of {region} stays in quarantine: {}", self.dealt.remedy())),
            Dealt::Announced | Dealt::Restamped | Dealt::Dropped => None,
        }
    }
}

/// Announces an entry again, or gives its rows a new version.
pub(in crate::cli) async fn replay(command: &Replayed) -> Result<(), Failure> {
    let settings = settings(&command.config.file)?;
    let stores = regions::stores(&command.config.file)?;
    let options = WriterOptions {
        settle_window: settings.replication.settle_window,
        max_clock_skew: settings.replication.max_clock_skew,
        look_at_tombstones: true,
    };
    regions::follow_routes(&stores).await?;
    let replay = Replay { regions: stores.clone(), options, runtime: Runtime::system() };
    let (entries, unreachable) = entries(&stores, &command.id).await?;
    let mut done = Vec::new();
    for (store, row, entry) in &entries {
        let result = match command.restamp {
            true => restamped(&replay, store, entry, row).await,
            false => announced(&replay, store, entry, row).await,
        };
        done.push(result.unwrap_or_else(|error| Done::failed(store, entry, error)));
    }
    told(Report { schema: 1, entries: done, unreachable }, command.output)
}

async fn announced(replay: &Replay, store: &RegionStore, entry: &Entry, row: &Row) -> Result<Done, ReplayError> {
    let taken = replay.replay(store, entry, row).await?;
    Ok(Done::new(store, entry, Dealt::Announced).taken(taken))
}

async fn restamped(replay: &Replay, store: &RegionStore, entry: &Entry, row: &Row) -> Result<Done, ReplayError> {
    let (stamped, taken) = replay.restamp(store, entry, row).await?;
    let stamped = stamped.into_iter().map(|(region, version)| Stamped { region, version }).collect();
    Ok(Done { stamped, ..Done::new(store, entry, Dealt::Restamped).taken(taken) })
}

/// Takes an entry out and does nothing about what it is about.
pub(in crate::cli) async fn discard(command: &Dropped) -> Result<(), Failure> {
    let stores = regions::stores(&command.config.file)?;
    let (entries, unreachable) = entries(&stores, &command.id).await?;
    let mut done = Vec::new();
    for (store, row, entry) in &entries {
        let dropped = dropped(store, entry, row).await;
        done.push(dropped.unwrap_or_else(|error| Done::failed(store, entry, error)));
    }
    told(Report { schema: 1, entries: done, unreachable }, command.output)
}

async fn dropped(store: &RegionStore, entry: &Entry, row: &Row) -> Result<Done, StoreError> {
    let taken = take_out(store, row).await?;
    let dealt = if taken == Taken::Out { Dealt::Dropped } else { Dealt::Kept };
    Ok(Done::new(store, entry, dealt).taken(taken))
}

/// Prints what was done.
///
/// # Errors
/// Where something was not done; the rest is.
fn told(report: Report, form: Output) -> Result<(), Failure> {
    match form {
        Output::Json => output::print_json(&report)?,
        Output::Table => {
            for line in report.entries.iter().flat_map(Done::lines) {
                output::print(&line)?;
            }
        }
    }
    let failures: Vec<String> = report.entries.iter().filter_map(Done::failure).collect();
    if failures.is_empty() { Ok(()) } else { Err(anyhow::anyhow!(failures.join("; ")).into()) }
}

/// The entries of this ID, in every region that answers, and who does not.
async fn entries<'a>(
    stores: &'a [RegionStore],
    id: &str,
) -> Result<(Vec<(&'a RegionStore, Row, Entry)>, Vec<Unreachable>), Failure> {
    let (answered, unreachable) = stored(stores, id).await;
    regions::report(&unreachable, stores.len())?;
    let of = |region: &Region| stores.iter().find(|store| store.region() == region);
    let found: Vec<_> = answered
        .into_iter()
        .filter_map(|(region, row)| Some((of(region)?, row.clone()?, regions::readable(Entry::decode(&row?))?)))
        .collect();
    if found.is_empty() {
        return Err(none(id));
    }
    Ok((found, unreachable))
}

#[cfg(test)]
mod tests {
    use super::super::tests::region;
    use super::*;
    use crate::feed::entry_keys;
    use crate::model::SystemTable;

    #[tokio::test(start_paused = true)]
    async fn what_was_dropped_is_told_for_people_and_for_programs() {
        let stores = [region("east", &[]).await, region("west", &["{\"a\":1}"]).await];
        let id = super::super::collect(&stores, 10).await.entries[0].id.clone();
        let (found, _) = entries(&stores, &id).await.unwrap();
        let (store, row, entry) = &found[0];
        let done = dropped(store, entry, row).await.unwrap();
        assert!(done.lines()[0].starts_with(&format!("{id} of west: dropped; ")), "{:?}", done.lines());
        let json = serde_json::to_value(&done).unwrap();
        let expected = serde_json::json!({
            "id": id, "region": "west", "dealt": "dropped", "taken_out": true, "stamped": [], "error": null
        });
        assert_eq!(json, expected);
        assert_eq!(done.failure(), None);
        // Somebody has dropped it before: it is gone, which is all that was asked for.
        assert_eq!(dropped(store, entry, row).await.unwrap().dealt, Dealt::Dropped);
        let refused = entries(&stores, &id).await.unwrap_err();
        assert_eq!(refused.exit, crate::cli::exit::Exit::Failed);
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_was_met_again_meanwhile_is_kept_and_that_is_a_failure() {
        let stores = [region("west", &["{\"a\":1}"]).await];
        let id = super::super::collect(&stores, 10).await.entries[0].id.clone();
        let (found, _) = entries(&stores, &id).await.unwrap();
        let (store, row, entry) = &found[0];
        let renewed = crate::stores::Operation::InsertOrReplace(row.body.clone());
        store.home().write(&SystemTable::Quarantine.name(), &renewed).await.unwrap();
        let done = dropped(store, entry, row).await.unwrap();
        assert_eq!((done.dealt, done.taken_out), (Dealt::Kept, false));
        assert!(done.failure().is_some_and(|why| why.contains("stays in quarantine")), "{done:?}");
        let (partition, key) = entry_keys(&id);
        assert!(store.home().get(&SystemTable::Quarantine.name(), &partition, &key).await.unwrap().is_some());
    }

    #[test]
    fn what_is_done_about_an_entry_is_a_closed_list_and_documented() {
        crate::model::assert_well_formed::<Dealt>();
        let document = include_str!("../../../docs/operations.md");
        for dealt in Dealt::ALL {
            let line = format!("| `{dealt}` | {} | {} |", dealt.meaning(), dealt.remedy());
            assert!(document.contains(&line), "docs/operations.md should have the line\n{line}");
        }
    }
}
