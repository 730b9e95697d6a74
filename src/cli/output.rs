//! Printing results.

use std::io::Write;
use std::time::Duration;

use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;

use crate::model::Time;

/// Prints text to standard output. Control characters of whatever came from outside are written as escapes, so that none
/// of them steers the terminal.
///
/// # Errors
/// Where it cannot be written to, a reader that has gone away included.
pub(super) fn print(text: &str) -> std::io::Result<()> {
    write(&printable(text))
}

fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' => out.push(c),
            c if c.is_control() => out.extend(c.escape_default()),
            c => out.push(c),
        }
    }
    out
}

/// Prints text of our own that may be coloured.
///
/// # Errors
/// Where it cannot be written to, a reader that has gone away included.
pub(super) fn write(text: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", text.trim_end())?;
    out.flush()
}

/// Prints JSON for programs.
///
/// # Errors
/// Where it cannot be written.
pub(super) fn print_json(value: &impl Serialize) -> anyhow::Result<()> {
    Ok(write(&serde_json::to_string_pretty(value)?)?)
}

/// That nothing is there; or, where not everybody could be asked, that nothing is where somebody answered.
pub(super) fn nothing(text: &str, all_answered: bool) -> String {
    if all_answered {
        format!("{text}.")
    } else {
        format!("{text} in the regions that could be read, and not all could.")
    }
}

/// A table for people, as wide as the terminal.
pub(super) fn table(heads: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic).set_header(heads);
    table
}

/// A table as text, without the blanks at its edges.
pub(super) fn render(table: &Table) -> String {
    let lines = table.to_string();
    let lines: Vec<&str> = lines.lines().map(|line| line.strip_prefix(' ').unwrap_or(line).trim_end()).collect();
    lines.join("\n")
}

/// A duration for people: to the millisecond while it is short, in two units while it is long.
pub(super) fn duration(duration: Duration) -> String {
    match duration.as_secs() {
        seconds @ 0..10 => format!("{seconds}.{:03} s", duration.subsec_millis()),
        _ => age(duration),
    }
}

/// An age for people: to the second while it is short, in two units while it is long.
pub(super) fn age(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min {} s", seconds / 60, seconds % 60),
        7_200..172_800 => format!("{} h {} min", seconds / 3_600, seconds % 3_600 / 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3_600),
    }
}

/// A point in time for people: to the second.
pub(super) fn time(time: Time) -> String {
    let text = time.to_string();
    text.split_once('.').map_or(text.clone(), |(seconds, _)| format!("{seconds}Z"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_steers_the_terminal() {
        assert_eq!(printable("a\u{1b}[31mé\u{9b}1m\tb\nc"), "a\\u{1b}[31mé\\u{9b}1m\\tb\nc");
    }

    #[test]
    fn durations_read_well() {
        let texts = [1_234, 59_999, 125_000, 7_260_000, 200_000_000].map(|ms| duration(Duration::from_millis(ms)));
        assert_eq!(texts, ["1.234 s", "59 s", "2 min 5 s", "2 h 1 min", "2 d 7 h"]);
        assert_eq!(age(Duration::from_millis(2_900)), "2 s");
        assert_eq!(time(Time::from_unix_seconds(1_600_000_000)), "2020-09-13T12:26:40Z");
    }
}
