//! Whether what stands where a row is going to be was announced there: then somebody wrote it there by other routes, and it is no copy
//! of what stands where the row is written.
//!
//! Such an announcement is an open record; or it lies in quarantine until the clock has passed it (R7), when its record is put back
//! where it was found. Until then nobody brings the row to where it belongs.

use super::over::none_where_no_table;
use crate::feed::{Entry, Reason, Shard, Source, decode_record, record_prefix};
use crate::model::{Change, ClosedList, Row, RowBody, RowId, RowKey, SystemTable, TableName, Version};
use crate::planted::{Bug, planted};
use crate::stores::{Page, Query, RegionStore, Scope, StoreError, Tables};

/// Where something is announced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Announced {
    Nowhere,
    InFeed,
    InQuarantine,
}

/// A put of a row, or its delete.
pub(super) struct Wanted<'w> {
    pub id: &'w RowId,
    /// Says which record announced it. A row without one may have been written under any.
    pub version: Option<&'w Version>,
    pub delete: bool,
}

impl Wanted<'_> {
    /// Where it is announced as found in this account of the region.
    ///
    /// The feed is asked before quarantine and after it: a record is put there before it goes from the feed, and back before it goes
    /// from there.
    pub async fn announced(&self, tables: &dyn Tables, region: &RegionStore) -> Result<Announced, StoreError> {
        if self.is_in_feed(tables).await? {
            return Ok(Announced::InFeed);
        }
        if !planted(Bug::QuarantinedTakenForCopy) && self.is_in_quarantine(tables, region.home().as_ref()).await? {
            return Ok(Announced::InQuarantine);
        }
        Ok(if self.is_in_feed(tables).await? { Announced::InFeed } else { Announced::Nowhere })
    }

    async fn is_in_feed(&self, tables: &dyn Tables) -> Result<bool, StoreError> {
        let shard = Shard::of(&self.id.table, &self.id.partition).partition();
        let key = |version: &Version, end: &str| RowKey::new(format!("{}{version}{end}", record_prefix()));
        let mut query = Some(match self.version {
            Some(version) => Query::rows(shard, key(version, ""), key(version, "~~")),
            None => Query::prefix(shard, record_prefix()),
        });
        while let Some(asked) = query.take() {
            let (page, next) = page(tables, &SystemTable::Feed.name(), asked).await?;
            if page.iter().any(|record| decode_record(record).is_ok_and(|record| self.is_of(&record.change))) {
                return Ok(true);
            }
            query = next;
        }
        Ok(false)
    }

    /// What lies there may be long, so it is read whole only where the rest fits.
    async fn is_in_quarantine(&self, tables: &dyn Tables, home: &dyn Tables) -> Result<bool, StoreError> {
        let names = ["Reason", "Source", "Account", "Table", "Partition", "Version"];
        let select = Some(names.map(str::to_owned).to_vec());
        let mut query = Some(Query { select, ..Query::new(Scope::Table) });
        let table = SystemTable::Quarantine.name();
        while let Some(asked) = query.take() {
            let (page, next) = page(home, &table, asked).await?;
            for found in page.iter().filter(|found| self.may_be_in(tables, &found.body)) {
                let whole = none_where_no_table(home.get(&table, found.body.partition(), found.body.row()).await)?;
                let change = whole.and_then(|whole| Entry::decode(&whole).ok()?.change());
                if change.is_some_and(|change| self.is_of(&change)) {
                    return Ok(true);
                }
            }
            query = next;
        }
        Ok(false)
    }

    /// Whether an entry is of a record from the future that was found in this account, in the partition of the row.
    fn may_be_in(&self, tables: &dyn Tables, entry: &RowBody) -> bool {
        let is = |name, text: &str| entry.string(name).is_some_and(|is| is == text);
        is("Reason", Reason::FutureVersion.as_str())
            && is("Source", Source::Record.as_str())
            && is("Account", tables.account().as_str())
            && entry.string("Table").is_some_and(|table| table.eq_ignore_ascii_case(self.id.table.as_str()))
            && is("Partition", self.id.partition.as_str())
            && self.version.is_none_or(|version| is("Version", version.as_str()))
    }

    fn is_of(&self, change: &Change) -> bool {
        self.version.is_none_or(|version| *version == change.version)
            && change.rows().any(|(id, delete)| delete == self.delete && id == *self.id)
    }
}

async fn page(tables: &dyn Tables, table: &TableName, query: Query) -> Result<(Vec<Row>, Option<Query>), StoreError> {
    let page: Page = none_where_no_table(tables.query(table, &query).await)?;
    let next = page.continuation.map(|next| Query { continuation: Some(next), ..query });
    Ok((page.rows, next))
}
