//! Closed lists: the words that other people's dashboards, alerts and scripts hold on to.

use std::fmt;

/// A list of words that is closed: every word is written here once, with what it means and what to do about it.
///
/// They are values of metric labels, of the log field `event`, of states in `/status` and in system tables.
pub trait ClosedList: Copy + fmt::Display + 'static {
    /// All words, in the order in which they are documented.
    const ALL: &'static [Self];

    /// The word, as it is written in metrics, logs and JSON.
    fn as_str(self) -> &'static str;

    /// What it means.
    fn meaning(self) -> &'static str;

    /// What to do about it; "none" where it is as it should be.
    fn remedy(self) -> &'static str;

    /// The item with this word.
    fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|item| item.as_str() == text)
    }
}

/// Defines an enum that is a [`ClosedList`]: per item its word, meaning and remedy, which become its documentation too.
#[macro_export]
macro_rules! closed_list {
    (
        $(#[$doc:meta])*
        $vis:vis enum $name:ident {
            $($item:ident = $word:literal, $meaning:literal, $remedy:literal;)+
        }
    ) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        $vis enum $name {
            $(
                #[doc = concat!("`", $word, "`: ", $meaning, ".")]
                #[doc = ""]
                #[doc = concat!("Remedy: ", $remedy, ".")]
                $item,
            )+
        }

        impl $crate::model::ClosedList for $name {
            const ALL: &'static [Self] = &[$(Self::$item),+];

            fn as_str(self) -> &'static str {
                match self { $(Self::$item => $word),+ }
            }

            fn meaning(self) -> &'static str {
                match self { $(Self::$item => $meaning),+ }
            }

            fn remedy(self) -> &'static str {
                match self { $(Self::$item => $remedy),+ }
            }
        }

        impl ::std::fmt::Display for $name {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                f.write_str($crate::model::ClosedList::as_str(*self))
            }
        }

        impl ::serde::Serialize for $name {
            fn serialize<S: ::serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
    };
}

/// Holds a closed list to its form: words are unique and in kebab case, and each says what it means and what to do.
#[cfg(test)]
pub(crate) fn assert_well_formed<L: ClosedList>() {
    let mut words: Vec<_> = L::ALL.iter().map(|item| item.as_str()).collect();
    for word in &words {
        let kebab = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        assert!(!word.is_empty() && word.bytes().all(kebab), "{word:?} is not in kebab case");
        assert_eq!(L::parse(word).map(L::as_str), Some(*word));
    }
    for item in L::ALL {
        assert!(!item.meaning().is_empty() && !item.remedy().is_empty(), "{item} lacks its meaning or remedy");
    }
    words.sort_unstable();
    assert!(words.windows(2).all(|pair| pair[0] != pair[1]), "a word stands for two things: {words:?}");
}
