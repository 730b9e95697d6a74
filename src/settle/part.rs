//! What one daemon of a region knows of a link, for the others: the truth of a link is that of all its shards, whoever
//! carries them.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::LinkState;
use crate::feed::AccountShard;
use crate::model::{ClosedList, Region, Time};
use crate::planted::{Bug, planted};

/// A link as far as the shards of one daemon go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkPart {
    /// Where it leads.
    pub destination: Region,
    /// The lowest Last Sync Time of the shards that it has read whole, hints not considered.
    pub last_sync: Option<Time>,
    /// Up to when the destination has what was written in those shards, hints not considered.
    pub fresh_to: Option<Time>,
    /// When the oldest change was announced that it has seen and that is not there.
    pub oldest_waiting: Option<Time>,
    /// Rows that wait in its memory.
    pub waiting_rows: u64,
    /// What the link does for it.
    pub state: LinkState,
    /// What the destination failed with last.
    pub last_error: Option<String>,
}

/// Most characters of an error that are told to the other daemons: sixty links fit into one property.
const MAX_ERROR_CHARS: usize = 200;

/// Parts as the text that a daemon's row holds.
pub fn encode_parts(parts: &[LinkPart]) -> String {
    let time = |time: Option<Time>| time.map(|time| time.to_string());
    let part = |part: &LinkPart| {
        let error = part.last_error.as_ref().map(|text| text.chars().take(MAX_ERROR_CHARS).collect::<String>());
        json!({
            "to": part.destination.as_str(), "sync": time(part.last_sync), "fresh": time(part.fresh_to), "oldest": time(part.oldest_waiting),
            "rows": part.waiting_rows, "state": part.state.as_str(), "error": error,
        })
    };
    Value::Array(parts.iter().map(part).collect()).to_string()
}

/// Reads them back.
pub fn decode_parts(text: &str) -> Option<Vec<LinkPart>> {
    let time = |value: &Value| match value {
        Value::Null => Some(None),
        value => Time::parse(value.as_str()?).ok().map(Some),
    };
    let part = |value: &Value| {
        Some(LinkPart {
            destination: Region::new(value["to"].as_str()?).ok()?,
            last_sync: time(&value["sync"])?,
            // Nothing, where a daemon of an older version says it.
            fresh_to: time(&value["fresh"])?,
            oldest_waiting: time(&value["oldest"])?,
            waiting_rows: value["rows"].as_u64()?,
            state: LinkState::parse(value["state"].as_str()?)?,
            last_error: value["error"].as_str().map(str::to_owned),
        })
    };
    serde_json::from_str::<Vec<Value>>(text).ok()?.iter().map(part).collect()
}

/// What is known of one link's Last Sync Time, shard by shard, hints not considered.
///
/// "Everything announced before this is there" stays true once it is, whoever found it out. So the highest that was ever
/// known of a shard counts, and what a daemon told that is gone by now counts as well. The link has the lowest of all shards,
/// and none while nothing is known of one of them.
#[derive(Debug, Clone, Default)]
pub struct Synced(BTreeMap<AccountShard, Time>);

impl Synced {
    /// These shards are synced up to `time`, at the least.
    pub fn learn<'a>(&mut self, shards: impl IntoIterator<Item = &'a AccountShard>, time: Time) {
        for shard in shards {
            match self.0.get_mut(shard) {
                Some(known) => *known = time.max(*known),
                None => drop(self.0.insert(shard.clone(), time)),
            }
        }
    }

    /// The link's, over all shards of the region; `own` are those of this daemon.
    pub fn of_all(&self, all: &[AccountShard], own: &BTreeSet<AccountShard>) -> Option<Time> {
        let counts = |shard: &&AccountShard| own.contains(*shard) || !planted(Bug::OthersForgotten);
        let times: Option<Vec<Time>> = all.iter().filter(counts).map(|shard| self.0.get(shard).copied()).collect();
        times?.into_iter().min()
    }
}

/// What the shards of all daemons add up to, but for Last Sync Time: the rows that wait, since when, and the worst state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Together {
    /// Rows that wait in somebody's memory.
    pub waiting_rows: u64,
    /// The oldest change that waits for somebody.
    pub oldest_waiting: Option<Time>,
    /// The worst state that it has for anybody, and its error.
    pub state: LinkState,
    /// The error that goes with it.
    pub last_error: Option<String>,
}

impl Together {
    /// Adds up the parts of one link; those of other links are passed over.
    pub fn of<'a>(own: &LinkPart, others: impl IntoIterator<Item = &'a LinkPart>) -> Self {
        let first = Self {
            waiting_rows: own.waiting_rows,
            oldest_waiting: own.oldest_waiting,
            state: own.state,
            last_error: own.last_error.clone(),
        };
        let others = others.into_iter().filter(|part| part.destination == own.destination);
        others.fold(first, |sum, part| {
            let worse = part.state > sum.state;
            Self {
                waiting_rows: sum.waiting_rows + part.waiting_rows,
                oldest_waiting: sum.oldest_waiting.into_iter().chain(part.oldest_waiting).min(),
                state: sum.state.max(part.state),
                last_error: if worse { part.last_error.clone() } else { sum.last_error },
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::AccountName;

    fn part(state: LinkState, rows: u64, oldest: Option<i64>) -> LinkPart {
        LinkPart {
            destination: Region::new("north").unwrap(),
            last_sync: Some(Time::from_unix_seconds(10)),
            fresh_to: Some(Time::from_unix_seconds(11)),
            oldest_waiting: oldest.map(Time::from_unix_seconds),
            waiting_rows: rows,
            state,
            last_error: (state != LinkState::Flowing).then(|| format!("{state}: é")),
        }
    }

    #[test]
    fn parts_read_back_and_a_long_error_is_cut() {
        let parts = vec![part(LinkState::Flowing, 0, None), part(LinkState::Parked, 3, Some(4))];
        assert_eq!(decode_parts(&encode_parts(&parts)), Some(parts.clone()));
        let long = LinkPart { last_error: Some("é".repeat(1_000)), ..parts[1].clone() };
        let back = decode_parts(&encode_parts(&[long])).unwrap();
        assert_eq!(back[0].last_error.as_ref().unwrap().chars().count(), MAX_ERROR_CHARS);
        assert_eq!(decode_parts("{}"), None);
        assert_eq!(decode_parts(r#"[{"to":"north"}]"#), None);
    }

    #[test]
    fn a_link_is_as_far_as_the_last_of_all_its_shards_whoever_carries_it() {
        let all = AccountShard::all(&[AccountName::new("one").unwrap()]);
        let (mine, theirs) = all.split_at(10);
        let own: BTreeSet<_> = mine.iter().cloned().collect();
        let at = Time::from_unix_seconds;
        let mut synced = Synced::default();
        synced.learn(mine, at(20));
        assert_eq!(synced.of_all(&all, &own), None, "nothing is known of six shards");
        synced.learn(theirs, at(10));
        assert_eq!(synced.of_all(&all, &own), Some(at(10)));
        synced.learn(theirs, at(30));
        synced.learn(&mine[..1], at(5));
        assert_eq!(synced.of_all(&all, &own), Some(at(20)), "what was true stays true");
    }

    #[test]
    fn the_worst_state_the_oldest_change_and_the_sum_of_rows_are_the_links() {
        let own = part(LinkState::Flowing, 2, Some(7));
        let elsewhere = LinkPart { destination: Region::new("south").unwrap(), ..part(LinkState::Parked, 9, Some(1)) };
        let others = [part(LinkState::BackingOff, 3, Some(5)), elsewhere];
        let together = Together::of(&own, &others);
        assert_eq!((together.waiting_rows, together.oldest_waiting), (5, Some(Time::from_unix_seconds(5))));
        assert_eq!((together.state, together.last_error.as_deref()), (LinkState::BackingOff, Some("backing-off: é")));
    }
}
