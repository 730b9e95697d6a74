//! What must hold at every moment, faults or not: checked as each effect is told.

use tablerelay::model::{Region, RowId};
use tablerelay::stores::memory::Effect;
use tablerelay::stores::{Condition, Operation};

use crate::chronicle::{Book, Event, Stood, Touch};
use crate::whereabouts::Passing;

impl Book {
    /// A daemon's write to a row of the application.
    pub fn check_row(
        &mut self,
        id: &RowId,
        region: &Region,
        (effect, before): (&Effect<'_>, Option<Stood>),
        event: &Event,
        passing: &Passing,
    ) {
        if event.by_writer() {
            return;
        }
        let conditional = match effect.operation {
            Operation::Insert(_) => true,
            Operation::Replace(_, condition) | Operation::Merge(_, condition) | Operation::Delete { condition, .. } => {
                matches!(condition, Condition::Matches(_))
            }
            _ => false,
        };
        if !conditional {
            self.violate(id, format!("{} wrote without a condition in {region}", event.line));
        }
        match &event.touch {
            Touch::Put(now) => {
                // A row is stamped with the version that everybody reads out of it anyhow.
                let stamped = before.as_ref() == Some(now) && matches!(effect.operation, Operation::Merge(..));
                if let Some(before) = &before
                    && before.version >= now.version
                    && *passing != Passing::Mirrored
                    && !stamped
                {
                    self.violate(
                        id,
                        format!("{} lowered {} to {} in {region}", event.line, before.version, now.version),
                    );
                }
                let known = self.contents.get(&(id.clone(), now.version.clone()));
                let lifted = before.as_ref().is_some_and(|before| before.content == now.content);
                if known.is_none_or(|known| !known.contains(&now.content)) && !lifted {
                    self.violate(
                        id,
                        format!("{} wrote what nobody wrote at {}: {}", event.line, now.version, now.content),
                    );
                }
                let limit = event.server + self.skew + std::time::Duration::from_secs(2);
                if now.version.as_str() > limit.to_string().as_str() && !lifted && !event.moved {
                    self.violate(id, format!("{} brought {} from the future to {region}", event.line, now.version));
                }
            }
            Touch::Deleted(_) if *passing == Passing::No => {
                let tomb = self.tombs_at.get(&(event.region, event.account, id.clone()));
                if let Some(before) = &before
                    && tomb.is_none_or(|tomb| *tomb <= before.version)
                {
                    let what =
                        format!("{} removed {} in {region} above the tombstone {tomb:?}", event.line, before.version);
                    self.violate(id, what);
                }
            }
            _ => {}
        }
    }

    /// A tombstone is never lowered, whoever writes it; unless it was collected before.
    pub fn check_tombstone(&mut self, id: &RowId, event: &Event) {
        let Touch::Tombstone(version) = &event.touch else { return };
        let before = self.tombs_at.get(&(event.region, event.account, id.clone())).cloned();
        let collected = self.collected.remove(&(event.region, id.clone()));
        if !collected && before.as_ref().is_some_and(|before| before > version) {
            self.violate(id, format!("{} lowered the tombstone {before:?} to {version}", event.line));
        }
    }
}
