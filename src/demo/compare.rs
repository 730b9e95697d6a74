//! The comparison at the end: all regions row by row, every cache against its region, every writer's rows against what
//! it was told.
//!
//! It reads the stores themselves, past the line and everything that the line believes.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::Serialize;

use super::agent::{Promise, Promises};
use super::rows::step_of;
use super::world::{Place, World};
use crate::cache::{Finding, markers, refresh_for};
use crate::closed_list;
use crate::model::{ClosedList, RowBody, RowId, TableName};

closed_list! {
    /// What can be wrong with a row at the end of the demo.
    pub enum DifferenceKind {
        Regions = "regions",
            "the row is not the same in every region",
            "report it, with the seed";
        Cache = "cache",
            "a region's cache does not hold what its table holds",
            "report it, with the seed";
        Lost = "lost",
            "a writer was told that its write took effect, and the row is not as it left it",
            "report it, with the seed";
    }
}

/// A row that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// What is wrong.
    pub kind: DifferenceKind,
    /// The row, or the cache key that belongs to none.
    pub row: String,
    /// Who has what of it.
    pub found: Vec<Found>,
}

/// What somebody has of a row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Found {
    /// Who: a region, its cache, or a writer.
    pub by: String,
    /// The version, or what stands there instead of one.
    pub has: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n  {}", self.row, self.kind.meaning())?;
        self.found.iter().try_for_each(|found| write!(f, "\n    {:<12} {}", found.by, found.has))
    }
}

/// What was compared, and what differs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Comparison {
    /// Distinct rows that were compared over all regions.
    pub rows: usize,
    /// Cache entries that were compared with rows, over all regions.
    pub cached: usize,
    /// Rows that one writer alone wrote, compared with what it was told.
    pub owed: usize,
    pub differences: Vec<Difference>,
}

type Rows = BTreeMap<RowId, RowBody>;

/// Compares everything.
pub(super) fn compare(world: &World, promises: &Promises) -> Comparison {
    let regions: Vec<Rows> = world.places.iter().map(|place| rows(world, place)).collect();
    let ids: BTreeSet<&RowId> = regions.iter().flat_map(BTreeMap::keys).collect();
    let mut comparison = Comparison { rows: ids.len(), owed: promises.len(), ..Comparison::default() };
    comparison.differences.extend(ids.into_iter().filter_map(|id| between_regions(world, &regions, id)));
    for (place, rows) in world.places.iter().zip(&regions) {
        comparison.cached += rows.len();
        comparison.differences.extend(in_cache(world, place, rows));
    }
    let lost = promises.iter().filter_map(|(id, promise)| lost(world, &regions, id, *promise));
    comparison.differences.extend(lost);
    comparison
}

/// How many rows of a region's cache are not as in its table, yet.
pub(super) fn cache_behind(world: &World, place: &Place) -> usize {
    in_cache(world, place, &rows(world, place)).len()
}

fn rows(world: &World, place: &Place) -> Rows {
    let of_table = |table: &TableName| {
        let table = table.clone();
        let rows = place.tables.snapshot(&table).into_iter();
        rows.map(move |row| {
            let id = RowId::new(table.clone(), row.body.partition().clone(), row.body.row().clone());
            (id, row.body)
        })
    };
    world.tables.all().into_iter().flat_map(of_table).collect()
}

fn between_regions(world: &World, regions: &[Rows], id: &RowId) -> Option<Difference> {
    let bodies: Vec<Option<&RowBody>> = regions.iter().map(|rows| rows.get(id)).collect();
    if bodies.windows(2).all(|pair| pair[0] == pair[1]) {
        return None;
    }
    let first = bodies.first().copied().flatten();
    let found = world.places.iter().zip(&bodies).map(|(place, body)| {
        let has = match body {
            None => "absent".to_owned(),
            Some(body) if first.is_some_and(|first| version(first) == version(body) && first != *body) => {
                format!("{}, other properties", version(body))
            }
            Some(body) => version(body),
        };
        Found { by: place.region.to_string(), has }
    });
    Some(Difference { kind: DifferenceKind::Regions, row: id.to_string(), found: found.collect() })
}

fn version(body: &RowBody) -> String {
    body.version().map_or_else(|| "no version".to_owned(), ToString::to_string)
}

/// Rows that the cache lacks or holds in another version, and entries that the table has no row for.
fn in_cache(world: &World, place: &Place, rows: &Rows) -> Vec<Difference> {
    let mut cache = place.cache.snapshot();
    markers(&world.keys, &place.region).iter().for_each(|marker| drop(cache.remove(marker)));
    let mut differences = Vec::new();
    for (id, body) in rows {
        let key = world.keys.key(id);
        let held = cache.remove(&key);
        let wanted = body.version().map(|version| refresh_for(&world.keys, id, Finding::Row(body, version)));
        let entry = held.as_ref().and_then(|held| held.entry.as_deref());
        if wanted.is_none_or(|wanted| wanted.entry.as_deref() != entry) {
            let held = held.as_ref().map(|held| match held.entry {
                Some(_) => held.version.clone(),
                None => format!("{}, deleted", held.version),
            });
            differences.push(cache_difference(place, id.to_string(), version(body), held));
        }
    }
    // What is left belongs to no row: the marks of deleted ones, and nothing else.
    for (key, held) in cache.into_iter().filter(|(_, held)| held.entry.is_some()) {
        differences.push(cache_difference(place, key, "absent".to_owned(), Some(held.version)));
    }
    differences
}

fn cache_difference(place: &Place, row: String, table: String, cache: Option<String>) -> Difference {
    let cache = cache.unwrap_or_else(|| "absent".to_owned());
    let found = vec![
        Found { by: place.region.to_string(), has: table },
        Found { by: format!("{} cache", place.region), has: cache },
    ];
    Difference { kind: DifferenceKind::Cache, row, found }
}

/// Looked for in the first region: whether the others have the same is found out above.
fn lost(world: &World, regions: &[Rows], id: &RowId, promise: Promise) -> Option<Difference> {
    let stands = regions.first().and_then(|rows| rows.get(id)).map(step_of);
    let kept = match promise {
        Promise::Stands(step) => stands == Some(Some(step)),
        Promise::Gone => stands.is_none(),
    };
    let told = match promise {
        Promise::Stands(step) => format!("step {step}"),
        Promise::Gone => "deleted, or never written".to_owned(),
    };
    let has = match stands {
        Some(Some(step)) => format!("step {step}"),
        Some(None) => "no step".to_owned(),
        None => "absent".to_owned(),
    };
    let by = world.places.first().map(|place| place.region.to_string()).unwrap_or_default();
    let found = vec![Found { by: "its writer".to_owned(), has: told }, Found { by, has }];
    (!kept).then(|| Difference { kind: DifferenceKind::Lost, row: id.to_string(), found })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_of_differences_are_a_closed_list() {
        crate::model::assert_well_formed::<DifferenceKind>();
    }
}
