//! Waiting until every link has passed a time: until then everything is delivered.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Drill;
use crate::model::{Region, Time};
use crate::ops::links::behind;

/// The wait between two readings: links are published every few seconds.
const LOOK_EVERY: Duration = Duration::from_millis(250);

impl Drill {
    /// Now, by the clock of each region.
    pub(super) fn now(&self) -> BTreeMap<Region, Time> {
        self.regions.iter().map(|store| (store.region().clone(), self.clock(store))).collect()
    }

    /// Waits until every link flows and has passed `since` of its source; `far` is told which do not.
    pub(super) async fn until_synced(&self, since: &BTreeMap<Region, Time>, mut far: impl FnMut(String) + Send) {
        loop {
            let behind = behind(&self.regions, None, since).await;
            let behind: Vec<String> = behind.into_iter().map(|(source, to)| format!("{source} to {to}")).collect();
            if behind.is_empty() {
                return;
            }
            far(behind.join(", "));
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}
