//! What is wrong with a record, a message or a tombstone, or with the row that it names.

use crate::closed_list;

closed_list! {
    /// Why something is in quarantine.
    pub enum Reason {
        BadJson = "bad-json",
            "it is not the JSON that the protocol describes: a field is missing or of another type",
            "mend the writer, bring its rows in line with `tablerelay verify --repair`, then drop the entry";
        NoRows = "no-rows",
            "it names no row",
            "mend the writer, bring its rows in line with `tablerelay verify --repair`, then drop the entry";
        TooManyRows = "too-many-rows",
            "it names more than 100 rows, or more than 99 deletes",
            "mend the writer, bring its rows in line with `tablerelay verify --repair`, then drop the entry";
        Contradiction = "contradiction",
            "it names the same row as put and as deleted, which no transaction can do",
            "mend the writer, bring its rows in line with `tablerelay verify --repair`, then drop the entry";
        BadTable = "bad-table",
            "its table has a name that Azure does not allow, or one with the reserved prefix Relay",
            "mend the writer, then drop the entry: there is no such table to replicate";
        UnknownTable = "unknown-table",
            "its table is not among those that the configuration replicates",
            "add the table to the configuration and replay the entry, or drop it";
        BadVersion = "bad-version",
            "its version does not have the form of a version",
            "mend the writer, bring its rows in line with `tablerelay verify --repair`, then drop the entry";
        FutureVersion = "future-version",
            "its version is further ahead of the storage clock than the allowed skew",
            "set the writer's clock right; it is tried again when the clock has passed it, or replay it with `--restamp`";
        BadKey = "bad-key",
            "a key holds what Azure forbids, or the record stands under a key that is not its own",
            "mend the writer, bring its rows in line with `tablerelay verify --repair`, then drop the entry";
        WrongShard = "wrong-shard",
            "it stands in another shard than that of its table and partition, where nobody looks for its tombstones",
            "mend how the writer computes the shard (table in lower case, UTF-8), then replay the entry";
        TooLarge = "too-large",
            "the row with its version is larger than Azure allows: 1 MiB or 252 properties",
            "make the row smaller, leaving room for RelayVersion, then replay the entry";
        Refused = "refused",
            "the destination refuses the row as it is, for good",
            "read the detail, mend the row at its source, then replay the entry";
        UnreadableTombstone = "unreadable-tombstone",
            "a row of the feed that should be a tombstone cannot be read as one",
            "mend the writer, run `tablerelay verify --repair` for the table, then drop the entry";
    }
}

/// A record, message or tombstone that cannot be followed. It is kept whole in quarantine; nothing is lost.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}: {detail}")]
pub struct Malformed {
    /// Why, from the closed list.
    pub reason: Reason,
    /// What exactly, naming the field and what it should be.
    pub detail: String,
}

impl Malformed {
    /// Puts the two together.
    pub fn new(reason: Reason, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::assert_well_formed;

    #[test]
    fn reasons_are_a_closed_list() {
        assert_well_formed::<Reason>();
    }
}
