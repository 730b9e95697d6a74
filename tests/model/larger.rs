//! Models that take minutes. `MODEL_FULL=1` explores them completely; else only a part is. One is too large even for that.

use delivery_model::{Grain, Kind, Protocol, Write, explore_at_most};

use super::holds;
use super::scenarios::{each_once, write};

/// How many states of each are explored where nobody asked for all.
const PART: usize = 300_000;

/// Whether everything is inserted, taken out and put back: something is deleted, and a put has the last word.
pub fn is_large(writes: &[Write]) -> bool {
    let deletes = writes.iter().any(|write| write.kind == Kind::Delete);
    deletes && writes.last().is_some_and(|write| write.kind == Kind::Put)
}

/// Each region has one writer, who writes twice, with clocks that overlap.
fn twice_each(regions: u8) -> Vec<Vec<Write>> {
    use Kind::{Delete, Put};
    let all = [(0, Put, 1), (0, Delete, 3), (1, Put, 2), (1, Put, 4), (2, Put, 2), (2, Delete, 3)];
    let of_regions = all.into_iter().filter(|(region, ..)| *region < regions);
    vec![of_regions.map(|(region, kind, clock)| write(region, 0, kind, clock)).collect()]
}

#[test]
fn two_regions_that_write_twice_each_end_equal() {
    holds("2 regions write twice each", &Protocol::new(2, 1, twice_each(2)));
}

#[test]
fn larger_models_hold_as_far_as_they_are_explored() {
    let large = each_once().into_iter().filter(|writes| is_large(writes)).collect();
    let models = [
        ("3 regions write once each, a put after deletes", Protocol::new(3, 1, large)),
        ("2 regions write twice each, 2 daemons each", Protocol::new(2, 2, twice_each(2))),
    ];
    let full = std::env::var_os("MODEL_FULL").is_some_and(|value| value == "1");
    for (name, model) in models {
        let model = model.with_grain(Grain::COARSE);
        if full {
            holds(name, &model);
        } else {
            holds_in_part(name, &model);
        }
    }
    holds_in_part("3 regions write twice each", &Protocol::new(3, 1, twice_each(3)).with_grain(Grain::COARSE));
}

fn holds_in_part(name: &str, model: &Protocol) {
    if let Some(story) = explore_at_most(model, PART).broken {
        panic!("{name}: {story}");
    }
}
