//! Whether every run can come to rest: from each state that can be reached, a quiet one can be reached.
//!
//! stateright's `eventually` does not see a run that goes in circles. So the graph is built once more, and walked backwards
//! from the quiet states.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use stateright::Model;

use crate::config::Protocol;
use crate::properties::is_quiet;
use crate::state::State;

/// What came of the walk.
#[derive(Debug, PartialEq, Eq)]
pub struct Rest {
    /// How many different states there are.
    pub states: usize,
    /// In how many of them nothing happens any more.
    pub quiet: usize,
    /// From how many of them no quiet one can be reached.
    pub trapped: usize,
}

/// Walks the graph of a model that is small enough to be kept.
pub fn comes_to_rest(model: &Protocol) -> Rest {
    let mut numbers: HashMap<State, u32> = HashMap::new();
    let mut states = model.init_states();
    for (number, state) in (0..).zip(&states) {
        numbers.insert(*state, number);
    }
    // The states that lead to each state.
    let mut before: Vec<Vec<u32>> = vec![Vec::new(); states.len()];
    let mut next = 0;
    while next < states.len() {
        for reached in model.next_states(&states[next].clone()) {
            let number = match numbers.entry(reached) {
                Entry::Occupied(known) => *known.get(),
                Entry::Vacant(new) => {
                    states.push(reached);
                    before.push(Vec::new());
                    *new.insert(states.len() as u32 - 1)
                }
            };
            before[number as usize].push(next as u32);
        }
        next += 1;
    }
    let mut rests: Vec<bool> = states.iter().map(|state| is_quiet(model, state)).collect();
    let quiet = rests.iter().filter(|rests| **rests).count();
    let mut reached: Vec<usize> = (0..states.len()).filter(|state| rests[*state]).collect();
    while let Some(state) = reached.pop() {
        for earlier in &before[state] {
            let earlier = *earlier as usize;
            if !rests[earlier] {
                rests[earlier] = true;
                reached.push(earlier);
            }
        }
    }
    Rest { states: states.len(), quiet, trapped: rests.iter().filter(|rests| !**rests).count() }
}
