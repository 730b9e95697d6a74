//! When a tombstone may go, as the protocol has it: checked as each one goes, by what the accounts were told.

use std::time::Duration;

use tablerelay::model::{RowBody, RowId, Time};

use crate::chronicle::{Book, Event, Touch};

/// Clocks of the accounts of one region are apart by less.
const SLACK: Duration = Duration::from_secs(1);

impl Book {
    /// What is told of links and passes, each by the name of its row.
    pub fn take_control(&mut self, body: &RowBody) {
        let property = match body.partition().as_str() {
            "link" => "LastSyncTime",
            "scrubbed" | "repaired" => "Began",
            _ => return,
        };
        let Some(time) = body.string(property).and_then(|text| Time::parse(&text).ok()) else { return };
        let name = format!("{}/{}", body.partition(), body.row());
        let known = self.through.entry(name).or_insert(time);
        *known = time.max(*known);
    }

    /// A tombstone is gone that was raised then.
    pub fn check_collected(&mut self, id: &RowId, event: &Event, version: &str, raised: Time) {
        let Some(minimum_age) = self.collects.filter(|_| event.line.contains("collector")) else {
            return self.violate(id, format!("{} deleted the tombstone {version}", event.line));
        };
        let Some(time) = version.get(..28).and_then(|text| Time::parse(text).ok()) else { return };
        let text = format!("{} collected the tombstone {version} of {}", event.line, self.names[event.region]);
        if event.server.since(time.max(raised)) + SLACK < minimum_age {
            self.violate(id, format!("{text}, which is too young"));
        }
        let standing = (0..self.names.len()).find(|region| self.stands_below(id, *region, version));
        if let Some(region) = standing {
            self.violate(id, format!("{text}, below which the row stands in {}", self.names[region]));
        }
        let since = |name: &str| self.through.get(name).copied().unwrap_or(Time::EPOCH);
        let (mut behind, mut unverified, mut unrepaired) = (None, None, None);
        for one in &self.names {
            for other in self.names.iter().filter(|other| *other != one) {
                if since(&format!("link/{one}>{other}")) < time + self.skew {
                    behind = Some(format!("{one}>{other}"));
                }
                let began =
                    |kind: &str| since(&format!("{kind}/{one}:{other}")).max(since(&format!("{kind}/{other}:{one}")));
                if began("scrubbed").max(began("repaired")) < time + self.window {
                    unverified = Some(format!("{one} and {other}"));
                }
                if self.former.is_some_and(|former| began("repaired") < former) {
                    unrepaired = Some(format!("{one} and {other}"));
                }
            }
        }
        let found = [
            ("which has not passed the link", behind),
            ("before a pass over", unverified),
            ("although a region was taken out, before a repair of", unrepaired),
        ];
        for (what, whose) in found {
            if let Some(whose) = whose {
                self.violate(id, format!("{text}, {what} {whose}"));
            }
        }
    }

    /// Whether a row stands in a region at this version or a lower one.
    fn stands_below(&self, id: &RowId, region: usize, version: &str) -> bool {
        let events = self.rows.get(id).into_iter().flatten().rev().filter(|event| event.region == region);
        let last = events.into_iter().find_map(|event| match &event.touch {
            Touch::Put(put) => Some(Some(put.version.as_str())),
            Touch::Deleted(_) => Some(None),
            _ => None,
        });
        last.flatten().is_some_and(|stands| stands <= version)
    }
}
