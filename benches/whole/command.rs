//! A command, watched while it runs.

use std::io::Read;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use super::process;
use super::support::relay::{Config, PROGRAM};

/// How often the memory of a command is looked at.
const SAMPLE: Duration = Duration::from_millis(50);

/// A command that runs.
pub struct Running {
    child: Child,
    /// What it prints, taken in all along: it would wait with a full pipe.
    printed: JoinHandle<Vec<u8>>,
    began: Instant,
    used: Used,
}

/// What a command has used so far.
#[derive(Debug, Clone, Copy, Default)]
pub struct Used {
    /// MiB, at the most.
    pub resident: f64,
    /// Seconds of CPU.
    pub cpu: f64,
}

/// How a command ended, and what it used.
pub struct Ran {
    pub took: Duration,
    pub used: Used,
    pub status: ExitStatus,
    /// What it printed; null where it was killed.
    pub told: Value,
}

/// Starts a command that prints JSON.
pub fn start(config: &Config, arguments: &[&str]) -> Running {
    let mut command = Command::new(PROGRAM);
    command.args(arguments).args(["--output", "json"]).env("TABLERELAY_CONFIG", config.path());
    let mut child = command.stdout(Stdio::piped()).spawn().expect("the program starts");
    let mut pipe = child.stdout.take().expect("stdout was asked for");
    let printed = std::thread::spawn(move || {
        let mut printed = Vec::new();
        pipe.read_to_end(&mut printed).expect("it can be read");
        printed
    });
    Running { child, printed, began: Instant::now(), used: Used::default() }
}

/// Runs a command that prints JSON to its end.
pub async fn run(config: &Config, arguments: &[&str]) -> Ran {
    let mut running = start(config, arguments);
    while running.is_running() {
        tokio::time::sleep(SAMPLE).await;
    }
    running.ended()
}

impl Running {
    /// Looks at it once more.
    pub fn is_running(&mut self) -> bool {
        let pid = self.child.id().to_string();
        self.used.resident = self.used.resident.max(process::resident_mib_of(&pid));
        self.used.cpu = self.used.cpu.max(process::cpu_seconds_of(&pid));
        self.child.try_wait().expect("it is ours").is_none()
    }

    /// Ends it with SIGKILL.
    pub fn kill(mut self) -> Ran {
        self.child.kill().expect("it is ours");
        self.ended()
    }

    /// How it ended; waits for that.
    pub fn ended(mut self) -> Ran {
        let (status, took) = (self.child.wait().expect("it has ended"), self.began.elapsed());
        let printed = self.printed.join().expect("it does not panic");
        Ran { took, used: self.used, status, told: serde_json::from_slice(&printed).unwrap_or_default() }
    }
}
