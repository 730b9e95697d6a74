//! What lies where rows are going to be, and is no copy of theirs.

use tokio_util::sync::CancellationToken;

use super::error::RebalanceError;
use super::pass::{Bringing, Kind, stretches};
use super::tables_of;
use crate::model::{AccountName, RowId};
use crate::ops::patient::in_turn;
use crate::replicator::{VERSION_ALONE, read_selected};

impl Bringing<'_> {
    /// Nothing lies where rows are going to be that the region does not have. It would come to life when the new routes come into force: a row
    /// that was left there long ago, maybe, and was deleted since.
    pub async fn no_strays(&self, stop: &CancellationToken) -> Result<(), RebalanceError> {
        let tables = tables_of(&self.places, self.tables).await.map_err(|error| self.failed(error))?;
        let (homes, mut sure) = (self.places.by(self.was), None);
        for account in self.places.accounts() {
            let own = account.tables.account();
            let (mut rows, mut first) = (0, None);
            for (table, query, kind) in stretches(&tables).into_iter().filter(|(.., kind)| *kind == Kind::Rows) {
                let mut query = Some(query);
                while let Some(asked) = query.take() {
                    self.may_go_on(stop, &mut sure).await?;
                    let page = self.page(&account.tables, (&table, asked, kind)).await;
                    let (found, next) = page.map_err(|error| self.failed(error))?;
                    query = next;
                    let ids: Vec<&RowId> =
                        found.iter().map(|found| &found.id).filter(|id| self.is_new_to(id, own)).collect();
                    if ids.is_empty() {
                        continue;
                    }
                    let known = in_turn(|| read_selected(&homes, &ids, Some(&VERSION_ALONE))).await;
                    let known = known.map_err(|error| self.failed(error))?;
                    let mut unknown = ids.into_iter().filter(|id| !known.contains_key(id)).peekable();
                    first = first.or_else(|| unknown.peek().map(|id| (*id).clone()));
                    rows += unknown.count() as u64;
                }
            }
            if let Some(first) = first {
                return Err(RebalanceError::Strays { account: own.clone(), rows, first });
            }
        }
        Ok(())
    }

    /// Whether the account is where a row is going to be, and never was where it is kept.
    fn is_new_to(&self, id: &RowId, account: &AccountName) -> bool {
        self.came_to(id, account) && self.was.places(&id.table, &id.partition).1 != Some(account)
    }
}
