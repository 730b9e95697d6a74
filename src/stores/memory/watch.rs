//! Watching what writes do to an account, as no client can: for simulations and their oracles.

use std::fmt;
use std::sync::Arc;

use crate::model::{Row, TableName, Time};
use crate::stores::{Operation, StoreError};

/// What one operation of a write did to its row.
#[derive(Debug, Clone, Copy)]
pub struct Effect<'a> {
    /// The name of the line that it came by; empty where the line has none.
    pub line: &'a str,
    /// When, by the server's clock.
    pub at: Time,
    /// The table.
    pub table: &'a TableName,
    /// The operation.
    pub operation: &'a Operation,
    /// Its place in its transaction, from 0.
    pub index: usize,
    /// The row as it was.
    pub before: Option<&'a Row>,
    /// The row as it is, or why it stayed as it was. Of a transaction that is refused, only the operation at fault is
    /// told.
    pub after: Result<Option<&'a Row>, &'a StoreError>,
}

/// Who is told. It is asked under the account's lock, so it must not wait, nor use the account.
#[derive(Clone, Default)]
pub(super) struct Watcher(Option<Watch>);

type Watch = Arc<dyn Fn(&Effect<'_>) + Send + Sync>;

impl Watcher {
    pub fn new(watch: impl Fn(&Effect<'_>) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(watch)))
    }

    pub fn tell(&self, effect: &Effect<'_>) {
        if let Some(watch) = &self.0 {
            watch(effect);
        }
    }
}

impl fmt::Debug for Watcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "watched" } else { "unwatched" })
    }
}
