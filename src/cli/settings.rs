//! `config check` and `config print`, and how every other command comes by its settings.

use std::path::Path;

use super::arguments::ConfigFile;
use super::exit::Failure;
use super::output;
use crate::config::{Environment, RegionSettings, Settings, load};
use crate::model::Region;

/// The checked settings.
///
/// # Errors
/// Everything that is wrong with them; exit code 2.
pub(super) fn settings(file: &Path) -> Result<Settings, Failure> {
    load(file, &Environment::process()).map_err(|problems| {
        let count = problems.iter().count();
        let things = if count == 1 { "one thing".to_owned() } else { format!("{count} things") };
        Failure::usage(anyhow::anyhow!("the configuration has {things} wrong\n{problems}"))
    })
}

/// The settings of a region that was typed.
///
/// # Errors
/// Where there is none of that name, those that there are; exit code 2.
pub(super) fn of_region<'a>(settings: &'a Settings, region: &Region) -> Result<&'a RegionSettings, Failure> {
    settings.regions.get(region).ok_or_else(|| {
        let known: Vec<_> = settings.regions.keys().map(Region::as_str).collect();
        Failure::usage(anyhow::anyhow!("there is no region {region}; the configuration has {}", known.join(", ")))
    })
}

pub(super) fn check(config: &ConfigFile) -> Result<(), Failure> {
    let settings = settings(&config.file)?;
    let regions: Vec<_> = settings.regions.iter().map(|(name, region)| format!("{name} ({})", region.role)).collect();
    let copies = settings.copies.keys().map(|name| format!("{name} (copy)"));
    let all: Vec<_> = regions.into_iter().chain(copies).collect();
    output::print(&format!("{} is right: {}", config.file.display(), all.join(", ")))?;
    if let Some(warning) = settings.roles().warning() {
        eprintln!("tablerelay: a warning: {warning}");
    }
    Ok(())
}

pub(super) fn print(config: &ConfigFile) -> Result<(), Failure> {
    output::print(&settings(&config.file)?.to_toml()?)?;
    Ok(())
}
