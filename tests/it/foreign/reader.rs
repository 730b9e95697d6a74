//! A cache-aside reader of `examples/` in a process of its own.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};

use serde_json::{Value, json};
use tablerelay::model::RowId;

use super::TABLE;
use crate::support::PATIENCE;
use crate::support::deployment::Site;
use crate::support::programs::{example, node, python};

/// The reader of one language. It ends when it is dropped, since its input then does.
pub struct Reader {
    pub language: &'static str,
    process: Child,
    input: Option<ChildStdin>,
    lines: Receiver<String>,
}

impl Reader {
    pub fn in_python(site: &Site) -> Self {
        Self::start(site, "python", python(), &["-c", include_str!("reader.py")])
    }

    pub fn in_javascript(site: &Site) -> Self {
        Self::start(site, "javascript", node(), &["--input-type=module", "--eval", include_str!("reader.mjs")])
    }

    fn start(site: &Site, language: &'static str, program: PathBuf, arguments: &[&str]) -> Self {
        let mut process = Command::new(program)
            .args(arguments)
            .current_dir(example(language))
            .env("TABLES_CONNECTION", site.account.connection_string())
            .env("TABLE", TABLE)
            .env("REDIS_URL", site.redis.url())
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let output = BufReader::new(process.stdout.take().expect("stdout was asked for"));
        let (sender, lines) = channel();
        std::thread::spawn(move || output.lines().map_while(Result::ok).for_each(|line| drop(sender.send(line))));
        let input = process.stdin.take();
        Self { language, process, input, lines }
    }

    /// What it returns for a row: its JSON, null where there is none.
    pub fn get(&mut self, id: &RowId) -> Value {
        self.say("get", id);
        self.reply()
    }

    /// Lets it miss the cache and read the row, and no more until [`Reader::go_on`].
    pub fn read_slowly(&mut self, id: &RowId) {
        self.say("slow", id);
        assert_eq!(self.line(), "read", "{}", self.language);
    }

    /// Lets it fill the cache with what it has read, which it returns.
    pub fn go_on(&mut self) -> Value {
        self.write("");
        self.reply()
    }

    fn say(&mut self, kind: &str, id: &RowId) {
        self.write(&json!([kind, id.partition.as_str(), id.row.as_str()]).to_string());
    }

    fn write(&mut self, line: &str) {
        let input = self.input.as_mut().expect("it is open until the drop");
        writeln!(input, "{line}").expect("the reader runs");
    }

    fn reply(&mut self) -> Value {
        let line = self.line();
        serde_json::from_str(&line).unwrap_or_else(|err| panic!("{} said {line}: {err}", self.language))
    }

    fn line(&mut self) -> String {
        let line = self.lines.recv_timeout(PATIENCE);
        line.unwrap_or_else(|err| panic!("the reader in {} does not answer: {err}", self.language))
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        drop(self.input.take());
        drop(self.process.wait());
    }
}
