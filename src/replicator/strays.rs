//! Rows of the feed that no reader of a shard meets: in a partition that is no shard's, or under a key that is neither a
//! record's nor a tombstone's. Whoever wrote one believes that it has announced a change, so it goes to quarantine whole.
//!
//! One shard in each sweep, and what lies between it and the shard before: a handful of requests that find nothing.

use super::quarantine::Quarantine;
use super::removal::{removal, remove};
use crate::feed::{Malformed, Reason, Shard, decode_record, is_record_key, record_prefix, tombstones_prefix};
use crate::model::{PartitionKey, Row, RowKey, SystemTable};
use crate::planted::{Bug, planted};
use crate::stores::{Account, ErrorKind, Query, Scope, StoreError};

impl Quarantine {
    /// Puts strays into quarantine: those of one shard in every round, of all in sixteen.
    pub(super) async fn sweep_strays(&self, round: usize) -> Result<(), StoreError> {
        let Some(shard) = Shard::all().nth(round % Shard::COUNT).filter(|_| !planted(Bug::StraysUnread)) else {
            return Ok(());
        };
        for account in self.store.accounts() {
            for scope in scopes(shard) {
                self.sweep_scope(account, scope).await?;
            }
        }
        Ok(())
    }

    async fn sweep_scope(&self, account: &Account, scope: Scope) -> Result<(), StoreError> {
        let (tables, feed) = (account.tables.as_ref(), SystemTable::Feed.name());
        let mut query = Query::new(scope);
        loop {
            let page = match tables.query(&feed, &query).await {
                Err(error) if error.kind == ErrorKind::NoTable => return Ok(()),
                page => page?,
            };
            for row in page.rows.iter().filter(|row| is_stray(row)) {
                self.record(tables.account(), row, &why(row)).await?;
                remove(tables, &feed, row.body.partition(), &[removal(row)]).await?;
            }
            query.continuation = page.continuation;
            if query.continuation.is_none() {
                return Ok(());
            }
        }
    }
}

/// What nobody reads at a shard: the partitions before it (after it too, if it is the last), and the row keys before, between
/// and after those of records and tombstones.
fn scopes(shard: Shard) -> Vec<Scope> {
    let before = shard.index().checked_sub(1).and_then(|before| Shard::all().nth(before));
    let mut scopes = vec![Scope::Partitions { from: before.map(after), until: Some(shard.partition()) }];
    if shard.index() + 1 == Shard::COUNT {
        scopes.push(Scope::Partitions { from: Some(after(shard)), until: None });
    }
    let rows = |from: Option<String>, through: Option<&str>| Scope::Partition {
        partition: shard.partition(),
        from: from.map(RowKey::new),
        through: through.map(RowKey::from),
    };
    scopes.push(rows(None, Some(record_prefix())));
    scopes.push(rows(Some(behind(record_prefix())), Some(tombstones_prefix())));
    scopes.push(rows(Some(behind(tombstones_prefix())), None));
    scopes
}

/// The first partition behind a shard's: a space is the lowest character that Azure takes in a key.
fn after(shard: Shard) -> PartitionKey {
    PartitionKey::new(format!("{} ", shard.partition()))
}

/// The first key behind all that begin with `prefix`, which ends in a colon: the next character is a semicolon.
fn behind(prefix: &str) -> String {
    prefix.replace(':', ";")
}

fn is_stray(row: &Row) -> bool {
    let key = row.body.row();
    let read = is_record_key(key) || key.as_str().starts_with(tombstones_prefix());
    !read || Shard::from_partition(row.body.partition()).is_none()
}

/// What is wrong with it as a record, or else that nobody reads it where it stands.
fn why(row: &Row) -> Malformed {
    let (partition, key) = (row.body.partition(), row.body.row());
    if is_record_key(key)
        && let Err(why) = decode_record(row)
    {
        return why;
    }
    let detail = format!(
        "nobody reads a row of RelayFeed with PartitionKey {partition:?} and RowKey {key:?}: a record stands in a shard, `00` to \
         `0f`, under c: and its version"
    );
    Malformed::new(Reason::BadKey, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As a store compares keys: by their characters.
    fn holds(scope: &Scope, partition: &str, row: &str) -> bool {
        match scope {
            Scope::Table => true,
            Scope::Partitions { from, until } => {
                from.as_ref().is_none_or(|from| partition >= from.as_str())
                    && until.as_ref().is_none_or(|until| partition < until.as_str())
            }
            Scope::Partition { partition: of, from, through } => {
                partition == of.as_str()
                    && from.as_ref().is_none_or(|from| row >= from.as_str())
                    && through.as_ref().is_none_or(|through| row <= through.as_str())
            }
        }
    }

    #[test]
    fn whatever_no_reader_meets_is_met_by_one_sweep_in_sixteen() {
        let scopes: Vec<Scope> = Shard::all().flat_map(scopes).collect();
        let partitions = ["", "0", "00", "00 ", "000", "01", "0a", "0f", "0f0", "0g", "10", "99", "A", "z", "é"];
        for partition in partitions {
            for row in ["", "a", "c", "c:", "c:2026", "c;", "d", "s", "t", "t9", "t:", "t:00", "t;", "u", "zzz", "é"] {
                let read = Shard::all().any(|shard| shard.partition().as_str() == partition)
                    && (row.starts_with("c:") || row.starts_with("t:"));
                let met = scopes.iter().filter(|scope| holds(scope, partition, row)).count();
                // Two ranges end in a key that is read, for a range includes its last.
                let ends = row == "c:" || row == "t:";
                assert_eq!(met, usize::from(!read || ends), "{partition:?} {row:?}");
            }
        }
    }
}
