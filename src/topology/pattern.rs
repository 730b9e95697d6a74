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

    /// Whether a key fits.
    pub fn fits(&self, key: &str) -> bool {
        fits(&self.0, key)
    }
}

/// Whether a key fits a pattern: its first part at the beginning, its last at the end, the others one after the other between,
/// each as early as it can be had.
pub(super) fn fits(pattern: &str, key: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else { return pattern == key };
    let Some(mut key) = key.strip_prefix(first) else { return false };
    let (middle, last) = rest.rsplit_once('*').unwrap_or(("", rest));
    for part in middle.split('*') {
        let Some(at) = key.find(part) else { return false };
        key = &key[at + part.len()..];
    }
    key.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_star_is_any_characters_or_none() {
        for (pattern, key, fit) in [
            ("a*c", "abc", true),
            ("a*c", "ac", true),
            ("a*c", "abcd", false),
            ("*-eu", "acme-eu", true),
            ("*-eu", "acme-eu2", false),
            ("t-*-*", "t-1-", true),
            ("t-*-*", "t-1", false),
            ("a*a", "a", false),
            ("*", "", true),
            ("ab", "ab", true),
            ("*b*", "abc", true),
            ("**", "x", true),
            ("a*b*b", "ab", false),
        ] {
            assert_eq!(fits(pattern, key), fit, "{pattern} {key}");
        }
    }

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
        fn fitting_is_what_trying_every_way_says(pattern in "[ab*]{0,6}", key in "[ab]{0,8}") {
            let chars = |text: &str| text.chars().collect::<Vec<_>>();
            prop_assert_eq!(fits(&pattern, &key), tried(&chars(&pattern), &chars(&key)));
        }
    }
}
