//! Log lines, for people or for machines.
//!
//! Only our own lines follow the configured level. Libraries are held to warnings whatever it is: what some of them
//! write at debug and trace holds whole requests, headers and all.

use std::any::Any;

use tracing::level_filters::LevelFilter;
use tracing::{Subscriber, error};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;

use super::Event;
use crate::closed_list;
use crate::model::ClosedList;

closed_list! {
    /// In which form log lines are written.
    pub enum LogFormat {
        Human = "human", "one line of text each, in colour where standard error is a terminal", "none";
        Json = "json", "one JSON object each, for a log collector", "none";
    }
}

closed_list! {
    /// From which level on a line is written.
    pub enum LogLevel {
        Error = "error", "a person must act", "none";
        Warn = "warn", "and what goes wrong and is dealt with", "none";
        Info = "info", "and what changes state", "none";
        Debug = "debug", "and what is decided on the way", "none";
        Trace = "trace", "and every step", "none";
    }
}

impl LogLevel {
    fn filter(self) -> LevelFilter {
        match self {
            Self::Error => LevelFilter::ERROR,
            Self::Warn => LevelFilter::WARN,
            Self::Info => LevelFilter::INFO,
            Self::Debug => LevelFilter::DEBUG,
            Self::Trace => LevelFilter::TRACE,
        }
    }
}

/// A log line could not be set up: there is a subscriber already.
pub type InstallError = tracing::subscriber::SetGlobalDefaultError;

/// Writes log lines of the whole process to standard error.
///
/// # Errors
/// Where it was called before.
pub fn install(format: LogFormat, level: LogLevel) -> Result<(), InstallError> {
    use std::io::IsTerminal;
    let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    tracing::subscriber::set_global_default(subscriber(format, level, colour, std::io::stderr))?;
    std::panic::set_hook(Box::new(panicked));
    Ok(())
}

/// What a panic said.
pub fn panic_text(payload: &dyn Any) -> &str {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("(no text)")
}

/// A panic is a line like every other, not text between JSON objects.
fn panicked(panic: &std::panic::PanicHookInfo<'_>) {
    let text = panic_text(panic.payload());
    let at = panic.location().map(ToString::to_string);
    error!(event = Event::Panicked.as_str(), at, text, "a thread panicked");
}

/// What writes log lines to `writer`.
pub fn subscriber<W>(format: LogFormat, level: LogLevel, colour: bool, writer: W) -> impl Subscriber + Send + Sync
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    // Not above the configured level, should that be error.
    let libraries = level.filter().min(LevelFilter::WARN);
    let targets = Targets::new().with_default(libraries).with_target("tablerelay", level.filter());
    tracing_subscriber::registry().with(layer(format, colour, writer).with_filter(targets))
}

fn layer<S, W>(format: LogFormat, colour: bool, writer: W) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let layer = tracing_subscriber::fmt::layer().with_writer(writer);
    match format {
        LogFormat::Human => layer.with_ansi(colour).with_target(false).boxed(),
        LogFormat::Json => layer.json().flatten_event(true).with_current_span(false).boxed(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::heard::Sink;
    use super::*;

    fn logged(format: LogFormat, level: LogLevel) -> String {
        let lines = Sink::default();
        let sink = lines.clone();
        tracing::subscriber::with_default(subscriber(format, level, false, move || sink.clone()), || {
            let event = Event::LinkBackingOff.as_str();
            tracing::warn!(event, destination = "north", attempt = 3, "destination refused the write");
            tracing::trace!("a step");
            tracing::trace!(target: "azure_core::http", "authorization: hunter2");
            tracing::info!(target: "redis", "AUTH hunter2");
            tracing::warn!(target: "rustls", "a certificate is about to expire");
        });
        lines.text()
    }

    #[test]
    fn a_line_is_text_or_json() {
        let human = logged(LogFormat::Human, LogLevel::Info);
        assert!(human.contains("WARN") && human.contains("destination refused the write"), "{human}");
        assert!(human.contains("event=\"link-backing-off\"") && human.contains("destination=\"north\""), "{human}");
        let json = logged(LogFormat::Json, LogLevel::Info);
        let first: serde_json::Value = serde_json::from_str(json.lines().next().unwrap()).unwrap();
        assert_eq!(first["event"], "link-backing-off");
        assert_eq!(first["attempt"], 3);
        assert_eq!(first["level"], "WARN");
        assert_eq!(first["message"], "destination refused the write");
        assert!(first["timestamp"].is_string() && first["target"].is_string(), "{first}");
    }

    #[test]
    fn libraries_are_held_to_warnings_at_every_level() {
        for &level in LogLevel::ALL {
            let text = logged(LogFormat::Human, level);
            assert!(!text.contains("hunter2"), "{level}: {text}");
            assert_eq!(text.contains("a step"), level == LogLevel::Trace, "{level}: {text}");
            assert_eq!(text.contains("certificate"), level != LogLevel::Error, "{level}: {text}");
        }
    }

    #[test]
    fn forms_and_levels_are_closed_lists() {
        crate::model::assert_well_formed::<LogFormat>();
        crate::model::assert_well_formed::<LogLevel>();
    }
}
