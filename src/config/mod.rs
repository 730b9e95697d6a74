//! What was typed, then what is usable.
//!
//! The raw form is a tree in which every value knows the line or the variable that it came from. The checked form is
//! [`Settings`]: whoever holds one need not look at it twice. Between the two every problem is found, not just the
//! first, and each names the file, the key and what it should be.
//!
//! Secrets come in through [`Secret`] and are shown nowhere: not in Debug, not in what is printed, not in messages,
//! which quote a value as it was written (`${NAME}`), never what a variable holds.

mod check;
mod copy;
mod document;
mod duration;
mod environment;
mod kinds;
mod print;
mod problem;
mod region;
mod routes;
mod secret;
mod section;
mod settings;
mod tables;

#[cfg(test)]
mod tests;

use std::path::Path;

use document::{Table, parse};
pub use duration::typed_duration;
pub use environment::Environment;
pub use problem::{Origin, Problem, Problems};
pub use secret::Secret;
use section::{Findings, Section};
pub use settings::{
    Access, AccountSettings, AdminSettings, CacheSettings, CopySettings, CredentialChoice, FailoverSettings,
    HealthSettings, HttpSettings, LogSettings, RegionSettings, ReplicationSettings, ScrubberSettings, Settings,
    TierSettings, TombstoneSettings,
};

/// Reads and checks a configuration file.
///
/// # Errors
/// Everything that is wrong with it, or that it cannot be read.
pub fn load(file: &Path, environment: &Environment) -> Result<Settings, Problems> {
    let text = std::fs::read_to_string(file).map_err(|err| {
        let message = format!("cannot be read: {err}; --config or TABLERELAY_CONFIG should name a TOML file");
        Problems::new(file, vec![Problem { origin: Origin::File, key: String::new(), message }])
    })?;
    read(file, &text, environment)
}

/// Checks the text of a configuration; `file` is only what problems call it.
///
/// # Errors
/// Everything that is wrong with it.
pub fn read(file: &Path, text: &str, environment: &Environment) -> Result<Settings, Problems> {
    let (settings, findings) = examine(text, environment);
    let (problems, _) = findings.into_parts();
    if problems.is_empty() { Ok(settings) } else { Err(Problems::new(file, problems)) }
}

fn examine(text: &str, environment: &Environment) -> (Settings, Findings) {
    let mut problems = Vec::new();
    let mut table: Table = parse(text, &mut problems);
    environment.override_keys(&mut table, &mut problems);
    environment.expand(&mut table, "", &mut problems);
    let findings = Findings::default();
    problems.into_iter().for_each(|problem| findings.add(problem));
    let settings = check::settings(Section::root(&table, &findings), &|name| environment.get(name));
    (settings, findings)
}
