//! Why nothing is known of a link, as far as that can be told from the ends that were read. A rule: it asks nobody.

use std::collections::BTreeSet;

use serde::Serialize;

use super::{Link, START_IT};
use crate::closed_list;
use crate::model::{ClosedList, Region};

closed_list! {
    /// Why nothing is known of a link.
    pub(in crate::cli) enum Silence {
        NeverTold = "never-told",
            "both ends were read, and no state of the link stands there",
            "see whether the daemon of the source runs, and start it";
        HalfRead = "half-read",
            "one end cannot be read, and no state of the link stands at the other",
            "see why that region cannot be read, then look again";
        Unread = "unread",
            "neither end can be read",
            "see why these regions cannot be read, then look again";
        Unreadable = "unreadable",
            "what stands there of the link is not in a form that this version reads",
            "see whether a newer version of the program runs there, and bring all to one version";
    }
}

/// A link of the configuration that nothing is known of.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Unknown {
    #[serde(flatten)]
    pub link: Link,
    pub why: Silence,
    /// Its ends that could not be read.
    unread: Vec<Region>,
    remedy: &'static str,
}

impl Unknown {
    /// Of a link of which no state was found in the regions that were read.
    pub fn of(link: Link, unreached: &BTreeSet<&Region>, garbled: bool) -> Self {
        let ends = [&link.source, &link.destination].into_iter();
        let unread: Vec<Region> = ends.filter(|end| unreached.contains(end)).cloned().collect();
        let why = match (garbled, unread.len()) {
            (true, _) => Silence::Unreadable,
            (false, 0) => Silence::NeverTold,
            (false, 1) => Silence::HalfRead,
            (false, _) => Silence::Unread,
        };
        Self { link, remedy: why.remedy(), why, unread }
    }

    /// Whether that is all that there is to know: nobody has ever told of it.
    pub fn is_certain(&self) -> bool {
        self.why == Silence::NeverTold
    }

    /// What is to be said of it.
    pub fn note(&self) -> String {
        let Link { source, destination } = &self.link;
        let unread = self.unread.first().unwrap_or(source);
        let read = if unread == source { destination } else { source };
        let what = match self.why {
            Silence::NeverTold => format!("its state stands neither in {source} nor in {destination}; {START_IT}"),
            Silence::HalfRead => format!("{unread} cannot be read, and no state of the link stands in {read}"),
            Silence::Unread => format!("neither {source} nor {destination} can be read"),
            Silence::Unreadable => {
                format!("{}; {} (docs/runbook.md#row-unreadable)", self.why.meaning(), self.why.remedy())
            }
        };
        format!("{source} to {destination}: unknown: {what}")
    }
}
