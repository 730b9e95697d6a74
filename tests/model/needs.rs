//! The model can fail: without a clause it breaks a promise, and tells how. Each comparison is the same model with all
//! clauses, which is seen to hold first.

use delivery_model::{Faults, Grain, Kind, Protocol};

use super::scenarios::{apart, lone, two_writes, write};
use super::{holds, needs};

fn story(regions: u8, daemons_each: u8, faults: Faults) -> Protocol {
    Protocol::new(regions, daemons_each, two_writes()).with_faults(faults).with_grain(Grain::STORY)
}

/// A put of each region and a delete, as a scenario in which a clause is missed.
fn one(writes: [(u8, u8, Kind, u8); 3]) -> Protocol {
    let writes = writes.map(|(region, writer, kind, clock)| write(region, writer, kind, clock));
    let model = Protocol::new(2, 1, vec![writes.to_vec()]).with_faults(Faults::DaemonCrash);
    model.with_grain(Grain { named_daemons: true, ..Grain::FINE })
}

#[test]
fn without_waiting_a_late_write_is_not_delivered() {
    needs("R1: waiting", &story(2, 1, Faults::None), |rules| rules.waiting = false);
}

#[test]
fn without_highest_first_regions_differ() {
    needs("R1: highest first", &Protocol { scenarios: lone(), ..story(2, 2, Faults::None) }, |rules| {
        rules.highest_first = false;
    });
}

#[test]
fn an_absent_row_is_no_proof_that_a_delete_was_carried_out() {
    needs("R1: deletes wait", &story(2, 1, Faults::None), |rules| rules.deletes_wait = false);
}

#[test]
fn a_feed_that_was_read_before_the_look_hides_a_higher_record() {
    let two_daemons = Protocol { scenarios: lone(), ..story(2, 2, Faults::None) };
    needs("R1: the feed is read after the look", &two_daemons, |rules| rules.feed_after_look = false);
}

#[test]
fn a_window_that_counts_from_the_announcement_alone_is_too_short() {
    needs("R1: the window from the change", &story(2, 1, Faults::LostReply), |rules| rules.window_from_change = false);
}

#[test]
fn without_the_look_after_an_insert_a_delete_is_lost() {
    use Kind::{Delete, Put};
    let model = one([(0, 0, Put, 2), (0, 1, Delete, 3), (1, 0, Put, 1)]);
    needs("R4: the look after an insert", &model, |rules| rules.look_after_insert = false);
}

#[test]
fn without_the_look_after_a_replace_a_delete_is_lost() {
    use Kind::{Delete, Put};
    let model = one([(0, 0, Put, 2), (0, 1, Delete, 3), (1, 0, Put, 1)]);
    needs("R4: the look after a replace", &model, |rules| rules.look_after_replace = false);
}

#[test]
fn without_the_look_where_the_row_is_equal_regions_differ() {
    let lone = Protocol { scenarios: lone(), ..story(2, 2, Faults::DaemonCrash) };
    needs("R4: the look where the row is equal", &lone, |rules| rules.look_after_equal = false);
}

#[test]
fn with_the_tombstone_last_a_delete_is_lost() {
    use Kind::{Delete, Put};
    let model = one([(0, 0, Put, 1), (0, 1, Delete, 3), (1, 0, Put, 2)]);
    needs("R5: the tombstone first", &model, |rules| rules.tombstone_first = false);
}

#[test]
fn a_leftover_below_a_delete_comes_back() {
    let apart = Protocol { scenarios: apart(), ..story(2, 1, Faults::LostReply) };
    needs("R5: leftovers go", &apart, |rules| rules.leftovers_go = false);
}

#[test]
fn a_stale_look_brings_back_what_was_deleted() {
    needs("R9: freshness", &story(2, 1, Faults::LostReply), |rules| rules.freshness = false);
}

#[test]
fn without_lifts_a_lone_region_loses_its_last_write() {
    needs("R10: lifts", &story(2, 1, Faults::None), |rules| rules.lifting = false);
}

#[test]
fn a_lift_of_what_another_region_wrote_brings_back_a_deleted_row() {
    let apart = Protocol { scenarios: apart(), ..story(2, 1, Faults::None) };
    needs("R10: only the region's own is lifted", &apart, |rules| rules.lifts_own_only = false);
}

#[test]
fn lifts_to_the_same_tick_are_one_version_with_two_contents() {
    let descending = [3, 2, 1].into_iter().zip(0..).map(|(clock, writer)| write(0, writer, Kind::Put, clock));
    let model = Protocol::new(3, 1, vec![descending.collect()]).with_faults(Faults::DaemonCrash);
    needs("R10: lifts rise", &model, |rules| rules.lifts_rise = false);
}

#[test]
fn a_write_that_is_sent_twice_lands_on_what_came_between() {
    needs("3: one attempt", &story(2, 1, Faults::LostReply), |rules| rules.one_attempt = false);
}

/// Not a licence to drop them: what these clauses guard against is larger than the models here, or is mended by another
/// clause. The README says what was tried.
#[test]
fn two_clauses_are_not_missed_in_models_of_this_size() {
    let three = Protocol::new(3, 1, two_writes()).with_faults(Faults::DaemonCrash);
    holds("without R6's announcement", &three.clone().with_rules(|rules| rules.announcement = false));
    holds("with R5's row read before its tombstone", &three.with_rules(|rules| rules.row_after_tombstone = false));
}
