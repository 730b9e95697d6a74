//! Random requests, the same ones to the memory store's server and to Azurite. Answers are compared: status, code, index,
//! ETags, rows. Every difference is explained by an entry of a closed list, or the test fails and prints its seed.
//!
//! `DIFFERENTIAL_SEED=7` repeats one run, `DIFFERENTIAL_STEPS=5000` makes it a longer one.

mod act;
mod quirks;
mod wire;

use std::collections::BTreeMap;
use std::time::Duration;

use tablerelay::model::Time;
use tablerelay::runtime::Runtime;
use tokio::time::Instant;

use self::act::{Act, Source, TABLES};
use self::wire::Wire;
use crate::support::azurite::Azurite;
use crate::support::served::ServedStore;

/// What a run without a seed of its own draws from.
const SEEDS: [u64; 2] = [1, 2];
const STEPS: usize = 400;
/// How long a run may take that nobody asked to be longer.
const LONGEST: Duration = Duration::from_secs(20);

fn setting<T: std::str::FromStr>(name: &str) -> Option<T> {
    std::env::var(name).ok().map(|text| text.parse().ok().unwrap_or_else(|| panic!("{name} should be a number")))
}

/// What a run has come upon.
#[derive(Default)]
struct Found {
    /// How often each entry of the list explained a difference.
    known: BTreeMap<&'static str, usize>,
    /// What nothing explains: each sort once, by what differs, with the first act that showed it.
    unknown: BTreeMap<String, String>,
}

#[tokio::test]
async fn every_difference_from_azurite_has_a_name() {
    let seeds = setting("DIFFERENTIAL_SEED").map_or(SEEDS.to_vec(), |seed| vec![seed]);
    let steps = setting("DIFFERENTIAL_STEPS");
    let until = Instant::now() + steps.map_or(LONGEST, |_| Duration::from_secs(3_600));
    let mut found = Found::default();
    for seed in seeds {
        run(seed, steps.unwrap_or(STEPS), until, &mut found).await;
    }
    println!("differences by name: {:#?}", found.known);
    let unknown: String = found.unknown.iter().map(|(what, act)| format!("\n{what}\n    {act}")).collect();
    assert!(found.unknown.is_empty(), "{} sorts of differences that nothing explains:{unknown}", found.unknown.len());
}

async fn run(seed: u64, steps: usize, until: Instant, found: &mut Found) {
    let server = ServedStore::start().await;
    let mut served = Wire::new(&server.connection_string);
    let mut azurite = Wire::new(&Azurite::shared().account().connection_string());
    for name in &TABLES[..2] {
        served.create(name).await;
        azurite.create(name).await;
    }
    let mut source = Source(Runtime::simulated(Time::EPOCH, seed));
    for step in 0..steps {
        if Instant::now() > until {
            println!("ended after {step} steps of seed {seed}, for want of time");
            return;
        }
        let act = source.act();
        let (ours, theirs) = (served.answer(&act).await, azurite.answer(&act).await);
        let strays = quirks::strays(&act);
        for stray in &strays {
            served.remove(stray).await;
            azurite.remove(stray).await;
        }
        if ours == theirs && strays.is_empty() {
            continue;
        }
        match quirks::explained(&act, &ours, &theirs) {
            _ if ours == theirs => {}
            Some(known) => *found.known.entry(known.name).or_insert(0) += 1,
            None => {
                let first = format!("DIFFERENTIAL_SEED={seed}, step {step}: {act:?}");
                found.unknown.entry(ours.differs(&theirs)).or_insert_with(|| first.chars().take(1_200).collect());
            }
        }
        // A write that went otherwise on one of them must not make all that follows differ.
        let wrong = ["p", "q"].map(|partition| ("Alpha", partition.to_owned(), "wrong".to_owned()));
        let places = quirks::ops(&act).iter().map(|op| &op.place);
        for place in places.chain(wrong.iter().filter(|_| matches!(act, Act::Wrong(..)))) {
            served.remove(place).await;
            azurite.remove(place).await;
        }
        if let Act::CreateTable(name) | Act::DeleteTable(name) = act {
            served.create(name).await;
            azurite.create(name).await;
        }
    }
}
