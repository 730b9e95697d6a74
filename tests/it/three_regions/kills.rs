//! A hundred daemons killed at moments that nobody chose, with storage accounts and caches that hang or are restarted in
//! between. `KILLS=1000` kills more often, within the same writes.

use std::sync::atomic::{AtomicUsize, Ordering};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::{ALL_WRITES, NAMES, World, eventually_written, start};
use crate::support::redis::{Options, Redis};
use crate::support::relay::Daemon;

/// The regions of the daemons: one has two.
pub const DAEMONS: [usize; 4] = [0, 1, 2, 0];

/// So long do writers write that the kills come among the writes, on a machine of two cores.
pub const ROUNDS: usize = 4;
/// Fewer writes than there surely are, whatever a server that is away makes of them.
const WRITES: usize = ALL_WRITES * ROUNDS / 2;

/// A Redis that comes back with everything it was told.
pub fn lasting_redis() -> Redis {
    let arguments = ["--appendonly", "yes", "--appendfsync", "always"].map(str::to_owned).to_vec();
    Redis::with(Options { arguments, ..Options::default() })
}

/// What befalls the servers of a region, beside its daemons.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mishap {
    AccountHangs,
    AccountRestarts,
    CacheHangs,
    CacheRestarts,
}

const MISHAPS: [Mishap; 4] = [Mishap::AccountHangs, Mishap::AccountRestarts, Mishap::CacheHangs, Mishap::CacheRestarts];
/// From one mishap to the next, and how long something hangs: so many kills.
const MISHAP_EVERY: usize = 4;
const HANGS_FOR: usize = 2;

/// Kills daemons while the writers write. Some are started again at once, some only at the next kill.
pub fn trouble(world: &World, daemons: Vec<Daemon>, progress: &AtomicUsize, seed: u64) -> Vec<Daemon> {
    let kills = std::env::var("KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(100);
    let mut random = StdRng::seed_from_u64(seed);
    let mut daemons: Vec<Option<Daemon>> = daemons.into_iter().map(Some).collect();
    let (mut hanging, mut among_writes) = (None, 0);
    for kill in 0..kills {
        let moment = (kill * 100 + random.random_range(0..100)) * WRITES / (kills * 100);
        eventually_written(progress, moment);
        if kill % MISHAP_EVERY == 0 {
            let (mishap, region) = (MISHAPS[kill / MISHAP_EVERY % MISHAPS.len()], random.random_range(0..NAMES.len()));
            begin(world, mishap, region);
            hanging = Some((mishap, region));
        } else if kill % MISHAP_EVERY == HANGS_FOR
            && let Some((mishap, region)) = hanging.take()
        {
            end(world, mishap, region);
        }
        let alive: Vec<usize> = (0..daemons.len()).filter(|number| daemons[*number].is_some()).collect();
        let one = alive[random.random_range(0..alive.len())];
        let daemon = daemons[one].take().expect("it is alive");
        among_writes += usize::from(progress.load(Ordering::Relaxed) < WRITES);
        daemon.signal("KILL");
        assert_eq!(daemon.ended(), 137);
        let late = random.random_bool(0.25).then_some(one);
        for (number, daemon) in daemons.iter_mut().enumerate().filter(|(number, _)| Some(*number) != late) {
            daemon.get_or_insert_with(|| start(&world.config, NAMES[DAEMONS[number]]));
        }
    }
    if let Some((mishap, region)) = hanging {
        end(world, mishap, region);
    }
    let start_again = |(number, daemon): (usize, Option<Daemon>)| {
        daemon.unwrap_or_else(|| start(&world.config, NAMES[DAEMONS[number]]))
    };
    println!("{kills} kills, {among_writes} of them among the writes; {} mishaps", kills.div_ceil(MISHAP_EVERY));
    daemons.into_iter().enumerate().map(start_again).collect()
}

fn begin(world: &World, mishap: Mishap, region: usize) {
    match mishap {
        Mishap::AccountHangs => world.azurites[region].freeze(),
        Mishap::AccountRestarts => world.azurites[region].start_again(),
        Mishap::CacheHangs => world.sites[region].redis.freeze(),
        Mishap::CacheRestarts => world.sites[region].redis.start_again(),
    }
}

fn end(world: &World, mishap: Mishap, region: usize) {
    match mishap {
        Mishap::AccountHangs => world.azurites[region].thaw(),
        Mishap::CacheHangs => world.sites[region].redis.thaw(),
        Mishap::AccountRestarts | Mishap::CacheRestarts => {}
    }
}
