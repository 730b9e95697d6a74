//! What came out, for people and for programs.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use super::compare::Difference;
use super::counts::Counts;
use super::words::{Paint, count, given, of, span};
use crate::closed_list;
use crate::model::Region;

closed_list! {
    /// What the comparison came to.
    pub enum Outcome {
        Equal = "equal",
            "all regions hold the same rows, and every cache what its region holds",
            "none";
        Differ = "differ",
            "a row is not as it should be; the differences name it",
            "report it, with the seed";
        Unsettled = "unsettled",
            "the feeds were not empty by the deadline, so that nothing can be said",
            "give the demo more of the machine, or a lower rate; if it repeats, report it with the seed";
    }
}

/// How many differences are listed.
const LISTED: usize = 10;

/// What came out of a run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Verdict {
    /// The form of this document: 1.
    pub schema: u32,
    /// What the comparison came to.
    pub outcome: Outcome,
    /// The regions.
    pub regions: Vec<Region>,
    /// What the writers' choices were drawn from.
    pub seed: u64,
    /// Distinct rows that were compared over all regions.
    pub rows: usize,
    /// Cache entries that were compared with rows, over all regions.
    pub cached: usize,
    /// Rows that one writer alone wrote, compared with what that writer was told.
    pub owed: usize,
    /// Acknowledged changes: single writes and transactions.
    pub changes: u64,
    /// The same by kind, and what went wrong.
    pub written: Counts,
    /// Rows that were changed at a destination.
    pub applied: u64,
    /// Rows of which a destination held a newer version.
    pub conflicts: u64,
    /// Rows whose version was lifted, since the clocks of two writers of one region disagreed.
    pub lifted: u64,
    /// Requests to storage accounts, by writers and daemons, polls included.
    pub requests: u64,
    /// How long the writers wrote, in seconds.
    #[serde(rename = "writing_seconds", serialize_with = "seconds")]
    pub writing: Duration,
    /// How long it took from the last write until all feeds were empty, in seconds.
    #[serde(rename = "settling_seconds", serialize_with = "seconds")]
    pub settling: Duration,
    /// How long all of it took, in seconds.
    #[serde(rename = "elapsed_seconds", serialize_with = "seconds")]
    pub elapsed: Duration,
    /// Records left in the feeds, where there are any.
    pub left: BTreeMap<Region, usize>,
    /// How many rows are not as they should be.
    pub difference_count: usize,
    /// The first of them.
    pub differences: Vec<Difference>,
}

fn seconds<S: serde::Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64((duration.as_secs_f64() * 1_000.0).round() / 1_000.0)
}

impl Verdict {
    /// Whether everything is as it should be.
    pub fn is_equal(&self) -> bool {
        self.outcome == Outcome::Equal
    }

    /// Sets the outcome from what was found, and whether all had come to rest before.
    pub(super) fn judged(mut self, settled: bool, mut differences: Vec<Difference>) -> Self {
        self.outcome = match (settled, differences.is_empty()) {
            (false, _) => Outcome::Unsettled,
            (true, false) => Outcome::Differ,
            (true, true) => Outcome::Equal,
        };
        self.difference_count = differences.len();
        differences.truncate(LISTED);
        self.differences = differences;
        self
    }

    /// The verdict as text of at most 80 columns, with a newline at its end.
    pub fn render(&self, colour: bool) -> String {
        let paint = Paint(colour);
        let mut lines = vec![String::new(), format!(" {}", self.sentence(paint)), String::new()];
        for (what, number, note) in self.numbers() {
            lines.push(format!(" {}  {number:>8}  {}", paint.faint(&format!("{what:<15}")), paint.faint(&note)));
        }
        for difference in &self.differences {
            lines.extend([String::new(), format!(" {}", difference.to_string().replace('\n', "\n "))]);
        }
        let more = self.difference_count - self.differences.len();
        if more > 0 {
            lines.extend([String::new(), format!(" and {} more", count(more as u64))]);
        }
        lines.join("\n") + "\n"
    }

    fn sentence(&self, paint: Paint) -> String {
        let rows = of(self.rows as u64, "row");
        match self.outcome {
            Outcome::Equal => {
                let said = format!("All three regions hold the same {rows}, and so do their caches.");
                format!("{} {}", paint.good("✓"), paint.bold(&said))
            }
            Outcome::Differ => {
                let said = format!("The regions do not agree: {}.", of(self.difference_count as u64, "difference"));
                format!("{} {}", paint.bad("✗"), paint.bold(&said))
            }
            Outcome::Unsettled => {
                let left: Vec<_> =
                    self.left.iter().map(|(region, n)| format!("{} in {region}", of(*n as u64, "record"))).collect();
                let said = format!("The feeds are not empty {} after the last write: ", span(self.settling));
                format!("{} {}{}", paint.bad("✗"), paint.bold(&said), left.join(", "))
            }
        }
    }

    fn numbers(&self) -> Vec<(&'static str, String, String)> {
        let written = &self.written;
        let mut rows = of(written.rows, "row");
        if written.refused > 0 {
            rows += &format!("; {} came too late and were refused", count(written.refused));
        }
        if written.failed > 0 {
            rows += &format!("; {} failed", count(written.failed));
        }
        let times = format!("{} of writing, {} until the feeds were empty", given(self.writing), span(self.settling));
        let mut numbers = vec![
            ("changes written", count(self.changes), rows),
            ("applied", count(self.applied), "rows written by the daemons in the other regions".to_owned()),
            ("conflicts", count(self.conflicts), "written in two regions at once: the newest stands".to_owned()),
            ("lifted", count(self.lifted), "a region's clocks disagreed: its own order stands".to_owned()),
            ("crashes", count(written.crashes), "announced, never written: nothing is left of them".to_owned()),
            ("kept", count(self.owed as u64), "rows of one writer each are as that writer was told".to_owned()),
            ("requests", count(self.requests), "to three accounts, by writers and daemons, polls too".to_owned()),
            ("elapsed", span(self.elapsed), times),
        ];
        if !self.is_equal() {
            // What the run was meant to show is not what it showed.
            numbers.retain(|(what, _, _)| *what != "kept");
        }
        numbers
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::assert_well_formed;

    #[test]
    fn outcomes_are_a_closed_list() {
        assert_well_formed::<Outcome>();
    }
}
