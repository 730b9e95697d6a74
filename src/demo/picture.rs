//! What there is to see at one moment.

use std::time::Duration;

use super::Options;
use super::compare::cache_behind;
use super::counts::Counts;
use super::crew::{Crew, SKEWS};
use super::script::{Script, Stage};
use super::world::{CUT_OFF, Place, World};
use crate::model::Region;
use crate::replicator::Delivered;
use crate::settle::{LinkState, LinkStatus};
use crate::telemetry::metrics::ApplyOutcome;

/// Everything that is shown.
#[derive(Debug, Clone)]
pub(super) struct Picture {
    pub stage: Stage,
    pub elapsed: Duration,
    pub script: Script,
    pub options: Options,
    /// The region that is, was or will be cut off.
    pub cut_off: Region,
    pub regions: Vec<RegionLine>,
    pub links: Vec<LinkLine>,
    pub counts: Counts,
}

/// One region.
#[derive(Debug, Clone)]
pub(super) struct RegionLine {
    pub region: Region,
    /// What its own writers have done.
    pub counts: Counts,
    /// By how many milliseconds their clocks are wrong.
    pub skews: [i64; 2],
    /// Rows in its tables.
    pub rows: usize,
    /// Records in its feed.
    pub records: usize,
    /// Rows that its cache does not hold as its table does.
    pub cache_behind: usize,
}

/// One link.
#[derive(Debug, Clone)]
pub(super) struct LinkLine {
    pub source: Region,
    pub destination: Region,
    pub state: LinkState,
    /// The age of the oldest change that was seen and is not there.
    pub lag: Duration,
    /// How long ago its Last Sync Time is.
    pub synced: Option<Duration>,
    pub backlog: u64,
    pub applied: u64,
    pub conflicts: u64,
    pub lifted: u64,
}

impl Picture {
    /// Takes it.
    pub fn take(world: &World, crew: &Crew, options: Options, stage: Stage, elapsed: Duration) -> Self {
        let regions = world.places.iter().zip(SKEWS).enumerate().map(|(n, (place, skews))| RegionLine {
            region: place.region.clone(),
            counts: crew.counts(n),
            skews,
            rows: world.tables.all().into_iter().map(|table| place.tables.snapshot(table).len()).sum(),
            records: place.records(),
            cache_behind: cache_behind(world, place),
        });
        Self {
            stage,
            elapsed,
            script: Script { writing: options.writing },
            options,
            cut_off: world.places[CUT_OFF].region.clone(),
            regions: regions.collect(),
            links: links(world),
            counts: crew.all(),
        }
    }

    /// Rows that wait on the links of the region that is cut off, or the lag of the slowest of them.
    pub fn waiting(&self) -> (u64, Duration) {
        let cut = self.links.iter().filter(|link| link.source == self.cut_off || link.destination == self.cut_off);
        cut.fold((0, Duration::ZERO), |(rows, lag), link| (rows + link.backlog, lag.max(link.lag)))
    }

    /// Records in all feeds.
    pub fn records(&self) -> usize {
        self.regions.iter().map(|region| region.records).sum()
    }
}

/// Every link, as the daemons tell of it.
pub(super) fn links(world: &World) -> Vec<LinkLine> {
    let of_place = |place: &Place| {
        let snapshot = place.board.as_ref().map(|board| board.snapshot()).unwrap_or_default();
        let line = |link: LinkStatus| {
            let delivered = snapshot.delivered.get(&link.destination).cloned().unwrap_or_default();
            LinkLine {
                state: link.state,
                lag: link.lag,
                synced: link.last_sync.map(|time| world.runtime.now().since(time)),
                backlog: link.backlog_rows,
                applied: applied(&delivered),
                conflicts: delivered.conflicts,
                lifted: delivered.rows.get(&ApplyOutcome::Lifted).copied().unwrap_or_default(),
                source: link.source,
                destination: link.destination,
            }
        };
        snapshot.links.iter().cloned().map(line).collect::<Vec<_>>()
    };
    world.places.iter().flat_map(of_place).collect()
}

/// Rows that were changed at the destination.
fn applied(delivered: &Delivered) -> u64 {
    let changed = [ApplyOutcome::Inserted, ApplyOutcome::Replaced, ApplyOutcome::Deleted];
    changed.iter().filter_map(|outcome| delivered.rows.get(outcome)).sum()
}
