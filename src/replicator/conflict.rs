//! An entry of the conflict journal: a row of `RelayConflicts`.

use crate::feed::{Shard, entry_id, first_units, in_parts, joined, part_name};
use crate::model::{ClosedList, PartitionKey, Region, Row, RowBody, RowId, RowKey, TableName, Time, Version};
use crate::resolve::Decision;

/// Properties that one of the two rows may fill: 210,000 UTF-16 units.
const PARTS: usize = 7;
/// Most units of a key.
const MAX_KEY: usize = 2_000;

/// One of the two changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Side {
    /// Its version.
    pub version: Version,
    /// The row as it stood, as JSON; `None` where the change is a delete.
    pub row: Option<String>,
    /// UTF-16 units that `row` lacks, where it was too large for the journal.
    pub cut: usize,
    /// When its storage server took it in; `None` where that was not to be had.
    pub stored: Option<Time>,
}

/// Two regions changed a row, and neither knew of the other's change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// Which row.
    pub row: RowId,
    /// What stands.
    pub winner: Side,
    /// What was lost.
    pub loser: Side,
    /// Why the winner won.
    pub decision: Decision,
    /// The region that the winner was brought from.
    pub source: Region,
    /// The region of the loser, where it was overwritten.
    pub destination: Region,
    /// Whether the winner's region could be asked if it knew the loser.
    pub asked: bool,
    /// When it was found, by the daemon's clock.
    pub at: Time,
}

/// A row of `RelayConflicts` that is no conflict.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the conflict {id:?} cannot be read: {field} is missing or has no meaning")]
pub struct UnreadableConflict {
    /// Its row key.
    pub id: String,
    /// The property at fault.
    pub field: &'static str,
}

impl Conflict {
    /// 16 hex digits made of the row and both versions: the same conflict, met anywhere, has the same. So has a late write,
    /// whatever stands in the writer's region when it is met.
    pub fn id(&self) -> String {
        let row = &self.row;
        let (winner, loser) = (self.winner.version.as_str(), self.loser.version.as_str());
        let winner = if self.decision == Decision::LateWrite { self.decision.as_str() } else { winner };
        entry_id(&[row.table.lower(), "\n", row.partition.as_str(), "\n", row.row.as_str(), "\n", winner, "\n", loser])
    }

    /// By how many milliseconds the winner's clock was ahead of the loser's, as far as that can be told: what each version
    /// is ahead of the time at which its storage server took it in, the one less the other. What a writer takes from one
    /// step to the next is in it.
    pub fn skew_millis(&self) -> Option<i64> {
        let ahead = |side: &Side| Some((side.version.time().ticks() - side.stored?.ticks()) / 10_000);
        Some(ahead(&self.winner)? - ahead(&self.loser)?)
    }

    /// Writes it down.
    pub fn encode(&self) -> RowBody {
        // Those of one row stand together, where whoever looks into that row finds them.
        let partition = Shard::of(&self.row.table, &self.row.partition).partition();
        let key = RowKey::new(self.id());
        let mut body = RowBody::builder(&partition, &key)
            .string("Table", self.row.table.as_str())
            .string("Partition", first_units(self.row.partition.as_str(), MAX_KEY))
            .string("Row", first_units(self.row.row.as_str(), MAX_KEY))
            .string("Winner", self.winner.version.as_str())
            .string("Loser", self.loser.version.as_str())
            .string("Decision", self.decision.as_str())
            .string("Source", self.source.as_str())
            .string("Destination", self.destination.as_str())
            .string("Asked", if self.asked { "yes" } else { "no" })
            .string("At", &self.at.to_string());
        for (name, side) in [("Winner", &self.winner), ("Loser", &self.loser)] {
            body = body.maybe(&format!("{name}Stored"), side.stored.map(|time| time.to_string()).as_deref());
            let (parts, cut) = side.row.as_deref().map(|row| in_parts(row, PARTS)).unwrap_or_default();
            let cut = cut.saturating_add(side.cut);
            if cut > 0 {
                body = body.int64(&format!("{name}Cut"), i64::try_from(cut).unwrap_or(i64::MAX));
            }
            for (n, part) in parts.iter().enumerate() {
                body = body.string(&part_name(&format!("{name}Row"), n), part);
            }
        }
        body.finish()
    }

    /// Reads an entry.
    ///
    /// # Errors
    /// [`UnreadableConflict`] naming the property at fault.
    pub fn decode(row: &Row) -> Result<Self, UnreadableConflict> {
        let body = &row.body;
        let bad = |field| UnreadableConflict { id: body.row().as_str().to_owned(), field };
        let text = |field| body.string(field).ok_or_else(|| bad(field));
        let region = |field| Region::new(&text(field)?).map_err(|_| bad(field));
        let side = |[name, stored, cut, row]: [&'static str; 4]| {
            let stored_at = body.string(stored).map(|time| Time::parse(&time).map_err(|_| bad(stored))).transpose()?;
            let cut_units = body.string(cut).map(|units| units.parse().map_err(|_| bad(cut))).transpose()?;
            Ok(Side {
                version: Version::parse(&text(name)?).map_err(|_| bad(name))?,
                row: joined(body, row, PARTS),
                cut: cut_units.unwrap_or(0),
                stored: stored_at,
            })
        };
        let table = TableName::new(&text("Table")?).map_err(|_| bad("Table"))?;
        Ok(Self {
            row: RowId::new(table, PartitionKey::new(text("Partition")?), RowKey::new(text("Row")?)),
            winner: side(["Winner", "WinnerStored", "WinnerCut", "WinnerRow"])?,
            loser: side(["Loser", "LoserStored", "LoserCut", "LoserRow"])?,
            decision: Decision::parse(&text("Decision")?).ok_or_else(|| bad("Decision"))?,
            source: region("Source")?,
            destination: region("Destination")?,
            asked: text("Asked")? == "yes",
            at: Time::parse(&text("At")?).map_err(|_| bad("At"))?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Etag, WriterId};
    use crate::stores::limits::check_body;

    fn conflict(row: &str) -> Conflict {
        let (west, east) = (Region::new("west").unwrap(), Region::new("east").unwrap());
        let side = |region: &Region, second: i64, row: Option<&str>| Side {
            version: Version::new(Time::from_unix_seconds(second), region, WriterId(1)),
            row: row.map(str::to_owned),
            cut: 0,
            stored: Some(Time::from_unix_seconds(100)),
        };
        Conflict {
            row: RowId::new(TableName::new("orders").unwrap(), "p".into(), "r".into()),
            winner: side(&west, 103, Some(row)),
            loser: side(&east, 99, None),
            decision: Decision::LaterTime,
            source: west,
            destination: east,
            asked: true,
            at: Time::from_unix_seconds(104),
        }
    }

    fn stored(conflict: &Conflict) -> Row {
        Row { body: conflict.encode(), etag: Etag::new("e"), timestamp: Time::EPOCH }
    }

    #[test]
    fn what_is_encoded_is_decoded_and_the_same_conflict_has_the_same_id() {
        let first = conflict("{\"A\":1}");
        assert_eq!(Conflict::decode(&stored(&first)).unwrap(), first);
        assert_eq!(first.skew_millis(), Some(4_000), "3 s ahead, and 1 s behind");
        let again = Conflict { at: Time::EPOCH, source: Region::new("north").unwrap(), ..first.clone() };
        assert_eq!((again.id(), first.id().len()), (first.id(), 16));
        let other =
            Conflict { loser: Side { version: first.winner.version.clone(), ..first.loser.clone() }, ..first.clone() };
        assert_ne!(other.id(), first.id());
    }

    #[test]
    fn two_rows_of_a_mebibyte_fit_and_what_is_cut_is_said() {
        let row = "ä".repeat(512 * 1_024);
        let mut large = conflict(&row);
        large.loser.row = Some(row.clone());
        check_body(&large.encode()).unwrap();
        let back = Conflict::decode(&stored(&large)).unwrap();
        assert_eq!(back.winner.cut, 512 * 1_024 - PARTS * 30_000);
        assert!(row.starts_with(back.loser.row.as_deref().unwrap()));
        assert_eq!(Conflict::decode(&stored(&back)).unwrap(), back, "what was cut once stays as it is");
    }
}
