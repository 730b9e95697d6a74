//! `GET /wait`: until a region has a write, for whoever reads in another region than it wrote in.
//!
//! The only request here that asks a store. So those who wait are few at a time and each has a deadline: one more than that is
//! sent away at once, with 503 and a time to come back after.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, RETRY_AFTER};
use axum::response::{IntoResponse, Json, Response};
use serde::Serialize;
use serde_json::json;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::Admin;
use crate::config::typed_duration;
use crate::model::{Region, RowId, TableName, Version};
use crate::ops::{Wait, Waited};
use crate::runtime::Runtime;
use crate::stores::RegionStore;
use crate::topology::{PublishedRoutes, TableFilter};

/// Most that wait at a time.
const MOST: usize = 64;
/// How long is waited, where the request does not say; as the command does.
const USUAL: Duration = Duration::from_secs(30);
/// The longest that is waited.
const LONGEST: Duration = Duration::from_secs(300);

/// What those who wait need.
#[derive(Debug, Clone)]
pub struct Waits {
    /// The daemon's region, which is waited for where no other is named.
    region: Region,
    stores: Arc<BTreeMap<Region, RegionStore>>,
    tables: TableFilter,
    places: Arc<Semaphore>,
    runtime: Runtime,
    stop: CancellationToken,
}

impl Waits {
    /// For these regions and the tables that are replicated, until it is stopped.
    pub fn new(
        region: Region,
        stores: impl IntoIterator<Item = RegionStore>,
        tables: TableFilter,
        runtime: Runtime,
        stop: CancellationToken,
    ) -> Self {
        let stores = stores.into_iter().map(|store| (store.region().clone(), store)).collect();
        Self { region, stores: Arc::new(stores), tables, places: Arc::new(Semaphore::new(MOST)), runtime, stop }
    }

    /// What the daemon's region has published of its routes, as it was last read.
    pub(super) fn routes(&self) -> Option<Arc<PublishedRoutes>> {
        self.stores.get(&self.region)?.published()
    }

    /// What a request asks to wait for; else what is wrong with it.
    fn read(&self, asked: &BTreeMap<String, String>) -> Result<Wait, String> {
        const KEYS: [&str; 6] = ["version", "region", "table", "partition", "row", "timeout"];
        if let Some(unknown) = asked.keys().find(|key| !KEYS.contains(&key.as_str())) {
            return Err(format!("there is no parameter {unknown:?}; there are {}", KEYS.join(", ")));
        }
        let of = |key: &str| asked.get(key).map(String::as_str);
        let version = of("version").ok_or("version is missing: it is what the writer returned")?;
        let version = Version::parse(version).map_err(|error| format!("version: {error}"))?;
        let region = match of("region") {
            Some(name) => Region::new(name).map_err(|error| format!("region: {error}"))?,
            None => self.region.clone(),
        };
        let row = match (of("table"), of("partition"), of("row")) {
            (None, None, None) => None,
            (Some(table), Some(partition), Some(row)) => {
                let table = TableName::new(table).map_err(|error| format!("table: {error}"))?;
                let id = RowId::new(table, partition.into(), row.into());
                id.partition.check().map_err(|error| format!("partition: {error}"))?;
                id.row.check().map_err(|error| format!("row: {error}"))?;
                if version.issued_in() != region {
                    self.tables.check(&id.table).map_err(|error| error.to_string())?;
                }
                Some(id)
            }
            _ => return Err("table, partition and row go together: give all three, or none".to_owned()),
        };
        let within = of("timeout").map_or(Ok(USUAL), typed_duration).map_err(|error| format!("timeout: {error}"))?;
        if within > LONGEST {
            return Err(format!("timeout: it should be at most {}s", LONGEST.as_secs()));
        }
        let issued_in = version.issued_in();
        let elsewhere = row.is_none() && issued_in != region;
        let source = if elsewhere { Some(self.store(&issued_in, "version")?) } else { None };
        let region = self.store(&region, "region")?;
        Ok(Wait { version, region, row, source, within, runtime: self.runtime.clone() })
    }

    fn store(&self, region: &Region, key: &str) -> Result<RegionStore, String> {
        let known = || self.stores.keys().map(Region::as_str).collect::<Vec<_>>().join(", ");
        let store = self.stores.get(region).cloned();
        store.ok_or_else(|| format!("{key}: there is no region {region}; the configuration has {}", known()))
    }
}

/// What a request is told whose waiting ended.
#[derive(Debug, Serialize)]
struct Told<'a> {
    schema: u32,
    version: &'a Version,
    region: &'a Region,
    #[serde(flatten)]
    waited: &'a Waited,
}

/// 200 once the region has it, 504 where it has not in time; 400 for what cannot be waited for, 503 where too many wait or the
/// daemon is ending.
pub(super) async fn wait(State(admin): State<Admin>, Query(asked): Query<BTreeMap<String, String>>) -> Response {
    let waits = &admin.waits;
    let wait = match waits.read(&asked) {
        Ok(wait) => wait,
        Err(why) => return refused(StatusCode::BAD_REQUEST, &why),
    };
    let Ok(_place) = waits.places.try_acquire() else {
        return refused(StatusCode::SERVICE_UNAVAILABLE, &format!("{MOST} wait already; come again in a second"));
    };
    let waited = tokio::select! {
        biased;
        () = waits.stop.cancelled() => {
            return refused(StatusCode::SERVICE_UNAVAILABLE, "the daemon is ending; ask another one");
        }
        waited = wait.run() => waited,
    };
    let code = if waited.reached { StatusCode::OK } else { StatusCode::GATEWAY_TIMEOUT };
    let told = Told { schema: 1, version: &wait.version, region: wait.region.region(), waited: &waited };
    (code, [(CACHE_CONTROL, "no-store")], Json(told)).into_response()
}

fn refused(code: StatusCode, why: &str) -> Response {
    let body = Json(json!({ "schema": 1, "reached": false, "error": why }));
    let again = (code == StatusCode::SERVICE_UNAVAILABLE).then_some([(RETRY_AFTER, "1")]);
    match again {
        Some(again) => (code, again, body).into_response(),
        None => (code, body).into_response(),
    }
}
