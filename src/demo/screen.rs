//! Where the demo is watched: a table that is redrawn in place, lines now and then, or nowhere.

use std::fmt;
use std::io::Write;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::frame::frame;
use super::headline::headline;
use super::picture::Picture;
use super::script::Stage;
use super::words::{Paint, count, span};

/// Where the demo is watched.
pub struct Screen(Kind);

enum Kind {
    Hidden,
    Live { bar: ProgressBar, paint: Paint },
    Lines { out: Box<dyn Write + Send>, next: Duration, stage: Option<Stage> },
}

/// How often a table is redrawn.
pub(super) const REDRAW: Duration = Duration::from_millis(200);
/// How often a line is written.
const LINE_EVERY: Duration = Duration::from_secs(1);

impl Screen {
    /// Nobody watches.
    pub fn hidden() -> Self {
        Self(Kind::Hidden)
    }

    /// A table that is redrawn in place, for a terminal.
    pub fn live(target: ProgressDrawTarget, colour: bool) -> Self {
        let bar = ProgressBar::with_draw_target(None, target);
        bar.set_style(ProgressStyle::with_template("{msg}").unwrap_or_else(|_| ProgressStyle::default_spinner()));
        Self(Kind::Live { bar, paint: Paint(colour) })
    }

    /// A line each second, and one whenever something happens: for files and pipes.
    pub fn lines(out: Box<dyn Write + Send>) -> Self {
        Self(Kind::Lines { out, next: Duration::ZERO, stage: None })
    }

    /// Whether anybody watches.
    pub(super) fn is_watched(&self) -> bool {
        !matches!(self.0, Kind::Hidden)
    }

    /// Shows what there is to see now.
    ///
    /// # Errors
    /// Where a line cannot be written, as into a closed pipe.
    pub(super) fn show(&mut self, picture: &Picture) -> std::io::Result<()> {
        match &mut self.0 {
            Kind::Hidden => Ok(()),
            Kind::Live { bar, paint } => {
                bar.set_message(frame(picture, *paint));
                bar.tick();
                Ok(())
            }
            Kind::Lines { out, next, stage } => {
                let news = stage.is_none_or(|stage| stage != picture.stage);
                if news {
                    *stage = Some(picture.stage);
                    let (_, [first, second]) = headline(picture);
                    writeln!(out, "{} {first}", stamp(picture))?;
                    if !second.is_empty() {
                        writeln!(out, "         {second}")?;
                    }
                }
                if news || picture.elapsed >= *next {
                    *next = picture.elapsed + LINE_EVERY;
                    writeln!(out, "{} {}", stamp(picture), line(picture))?;
                }
                out.flush()
            }
        }
    }

    /// Leaves what was shown last.
    pub(super) fn leave(&mut self) {
        if let Kind::Live { bar, .. } = &self.0 {
            bar.abandon();
        }
    }
}

impl fmt::Debug for Screen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Kind::Hidden => "Screen::hidden",
            Kind::Live { .. } => "Screen::live",
            Kind::Lines { .. } => "Screen::lines",
        })
    }
}

fn stamp(picture: &Picture) -> String {
    format!("{:>5.1} s ", picture.elapsed.as_secs_f64())
}

fn line(picture: &Picture) -> String {
    let sum = |of: fn(&super::picture::LinkLine) -> u64| count(picture.links.iter().map(of).sum());
    let lag = picture.links.iter().map(|link| link.lag).max().unwrap_or_default();
    format!(
        "written {}  applied {}  conflicts {}  backlog {}  lag {}",
        count(picture.counts.changes()),
        sum(|link| link.applied),
        sum(|link| link.conflicts),
        sum(|link| link.backlog),
        span(lag)
    )
}
