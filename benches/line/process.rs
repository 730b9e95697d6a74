//! What this process has used, as Linux tells it.

use std::fs;

/// CPU seconds of this process so far.
pub fn cpu_seconds() -> f64 {
    cpu_seconds_of("self")
}

/// CPU seconds of a process so far.
pub fn cpu_seconds_of(pid: &str) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
    let ticks = |n: usize| fields.get(n).and_then(|field| field.parse::<f64>().ok()).unwrap_or(0.0);
    // utime and stime, in ticks of a hundredth of a second.
    (ticks(11) + ticks(12)) / 100.0
}

/// Resident memory of this process in MiB.
pub fn resident_mib() -> f64 {
    resident_mib_of("self")
}

/// Resident memory of a process in MiB.
pub fn resident_mib_of(pid: &str) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap_or("");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<f64>().ok()).unwrap_or(0.0) / 1_024.0
}
