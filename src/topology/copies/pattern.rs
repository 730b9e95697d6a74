//! Patterns of partition keys.

/// A pattern of a whole partition key: `*` is any characters, or none, and everything else is itself, with its case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionPattern(String);

impl PartitionPattern {
    /// One of this text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether a key fits: the first part at its beginning, the last at its end, the others one after the other between, each as
    /// early as it can be had.
    pub fn fits(&self, key: &str) -> bool {
        let Some((first, rest)) = self.0.split_once('*') else { return self.0 == key };
        let Some(mut key) = key.strip_prefix(first) else { return false };
        let (middle, last) = rest.rsplit_once('*').unwrap_or(("", rest));
        for part in middle.split('*') {
            let Some(at) = key.find(part) else { return false };
            key = &key[at + part.len()..];
        }
        key.ends_with(last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// By trying every way, to hold the quick way against.
    fn tried(pattern: &[char], key: &[char]) -> bool {
        match pattern.split_first() {
            None => key.is_empty(),
            Some(('*', rest)) => (0..=key.len()).any(|n| tried(rest, &key[n..])),
            Some((c, rest)) => key.first() == Some(c) && tried(rest, &key[1..]),
        }
    }

    proptest! {
        #[test]
        fn a_star_is_any_characters_or_none(pattern in "[ab*]{0,6}", key in "[ab]{0,8}") {
            let chars = |text: &str| text.chars().collect::<Vec<_>>();
            prop_assert_eq!(PartitionPattern::new(pattern.as_str()).fits(&key), tried(&chars(&pattern), &chars(&key)));
        }
    }
}
