//! Rows of a copy brought back into a region, as writes of that region.
//!
//! Nothing is taken over from a copy by itself, so somebody has to ask for it. Then each row that differs is written in the region by
//! the protocol of writers: with a new version, above what stands there and above the copy's, announced, and conditional on what was
//! looked at. So every region gets it, and what somebody writes meanwhile stands. A row that is equal is left alone, which makes it
//! safe to run it again.

use std::collections::BTreeMap;

use futures::stream::{self, StreamExt};
use serde::Serialize;
use serde_json::{Map, Value};
use tokio::time::Instant;

use super::patient::patiently;
use super::stand::stand;
use super::verify::{Key, Read, RegionRows, Span};
use crate::closed_list;
use crate::model::{PartitionKey, Region, Row, RowBody, RowId, RowKey, TableName, Version};
use crate::replicator::{CopySetup, read_roles};
use crate::resolve::Content;
use crate::runtime::Runtime;
use crate::stores::{Condition, ErrorKind, RegionStore, Remedy, StoreError};
use crate::topology::{FileRoles, Presence};
use crate::writer::{WriteError, Writer, WriterOptions, Written, read_routed};

/// Rows that are under way at a time: four requests each.
const AT_ONCE: usize = 16;
/// Bytes of a page of the copy.
const PAGE_BYTES: usize = 1_024 * 1_024;
/// Most rows that are named in the result.
const NAMED: usize = 2_000;

closed_list! {
    /// What became of a row of the copy.
    pub enum Restoring {
        Inserted = "inserted", "the region did not have it, and has it now as the copy does", "none";
        Undeleted = "undeleted", "it was deleted in the region, and stands there again, above its tombstone", "none";
        Replaced = "replaced", "it was different in the region, and is now as in the copy", "none";
        Merged = "merged",
            "it was different in the region; what the copy has of it was written into it, and its other properties were left",
            "none";
        Equal = "equal", "it says the same in the region: nothing was written", "none";
        Newer = "newer",
            "the region has a newer version: it was left",
            "where the copy's is wanted all the same: `tablerelay restore --over-newer`";
        LeftOut = "left-out",
            "the copy's filter no longer takes it, so that nobody keeps it fresh: it was left",
            "none; take it into the filter, where it is wanted";
        Overtaken = "overtaken", "somebody wrote it meanwhile: it was left", "run it again, and it is looked at anew";
        Failed = "failed", "it could not be written", "see the reason that is named with it, then run it again";
    }
}

/// A row that was restored, or could not be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RestoredRow {
    /// Its partition.
    pub partition: String,
    /// Its key.
    pub row: String,
    /// What became of it; in a dry run, what would.
    pub outcome: Restoring,
    /// What the region had: the version of the row, or of the tombstone in its place.
    pub had: Option<String>,
    /// The version that the copy has.
    pub copy: String,
    /// The version that the region gave it.
    pub version: Option<String>,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// What a restore did.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Restored {
    /// The version of this form.
    pub schema: u32,
    /// The copy.
    pub from: Region,
    /// The region.
    pub to: Region,
    /// The table.
    pub table: String,
    /// Whether nothing was written.
    pub dry_run: bool,
    /// Rows of the copy that were gone through.
    pub rows: u64,
    /// By what became of them.
    pub outcomes: BTreeMap<Restoring, u64>,
    /// Those that are not equal, as many as are named.
    pub named: Vec<RestoredRow>,
    /// How many more there are.
    pub left_out: u64,
    /// How long it took.
    pub seconds: f64,
}

impl Restored {
    /// How many rows came to this.
    pub fn of(&self, outcome: Restoring) -> u64 {
        self.outcomes.get(&outcome).copied().unwrap_or_default()
    }

    /// How many rows were written, or would be.
    pub fn written(&self) -> u64 {
        let written = [Restoring::Inserted, Restoring::Undeleted, Restoring::Replaced, Restoring::Merged];
        written.into_iter().map(|outcome| self.of(outcome)).sum()
    }

    /// How many rows could not be dealt with: another run may.
    pub fn undone(&self) -> u64 {
        self.of(Restoring::Overtaken) + self.of(Restoring::Failed)
    }
}

/// A restore that was refused or that failed. What was written by then stands, and another run goes on with the rest.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The copy is not in the configuration.
    #[error("there is no copy {name}; the configuration has {known}")]
    NoCopy {
        /// What was asked for.
        name: Region,
        /// Those that there are.
        known: String,
    },
    /// The region is not in the configuration.
    #[error("there is no region {region}; the configuration has {known}")]
    NoRegion {
        /// What was asked for.
        region: Region,
        /// Those that there are.
        known: String,
    },
    /// The copy has nothing of this table.
    #[error("the filter of the copy {copy} takes nothing of the table {table}")]
    NoTable {
        /// The copy.
        copy: Region,
        /// The table.
        table: TableName,
    },
    /// What is written there would be late.
    #[error("{region} is no writer now ({writers}): what is written there may be overruled; restore to a writer")]
    NoWriter {
        /// The region.
        region: Region,
        /// Who is.
        writers: String,
    },
    /// Who writes is not known.
    #[error("the roles cannot be read in {region}: {error}; nothing was written")]
    Roles {
        /// Where.
        region: Region,
        /// Why not.
        error: Box<StoreError>,
    },
    /// The copy cannot be read.
    #[error(
        "{table} of {copy} cannot be read: {error}; what was restored stands, and another run goes on with the rest"
    )]
    Read {
        /// The copy.
        copy: Region,
        /// The table.
        table: TableName,
        /// Why not.
        error: Box<StoreError>,
    },
}

impl RestoreError {
    /// Whether what was typed is at fault.
    pub fn is_usage(&self) -> bool {
        matches!(self, Self::NoCopy { .. } | Self::NoRegion { .. } | Self::NoTable { .. })
    }
}

/// What it takes to restore rows of a copy.
#[derive(Debug, Clone)]
pub struct Restore {
    /// Every region.
    pub regions: Vec<RegionStore>,
    /// Every copy.
    pub copies: Vec<CopySetup>,
    /// The copy that rows are brought back from.
    pub from: Region,
    /// The region that writes them.
    pub to: Region,
    /// The table.
    pub table: TableName,
    /// One partition of it alone.
    pub partition: Option<PartitionKey>,
    /// One row of that alone.
    pub row: Option<RowKey>,
    /// Whether a row is written over that is newer in the region.
    pub over_newer: bool,
    /// Whether nothing is written.
    pub dry_run: bool,
    /// The roles that the configuration gives.
    pub roles: FileRoles,
    /// How rows are written.
    pub options: WriterOptions,
    /// Clock and randomness.
    pub runtime: Runtime,
}

/// Takes in how far it is.
pub type TellRestored<'a> = dyn FnMut(&Restored) + Send + 'a;

/// A restore under way.
struct Work<'a> {
    restore: &'a Restore,
    copy: &'a CopySetup,
    region: &'a RegionStore,
    writer: Writer,
}

/// What became of a row, the version that it was given, and why it failed.
type Done = (Restoring, Option<Version>, Option<String>);

impl Restore {
    /// Goes through the rows of the copy, and tells how far it is.
    ///
    /// # Errors
    /// [`RestoreError`]
    pub async fn run(&self, tell: &mut TellRestored<'_>) -> Result<Restored, RestoreError> {
        let work = self.prepared()?;
        self.check_role().await?;
        let began = self.runtime.instant();
        let span = match (&self.partition, &self.row) {
            (Some(partition), Some(row)) => Span::Row((partition.clone(), row.clone())),
            (Some(partition), None) => Span::Partition(partition.clone()),
            (None, _) => Span::Table,
        };
        let mut rows = RegionRows::new(&work.copy.store, &self.table, &span, Read::Whole { bytes: PAGE_BYTES });
        let mut restored = self.nothing_yet();
        loop {
            let mut together = Vec::new();
            while together.len() < AT_ONCE * 8 {
                let row = rows.next().await.map_err(|error| RestoreError::Read {
                    copy: self.from.clone(),
                    table: self.table.clone(),
                    error: Box::new(error),
                })?;
                let Some(row) = row else { break };
                together.push(row);
            }
            if together.is_empty() {
                return Ok(restored);
            }
            // In the order of keys, whichever of them ends first.
            let mut done = stream::iter(&together).map(|row| work.one(row)).buffered(AT_ONCE);
            while let Some(row) = done.next().await {
                restored.rows += 1;
                *restored.outcomes.entry(row.outcome).or_default() += 1;
                match row.outcome {
                    Restoring::Equal => {}
                    _ if restored.named.len() >= NAMED => restored.left_out += 1,
                    _ => restored.named.push(row),
                }
            }
            restored.seconds = began.elapsed().as_secs_f64();
            tell(&restored);
        }
    }

    fn nothing_yet(&self) -> Restored {
        Restored {
            schema: 1,
            from: self.from.clone(),
            to: self.to.clone(),
            table: self.table.as_str().to_owned(),
            dry_run: self.dry_run,
            rows: 0,
            outcomes: BTreeMap::new(),
            named: Vec::new(),
            left_out: 0,
            seconds: 0.0,
        }
    }

    fn prepared(&self) -> Result<Work<'_>, RestoreError> {
        let names = |stores: Vec<&RegionStore>| match stores.is_empty() {
            true => "none".to_owned(),
            false => stores.iter().map(|store| store.region().as_str()).collect::<Vec<_>>().join(", "),
        };
        let copy = self.copies.iter().find(|copy| *copy.store.region() == self.from).ok_or_else(|| {
            let known = names(self.copies.iter().map(|copy| &copy.store).collect());
            RestoreError::NoCopy { name: self.from.clone(), known }
        })?;
        let region = self.regions.iter().find(|store| *store.region() == self.to).ok_or_else(|| {
            RestoreError::NoRegion { region: self.to.clone(), known: names(self.regions.iter().collect()) }
        })?;
        if !copy.rule.tables.matches(&self.table) {
            return Err(RestoreError::NoTable { copy: self.from.clone(), table: self.table.clone() });
        }
        let writer = Writer::new(region.clone(), self.options, self.runtime.clone());
        Ok(Work { restore: self, copy, region, writer })
    }

    /// Whether the region is a writer, by every copy of the roles that can be read; its own has to be.
    async fn check_role(&self) -> Result<(), RestoreError> {
        let mut presence = Presence::new(self.to.clone(), self.roles.clone());
        for store in &self.regions {
            let (began, read) = (Instant::now(), patiently(|| read_roles(store)).await);
            match read {
                Ok(copy) => drop(presence.read(store.region(), began, copy.found)),
                Err(error) if *store.region() == self.to => {
                    return Err(RestoreError::Roles { region: self.to.clone(), error: Box::new(error) });
                }
                Err(error) => tracing::debug!(region = %store.region(), %error, "its roles cannot be read"),
            }
        }
        let writers = presence.assignment().writers(presence.file());
        if writers.contains(&self.to) && presence.moving().is_none_or(|_| writers.len() > 1) {
            return Ok(());
        }
        let writers = match presence.moving() {
            Some(_) => "a planned failover is under way".to_owned(),
            None => writers.iter().map(Region::as_str).collect::<Vec<_>>().join(", "),
        };
        Err(RestoreError::NoWriter { region: self.to.clone(), writers })
    }
}

impl Work<'_> {
    async fn one(&self, row: &Row) -> RestoredRow {
        let key: Key = (row.body.partition().clone(), row.body.row().clone());
        let version = row.version(self.copy.store.region());
        let (mut had, id) = (None, RowId::new(self.restore.table.clone(), key.0.clone(), key.1.clone()));
        let (outcome, given, why) = match self.copy.rule.takes(&id.table, &id.partition) {
            true => self
                .bring_back(&id, row, &version, &mut had)
                .await
                .unwrap_or_else(|error| (Restoring::Failed, None, Some(error.to_string()))),
            false => (Restoring::LeftOut, None, None),
        };
        RestoredRow {
            partition: key.0.as_str().to_owned(),
            row: key.1.as_str().to_owned(),
            outcome,
            had: had.map(|had| had.as_str().to_owned()),
            copy: version.as_str().to_owned(),
            version: given.map(|given| given.as_str().to_owned()),
            why,
        }
    }

    async fn bring_back(
        &self,
        id: &RowId,
        row: &Row,
        version: &Version,
        had: &mut Option<Version>,
    ) -> Result<Done, StoreError> {
        let table = &id.table;
        // What is cold is written over at home, by the ETag that it has there.
        if !self.restore.dry_run {
            for tiering in self.region.tierings(table, &id.partition) {
                patiently(|| tiering.promote(id)).await?;
            }
        }
        let Some(there) = patiently(|| read_routed(self.region, id)).await? else {
            *had = patiently(|| stand(self.region, id)).await?.map(|stand| stand.version);
            let outcome = if had.is_some() { Restoring::Undeleted } else { Restoring::Inserted };
            let write = async || self.writer.insert(table, &row.body, had.as_ref()).await;
            return self.write(id, outcome, write).await;
        };
        let theirs = there.version(self.region.region());
        *had = Some(theirs.clone());
        if says(&there.body, &row.body, self.copy.rule.is_whole(table)) {
            return Ok((Restoring::Equal, None, None));
        }
        if theirs > *version && !self.restore.over_newer {
            return Ok((Restoring::Newer, None, None));
        }
        let condition = || Condition::Matches(there.etag.clone());
        match self.copy.rule.is_whole(table) {
            true => {
                let write = async || self.writer.replace(table, &row.body, condition(), Some(&theirs)).await;
                self.write(id, Restoring::Replaced, write).await
            }
            false => {
                let write = async || self.writer.merge(table, &row.body, condition(), Some(&theirs)).await;
                self.write(id, Restoring::Merged, write).await
            }
        }
    }

    async fn write(
        &self,
        id: &RowId,
        outcome: Restoring,
        write: impl AsyncFn() -> Result<Written, WriteError>,
    ) -> Result<Done, StoreError> {
        if self.restore.dry_run {
            return Ok((outcome, None, None));
        }
        let mut written = write().await;
        if let Err(WriteError::Refused(failed)) = &written
            && failed.error.kind == ErrorKind::NoTable
        {
            self.region.holding(&id.table, &id.partition).create_table(&id.table).await?;
            written = write().await;
        }
        Ok(match written {
            Ok(written) => (outcome, Some(written.version), None),
            Err(WriteError::Refused(failed)) if failed.error.remedy() == Remedy::StartOver => {
                (Restoring::Overtaken, None, None)
            }
            Err(error) => (Restoring::Failed, None, Some(error.to_string())),
        })
    }
}

/// Whether a row of the region says what that of the copy does: all of it, or as far as the copy's goes.
fn says(region: &RowBody, copy: &RowBody, whole: bool) -> bool {
    if whole {
        return Content::of(region) == Content::of(copy);
    }
    let properties: Map<String, Value> = serde_json::from_str(copy.json()).unwrap_or_default();
    Content::of(&region.with_properties(|name| properties.contains_key(name))) == Content::of(copy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_projected_row_is_equal_as_far_as_it_goes() {
        let body = |text: &str| RowBody::parse(&format!(r#"{{"PartitionKey":"p","RowKey":"r",{text}}}"#)).unwrap();
        let (region, copy) = (body(r#""A":1,"B":2,"RelayVersion":"x""#), body(r#""A":1,"RelayVersion":"y""#));
        assert!(says(&region, &copy, false) && !says(&region, &copy, true));
        assert!(!says(&region, &body(r#""A":2"#), false) && !says(&region, &body(r#""C":1"#), false));
        assert!(says(&region, &body(r#""B":2,"A":1"#), true));
    }

    #[test]
    fn what_becomes_of_a_row_is_a_closed_list() {
        crate::model::assert_well_formed::<Restoring>();
    }
}
