//! What a forced failover leaves behind in the old writer's region: told before anybody decides.
//!
//! Where the old store can be read, it is exact: what its feed announces and its backlog names, row by row, where the other region
//! holds less. Nothing that was acknowledged is anywhere else. Where it cannot, there is what was published last.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::stream::{StreamExt, TryStreamExt, iter};
use serde::Serialize;
use tokio::time::timeout;

use super::{ANSWER_WITHIN, Failover, Owed};
use crate::feed::{Shard, decode_hint, decode_record, first_units, record_prefix};
use crate::model::{Region, RowId, SystemTable, Time};
use crate::ops::stand::stand;
use crate::replicator::read_links;
use crate::settle::LinkStatus;
use crate::stores::{ErrorKind, Query, RegionStore, Scope, StoreError, Tables};

/// Most rows that are compared for each region; with more the number is a lower bound.
const MOST: usize = 20_000;
/// Most rows that are named.
const NAMED: usize = 1_000;
/// Most units of what the trail keeps of it: a string property holds 32K.
const UNITS: usize = 30_000;
/// How many rows are read at a time.
const SIDE_BY_SIDE: usize = 32;
/// How long the comparison may take. A region that is known to answer is worth a while.
const WITHIN: Duration = Duration::from_secs(20);

/// What is at risk when a region's role is taken away.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Risk {
    /// The region that loses its role.
    pub from: Region,
    /// When this was found out, by the clock of whoever asked.
    pub at: Time,
    /// Every link out of it.
    pub links: Vec<LinkRisk>,
}

/// What is at risk on one link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LinkRisk {
    /// Where it leads.
    pub to: Region,
    /// Whether rows were compared. Otherwise it is an estimate, by what was published last.
    pub exact: bool,
    /// Why it is not exact.
    pub why: Option<String>,
    /// Distinct rows of which the region does not have what the old writer holds; unknown where nothing was ever published.
    pub rows: Option<u64>,
    /// There may be more rows: the comparison ended at a bound.
    pub at_least: bool,
    /// The rows, up to a thousand.
    pub named: Vec<RiskRow>,
    /// Everything that was announced before is there.
    pub last_sync: Option<Time>,
    /// When that was published.
    pub published: Option<Time>,
}

/// A row that is at risk.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct RiskRow {
    /// Its table.
    pub table: String,
    /// Its partition.
    pub partition: String,
    /// Its key.
    pub row: String,
    /// What the old writer holds.
    pub version: String,
    /// Whether that is a delete.
    pub deleted: bool,
}

/// What the trail keeps of a forced failover: all that was said before it, with as many rows as have room.
#[derive(Clone, Serialize)]
struct Kept {
    #[serde(flatten)]
    risk: Option<Risk>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    owed: Vec<Owed>,
}

/// As the text that the trail keeps; none where there is nothing to say.
pub(super) fn encode(risk: Option<&Risk>, owed: &[Owed]) -> Option<String> {
    if risk.is_none() && owed.is_empty() {
        return None;
    }
    let mut kept = Kept { risk: risk.cloned(), owed: owed.to_vec() };
    loop {
        let text = serde_json::json!(kept).to_string();
        if first_units(&text, UNITS).len() == text.len() {
            return Some(text);
        }
        let links = kept.risk.iter_mut().flat_map(|risk| &mut risk.links);
        for link in links.chain(kept.owed.iter_mut().map(|owed| &mut owed.link)) {
            link.named.truncate(link.named.len() / 2);
        }
    }
}

impl Failover {
    /// What is at risk when `from` loses its role; `dark` says why it is known not to answer.
    pub(in crate::ops) async fn risk(&self, from: &Region, dark: Option<StoreError>) -> Risk {
        let others: Vec<&RegionStore> = self.regions.iter().filter(|store| store.region() != from).collect();
        let links = self.links_at_risk(from, dark, &others).await;
        Risk { from: from.clone(), at: self.runtime.now(), links }
    }

    /// What is at risk on the links from a region to these.
    pub(super) async fn links_at_risk(
        &self,
        from: &Region,
        dark: Option<StoreError>,
        to: &[&RegionStore],
    ) -> Vec<LinkRisk> {
        let source = self.regions.iter().find(|store| store.region() == from);
        let named = match (source, dark) {
            (Some(_), Some(error)) => Err(error),
            (Some(source), None) => within(announced(source)).await,
            (None, _) => Err(StoreError::new(ErrorKind::Unreachable, "it is not in the configuration")),
        };
        // Who could not be read is not asked for what it published either.
        let end = source.filter(|_| named.is_ok());
        let link = |to| {
            let named = &named;
            async move {
                let status = self.published(from, end, to).await;
                let known = |link: &LinkStatus| (link.last_sync, link.published);
                let (last_sync, published) = status.as_ref().map(known).unzip();
                let estimate = |why: String| LinkRisk {
                    to: to.region().clone(),
                    exact: false,
                    why: Some(why),
                    rows: status.as_ref().map(|link| link.backlog_rows),
                    at_least: true,
                    named: Vec::new(),
                    last_sync: last_sync.flatten(),
                    published,
                };
                let compared = match (source, named) {
                    (Some(source), Ok(named)) => within(compare(source, to, named)).await,
                    (_, Err(error)) => Err(error.clone()),
                    (None, Ok(_)) => return estimate(String::new()),
                };
                match compared {
                    Ok(rows) => LinkRisk {
                        exact: true,
                        why: None,
                        rows: Some(rows.len() as u64),
                        at_least: named.as_ref().is_ok_and(|named| named.len() >= MOST),
                        named: rows.into_iter().take(NAMED).collect(),
                        ..estimate(String::new())
                    },
                    Err(error) => estimate(error.to_string()),
                }
            }
        };
        futures::future::join_all(to.iter().copied().map(link)).await
    }

    /// A link's state as either end tells of it, whichever was published later.
    async fn published(&self, from: &Region, source: Option<&RegionStore>, to: &RegionStore) -> Option<LinkStatus> {
        let ends = source.into_iter().chain([to]);
        let told = futures::future::join_all(ends.map(|end| self.in_time(read_links(end)))).await;
        let links = told.into_iter().filter_map(Result::ok).flatten();
        let links = links.filter(|link| link.source == *from && link.destination == *to.region());
        links.max_by_key(|link| link.published)
    }
}

async fn within<T>(work: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    let late = |_| StoreError::new(ErrorKind::Unreachable, format!("it took longer than {WITHIN:?}"));
    timeout(WITHIN, work).await.map_err(late)?
}

/// The rows that a region's feed announces or its backlog names.
async fn announced(store: &RegionStore) -> Result<BTreeSet<RowId>, StoreError> {
    let mut named = BTreeSet::new();
    for account in store.accounts() {
        for shard in Shard::all() {
            let query = Query::prefix(shard.partition(), record_prefix());
            collect(account.tables.as_ref(), SystemTable::Feed, query, &mut |row| {
                if let Ok(record) = decode_record(row) {
                    named.extend(record.change.rows().map(|(id, _)| id).take(MOST));
                }
                named.len() < MOST
            })
            .await?;
        }
    }
    collect(store.home().as_ref(), SystemTable::Backlog, Query::new(Scope::Table), &mut |row| {
        named.extend(decode_hint(row).ok().map(|hint| hint.id));
        named.len() < MOST
    })
    .await?;
    Ok(named)
}

/// Goes through rows page by page until `take` has enough.
async fn collect(
    tables: &dyn Tables,
    table: SystemTable,
    mut query: Query,
    take: &mut (dyn FnMut(&crate::model::Row) -> bool + Send),
) -> Result<(), StoreError> {
    loop {
        let page = match timeout(ANSWER_WITHIN * 2, tables.query(&table.name(), &query)).await {
            Ok(Err(error)) if error.kind == ErrorKind::NoTable => return Ok(()),
            Ok(page) => page?,
            Err(_) => return Err(StoreError::new(ErrorKind::Unreachable, "a page did not come in time")),
        };
        if !page.rows.iter().all(&mut *take) || page.continuation.is_none() {
            return Ok(());
        }
        query.continuation = page.continuation;
    }
}

/// Those of the rows of which `to` does not have what `from` holds.
async fn compare(from: &RegionStore, to: &RegionStore, named: &BTreeSet<RowId>) -> Result<Vec<RiskRow>, StoreError> {
    let at_risk = |id: &RowId| {
        let id = id.clone();
        async move {
            // The destination first: what arrives in between is not counted.
            let (there, here) = (stand(to, &id).await?, stand(from, &id).await?);
            let lacks = here.filter(|here| there.as_ref().is_none_or(|there| there.version < here.version));
            Ok::<_, StoreError>(lacks.map(|here| RiskRow {
                table: id.table.as_str().to_owned(),
                partition: id.partition.as_str().to_owned(),
                row: id.row.as_str().to_owned(),
                version: here.version.as_str().to_owned(),
                deleted: here.row.is_none(),
            }))
        }
    };
    let asked: Vec<_> = named.iter().map(at_risk).collect();
    let found: Vec<Option<RiskRow>> = iter(asked).buffered(SIDE_BY_SIDE).try_collect().await?;
    Ok(found.into_iter().flatten().collect())
}
