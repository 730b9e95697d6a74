//! A region that a drill cuts off: until when, and between whom nothing passes.

use std::collections::BTreeMap;

use serde::Serialize;

use super::assignment::{id, is_id};
use crate::model::{Region, Time};

/// A region that is cut off from all others for a drill. It stands beside the roles in every region's copy, and each daemon goes
/// by what stands in its own region's. It ends by itself, so that a command that was killed leaves nothing behind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Cut {
    /// Drawn by the command that made it, 16 hex digits: the same in all copies.
    pub id: String,
    /// The region that is cut off.
    pub region: Region,
    /// Until when, by the storage clock of the region whose row this stands in.
    pub deadline: Time,
    /// Who made it.
    pub by: String,
}

impl Cut {
    /// One that begins now; `random` is drawn for it.
    pub fn new(region: Region, deadline: Time, by: String, random: u64) -> Self {
        Self { id: id(random), region, deadline, by }
    }

    /// Whether its time is over. The storage clock is a lower bound, so that it never is too soon.
    pub fn has_expired(&self, storage_now: Option<Time>) -> bool {
        storage_now.is_some_and(|now| now >= self.deadline)
    }

    /// Whether nothing passes between these two.
    pub fn severs(&self, one: &Region, other: &Region) -> bool {
        one != other && (*one == self.region || *other == self.region)
    }

    /// As text.
    pub(super) fn encode(&self) -> String {
        let Self { id, region, deadline, by } = self;
        serde_json::json!({ "id": id, "region": region.as_str(), "deadline": deadline.to_string(), "by": by })
            .to_string()
    }

    /// Reads it back.
    pub(super) fn decode(text: &str) -> Option<Self> {
        let mut fields: BTreeMap<String, String> = serde_json::from_str(text).ok()?;
        Some(Self {
            id: fields.remove("id").filter(|id| is_id(id))?,
            region: Region::new(&fields.remove("region")?).ok()?,
            deadline: Time::parse(&fields.remove("deadline")?).ok()?,
            by: fields.remove("by")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_reads_back_ends_at_its_deadline_and_severs_its_region_from_all_others() {
        let region = |name| Region::new(name).unwrap();
        let cut = Cut::new(region("west"), Time::from_unix_seconds(100), "ada \"a\"".to_owned(), 7);
        assert_eq!(Cut::decode(&cut.encode()), Some(cut.clone()));
        assert_eq!(Cut::decode("{\"id\":\"7\"}"), None);
        assert!(!cut.has_expired(None) && !cut.has_expired(Some(Time::from_unix_seconds(99))));
        assert!(cut.has_expired(Some(Time::from_unix_seconds(100))));
        assert!(cut.severs(&region("west"), &region("north")) && cut.severs(&region("north"), &region("west")));
        assert!(!cut.severs(&region("north"), &region("south")) && !cut.severs(&region("west"), &region("west")));
    }
}
