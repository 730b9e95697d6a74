//! Exploring a model, and telling the story of a counterexample.

use std::fmt;
use std::time::{Duration, Instant};

use stateright::{Checker, HasDiscoveries, Model};

use crate::config::Protocol;
use crate::state::State;

/// What came of an exploration.
#[derive(Debug)]
pub struct Report {
    /// How many different states there are.
    pub states: usize,
    /// How many steps lead from one to another.
    pub steps: usize,
    /// How long it took.
    pub took: Duration,
    /// The first story found, not the shortest, of how a promise is broken; then not all was explored.
    pub broken: Option<Story>,
}

/// How a promise is broken, step by step.
#[derive(Debug)]
pub struct Story {
    /// The promise.
    pub promise: &'static str,
    /// What happened; behind each step what then stood in the regions.
    pub steps: Vec<String>,
    /// What the writers did.
    pub writes: Vec<String>,
}

impl fmt::Display for Story {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "broken: {}", self.promise)?;
        self.writes.iter().try_for_each(|write| writeln!(f, "  {write}"))?;
        self.steps.iter().enumerate().try_for_each(|(number, step)| writeln!(f, "  {:>3}  {step}", number + 1))
    }
}

/// Explores all that can happen, to the last state.
pub fn explore(model: &Protocol) -> Report {
    #[expect(clippy::disallowed_methods, reason = "how long the checker itself took; no rule depends on it")]
    let begun = Instant::now();
    let checker = model.clone().checker().finish_when(HasDiscoveries::AnyFailures).spawn_dfs().join();
    report(&checker, begun)
}

/// Explores until so many states were seen: a part of what can happen, deep rather than broad.
pub fn explore_at_most(model: &Protocol, states: usize) -> Report {
    #[expect(clippy::disallowed_methods, reason = "how long the checker itself took; no rule depends on it")]
    let begun = Instant::now();
    let builder = model.clone().checker().target_state_count(states);
    report(&builder.finish_when(HasDiscoveries::AnyFailures).spawn_dfs().join(), begun)
}

fn report(checker: &impl Checker<Protocol>, begun: Instant) -> Report {
    let (states, steps) = (checker.unique_state_count(), checker.state_count());
    Report { states, steps, took: begun.elapsed(), broken: first_story(checker) }
}

/// One of the shortest stories of how a promise is broken, if any is.
pub fn shortest_story(model: &Protocol) -> Option<Story> {
    let checker = model.clone().checker().finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    first_story(&checker)
}

fn first_story(checker: &impl Checker<Protocol>) -> Option<Story> {
    let mut found: Vec<_> = checker.discoveries().into_iter().collect();
    found.sort_by_key(|(promise, path)| (path.clone().into_vec().len(), *promise));
    let (promise, path) = found.into_iter().next()?;
    let model = checker.model();
    let path = path.into_vec();
    let last = path.last().map(|(state, _)| *state)?;
    let actions = path.iter().filter_map(|(_, action)| action.as_ref());
    let states = path.iter().skip(1).map(|(state, _)| state);
    let steps = actions.zip(states).map(|(action, state)| {
        let action = model.format_action(action);
        format!("{action:<20} {}", regions(model, state))
    });
    Some(Story { promise, steps: steps.collect(), writes: writes(model, &last) })
}

fn regions(model: &Protocol, state: &State) -> String {
    let names = ['A', 'B', 'C'].into_iter().zip(&state.stores).take(usize::from(model.regions));
    let each =
        names.map(|(name, it)| format!("{name}: row {:?} tombstone {:?} feed {:?}", it.row, it.tombstone, it.feed));
    each.collect::<Vec<_>>().join(" | ")
}

fn writes(model: &Protocol, state: &State) -> Vec<String> {
    let scenario = &model.scenarios[usize::from(state.scenario)];
    let each = scenario.iter().zip(&state.writes).enumerate();
    each.map(|(number, (what, progress))| {
        let by = format!("writer {} of region {}", what.writer, ['A', 'B', 'C'][usize::from(what.region)]);
        format!(
            "write {number} (#{}): {:?} {:?} by {by}: {:?}",
            number + 1,
            what.kind,
            progress.version,
            progress.stage
        )
    })
    .collect()
}
