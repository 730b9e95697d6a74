//! What is wrong with a record, a message or a tombstone, or with the row that it names.

use crate::closed_list;

closed_list! {
    /// Why something is in quarantine.
    pub enum Reason {
        BadJson = "bad-json",
            "it is not the JSON that the protocol describes: a field is missing or of another type",
            "mend the writer, then let it write or delete the rows once more";
        NoRows = "no-rows",
            "it names no row",
            "mend the writer, then let it write or delete the rows once more";
        TooManyRows = "too-many-rows",
            "it names more than 100 rows, or more than 99 deletes",
            "mend the writer, then let it write or delete the rows once more";
        Contradiction = "contradiction",
            "it names the same row as put and as deleted, which no transaction can do",
            "mend the writer, then let it write or delete the rows once more";
        BadTable = "bad-table",
            "its table has a name that Azure does not allow, or one with the reserved prefix Relay",
            "mend the writer; there is no such table to replicate";
        UnknownTable = "unknown-table",
            "its table is not among those that the configuration replicates",
            "if it should be, add it to the configuration, then write the rows once more";
        BadVersion = "bad-version",
            "its version does not have the form of a version",
            "mend the writer, then let it write or delete the rows once more";
        FutureVersion = "future-version",
            "its version is further ahead of the storage clock than the allowed skew",
            "set the writer's clock right; it is tried again when the storage clock has passed it";
        BadKey = "bad-key",
            "a key holds what Azure forbids, or the row of the feed stands under keys that are not its own or that nobody reads",
            "mend the writer, then let it write or delete the rows once more";
        WrongShard = "wrong-shard",
            "it stands in another shard than that of its table and partition, where nobody looks for its tombstones",
            "mend how the writer computes the shard (table in lower case, UTF-8), then let it write the rows once more";
        TooLarge = "too-large",
            "the row with its version is larger than Azure allows: 1 MiB or 252 properties",
            "write the row smaller, leaving room for RelayVersion";
        Refused = "refused",
            "the destination refuses the row as it is, for good",
            "read the detail, and write the row as Azure takes it";
        UnreadableTombstone = "unreadable-tombstone",
            "a row of the feed that should be a tombstone cannot be read as one",
            "mend the writer, then let it delete the row once more";
        UnreadableHint = "unreadable-hint",
            "a row of RelayBacklog cannot be read as a hint, so nobody knows which row waits",
            "find out who wrote it; write the row that it meant once more, or verify the two regions";
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
