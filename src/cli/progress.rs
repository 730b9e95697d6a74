//! How far a command is that goes through rows.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use tokio::time::Instant;

/// How often a log line says how far it is.
const EVERY: Duration = Duration::from_secs(5);

/// Whether progress is drawn: standard error is a terminal.
pub(super) fn draws() -> bool {
    std::io::stderr().is_terminal()
}

/// A bar on a terminal, a log line now and then elsewhere. How many rows there are, no store tells.
pub(super) struct Progress {
    bar: Option<ProgressBar>,
    next: Instant,
}

impl Progress {
    pub fn new() -> Self {
        let bar = draws().then(|| {
            let bar = ProgressBar::new_spinner();
            if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} {pos} rows, {per_sec}, {elapsed}") {
                bar.set_style(style);
            }
            bar
        });
        Self { bar, next: Instant::now() + EVERY }
    }

    /// As [`tell`](Self::tell), of about so many rows in all, of which so many are gone through.
    pub fn tell_of(&mut self, message: String, (rows, all): (u64, u64), log: impl FnOnce()) {
        if let Some(bar) = self.bar.as_ref().filter(|bar| bar.length() != Some(all)) {
            bar.set_length(all);
            if let Ok(style) = ProgressStyle::with_template("{msg} {bar:30} {pos} of about {len} rows, {elapsed}") {
                bar.set_style(style);
            }
        }
        self.tell(message, rows, log);
    }

    /// Draws `message` and the rows so far, or logs a line where one is due.
    pub fn tell(&mut self, message: String, rows: u64, log: impl FnOnce()) {
        if let Some(bar) = &self.bar {
            bar.set_message(message);
            return bar.set_position(rows);
        }
        if Instant::now() >= self.next {
            self.next = Instant::now() + EVERY;
            log();
        }
    }

    pub fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
