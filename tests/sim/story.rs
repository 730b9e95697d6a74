//! What to tell of a history that failed: one line to repeat it, and the story of the row.

use std::fmt::{self, Write};
use std::sync::OnceLock;

use tablerelay::model::RowId;
use tokio::time::Instant;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;

use crate::chronicle::{Book, Event, Touch};
use crate::history::Ended;
use crate::world::ACCOUNTS;

/// Prints what the daemons log, with the history's time (seconds since the first line), as far as `filter` asks for it.
pub fn log(filter: &str) {
    let filter = EnvFilter::new(filter);
    tracing_subscriber::fmt().with_env_filter(filter).with_timer(Clock::default()).with_writer(std::io::stdout).init();
}

/// The virtual clock.
#[derive(Default)]
struct Clock(OnceLock<Instant>);

impl FormatTime for Clock {
    fn format_time(&self, w: &mut Writer<'_>) -> fmt::Result {
        let now = Instant::now();
        write!(w, "{:>9.3}", (now - *self.0.get_or_init(|| now)).as_secs_f64())
    }
}

/// Tells of a failure.
pub fn tell(ended: &Ended) -> String {
    let Some(broken) = &ended.broken else { return String::new() };
    let book = ended.chronicle.book();
    let mut story = String::new();
    let _ = writeln!(story, "\nseed {} broke the promise: {}", ended.seed, broken.what);
    let _ = writeln!(story, "  {}", broken.text);
    let _ = writeln!(story, "repeat it: SIM_SEED={} cargo test --release --test sim", ended.seed);
    let _ = writeln!(story, "the world: {}", ended.shape);
    let named =
        broken.row.clone().or_else(|| book.rows.keys().find(|id| broken.text.contains(&id.to_string())).cloned());
    if let Some(id) = named {
        let _ = writeln!(story, "the story of {id}, seconds since the beginning:");
        row(&mut story, &book, &id);
    } else {
        let _ = writeln!(story, "what happened to all, seconds since the beginning:");
        for note in &book.notes {
            let _ = writeln!(story, "{:>9.3}  {}", note.at.as_secs_f64(), note.text);
        }
    }
    story
}

/// The story of each row whose name contains `name`, whether or not anything failed.
pub fn of_rows(ended: &Ended, name: &str) -> String {
    let book = ended.chronicle.book();
    let mut story = String::new();
    for id in book.rows.keys().filter(|id| id.to_string().contains(name)) {
        let _ = writeln!(story, "the story of {id}, seconds since the beginning:");
        row(&mut story, &book, id);
    }
    story
}

/// Every event of a row in order, with what happened around it.
fn row(story: &mut String, book: &Book, id: &RowId) {
    let mut notes = book.notes.iter().peekable();
    let moves = book.whereabouts.as_ref().map(|it| it.region);
    for event in &book.rows[id] {
        while let Some(note) = notes.next_if(|note| note.at <= event.at) {
            let _ = writeln!(story, "{:>9.3}            -- {}", note.at.as_secs_f64(), note.text);
        }
        let mut region = book.names[event.region].clone();
        if moves == Some(event.region) {
            region = format!("{region}/{}", ACCOUNTS[event.account]);
        }
        let _ = writeln!(story, "{:>9.3}  {region:<8}  {:<28}  {}", event.at.as_secs_f64(), event.line, touch(event));
    }
}

fn touch(event: &Event) -> String {
    match &event.touch {
        Touch::Put(stood) => format!("wrote {}  {}", stood.version, stood.content),
        Touch::Deleted(version) => format!("deleted (at {version})"),
        Touch::NothingToDelete(version) => format!("found nothing to delete (at {version})"),
        Touch::Refused(code) => format!("was refused: {code}"),
        Touch::Tombstone(version) => format!("raised the tombstone to {version}"),
        Touch::Collected(version) => format!("collected the tombstone {version}"),
        Touch::Announced { version, delete } => {
            format!("announced {} at {version}", if *delete { "a delete" } else { "a put" })
        }
        Touch::Moved(what) => format!("moved: {what}"),
        Touch::Ended(version) => format!("ended the record of {version}"),
    }
}
