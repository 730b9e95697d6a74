//! The delivery protocol as a model, explored completely. The README beside this file says what is modelled, how to read a
//! counterexample, and how much there is to explore.

mod holds;
mod larger;
mod needs;
mod rest;
mod scenarios;

use delivery_model::{Protocol, explore, shortest_story};

/// Explores all of it; if a promise can be broken, tells one of the shortest stories of how.
fn holds(name: &str, model: &Protocol) {
    let report = explore(model);
    println!("model: {name}: states={} steps={} seconds={:.1}", report.states, report.steps, report.took.as_secs_f64());
    if let Some(broken) = report.broken {
        let story = shortest_story(model).unwrap_or(broken);
        panic!("{name}: {story}");
    }
}

/// Finds the shortest story of how a promise is broken without a clause, which the protocol with that clause keeps.
fn needs(clause: &str, model: &Protocol, off: impl FnOnce(&mut delivery_model::Rules)) {
    if let Some(story) = shortest_story(model) {
        panic!("the comparison itself is broken: {story}");
    }
    let story = shortest_story(&model.clone().with_rules(off));
    let story = story.unwrap_or_else(|| panic!("{clause}: the model does not miss it"));
    println!("model: without \"{clause}\": {story}");
}
