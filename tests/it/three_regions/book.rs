//! What has to be in every region at the end, as the writers saw it.

use std::collections::{BTreeMap, BTreeSet};

use tablerelay::model::{RowId, Version};

use super::values::Properties;

/// What a write made of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// The row says this.
    Row(Properties),
    /// The row was merged into: what it says hangs on what was there.
    Merged,
    /// The row is gone.
    Gone,
}

/// What the writers know.
#[derive(Debug, Default)]
pub struct Book {
    /// Rows that one region alone writes, one write after the other: the order of its store decides, whatever the
    /// clocks of its writers said.
    pub own: BTreeMap<RowId, Said>,
    /// Rows that several regions write, each with one writer: the highest version decides.
    pub contested: BTreeMap<RowId, BTreeMap<Version, Said>>,
    /// Rows whose end is not known, since a writer crashed or was not answered. All regions must agree on them.
    pub uncertain: BTreeSet<RowId>,
    /// What writers were answered unexpectedly.
    pub troubles: Vec<String>,
    /// Writes that were acknowledged.
    pub acknowledged: usize,
}

impl Book {
    /// A row of one region says this now.
    pub fn put(&mut self, id: RowId, row: Properties) {
        self.own.insert(id, Said::Row(row));
    }

    /// This was merged into a row of one region.
    pub fn merge(&mut self, id: RowId, more: Properties) {
        let mut row = self.row(&id).cloned().unwrap_or_default();
        row.extend(more);
        self.put(id, row);
    }

    /// A row of one region is gone.
    pub fn delete(&mut self, id: RowId) {
        self.own.insert(id, Said::Gone);
    }

    /// A write to a row of several regions.
    pub fn contest(&mut self, id: RowId, version: Version, said: Said) {
        self.contested.entry(id).or_default().insert(version, said);
    }

    /// What a row of one region says, where it is there.
    pub fn row(&self, id: &RowId) -> Option<&Properties> {
        match self.own.get(id) {
            Some(Said::Row(row)) => Some(row),
            _ => None,
        }
    }

    /// Takes in what another writer knows.
    pub fn absorb(&mut self, other: Self) {
        self.own.extend(other.own);
        for (id, writes) in other.contested {
            self.contested.entry(id).or_default().extend(writes);
        }
        self.uncertain.extend(other.uncertain);
        self.troubles.extend(other.troubles);
        self.acknowledged += other.acknowledged;
    }

    /// Every row that was written or announced.
    pub fn rows(&self) -> BTreeSet<&RowId> {
        self.own.keys().chain(self.contested.keys()).chain(&self.uncertain).collect()
    }

    /// What is wrong with a row that stands at `version` and says `found`, `None` where it is absent.
    pub fn wrong(&self, id: &RowId, found: Option<(&Version, Properties)>) -> Option<String> {
        if self.uncertain.contains(id) {
            return None;
        }
        if let Some(said) = self.own.get(id) {
            return differs(said, found.map(|(_, row)| row));
        }
        let Some((highest, said)) = self.contested.get(id).and_then(|writes| writes.last_key_value()) else {
            return Some("nobody wrote it".to_owned());
        };
        match found {
            Some((version, _)) if version != highest => Some(format!("it should stand at {highest}, not {version}")),
            found => differs(said, found.map(|(_, row)| row)),
        }
    }
}

fn differs(said: &Said, found: Option<Properties>) -> Option<String> {
    match (said, found) {
        (Said::Gone, None) | (Said::Merged, Some(_)) => None,
        (Said::Gone, Some(_)) => Some("it was deleted, and is there".to_owned()),
        (_, None) => Some(format!("it should be there: {said:?}")),
        (Said::Row(said), Some(found)) => {
            let names: BTreeSet<_> = said.keys().chain(found.keys()).collect();
            let other = names.into_iter().filter(|name| said.get(*name) != found.get(*name));
            let other: Vec<_> =
                other.map(|name| format!("{name} should be {:?}, not {:?}", said.get(name), found.get(name))).collect();
            (!other.is_empty()).then(|| other.join("; "))
        }
    }
}
