//! With all clauses every promise is kept, whatever happens when.

use delivery_model::{Faults, Grain, Protocol};

use super::holds;
use super::scenarios::{each_once, lone, two_and_one, two_writes};

fn three_regions(faults: Faults) -> Protocol {
    Protocol::new(3, 1, two_writes()).with_faults(faults)
}

fn two_daemons_each(faults: Faults) -> Protocol {
    Protocol::new(2, 2, two_writes()).with_faults(faults).with_grain(Grain::COARSE)
}

#[test]
fn three_regions_and_two_writes_end_equal() {
    holds("3 regions, 2 writes, every request a step", &three_regions(Faults::None).with_grain(Grain::FINEST));
}

#[test]
fn three_regions_end_equal_though_a_writer_dies_between_its_steps() {
    holds("3 regions, 2 writes, a writer dies", &three_regions(Faults::WriterCrash));
}

#[test]
fn three_regions_end_equal_though_a_daemon_dies_in_mid_delivery() {
    holds("3 regions, 2 writes, a daemon dies", &three_regions(Faults::DaemonCrash));
}

#[test]
fn three_regions_end_equal_though_a_reply_is_lost() {
    holds("3 regions, 2 writes, a reply is lost", &three_regions(Faults::LostReply));
}

#[test]
fn two_daemons_in_each_region_do_no_harm() {
    holds("2 regions, 2 writes, 2 daemons each", &two_daemons_each(Faults::None).with_grain(Grain::FINE));
}

#[test]
fn two_daemons_in_each_region_do_no_harm_though_a_writer_dies_between_its_steps() {
    holds("2 regions, 2 writes, 2 daemons each, a writer dies", &two_daemons_each(Faults::WriterCrash));
}

#[test]
fn two_daemons_in_each_region_do_no_harm_though_one_dies_in_mid_delivery() {
    holds("2 regions, 2 writes, 2 daemons each, a daemon dies", &two_daemons_each(Faults::DaemonCrash));
}

#[test]
fn two_daemons_in_each_region_do_no_harm_though_a_reply_is_lost() {
    holds("2 regions, 2 writes, 2 daemons each, a reply is lost", &two_daemons_each(Faults::LostReply));
}

#[test]
fn two_daemons_are_harmless_to_two_writers_of_one_region_at_the_finest_grain() {
    let finest = Protocol::new(2, 2, lone()).with_grain(Grain::FINEST).with_faults(Faults::DaemonCrash);
    holds("2 regions, 2 writers of one, 2 daemons each, a daemon dies", &finest);
}

#[test]
fn two_writers_of_one_region_and_one_of_another_end_equal_though_a_daemon_dies() {
    let coarse = Protocol::new(2, 1, two_and_one()).with_grain(Grain::COARSE);
    holds("2 regions, 2 + 1 writes, a daemon dies", &coarse.with_faults(Faults::DaemonCrash));
}

#[test]
fn three_regions_that_all_write_end_equal() {
    // `larger` has the others.
    let scenarios = each_once().into_iter().filter(|writes| !super::larger::is_large(writes)).collect();
    holds("3 regions write once each", &Protocol::new(3, 1, scenarios).with_grain(Grain::COARSE));
}
