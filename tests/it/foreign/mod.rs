//! Programs that are not ours, beside running daemons: Microsoft's clients write in one region and read in the other,
//! through the writers and readers in `examples/`.

mod functions;
mod idle;
mod reader;
mod readers;
mod roundtrip;

use tablerelay::model::{PartitionKey, Row, RowId, RowKey, SystemTable, TableName, Version};
use tablerelay::replicator::create_missing;
use tablerelay::stores::{ErrorKind, Query, Scope};

use crate::support::azurite::Azurite;
use crate::support::deployment::{Cached, Site, configuration};
use crate::support::relay::Daemon;

/// The table that all of them use.
const TABLE: &str = "orders";

fn table() -> TableName {
    TableName::new(TABLE).expect("a table")
}

fn id(partition: &str, row: &str) -> RowId {
    RowId::new(table(), PartitionKey::new(partition), RowKey::new(row))
}

/// Two regions with a daemon each. The settle window is the default, as it is in the examples.
struct Pair {
    source: Site,
    destination: Site,
    daemons: [Daemon; 2],
    _azurites: [Azurite; 2],
}

impl Pair {
    /// Starts it all; the daemons with these variables in their environment.
    async fn start(environment: &[(&str, &str)]) -> Self {
        let azurites = [Azurite::start(), Azurite::start()];
        let sites = [Site::new("west", azurites[0].account()), Site::new("north", azurites[1].account())];
        for site in &sites {
            create_missing(&site.store).await.expect("Azurite creates tables");
        }
        // At the destination, the daemon makes it.
        sites[0].store.home().create_table(&table()).await.expect("Azurite creates tables");
        let config = configuration(&sites, "");
        let daemons = sites.each_ref().map(|site| Daemon::start(&config, site.region.as_str(), "info", environment));
        let [source, destination] = sites;
        Self { source, destination, daemons, _azurites: azurites }
    }

    /// Stops the daemons. Nothing was put into quarantine, and nothing is for a person to act on.
    async fn end(self) {
        for site in [&self.source, &self.destination] {
            let quarantined = rows(site, &SystemTable::Quarantine.name()).await;
            assert!(quarantined.is_empty(), "{}: {quarantined:?}", site.region);
        }
        for daemon in &self.daemons {
            daemon.signal("TERM");
            assert_eq!(daemon.ended(), 0, "{}", daemon.said());
            assert!(!daemon.said().contains("\"ERROR\""), "{}", daemon.said());
        }
    }
}

/// What a region's table holds of a row.
async fn row(site: &Site, id: &RowId) -> Option<Row> {
    match site.store.home().get(&id.table, &id.partition, &id.row).await {
        Err(err) if err.kind == ErrorKind::NoTable => None,
        found => found.expect("the region answers"),
    }
}

/// Every row of a table of a region.
async fn rows(site: &Site, table: &TableName) -> Vec<Row> {
    let (mut query, mut rows) = (Query::new(Scope::Table), Vec::new());
    loop {
        let page = site.store.home().query(table, &query).await.expect("the region answers");
        rows.extend(page.rows);
        query.continuation = page.continuation;
        if query.continuation.is_none() {
            return rows;
        }
    }
}

/// Whether a region's cache holds of a row this version, as an entry or as a mark.
async fn is_cached(site: &Site, id: &RowId, version: &Version, entry: bool) -> bool {
    let cached = site.cached(std::slice::from_ref(id)).await.pop().flatten();
    cached.is_some_and(|Cached { version: held, entry: e }| held == version.as_str() && e.is_some() == entry)
}

/// The records that stand in a region's feed.
async fn open_records(site: &Site) -> usize {
    let feed = rows(site, &SystemTable::Feed.name()).await;
    feed.iter().filter(|row| tablerelay::feed::is_record_key(row.body.row())).count()
}
