//! The program itself: its commands run to their end, its daemons as child processes.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use tokio::time::Instant;

/// The program that these tests were built with.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_tablerelay");

/// A configuration file in a directory of its own.
pub struct Config {
    directory: TempDir,
}

impl Config {
    pub fn new(text: &str) -> Self {
        let directory = tempfile::tempdir().expect("there is room for temporary files");
        std::fs::write(directory.path().join("relay.toml"), text).expect("the directory can be written to");
        Self { directory }
    }

    pub fn path(&self) -> PathBuf {
        self.directory.path().join("relay.toml")
    }

    /// Runs a command on this file, with nothing in the environment but what is given.
    pub fn run(&self, arguments: &[&str], environment: &[(&str, &str)]) -> Ended {
        let path = self.path();
        let mut command = Command::new(PROGRAM);
        command.args(arguments).env_clear().env("TABLERELAY_CONFIG", path).envs(environment.iter().copied());
        Ended::of(&command.output().expect("the program starts"))
    }
}

/// How a command ended.
#[derive(Debug)]
pub struct Ended {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Ended {
    fn of(output: &Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("UTF-8 is printed");
        Self { code: output.status.code(), out: text(&output.stdout), err: text(&output.stderr) }
    }
}

/// A daemon. It ends when it is dropped, and when the test process does.
pub struct Daemon {
    shell: Child,
    pipe: Option<ChildStdin>,
    pub pid: String,
    lines: Arc<Mutex<Vec<String>>>,
    /// Where its endpoint is.
    pub url: String,
}

/// Says the daemon's pid and how it ended; kills it when our pipe ends.
const SHELL: &str = r#"exec 3<&0
"$@" </dev/null 3<&- 2>&1 & pid=$!
{ read -r _ <&3; kill -9 "$pid"; } 2>/dev/null &
echo "pid $pid"
wait "$pid"
echo "exit $?""#;

impl Daemon {
    /// Starts the daemon of a region, with JSON logs at `level`, and waits until its endpoint is up.
    pub fn start(config: &Config, region: &str, level: &str, environment: &[(&str, &str)]) -> Self {
        let mut shell = Command::new("sh")
            .args(["-c", SHELL, "sh", PROGRAM, "run", "--region", region, "--log-format", "json", "--log-level", level])
            .env("TABLERELAY_CONFIG", config.path())
            .env("TABLERELAY__ADMIN__LISTEN", "127.0.0.1:0")
            .envs(environment.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // Where the shell says what killed the daemon, which the test knows.
            .stderr(Stdio::null())
            .spawn()
            .expect("sh should start");
        let output = BufReader::new(shell.stdout.take().expect("stdout was asked for"));
        let lines = Arc::new(Mutex::new(Vec::new()));
        let kept = lines.clone();
        std::thread::spawn(move || {
            output.lines().map_while(Result::ok).for_each(|line| kept.lock().expect("one at a time").push(line));
        });
        let pipe = shell.stdin.take();
        let mut daemon = Self { shell, pipe, pid: String::new(), lines, url: String::new() };
        daemon.pid = daemon.wait_for("its pid", |line| line.strip_prefix("pid ").map(str::to_owned));
        let admin = daemon.event("daemon-starting")["admin"].as_str().expect("an address").to_owned();
        daemon.url = format!("http://{admin}");
        daemon
    }

    /// Everything that it has said.
    pub fn said(&self) -> String {
        self.lines.lock().expect("one at a time").join("\n")
    }

    /// Waits for a log line with this `event`.
    pub fn event(&self, event: &str) -> Value {
        self.wait_for(event, |line| {
            let value: Value = serde_json::from_str(line).ok()?;
            (value["event"] == event).then_some(value)
        })
    }

    fn wait_for<T>(&self, what: &str, wanted: impl Fn(&str) -> Option<T>) -> T {
        within(what, || self.lines.lock().expect("one at a time").iter().find_map(|line| wanted(line)), || self.said())
    }

    /// Sends a signal by its name: `TERM`, `KILL`.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([&format!("-{name}"), &self.pid]).status().expect("kill runs");
        assert!(sent.success(), "the daemon is gone already; it said {}", self.said());
    }

    /// Waits for its end: the exit code, 128 and the signal where it was killed.
    pub fn ended(&self) -> i32 {
        self.wait_for("its end", |line| line.strip_prefix("exit ")?.parse().ok())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        drop(self.pipe.take());
        drop(self.shell.wait());
    }
}

/// Polls until there is something, for half a minute.
fn within<T>(what: &str, mut look: impl FnMut() -> Option<T>, said: impl Fn() -> String) -> T {
    let deadline = Instant::now() + super::PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited {:?} for {what}; it said\n{}", super::PATIENCE, said());
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A table of a region with one account, as in a configuration.
pub fn region(name: &str, role: &str, connection_string: &str) -> String {
    format!(
        "[region.{name}]\nrole = \"{role}\"\n[region.{name}.account.{name}1]\nconnection_string = \"{connection_string}\"\n"
    )
}
