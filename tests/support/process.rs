//! Servers as child processes that end with the test, however it ends.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

/// A child process. A shell between us and it waits for the end of our pipe and then kills it: that end comes with
/// `drop`, and also when the test process is killed or ends with servers in statics, which are never dropped.
pub struct Process {
    watchdog: Child,
    pipe: Option<ChildStdin>,
    lines: Mutex<Receiver<String>>,
    pid: String,
}

/// The child says its pid first, which stays the program's. It keeps its output but not our pipe; the shell lets go of the output, which so ends with the child. `kill` goes
/// by pid, which stays the child's until the shell has waited for it.
const WATCHDOG: &str = r#"sh -c 'echo "pid $$"; exec "$@"' sh "$@" </dev/null 2>&1 & pid=$!; exec >&-; read -r _; kill -9 "$pid" 2>/dev/null; wait "$pid" 2>/dev/null"#;

impl Process {
    /// Starts `program` in `directory`.
    pub fn start(program: &Path, arguments: &[&str], environment: &[(&str, &str)], directory: &Path) -> Self {
        let mut watchdog = Command::new("sh")
            .args(["-c", WATCHDOG, "sh"])
            .arg(program)
            .args(arguments)
            .envs(environment.iter().copied())
            .current_dir(directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("sh should start");
        let output = BufReader::new(watchdog.stdout.take().expect("stdout was asked for"));
        let (sender, lines) = channel();
        // Goes on reading when nobody listens any more: a full pipe would stop the server.
        std::thread::spawn(move || output.lines().map_while(Result::ok).for_each(|line| drop(sender.send(line))));
        let pipe = watchdog.stdin.take();
        let mut process = Self { watchdog, pipe, lines: Mutex::new(lines), pid: String::new() };
        process.pid = process.wait_for("pid", |line| line.strip_prefix("pid ").map(str::to_owned));
        process
    }

    /// Sends a signal by its name: `STOP`, `CONT`.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([&format!("-{name}"), &self.pid]).status().expect("kill runs");
        assert!(sent.success(), "it is gone already");
    }

    /// Asks it to end, and waits until it has: what it had to save is saved, and its ports are free.
    ///
    /// # Panics
    /// After a minute.
    pub fn terminate(&mut self) {
        self.signal("TERM");
        let lines = self.lines.get_mut().expect("one at a time");
        while match lines.recv_timeout(Duration::from_secs(60)) {
            Ok(_) => true,
            Err(RecvTimeoutError::Timeout) => panic!("it was asked to end a minute ago and has not"),
            Err(RecvTimeoutError::Disconnected) => false,
        } {}
        self.end();
    }

    fn end(&mut self) {
        drop(self.pipe.take());
        drop(self.watchdog.wait());
    }

    /// What it has said since it was last listened to.
    pub fn said(&self) -> Vec<String> {
        self.lines.lock().expect("one at a time").try_iter().collect()
    }

    /// Waits for a line of output that `wanted` makes something of.
    ///
    /// # Panics
    /// After a minute, or at the end of the output, with all that was said.
    pub fn wait_for<T>(&self, what: &str, wanted: impl Fn(&str) -> Option<T>) -> T {
        let lines = self.lines.lock().expect("one at a time");
        let mut said = Vec::new();
        loop {
            let line = match lines.recv_timeout(Duration::from_secs(60)) {
                Ok(line) => line,
                Err(RecvTimeoutError::Timeout) => panic!("no {what} within a minute; it said {said:#?}"),
                Err(RecvTimeoutError::Disconnected) => panic!("it ended without {what}; it said {said:#?}"),
            };
            if let Some(found) = wanted(&line) {
                return found;
            }
            said.push(line);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
    }
}
