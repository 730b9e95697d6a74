//! Asking every region the same, side by side, whichever of them answer.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use super::exit::Failure;
use super::settings::settings;
use crate::config::Settings;
use crate::daemon::Connector;
use crate::model::{ClosedList, Region, Row, SystemTable};
use crate::replicator::CopySetup;
use crate::runtime::Runtime;
use crate::stores::{ErrorKind, Query, RegionStore, StoreError, Tables};
use crate::telemetry::Event;

/// How long a person waits for a region that does not answer.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// A region that did not answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Unreachable {
    pub region: Region,
    pub error: String,
}

/// The stores of every region of a configuration.
///
/// # Errors
/// What is wrong with the configuration.
pub(super) fn stores(file: &Path) -> Result<Vec<RegionStore>, Failure> {
    let settings = settings(file)?;
    let connector = Connector::new(&settings.http, Runtime::system()).map_err(Failure::usage)?.within(PATIENCE);
    let regions = settings.regions.iter().map(|(name, settings)| connector.region(name, settings, false));
    regions.collect::<Result<_, _>>().map_err(Failure::usage)
}

/// Has every store go by the routes in force in its region. One that does not answer is for whoever asks it next.
///
/// # Errors
/// Where a region's routes are there and cannot be gone by: whoever went by others would look for rows where they are not.
pub(super) async fn follow_routes(stores: &[RegionStore]) -> Result<(), Failure> {
    let asked = stores.iter().map(|store| tokio::time::timeout(PATIENCE, store.follow_routes()));
    for (store, answer) in stores.iter().zip(futures::future::join_all(asked).await) {
        if let Ok(Err(error)) = answer
            && error.is_unusable()
        {
            return Err(Failure::from(anyhow::anyhow!(
                "the routes of region {} cannot be gone by: {error}",
                store.region()
            )));
        }
    }
    Ok(())
}

/// The copies of a configuration.
///
/// # Errors
/// What is wrong with it.
pub(super) fn copies(settings: &Settings, connector: &Connector) -> Result<Vec<CopySetup>, Failure> {
    let copies = settings.copies.iter().map(|(name, settings)| connector.copy(name, settings));
    copies.collect::<Result<_, _>>().map_err(Failure::usage)
}

/// The stores of every region of a configuration, and those of its copies.
///
/// # Errors
/// What is wrong with the configuration.
pub(super) fn stores_and_copies(file: &Path) -> Result<(Vec<RegionStore>, Vec<RegionStore>), Failure> {
    let settings = settings(file)?;
    let connector = Connector::new(&settings.http, Runtime::system()).map_err(Failure::usage)?.within(PATIENCE);
    let copies = copies(&settings, &connector)?.into_iter().map(|copy| copy.store).collect();
    Ok((stores(file)?, copies))
}

/// What each region answers, in the order of `stores`, and who did not.
pub(super) async fn ask<'a, T, F>(
    stores: &'a [RegionStore],
    question: impl Fn(&'a RegionStore) -> F,
) -> (Vec<(&'a Region, T)>, Vec<Unreachable>)
where
    F: Future<Output = Result<T, StoreError>>,
{
    let answers = futures::future::join_all(stores.iter().map(|store| tokio::time::timeout(PATIENCE, question(store))));
    let (mut answered, mut unreachable) = (Vec::new(), Vec::new());
    for (store, answer) in stores.iter().zip(answers.await) {
        let error = match answer {
            Ok(Ok(answer)) => {
                answered.push((store.region(), answer));
                continue;
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {} s", PATIENCE.as_secs()),
        };
        unreachable.push(Unreachable { region: store.region().clone(), error });
    }
    (answered, unreachable)
}

/// Names on standard error whoever did not answer.
///
/// # Errors
/// Where nobody did.
pub(super) fn report(unreachable: &[Unreachable], asked: usize) -> Result<(), Failure> {
    for Unreachable { region, error } in unreachable {
        eprintln!("tablerelay: region {region} cannot be reached: {error}");
    }
    if unreachable.len() == asked {
        return Err(Failure::from(anyhow::anyhow!(
            "no region answers; check the accounts' endpoints, credentials and firewalls, and whether you are online"
        )));
    }
    Ok(())
}

/// Up to `most` rows of a system table of a region, and whether there are more. A table that is not there is empty: no
/// daemon has run there yet.
///
/// # Errors
/// Whatever else the store answers.
pub(super) async fn rows(
    store: &RegionStore,
    table: SystemTable,
    query: Query,
    most: usize,
) -> Result<(Vec<Row>, bool), StoreError> {
    rows_of(store.home().as_ref(), table, query, most).await
}

/// As [`rows`], of one account.
///
/// # Errors
/// As [`rows`].
pub(super) async fn rows_of(
    tables: &dyn Tables,
    table: SystemTable,
    mut query: Query,
    most: usize,
) -> Result<(Vec<Row>, bool), StoreError> {
    let mut rows = Vec::new();
    loop {
        let page = match tables.query(&table.name(), &query).await {
            Err(error) if error.kind == ErrorKind::NoTable => return Ok((rows, false)),
            page => page?,
        };
        rows.extend(page.rows);
        if rows.len() > most || page.continuation.is_none() {
            let more = rows.len() > most;
            rows.truncate(most);
            return Ok((rows, more));
        }
        query.continuation = page.continuation;
    }
}

/// What was read, if it was. What cannot be read is said to be there, and keeps nobody from seeing the rest.
pub(super) fn readable<T, E: fmt::Display>(read: Result<T, E>) -> Option<T> {
    let unread = |error| tracing::warn!(event = Event::RowUnreadable.as_str(), %error, "is a newer version running?");
    read.map_err(unread).ok()
}
