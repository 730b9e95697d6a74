//! The routes of a region as they stand in `RelayControl` of each of its accounts, for writers, for readers and for the daemons of all
//! regions: what counts is what stands there.
//!
//! The configuration says where rows should be, the published routes say where they are. A daemon that finds none publishes those of
//! its file; from then on they change by a rebalance alone, which moves the rows with them. Every change raises the epoch. The
//! copy in the region's first account is the one that is replaced first, on its ETag; the others follow it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Ageing, Partitions, Route, RoutedTables, Routes, Tier};
use crate::closed_list;
use crate::model::{AccountName, ClosedList, PartitionKey, Region, RowBody, RowKey, TableName};

/// What is published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishedRoutes {
    /// The region.
    pub region: Region,
    /// Rises with every change, from 1.
    pub epoch: u64,
    /// The region's first account when they were first published: it holds what belongs to the region as a whole.
    pub home: AccountName,
    /// How long whoever has read them may go by them before reading them again.
    pub hold: Duration,
    /// The address of each account's tables, where whoever published them knew it; without any secret.
    pub endpoints: BTreeMap<AccountName, String>,
    /// The rules in force.
    pub rules: Routes,
    /// While rows move: where else they may be.
    pub moving: Option<MovingRows>,
}

closed_list! {
    /// How far rows have moved to where other routes lead.
    pub enum MoveState {
        Filling = "filling", "rows are copied to where the other routes lead; those in force are the old ones", "none";
        Reading = "reading", "the new routes are in force; what is still written by the old ones is brought over", "none";
    }
}

/// Rows on their way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MovingRows {
    /// How far they are.
    pub state: MoveState,
    /// The rules that are not in force: while they fill, those to come, and then those that were.
    pub rules: Routes,
}

/// A row that does not read as published routes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the row current of the partition routes does not read as the routes of a region: {0}")]
pub struct RoutesRowError(String);

/// What this reads and writes.
const SCHEMA: u32 = 1;
const PROPERTY: &str = "Routes";

#[derive(Serialize, Deserialize)]
struct Document {
    schema: u32,
    region: String,
    epoch: u64,
    home: String,
    hold_seconds: u64,
    endpoints: BTreeMap<String, String>,
    #[serde(flatten)]
    rules: Rules,
    #[serde(skip_serializing_if = "Option::is_none")]
    moving: Option<Other>,
}

#[derive(Serialize, Deserialize)]
struct Other {
    state: String,
    #[serde(flatten)]
    rules: Rules,
}

#[derive(Serialize, Deserialize)]
struct Rules {
    routes: Vec<Rule>,
    spread: Vec<String>,
    /// Those that lead to cold places.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    aged: Vec<Rule>,
}

#[derive(Serialize, Deserialize)]
struct Rule {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    tables: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    partition: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    partition_prefix: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    partition_pattern: Option<String>,
    accounts: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tier: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    date: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    older_than_seconds: Option<u64>,
}

impl PublishedRoutes {
    /// The partition of `RelayControl`.
    pub const PARTITION: &'static str = "routes";
    /// The most UTF-16 units that the rules of a region may take as text: a row has room for two of them, since while rows move, there
    /// are two.
    pub const MOST_UNITS: usize = 12_000;

    /// The row key of what is in force.
    pub fn current() -> RowKey {
        RowKey::from("current")
    }

    /// The row.
    pub fn encode(&self) -> RowBody {
        let document = Document {
            schema: SCHEMA,
            region: self.region.as_str().to_owned(),
            epoch: self.epoch,
            home: self.home.as_str().to_owned(),
            hold_seconds: self.hold.as_secs(),
            endpoints: self.endpoints.iter().map(|(name, url)| (name.as_str().to_owned(), url.clone())).collect(),
            rules: Rules::of(&self.rules),
            moving: self.moving.as_ref().map(|MovingRows { state, rules }| {
                let state = state.as_str().to_owned();
                Other { state, rules: Rules::of(rules) }
            }),
        };
        let text = serde_json::to_string(&document).unwrap_or_default();
        RowBody::builder(&PartitionKey::from(Self::PARTITION), &Self::current()).string(PROPERTY, &text).finish()
    }

    /// Reads it back.
    ///
    /// # Errors
    /// [`RoutesRowError`] where a newer version wrote it, or somebody else.
    pub fn decode(body: &RowBody) -> Result<Self, RoutesRowError> {
        let text = body.string(PROPERTY).ok_or_else(|| RoutesRowError(format!("there is no {PROPERTY}")))?;
        let document: Document = serde_json::from_str(&text).map_err(why)?;
        if document.schema != SCHEMA {
            return Err(RoutesRowError(format!("its schema is {}, and this program knows {SCHEMA}", document.schema)));
        }
        let endpoints = document.endpoints.iter().map(|(name, url)| Ok((account(name)?, url.clone())));
        Ok(Self {
            region: Region::new(&document.region).map_err(why)?,
            epoch: document.epoch,
            home: account(&document.home)?,
            hold: Duration::from_secs(document.hold_seconds),
            endpoints: endpoints.collect::<Result<_, RoutesRowError>>()?,
            rules: document.rules.read()?,
            moving: document.moving.map(Other::read).transpose()?,
        })
    }

    /// How many UTF-16 units rules take as text.
    pub fn units(rules: &Routes) -> usize {
        serde_json::to_string(&Rules::of(rules)).unwrap_or_default().encode_utf16().count()
    }
}

impl Other {
    fn read(self) -> Result<MovingRows, RoutesRowError> {
        let state =
            MoveState::parse(&self.state).ok_or_else(|| RoutesRowError(format!("there is no state {}", self.state)))?;
        Ok(MovingRows { state, rules: self.rules.read()? })
    }
}

impl Rules {
    fn of(rules: &Routes) -> Self {
        let all = |routes: &[Route]| routes.iter().map(Rule::of).collect();
        Self { routes: all(rules.routes()), spread: names(rules.spread()), aged: all(rules.aged()) }
    }

    fn read(self) -> Result<Routes, RoutesRowError> {
        let spread = self.spread.iter().map(|name| account(name)).collect::<Result<Vec<_>, _>>()?;
        let routes = self.routes.into_iter().map(|rule| rule.read(false));
        let aged = self.aged.into_iter().map(|rule| rule.read(true));
        let routes = routes.chain(aged).collect::<Result<_, _>>()?;
        Routes::new(routes, spread).map_err(why)
    }
}

impl Rule {
    fn of(route: &Route) -> Self {
        let tables = match &route.tables {
            RoutedTables::Every => None,
            RoutedTables::Named(tables) => Some(tables.iter().map(|table| table.as_str().to_owned()).collect()),
        };
        let mut rule = Self {
            name: route.name.clone(),
            tables,
            partition: None,
            partition_prefix: None,
            partition_pattern: None,
            accounts: names(&route.accounts),
            tier: route.tier.map(|tier| tier.as_str().to_owned()),
            date: route.ageing.as_ref().map(|ageing| ageing.date.clone()),
            older_than_seconds: route.ageing.as_ref().map(|ageing| ageing.after.as_secs()),
        };
        match &route.partitions {
            Partitions::Every => {}
            Partitions::Exactly(of) => rule.partition = Some(of.clone()),
            Partitions::Prefix(of) => rule.partition_prefix = Some(of.clone()),
            Partitions::Pattern(of) => rule.partition_pattern = Some(of.clone()),
        }
        rule
    }

    fn read(self, aged: bool) -> Result<Route, RoutesRowError> {
        let ageing = match (self.date, self.older_than_seconds) {
            (None, None) if !aged => None,
            (Some(date), Some(after)) if aged => Some(Ageing { date, after: Duration::from_secs(after) }),
            _ => {
                let why = "date and older_than_seconds belong to routes under aged, and both of them";
                return Err(RoutesRowError(format!("route {}: {why}", self.name)));
            }
        };
        let tables = match self.tables {
            None => RoutedTables::Every,
            Some(names) => {
                let tables = names.iter().map(|name| TableName::new(name).map_err(why));
                RoutedTables::Named(tables.collect::<Result<BTreeSet<_>, _>>()?)
            }
        };
        let partitions = match (self.partition, self.partition_prefix, self.partition_pattern) {
            (None, None, None) => Partitions::Every,
            (Some(of), None, None) => Partitions::Exactly(of),
            (None, Some(of), None) => Partitions::Prefix(of),
            (None, None, Some(of)) => Partitions::Pattern(of),
            _ => return Err(RoutesRowError(format!("route {} says more than one thing of partitions", self.name))),
        };
        let tier = |word: String| Tier::parse(&word).ok_or_else(|| RoutesRowError(format!("there is no tier {word}")));
        Ok(Route {
            name: self.name,
            tables,
            partitions,
            accounts: self.accounts.iter().map(|name| account(name)).collect::<Result<_, _>>()?,
            tier: self.tier.map(tier).transpose()?,
            ageing,
        })
    }
}

fn names(accounts: &[AccountName]) -> Vec<String> {
    accounts.iter().map(|account| account.as_str().to_owned()).collect()
}

fn account(name: &str) -> Result<AccountName, RoutesRowError> {
    AccountName::new(name).map_err(why)
}

fn why(error: impl std::fmt::Display) -> RoutesRowError {
    RoutesRowError(error.to_string())
}
