//! For tests: the log lines of this thread, as programs read them.

use std::io::Write;
use std::sync::{Arc, Mutex};

use serde_json::Value;
use tracing::subscriber::DefaultGuard;

use super::log::subscriber;
use super::{LogFormat, LogLevel};

/// What is written to, and read from.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sink(Arc<Mutex<Vec<u8>>>);

impl Sink {
    pub fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Hears the lines of level INFO and above that this thread logs as long as it lives.
#[derive(Debug)]
pub(crate) struct Heard {
    sink: Sink,
    _guard: DefaultGuard,
}

impl Heard {
    pub fn new() -> Self {
        let sink = Sink::default();
        let writer = sink.clone();
        let subscriber = subscriber(LogFormat::Json, LogLevel::Info, false, move || writer.clone());
        Self { sink, _guard: tracing::subscriber::set_default(subscriber) }
    }

    /// The lines so far.
    pub fn lines(&self) -> Vec<Value> {
        self.sink.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Level and event of each line so far.
    pub fn events(&self) -> Vec<(String, String)> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        self.lines().iter().map(|line| (text(&line["level"]), text(&line["event"]))).collect()
    }
}
