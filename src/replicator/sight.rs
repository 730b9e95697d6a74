//! A sight: what stands of rows in a region as far as a comparison goes, and when it was stored.
//!
//! Versions are read alone where they are enough; a sight is nothing that could be delivered, which is what a
//! [look](super::look) is for.

use std::sync::Arc;

use super::rows::read_selected;
use super::tombstones::Tombstones;
use crate::model::{RowId, Time, Version};
use crate::resolve::{Content, Sight, Standing};
use crate::stores::{ErrorKind, RegionStore, StoreError};
use crate::topology::CopyRule;

/// The properties that tell the version of a row.
pub(crate) const VERSION_ALONE: [&str; 3] = ["PartitionKey", "RowKey", Version::PROPERTY];

/// Sees rows of a region.
#[derive(Debug)]
pub(crate) struct Sights {
    store: RegionStore,
    tombstones: Tombstones,
    content: bool,
    copy: Option<Arc<CopyRule>>,
}

impl Sights {
    /// `content` says whether rows are read whole; up to `scan` tombstones of a shard are read at once.
    pub(crate) fn new(store: RegionStore, scan: u16, content: bool) -> Self {
        let tombstones = Tombstones::new(store.clone(), scan);
        Self { store, tombstones, content, copy: None }
    }

    /// The same, where rows are seen as they are brought to a copy.
    pub(crate) fn narrowed_by(self, copy: Option<Arc<CopyRule>>) -> Self {
        Self { copy, ..self }
    }

    /// The region.
    pub(crate) fn store(&self) -> &RegionStore {
        &self.store
    }

    /// Sees rows: a sight for each in the order asked, and when what was seen was stored by the clock of that storage. The row is
    /// read first and the tombstone after it, as by every look.
    pub(crate) async fn of(&self, ids: &[&RowId]) -> Result<Vec<(Sight, Option<Time>)>, StoreError> {
        let select = (!self.content).then_some(VERSION_ALONE.as_slice());
        let rows = read_selected(&self.store, ids, select).await?;
        let absent: Vec<&RowId> = ids.iter().filter(|id| !rows.contains_key(id)).copied().collect();
        let deleted = match absent.is_empty() {
            true => Default::default(),
            false => match self.tombstones.of_rows(&absent).await {
                // No daemon has run there yet.
                Err(error) if error.kind == ErrorKind::NoTable => Default::default(),
                deleted => deleted?,
            },
        };
        let sight = |id: &&RowId| match (rows.get(*id), deleted.get(*id)) {
            (Some(row), _) => {
                let standing = Standing { row: Some(row.version(self.store.region())), tombstone: None };
                let content = self.content.then(|| match &self.copy {
                    Some(rule) => Content::of(&rule.project(&id.table, &row.body)),
                    None => Content::of(&row.body),
                });
                (Sight { standing, content }, Some(row.timestamp))
            }
            (None, Some(tomb)) => {
                let standing = Standing { row: None, tombstone: tomb.version.clone() };
                (Sight { standing, content: None }, Some(tomb.raised))
            }
            (None, None) => (Sight::default(), None),
        };
        Ok(ids.iter().map(sight).collect())
    }
}
