//! How rows are spread over keys, as far as samples tell. Pure: who takes the samples is [`sample`](super::sample).
//!
//! Keys become places between 0 and 1: digits in a number system made of the characters that were seen. So a sample of a
//! hundred rows tells how many there are as far as the next one, if they are as dense there, and where the middle of a wide gap is.
//! Wrong guesses make ranges of unequal size and an estimate that is off; that every row is in a range does not depend on them.

use std::collections::{BTreeMap, BTreeSet};

/// Digits of a place: more than this a number does not tell apart.
const DIGITS: usize = 10;
/// Characters behind the first difference of a key that is looked for between two others.
const MORE: usize = 4;

/// What was found from some key on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sample {
    /// Keys and how many rows each has, in order.
    pub counts: Vec<(String, u64)>,
    /// Nothing else stands before this key; none: nothing else stands at all.
    pub until: Option<String>,
}

/// The keys between two samples.
#[derive(Debug, Clone)]
pub(super) struct Gap {
    /// The first key that there is.
    first: String,
    pub until: Option<String>,
    /// How many rows there are, probably.
    pub rows: f64,
    /// Whether that was counted.
    pub counted: bool,
}

/// All samples of a table.
#[derive(Debug, Default)]
pub(super) struct Spread {
    samples: BTreeMap<String, Sample>,
    /// Nothing stands at this key or behind it.
    end: Option<String>,
    seen: BTreeSet<char>,
    /// The least and the greatest character at each place of a key.
    bounds: Vec<(char, char)>,
}

impl Spread {
    pub fn add(&mut self, key: &str, sample: Sample) {
        for key in sample.counts.iter().map(|(key, _)| key).chain(&sample.until) {
            self.learn(key);
        }
        self.samples.insert(key.to_owned(), sample);
    }

    pub fn set_end(&mut self, end: String) {
        self.learn(&end);
        self.end = Some(end);
    }

    /// The greatest key that was seen.
    pub fn last(&self) -> Option<&str> {
        self.samples.values().filter_map(|sample| Some(sample.counts.last()?.0.as_str())).max()
    }

    fn learn(&mut self, key: &str) {
        for (n, c) in key.chars().enumerate() {
            self.seen.insert(c);
            match self.bounds.get_mut(n) {
                Some((least, greatest)) => (*least, *greatest) = ((*least).min(c), (*greatest).max(c)),
                None => self.bounds.push((c, c)),
            }
        }
    }

    pub fn gaps(&self) -> Vec<Gap> {
        let next = self.samples.keys().skip(1).map(Some).chain([None]);
        self.samples.iter().zip(next).map(|((from, sample), until)| self.gap(from, sample, until)).collect()
    }

    fn gap(&self, from: &str, sample: &Sample, until: Option<&String>) -> Gap {
        let before = |key: &str| until.is_none_or(|until| key < until.as_str());
        let rows: u64 = sample.counts.iter().filter(|(key, _)| before(key)).map(|(_, rows)| rows).sum();
        let first = sample.counts.first().map_or(from, |(key, _)| key.as_str());
        let (rows, gap) =
            (rows as f64, |rows, counted| Gap { first: first.to_owned(), until: until.cloned(), rows, counted });
        let Some(covered) = sample.until.as_deref().filter(|covered| before(covered)) else { return gap(rows, true) };
        let end = until.or(self.end.as_ref()).map(String::as_str);
        let same = common(first, end.unwrap_or(""));
        let [first, behind, last] = [Some(first), Some(covered), end].map(|key| self.place(key, same));
        let dense = rows / (behind - first).max(f64::EPSILON);
        gap((dense * (last - first)).max(rows), false)
    }

    pub fn rows(&self) -> f64 {
        self.gaps().iter().map(|gap| gap.rows).sum()
    }

    /// Rows that a key has in the mean.
    pub fn rows_of_key(&self) -> f64 {
        let counts = || self.samples.values().flat_map(|sample| &sample.counts);
        let rows: u64 = counts().map(|(_, rows)| rows).sum();
        rows as f64 / counts().count().max(1) as f64
    }

    /// A key in the middle of the gap that holds most rows, if these are more than `few`.
    pub fn middle(&self, few: f64, tried: &BTreeSet<String>) -> Option<String> {
        let mut gaps: Vec<Gap> = self.gaps().into_iter().filter(|gap| !gap.counted && gap.rows > few).collect();
        gaps.sort_by(|one, other| other.rows.total_cmp(&one.rows));
        gaps.iter().find_map(|gap| {
            let end = gap.until.as_ref().or(self.end.as_ref()).map(String::as_str);
            self.between(&gap.first, end).filter(|middle| !tried.contains(middle))
        })
    }

    /// Where a key stands among those that share their first `skip` characters; no key stands behind all.
    fn place(&self, key: Option<&str>, skip: usize) -> f64 {
        let Some(key) = key else { return 1.0 };
        let (mut place, mut unit) = (0.0, 1.0);
        for (n, c) in key.chars().enumerate().skip(skip).take(DIGITS) {
            let digits: Vec<char> = self.digits(n);
            unit /= digits.len() as f64 + 1.0;
            // A key that ends here stands before all that go on.
            let digit = digits.iter().filter(|digit| **digit < c).count() as f64 + 1.0;
            place += digit * unit;
        }
        place.min(1.0)
    }

    /// The characters that may stand at this place of a key: those that were seen between the least and the greatest of this place
    /// and of the places behind it. What a few keys have in common at a place says little of the others; further behind, where they
    /// differ, is what keys are made of.
    fn digits(&self, n: usize) -> Vec<char> {
        let behind = || self.bounds.iter().skip(n);
        let bounds = behind().map(|(least, _)| *least).min().zip(behind().map(|(_, greatest)| *greatest).max());
        bounds.map(|(least, greatest)| self.seen.range(least..=greatest).copied().collect()).unwrap_or_default()
    }

    fn between(&self, from: &str, until: Option<&str>) -> Option<String> {
        let same = common(from, until.unwrap_or(""));
        let mut place = (self.place(Some(from), same) + self.place(until, same)) / 2.0;
        let mut middle: String = from.chars().take(same).collect();
        for n in same..same + MORE {
            let digits = self.digits(n);
            place *= digits.len() as f64 + 1.0;
            let digit = (place as usize).min(digits.len());
            place -= digit as f64;
            let Some(c) = digit.checked_sub(1).and_then(|digit| digits.get(digit)) else { break };
            middle.push(*c);
        }
        (middle.as_str() > from && until.is_none_or(|until| middle.as_str() < until)).then_some(middle)
    }
}

/// How many characters two keys share at their beginning.
fn common(one: &str, other: &str) -> usize {
    one.chars().zip(other.chars()).take_while(|(a, b)| a == b).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(keys: impl IntoIterator<Item = String>, until: Option<String>) -> Sample {
        Sample { counts: keys.into_iter().map(|key| (key, 1)).collect(), until }
    }

    #[test]
    fn the_first_hundred_of_ten_thousand_numbers_tell_of_the_rest() {
        let key = |n: usize| format!("order-{n:06}");
        let mut spread = Spread::default();
        spread.add(&key(0), sample((0..100).map(key), Some(key(100))));
        spread.set_end("order-01".to_owned());
        let rows = spread.rows();
        assert!((6_000.0..14_000.0).contains(&rows), "{rows}");
        let middle = spread.middle(1_000.0, &BTreeSet::new()).unwrap();
        assert!(("order-003".."order-007").contains(&middle.as_str()), "{middle}");
        assert_eq!(spread.middle(20_000.0, &BTreeSet::new()), None);
    }

    #[test]
    fn what_was_counted_is_not_guessed() {
        let mut spread = Spread::default();
        spread.add("a", sample(["a", "b", "c"].map(str::to_owned), None));
        let gaps = spread.gaps();
        assert_eq!((gaps.len(), gaps[0].rows, gaps[0].counted), (1, 3.0, true));
        spread.add("b", sample(["b", "c"].map(str::to_owned), None));
        assert_eq!(spread.rows(), 3.0, "each counts once");
        spread.add("aa", sample([], Some("b".to_owned())));
        assert_eq!(spread.rows(), 3.0);
    }

    #[test]
    fn a_middle_lies_between_whatever_the_keys_are_made_of() {
        let mut spread = Spread::default();
        for key in ["", "Ünder", "a b", "zz", "zz9", "\u{65e5}\u{672c}", "f0e1-22", "0"] {
            spread.learn(key);
        }
        let keys = ["", "0", "a b", "f0e1-22", "zz", "zz9", "Ünder", "\u{65e5}\u{672c}"];
        for (n, from) in keys.iter().enumerate() {
            for until in keys[n + 1..].iter().copied().map(Some).chain([None]) {
                if let Some(middle) = spread.between(from, until) {
                    assert!(middle.as_str() > *from && until.is_none_or(|until| middle.as_str() < until), "{middle}");
                }
            }
        }
        assert!(spread.between("a b", Some("zz")).is_some());
    }
}
