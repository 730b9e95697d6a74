//! The report of a drill as Markdown, for whoever keeps it.

use std::fmt::{self, Write};

use super::compare::{Comparison, Difference};
use super::report::{DrillReport, FailedOver};
use crate::model::ClosedList;
use crate::ops::{LinkRisk, Risk};

impl DrillReport {
    /// As Markdown.
    pub fn markdown(&self) -> String {
        let mut text = String::new();
        // Nothing that is written into a string fails.
        let _ = self.write(&mut text);
        text
    }

    fn write(&self, out: &mut String) -> fmt::Result {
        let verdict = self.verdict();
        writeln!(out, "# Drill: {} cut off\n", self.region)?;
        writeln!(out, "**{}**: {}.\n", verdict, verdict.meaning())?;
        if let Some(failed) = &self.failed {
            writeln!(out, "It ended at the step *{}*: {}.\n", failed.step, cell(&failed.why))?;
            failed.next.iter().try_for_each(|next| writeln!(out, "- {}", cell(next)))?;
            writeln!(out)?;
        }
        let roles: Vec<String> = self.roles.iter().map(|(region, role)| format!("{region} ({role})")).collect();
        writeln!(out, "| | |\n|---|---|")?;
        writeln!(out, "| Held by | {} |", cell(&self.who))?;
        if !self.why.is_empty() {
            writeln!(out, "| Why | {} |", cell(&self.why))?;
        }
        writeln!(out, "| From | {} |\n| To | {} |", self.began, self.ended)?;
        writeln!(out, "| Topology | {}: {} |", self.topology, roles.join(", "))?;
        let cut = self.cut_seconds.map_or_else(|| "not at all".to_owned(), |seconds| format!("{seconds:.1} s"));
        writeln!(out, "| Cut off for | {cut} |")?;
        self.write_steps(out)?;
        match &self.failover {
            Some(failover) => self.write_failover(out, failover)?,
            None if self.cut_seconds.is_some() => {
                writeln!(out, "\n{} is no writer, or its role did not move: nothing was failed over.", self.region)?;
            }
            None => {}
        }
        self.write_recovery(out)?;
        self.compared.iter().try_for_each(|compared| write_compared(out, compared))
    }

    fn write_steps(&self, out: &mut String) -> fmt::Result {
        writeln!(out, "\n## Steps\n\n| Step | What | Took |\n|---|---|---|")?;
        for done in &self.steps {
            writeln!(out, "| {} | {} | {:.1} s |", done.step, done.step.meaning(), done.seconds)?;
        }
        Ok(())
    }

    fn write_failover(&self, out: &mut String, failover: &FailedOver) -> fmt::Result {
        let FailedOver { to, epoch, estimate, exact, serving_seconds, command_seconds, unsent } = failover;
        writeln!(out, "\n## Failover to {to}\n")?;
        writeln!(
            out,
            "{to} served writes {serving_seconds:.1} s after {} was cut off, {command_seconds:.1} s after the failover began (epoch {epoch}).\n",
            self.region
        )?;
        writeln!(out, "| Link | At risk, as others knew | At risk, by the rows | Last Sync Time |\n|---|---|---|---|")?;
        for link in &exact.links {
            let known = estimate.as_ref().and_then(|risk| of_link(risk, link));
            let last_sync = known.and_then(|known| known.last_sync);
            let last_sync = last_sync.map_or_else(|| "never".to_owned(), |time| time.to_string());
            let (known, rows) = (known.map_or_else(|| "unknown".to_owned(), rows), rows(link));
            writeln!(out, "| {} to {} | {known} | {rows} | {last_sync} |", self.region, link.to)?;
        }
        match unsent {
            None => writeln!(out, "\nWhat {} had not sent was not counted.", self.region),
            Some(unsent) => {
                writeln!(
                    out,
                    "\nTruly unsent, as {} counted when it was back: **{} rows**, {} of them written after the failover.",
                    self.region, unsent.rows, unsent.later
                )?;
                for region in &unsent.unasked {
                    writeln!(out, "{region} could not be asked, and may have had some of them.")?;
                }
                Ok(())
            }
        }
    }

    fn write_recovery(&self, out: &mut String) -> fmt::Result {
        let times = [
            ("its role was known", self.role_seconds),
            ("everything that waited was delivered on every link", self.recovered_seconds),
        ];
        if times.iter().all(|(_, seconds)| seconds.is_none()) {
            return Ok(());
        }
        writeln!(out, "\n## Recovery\n\n| After the cut had ended | |\n|---|---|")?;
        for (what, seconds) in times {
            if let Some(seconds) = seconds {
                writeln!(out, "| {what} | {seconds:.1} s |")?;
            }
        }
        match self.back_seconds {
            Some(seconds) => writeln!(out, "\nThe planned failover back took {seconds:.1} s."),
            None => Ok(()),
        }
    }
}

fn of_link<'a>(risk: &'a Risk, link: &LinkRisk) -> Option<&'a LinkRisk> {
    risk.links.iter().find(|known| known.to == link.to)
}

fn rows(link: &LinkRisk) -> String {
    let bound = if link.at_least { "at least " } else { "" };
    link.rows.map_or_else(|| "unknown".to_owned(), |rows| format!("{bound}{rows} rows"))
}

fn write_compared(out: &mut String, compared: &Comparison) -> fmt::Result {
    writeln!(out, "\n## Rows\n\n| Table | Rows | Differences |\n|---|---|---|")?;
    for table in &compared.tables {
        writeln!(out, "| {} | {} | {} |", table.table, table.rows, table.differences)?;
    }
    if compared.at_least {
        writeln!(out, "\nToo many rows differed to look at all of them again: there may be more differences.")?;
    }
    if compared.named.is_empty() {
        return Ok(());
    }
    writeln!(out)?;
    compared.named.iter().try_for_each(|row| write_difference(out, row))?;
    let more = compared.differences().saturating_sub(compared.named.len() as u64);
    if more > 0 {
        writeln!(out, "- and {more} more")?;
    }
    Ok(())
}

fn write_difference(out: &mut String, row: &Difference) -> fmt::Result {
    let key = format!("{}({:?},{:?})", row.table, row.partition, row.row);
    let held = row.held.iter().map(|(region, held)| match (&held.version, held.absent) {
        (None, _) => format!("{region} has nothing"),
        (Some(version), true) => format!("{region} has deleted it as {version}"),
        (Some(version), false) => format!("{region} has {version}"),
    });
    writeln!(out, "- `{}`: {}", key.replace('`', "'"), held.collect::<Vec<_>>().join(", "))
}

/// Text from outside in a cell or a line of its own.
fn cell(text: &str) -> String {
    text.replace(['\n', '\r'], " ").replace('|', "\\|")
}
