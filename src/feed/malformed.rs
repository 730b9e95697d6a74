//! What is wrong with a record, a message or a tombstone, or with the row that it names.

use std::fmt;

/// Why something is in quarantine. A closed list: metrics and `quarantine list` show its text form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// `bad-json`
    BadJson,
    /// `no-rows`
    NoRows,
    /// `too-many-rows`
    TooManyRows,
    /// `contradiction`
    Contradiction,
    /// `bad-table`
    BadTable,
    /// `unknown-table`
    UnknownTable,
    /// `bad-version`
    BadVersion,
    /// `future-version`
    FutureVersion,
    /// `bad-key`
    BadKey,
    /// `wrong-shard`
    WrongShard,
    /// `too-large`
    TooLarge,
    /// `refused`
    Refused,
    /// `unreadable-tombstone`
    UnreadableTombstone,
}

impl Reason {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::BadJson,
        Self::NoRows,
        Self::TooManyRows,
        Self::Contradiction,
        Self::BadTable,
        Self::UnknownTable,
        Self::BadVersion,
        Self::FutureVersion,
        Self::BadKey,
        Self::WrongShard,
        Self::TooLarge,
        Self::Refused,
        Self::UnreadableTombstone,
    ];

    /// The text form: what is stored, and what metrics and commands show.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BadJson => "bad-json",
            Self::NoRows => "no-rows",
            Self::TooManyRows => "too-many-rows",
            Self::Contradiction => "contradiction",
            Self::BadTable => "bad-table",
            Self::UnknownTable => "unknown-table",
            Self::BadVersion => "bad-version",
            Self::FutureVersion => "future-version",
            Self::BadKey => "bad-key",
            Self::WrongShard => "wrong-shard",
            Self::TooLarge => "too-large",
            Self::Refused => "refused",
            Self::UnreadableTombstone => "unreadable-tombstone",
        }
    }

    /// The reason with this text form.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.as_str() == text)
    }

    /// What it means, in a sentence for people.
    pub fn meaning(self) -> &'static str {
        match self {
            Self::BadJson => "It is not the JSON that the protocol describes: a field is missing or of another type.",
            Self::NoRows => "It names no row.",
            Self::TooManyRows => "It names more than 100 rows, or more than 99 deletes.",
            Self::Contradiction => "It names the same row as put and as deleted, which no transaction can do.",
            Self::BadTable => "Its table has no name that Azure allows, or one with the reserved prefix Relay.",
            Self::UnknownTable => "Its table is not among those that the configuration replicates.",
            Self::BadVersion => "Its version does not have the form of a version.",
            Self::FutureVersion => "Its version is further ahead of the storage clock than the allowed skew.",
            Self::BadKey => "A key holds what Azure forbids, or the record stands under a key that is not its own.",
            Self::WrongShard => "It stands in another shard than that of its table and partition.",
            Self::TooLarge => "The row with its version is larger than Azure allows: 1 MiB or 252 properties.",
            Self::Refused => "The destination refuses the row as it is, for good.",
            Self::UnreadableTombstone => "A row of the feed that should be a tombstone cannot be read as one.",
        }
    }

    /// What to do about it, in a sentence for people.
    pub fn remedy(self) -> &'static str {
        match self {
            Self::BadJson | Self::NoRows | Self::TooManyRows | Self::Contradiction | Self::BadVersion => {
                "Mend the writer, write the rows again through it or mend them with verify --repair, then drop this."
            }
            Self::BadTable => "Mend the writer, then drop this: tables that begin with Relay are never replicated.",
            Self::UnknownTable => "Add the table to the configuration and replay this, or drop it.",
            Self::FutureVersion => {
                "Set the writer's clock right; this is tried again once the clock has passed it, or replay --restamp."
            }
            Self::BadKey => "Mend the writer, then drop this: a row with such a key cannot exist.",
            Self::WrongShard => "Mend how the writer computes the shard (lower-case table, UTF-8), then replay this.",
            Self::TooLarge => "Make the row smaller, leaving room for RelayVersion, then replay this.",
            Self::Refused => "Read the detail, mend the row at its source, then replay this.",
            Self::UnreadableTombstone => "Mend the writer, run verify --repair for the table, then drop this.",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
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

    #[test]
    fn every_reason_has_its_own_text_and_is_found_by_it() {
        for reason in Reason::ALL {
            assert_eq!(Reason::parse(reason.as_str()), Some(reason));
            assert!(reason.meaning().ends_with('.') && reason.remedy().ends_with('.'));
        }
        assert_eq!(Reason::parse("bad"), None);
    }
}
