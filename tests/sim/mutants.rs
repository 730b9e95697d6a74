//! Planted bugs and the seeds that catch them.

use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use tablerelay::model::ClosedList;
use tablerelay::planted::Bug;

use crate::history;
use crate::oracle::Broken;

/// A seed that catches each bug. `SIM_HUNT` finds new ones where a change of the simulator moved them.
const RECORDED: &[(Bug, u64)] = &[
    (Bug::EndEarly, 0),                     // Last Sync Time is true
    (Bug::LowestFirst, 2710),               // every region is equal
    (Bug::EndedByOthers, 183),              // every region is equal
    (Bug::DeleteIsExact, 92),               // every region is equal
    (Bug::LookBeforeWindow, 0),             // Last Sync Time is true
    (Bug::SupersededIsWritten, 7),          // every region is equal
    (Bug::TombstoneIgnored, 4),             // every cache is current
    (Bug::DeleteOfPresent, 132),            // every region is equal
    (Bug::ReplaceBlindly, 0),               // a rule of every moment
    (Bug::InsertBlindly, 0),                // a rule of every moment
    (Bug::NoLookAfterInsert, 36),           // no acknowledged write is lost
    (Bug::NoLookAfterReplace, 788),         // a row below a newer tombstone is taken out again
    (Bug::NoLookAfterEqual, 25),            // a row below a newer tombstone is taken out again
    (Bug::OlderWins, 0),                    // a rule of every moment
    (Bug::NoRaise, 0),                      // a rule of every moment
    (Bug::RemoveFirst, 0),                  // a rule of every moment
    (Bug::RemoveBlindly, 0),                // a rule of every moment
    (Bug::NoAnnouncement, 1021),            // survivors are equal without the lost region
    (Bug::NoTakeOver, 1),                   // what was lost to another region is in the journal
    (Bug::FutureApplied, 18),               // a rule of every moment
    (Bug::StaleLook, 91),                   // a rule of every moment
    (Bug::NoLift, 32),                      // nothing that was overwritten or deleted comes back
    (Bug::NoLiftOfDeletes, 738),            // a region's own order is kept
    (Bug::EndBeforeApply, 1),               // what was lost to another region is in the journal
    (Bug::FailedIsDone, 1),                 // Last Sync Time is true
    (Bug::UnknownIsDone, 25),               // Last Sync Time is true
    (Bug::TransactionTorn, 1),              // Last Sync Time is true
    (Bug::WrongEtag, 4),                    // a rule of every moment
    (Bug::EtagKept, 0),                     // everything ends in time
    (Bug::FirstPageOnly, 16),               // Last Sync Time is true
    (Bug::CacheUnguarded, 0),               // a cache never holds what is older than before
    (Bug::CacheForgotten, 7),               // every cache is current
    (Bug::CacheHintNotDurable, 12),         // every cache is current
    (Bug::CacheHoldsTheFeed, 12),           // a cache that is down holds up nothing else
    (Bug::FlushUnnoticed, 17),              // a cache that was emptied is told of
    (Bug::CacheOrderIgnored, 13),           // every cache is current
    (Bug::NotTold, 0),                      // every cache is current
    (Bug::MessageFirst, 131),               // what is malformed is in quarantine
    (Bug::MalformedDropped, 16),            // what is malformed is in quarantine
    (Bug::StraysUnread, 16),                // everything ends in time
    (Bug::RefusedDropped, 16),              // Last Sync Time is true
    (Bug::NeverSuperseded, 6),              // everything ends in time
    (Bug::LoserForgotten, 0),               // what was lost to another region is in the journal
    (Bug::TwoWaysIgnored, 0),               // the journal names true conflicts alone
    (Bug::SyncedTooSoon, 1),                // Last Sync Time is true
    (Bug::HintNotDurable, 1),               // Last Sync Time is true
    (Bug::HintEndedBlindly, 1154),          // every region is equal
    (Bug::HintForgetsItsTime, 10),          // Last Sync Time is true
    (Bug::HintsNotCounted, 0),              // Last Sync Time is true
    (Bug::HintDropped, 27),                 // Last Sync Time is true
    (Bug::RetryAfterIgnored, 18),           // a rule of every moment
    (Bug::BudgetNotKept, 93),               // a rule of every moment
    (Bug::ShutForGood, 7),                  // every shard is carried, and evenly
    (Bug::HeartbeatUnheard, 11),            // an unreachable region is told, idle or not
    (Bug::ShardsKept, 7),                   // every shard is carried, and evenly
    (Bug::DeadCounted, 0),                  // every shard is carried, and evenly
    (Bug::ClaimNotConfirmed, 12),           // a shard has one carrier at most
    (Bug::LeaseOutlived, 12),               // a shard has one carrier at most
    (Bug::OthersForgotten, 16),             // Last Sync Time is true
    (Bug::ExactThoughShared, 13793),        // every region is equal
    (Bug::AllRefuse, 128),                  // not all regions refuse their readers at once
    (Bug::SilenceIsFresh, 18),              // how fresh a region says it is, it is
    (Bug::SuspectsCount, 41),               // a scrubber tells of nothing that is not so
    (Bug::WaitsUnasked, 41),                // a scrubber tells of nothing that is not so
    (Bug::KeyBeforeRows, 74),               // every region is equal
    (Bug::ResumedAsCopied, 74),             // every region is equal
    (Bug::CopiedBare, 10),                  // a rule of every moment
    (Bug::MendedAnew, 17),                  // what is repaired is as it was
    (Bug::WrongLink, 150),                  // what was waited for is there
    (Bug::HintNotLookedBack, 2507),         // a scrubber tells of nothing that is not so
    (Bug::StaleEpochObeyed, 914),           // a rule of every moment
    (Bug::LateDelivered, 2),                // a rule of every moment
    (Bug::LateTakenOver, 118),              // a rule of every moment
    (Bug::LateNotNamed, 24),                // what was lost to another region is in the journal
    (Bug::LateNotOverruled, 2),             // Last Sync Time is true
    (Bug::RoleReadOnce, 0),                 // everything ends in time
    (Bug::EarlyServing, 24),                // a rule of every moment
    (Bug::SurvivorsUnequal, 215),           // survivors are equal without the lost region
    (Bug::CollectedByAge, 45),              // a rule of every moment
    (Bug::CollectedUnverified, 1127),       // a rule of every moment
    (Bug::CollectedOneWay, 1626),           // a rule of every moment
    (Bug::CollectedUnlooked, 845),          // a rule of every moment
    (Bug::CollectedWhileOut, 45),           // a rule of every moment
    (Bug::ResidualLost, 31),                // Last Sync Time is true
    (Bug::MovedBlindly, 11),                // a rule of every moment
    (Bug::ReplayedElsewhere, 4533),         // Last Sync Time is true
    (Bug::BroughtDeleteUnannounced, 5065),  // every region is equal
    (Bug::BroughtNotCarried, 3511),         // Last Sync Time is true
    (Bug::PreviousPlaceForgotten, 25),      // Last Sync Time is true
    (Bug::OldPlaceNotRead, 11),             // a rule of every moment
    (Bug::MovedRowDeletedUnverified, 1187), // a rule of every moment
    (Bug::ColdPlaceForgotten, 193),         // Last Sync Time is true
    (Bug::InsertedUnlooked, 1509),          // what was lost to another region is in the journal
    (Bug::OldRowNotTouched, 4533),          // every region is equal
    (Bug::DemotedBlindly, 25),              // a rule of every moment
    (Bug::QuarantinedTakenForCopy, 9433),   // no acknowledged write is lost
];

/// Bugs that no seed is known to catch yet: blind spots of the simulator, or clauses that others make up for. The model in
/// `tests/model` misses some of them (README.md there).
const SURVIVING: &[Bug] = &[
    // What the comparison finds is what sank while its page was on its way, or what was left between an insert and the look that follows. The
    // tests of `ops/backfill` do that.
    Bug::RangeUnchecked,
    // A tombstone would have to be raised in the milliseconds between the look at its row and its end, at an age at which nothing
    // raises it but a new delete. The test of `replicator/graves.rs` does that.
    Bug::CollectedBlindly,
    // Home and cold place have the same for the milliseconds of a promotion, or where its program died in them, and then somebody would have to demote
    // it just when another pass takes the copy out. The test of `ops/tier` does that.
    Bug::StaleCopyTakenBlindly,
    // A row would have to go between a look at it and the write that rests on that. Writers keep their rows themselves, and everybody else's writes
    // depend on an ETag or on absence. The test of `ops/tier` does that.
    Bug::DemotedTooSoon,
    // Two commands would have to copy at once, the slower one between a look and its write when the other switches, and after somebody who follows
    // that has written the row and was delivered. The test of `ops/rebalance` does that.
    Bug::CopiedByOldRoutes,
    // One history in 20,000 had a refused delete carried out by who takes a row out, and a hint of it brought to that one alone. The test of
    // `replicator/tests/taken_out.rs` does that.
    Bug::TakenOutUnannounced,
    // One in 20,000 had a look fall into the milliseconds for which a row lands over a delete, and a batch delivered by it. The test of `settle`
    // does that.
    Bug::UndoneIsDelivered,
    // One in 20,000 had a daemon stall between a look and the cache, and its region's store put something lower over what it had seen. The test
    // of `replicator/tests/cache.rs` does that.
    Bug::CacheShownStale,
    // A look would have to fall between two deletes of the command, or it be killed there. The test of `ops/rebalance` does that.
    Bug::RefusedLeftAlone,
    // What was the home of a row before would have to be its cold place now, and a writer to go by the routes before for longer than it may. The
    // test of `ops/tier` does that.
    Bug::WrittenTakenForStale,
    // Somebody would have to take back what another copies in the last seconds before its routes come into force. The test of `ops/rebalance` does
    // that.
    Bug::GivenUpUnsaid,
    // A late write by old routes would have to fall between the last deletes of one command and its last pass, and another one to meet it first. The
    // test of `ops/rebalance` does that.
    Bug::BroughtByAnother,
];

/// The bug of this name; ends the program where there is none.
pub fn named(name: &str) -> Bug {
    Bug::ALL.iter().copied().find(|bug| bug.as_str() == name).unwrap_or_else(|| {
        let names: Vec<_> = Bug::ALL.iter().map(|bug| bug.as_str()).collect();
        eprintln!("sim: there is no bug {name:?}; there are: {}", names.join(", "));
        std::process::exit(2);
    })
}

/// What a planted bug breaks in a history. One that breaks without it as well says nothing of the bug.
fn caught(bug: Bug, seed: u64) -> Option<Broken> {
    let broken = history::run(seed, Some(bug)).broken?;
    history::run(seed, None).broken.is_none().then_some(broken)
}

/// Replays every recorded bug; each must be caught.
pub fn replay() -> bool {
    let next = AtomicUsize::new(0);
    let survived = Mutex::new(Vec::new());
    let work = || {
        while let Some((bug, seed)) = RECORDED.get(next.fetch_add(1, Relaxed)) {
            if caught(*bug, *seed).is_none() {
                survived.lock().expect("nobody panics here").push(format!("{} (seed {seed})", bug.as_str()));
            }
        }
    };
    std::thread::scope(|scope| (0..cores()).for_each(|_| drop(scope.spawn(work))));
    let survived = survived.into_inner().expect("nobody panics here");
    let known = |bug: &&Bug| SURVIVING.contains(bug) || RECORDED.iter().any(|(recorded, _)| recorded == *bug);
    let missing = Bug::ALL.iter().filter(|bug| !known(bug));
    let missing: Vec<_> = missing.map(|bug| bug.as_str()).collect();
    println!("sim: {} of {} planted bugs are caught", RECORDED.len() - survived.len(), Bug::ALL.len());
    let names: Vec<_> = SURVIVING.iter().map(|bug| bug.as_str()).collect();
    println!("sim: blind spots: {}", names.join(", "));
    if !survived.is_empty() {
        println!("sim: not caught by their seeds any more: {}; look for new ones: SIM_HUNT=all", survived.join(", "));
    }
    if !missing.is_empty() {
        println!("sim: no seed is recorded for: {}", missing.join(", "));
    }
    survived.is_empty() && missing.is_empty()
}

/// Looks for the first of these seeds that catches each bug, and prints the table for `RECORDED`.
pub fn hunt(names: &str, seeds: &[u64]) -> ExitCode {
    let bugs: Vec<Bug> = match names {
        "all" => Bug::ALL.to_vec(),
        names => names.split(',').map(named).collect(),
    };
    let next = AtomicUsize::new(0);
    let work = || {
        while let Some(bug) = bugs.get(next.fetch_add(1, Relaxed)) {
            let caught =
                seeds.iter().enumerate().find_map(|(tried, seed)| Some((tried + 1, seed, caught(*bug, *seed)?)));
            match caught {
                Some((tried, seed, broken)) => {
                    println!("    (Bug::{bug:?}, {seed}), // {} (the {tried}th that was tried)", broken.what);
                }
                None => println!("    // {bug:?} survived {} seeds", seeds.len()),
            }
        }
    };
    std::thread::scope(|scope| (0..cores()).for_each(|_| drop(scope.spawn(work))));
    ExitCode::SUCCESS
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
