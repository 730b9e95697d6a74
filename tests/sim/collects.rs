//! Tombstones collected by daemons while everything goes wrong.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use tablerelay::model::{Region, SystemTable};
use tablerelay::ops::{Collected, Collector};
use tablerelay::settle::{CollectRules, LinkState, LinkStatus};
use tablerelay::stores::{Operation, Tables};
use tablerelay::topology::TableFilter;

use crate::world::World;

/// From a sweep to the next.
const EVERY: Duration = Duration::from_secs(3);
/// A region that was taken out before the history began.
const FORMER: &str = "former";

/// The collector of a daemon, where daemons have one.
pub fn collector(world: &World, who: &str, region: usize) -> Option<Collector> {
    let minimum_age = world.shape.collects?;
    let who = format!("{who}'s collector");
    Some(Collector {
        copies: vec![],
        regions: (0..world.places.len()).map(|to| world.lines(&who, region, to, true)).collect(),
        region: world.places[region].name.clone(),
        tables: TableFilter::Every,
        collects: true,
        every: EVERY,
        rows_per_second: NonZeroU32::new(1_000),
        rules: CollectRules {
            settle_window: world.settings.settle_window,
            max_clock_skew: world.settings.max_clock_skew,
            minimum_age,
        },
        collected: Arc::<Collected>::default(),
        runtime: world.runtime.clone(),
    })
}

/// Where a region was taken out, the links to and from it are what is left of it.
pub fn leave_traces(world: &World) {
    if !world.shape.former {
        return;
    }
    let now = world.runtime.now();
    world.chronicle.book().former = Some(now);
    let former = Region::new(FORMER).expect("a good name");
    let here = &world.places[0];
    for (source, destination) in [(&former, &here.name), (&here.name, &former)] {
        let link = LinkStatus {
            copy: false,
            source: source.clone(),
            destination: destination.clone(),
            state: LinkState::Flowing,
            last_sync: Some(now),
            fresh_to: None,
            word: None,
            lag: Duration::ZERO,
            backlog_rows: 0,
            oldest_waiting: None,
            last_error: None,
            published: now,
        };
        let row = Operation::InsertOrReplace(link.encode());
        // Without faults the store answers at once.
        let written = here.accounts[0].write(&SystemTable::Control.name(), &row).now_or_never();
        assert!(matches!(written, Some(Ok(_))), "{written:?}");
    }
}
