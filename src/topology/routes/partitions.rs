//! Which partitions of its tables a route takes, and whether two routes could take the same.

use crate::model::PartitionKey;
use crate::topology::pattern::fits;

/// Which partitions a route takes. Keys are compared as they are, with their case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Partitions {
    /// Every partition.
    Every,
    /// This one.
    Exactly(String),
    /// Those whose keys begin so.
    Prefix(String),
    /// Those whose whole key fits, where `*` is any characters, or none, and everything else is itself.
    Pattern(String),
}

impl Partitions {
    pub(super) fn take(&self, partition: &PartitionKey) -> bool {
        let key = partition.as_str();
        match self {
            Self::Every => true,
            Self::Exactly(of) => key == of,
            Self::Prefix(of) => key.starts_with(of),
            Self::Pattern(of) => fits(of, key),
        }
    }

    /// How specific it is: its kind, then how many characters of a key it gives.
    pub(super) fn rank(&self) -> (u8, usize) {
        match self {
            Self::Every => (0, 0),
            Self::Pattern(of) => (1, of.chars().filter(|c| *c != '*').count()),
            Self::Prefix(of) => (2, of.chars().count()),
            // One key is as specific as another.
            Self::Exactly(_) => (3, 0),
        }
    }

    /// Whether there is a key that both take, of two that have the same rank.
    pub(super) fn meet(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Pattern(ours), Self::Pattern(theirs)) => share_a_key(ours, theirs),
            (ours, theirs) => ours == theirs,
        }
    }
}

/// Whether some key fits both patterns: by what is left of either, from the end to the beginning.
fn share_a_key(ours: &str, theirs: &str) -> bool {
    let (ours, theirs): (Vec<char>, Vec<char>) = (ours.chars().collect(), theirs.chars().collect());
    // Whether what follows place `n` of ours and place `m` of theirs can be one text, for the current `n` and all `m`.
    let mut after = vec![false; theirs.len() + 1];
    for n in (0..=ours.len()).rev() {
        let mut now = vec![false; theirs.len() + 1];
        for m in (0..=theirs.len()).rev() {
            now[m] = match (ours.get(n), theirs.get(m)) {
                (None, None) => true,
                (Some('*'), Some(_)) => after[m] || now[m + 1],
                (Some('*'), None) => after[m],
                (_, Some('*')) => now[m + 1] || (n < ours.len() && after[m]),
                (Some(a), Some(b)) => a == b && after[m + 1],
                _ => false,
            };
        }
        after = now;
    }
    after[0]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn two_patterns_that_take_one_key_are_known_to_meet(
            ours in "[ab*]{0,5}", theirs in "[ab*]{0,5}", key in "[ab]{0,6}",
        ) {
            if fits(&ours, &key) && fits(&theirs, &key) {
                prop_assert!(share_a_key(&ours, &theirs));
            }
        }

        #[test]
        fn two_patterns_that_meet_have_a_key_that_both_take(ours in "[ab*]{0,4}", theirs in "[ab*]{0,4}") {
            // The shortest such key is no longer than both together.
            let mut keys = vec![String::new()];
            for n in 0..8 {
                let longer: Vec<_> = keys.iter().filter(|key| key.len() == n).flat_map(|key| ["a", "b"].map(|c| format!("{key}{c}"))).collect();
                keys.extend(longer);
            }
            let taken = keys.iter().any(|key| fits(&ours, key) && fits(&theirs, key));
            prop_assert_eq!(share_a_key(&ours, &theirs), taken);
        }
    }
}
