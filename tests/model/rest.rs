//! Every run can come to rest. Without this, a promise about quiet states could be kept by never being quiet.

use delivery_model::{Faults, Grain, Protocol, Rest, comes_to_rest};

use super::scenarios::two_writes;

fn rests(name: &str, model: &Protocol) {
    let Rest { states, quiet, trapped } = comes_to_rest(model);
    println!("model: {name}: states={states} quiet={quiet} trapped={trapped}");
    assert!(quiet > 0, "{name}: no run comes to rest");
    assert_eq!(trapped, 0, "{name}: from so many states no run comes to rest");
}

#[test]
fn three_regions_always_come_to_rest() {
    rests("3 regions, 2 writes", &Protocol::new(3, 1, two_writes()));
}

#[test]
fn two_daemons_in_each_region_always_come_to_rest() {
    rests("2 regions, 2 daemons each", &Protocol::new(2, 2, two_writes()).with_grain(Grain::COARSE));
}

#[test]
fn regions_always_come_to_rest_whatever_failed() {
    for faults in [Faults::WriterCrash, Faults::DaemonCrash, Faults::LostReply] {
        rests(&format!("2 regions, {faults:?}"), &Protocol::new(2, 1, two_writes()).with_faults(faults));
    }
}
