//! One line that says what is going on.

use super::picture::Picture;
use super::script::Stage;
use super::words::{of, span};
use super::world::SETTLE_WINDOW;

/// How it is to be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tone {
    Good,
    Busy,
    Bad,
}

/// What is going on, in two lines of at most 70 characters.
pub(super) fn headline(picture: &Picture) -> (Tone, [String; 2]) {
    let cut_off = &picture.cut_off;
    let (waiting, _) = picture.waiting();
    let lines = |first: String, second: String| [first, second];
    match picture.stage {
        Stage::Flowing => (
            Tone::Good,
            lines(
                "All regions write. Each change goes to the others and to the caches.".to_owned(),
                "Some rows are written everywhere at once: the newest version wins.".to_owned(),
            ),
        ),
        Stage::CutOff => (
            Tone::Bad,
            lines(
                format!("{cut_off} is cut off. It goes on writing by itself, the others without it."),
                format!("Nothing is lost: {} to be delivered when it is back.", of(waiting, "row")),
            ),
        ),
        Stage::CatchingUp => (
            Tone::Busy,
            lines(
                format!("{cut_off} is back, and catches up: {} on the way, both ways.", of(waiting, "row")),
                "What was written on both sides meanwhile: the newest version wins.".to_owned(),
            ),
        ),
        Stage::CaughtUp(after) => (
            Tone::Good,
            lines(
                format!("{cut_off} caught up {} after it was back. Everything flows again.", span(after)),
                "Some rows are written everywhere at once: the newest version wins.".to_owned(),
            ),
        ),
        Stage::Settling => (
            Tone::Busy,
            lines(
                format!("The writers have stopped. {} left in the feeds.", of(picture.records() as u64, "record")),
                format!("What was overtaken stays there for the settle window of {} s.", SETTLE_WINDOW.as_secs()),
            ),
        ),
        Stage::Compared => {
            (Tone::Good, lines("All regions and caches have been compared, row by row.".to_owned(), String::new()))
        }
    }
}
