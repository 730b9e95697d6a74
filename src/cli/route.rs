//! `route`: which account of a region holds a row, by the routes in force there.

use std::time::Duration;

use clap::Args;
use serde::Serialize;

use super::arguments::{ConfigFile, Output};
use super::exit::Failure;
use super::{output, regions, settings};
use crate::daemon::Connector;
use crate::feed::Shard;
use crate::model::{AccountName, ClosedList, PartitionKey, Region, TableName};
use crate::runtime::Runtime;
use crate::stores::RegionStore;
use crate::topology::{Route, Tier};

/// What `route --output json` prints.
#[derive(Debug, Serialize)]
struct Report<'a> {
    schema: u32,
    region: &'a Region,
    table: &'a str,
    partition: &'a str,
    #[serde(flatten)]
    place: Told,
    /// The shard of `RelayFeed` in that account that has the row's announcements and tombstones.
    shard: String,
    /// The epoch of the routes in force; `None` where none are published yet, and the configuration is gone by.
    epoch: Option<u64>,
}

/// Where a row is.
#[derive(Debug, Serialize)]
struct Told {
    account: AccountName,
    /// The address of its tables.
    endpoint: Option<String>,
    /// The route that says so; `None` where it is the spread.
    route: Option<String>,
    tier: Option<&'static str>,
    /// Where it may be as well, while rows move.
    #[serde(skip_serializing_if = "Option::is_none")]
    other: Option<AccountName>,
    /// Where it is once it is old.
    #[serde(skip_serializing_if = "Option::is_none")]
    cold: Option<Cold>,
}

/// The cold place of a row.
#[derive(Debug, Serialize)]
struct Cold {
    account: AccountName,
    /// Its address; `None` where the configuration does not have it.
    endpoint: Option<String>,
    route: String,
    tier: Option<&'static str>,
    /// The property that holds its date.
    date: String,
    older_than_seconds: u64,
}

/// What can be typed.
#[derive(Debug, Args)]
pub(super) struct RouteCommand {
    #[command(flatten)]
    pub config: ConfigFile,
    /// The region that is asked about
    #[arg(long, value_name = "NAME", env = "TABLERELAY_REGION", hide_env_values = true, value_parser = Region::new)]
    pub region: Region,
    /// The row's table
    #[arg(long, value_name = "NAME", value_parser = TableName::new)]
    pub table: TableName,
    /// The row's PartitionKey; may be empty
    #[arg(long, value_name = "KEY", allow_hyphen_values = true)]
    pub partition: String,
    /// The form of the result
    #[arg(long, value_name = "FORM", default_value = "table")]
    pub output: Output,
}

pub(super) async fn route(command: &RouteCommand) -> Result<(), Failure> {
    let settings = settings::settings(&command.config.file)?;
    let (region, table) = (&command.region, &command.table);
    let own = settings::of_region(&settings, region)?;
    settings.tables.check(table).map_err(Failure::usage)?;
    let partition = PartitionKey::new(&*command.partition);
    partition.check().map_err(Failure::usage)?;
    let connector =
        Connector::new(&settings.http, Runtime::system()).map_err(Failure::usage)?.within(regions::PATIENCE);
    let store = connector.region(region, own, false).map_err(Failure::usage)?;
    let first = store.home().account();
    store
        .follow_routes()
        .await
        .map_err(|error| anyhow::anyhow!("the routes of region {region} cannot be read in account {first}: {error}"))?;
    let report = Report {
        schema: 1,
        region,
        table: table.as_str(),
        partition: partition.as_str(),
        place: place(&store, table, &partition),
        shard: Shard::of(table, &partition).to_string(),
        epoch: store.published().map(|published| published.epoch),
    };
    match command.output {
        Output::Json => output::print_json(&report)?,
        Output::Table => output::print(&render(&report))?,
    }
    Ok(())
}

fn place(store: &RegionStore, table: &TableName, partition: &PartitionKey) -> Told {
    let (tables, published) = (store.holding(table, partition), store.published());
    let rules = published.as_ref().map_or_else(|| store.configured(), |published| &published.rules);
    let route = rules.place(table, partition).route;
    let account = tables.account().clone();
    let cold = rules.cold_place(table, partition).and_then(|place| cold(store, place.account, place.route?));
    Told {
        endpoint: endpoint(store, &account),
        account,
        route: route.map(|route| route.name.clone()),
        tier: route.and_then(|route| route.tier).map(Tier::as_str),
        other: store.other_home(table, partition).map(|other| other.account().clone()),
        cold,
    }
}

fn cold(store: &RegionStore, account: &AccountName, route: &Route) -> Option<Cold> {
    let ageing = route.ageing.as_ref()?;
    Some(Cold {
        endpoint: endpoint(store, account),
        account: account.clone(),
        route: route.name.clone(),
        tier: route.tier.map(Tier::as_str),
        date: ageing.date.clone(),
        older_than_seconds: ageing.after.as_secs(),
    })
}

/// The address of an account: that of the configuration, or else the one that is published.
fn endpoint(store: &RegionStore, account: &AccountName) -> Option<String> {
    let own = store.account(account).and_then(|tables| tables.endpoint().map(str::to_owned));
    own.or_else(|| store.published()?.endpoints.get(account).cloned())
}

fn render(report: &Report<'_>) -> String {
    let Report { place: Told { account, endpoint, route, tier, other, cold }, shard, epoch, .. } = report;
    let by = match route {
        Some(route) => format!("route {route}"),
        None => "no route: the region's accounts share what none takes".to_owned(),
    };
    let cold = cold.as_ref().map_or_else(
        || "-".to_owned(),
        |Cold { account, route, tier, date, older_than_seconds, .. }| {
            let ago = output::age(Duration::from_secs(*older_than_seconds));
            let tier = tier.map_or_else(String::new, |tier| format!(", tier {tier}"));
            format!("{account} by route {route}{tier}, once {date} is {ago} ago")
        },
    );
    let epoch = epoch.map_or_else(|| "not published yet: by the configuration".to_owned(), |epoch| epoch.to_string());
    [
        ("account", account.as_str()),
        ("endpoint", endpoint.as_deref().unwrap_or("-")),
        ("by", &by),
        ("tier", tier.unwrap_or("-")),
        ("shard", shard),
        ("epoch", &epoch),
        ("other", other.as_ref().map_or("-", AccountName::as_str)),
        ("cold", &cold),
    ]
    .map(|(what, is)| format!("{what:<9} {is}"))
    .join("\n")
}
