//! The protocol as a model that stateright explores.

use stateright::{Model, Property};

use crate::config::{Faults, Kind, Protocol};
use crate::properties;
use crate::state::{Phase, Request, Stage, State};

/// One step of a run. Writes and daemons go by their numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    /// The next step of a write.
    Write(usize),
    /// Its writer dies.
    WriterCrashes(usize),
    /// It takes effect, and its writer does not learn of it.
    WriterLosesReply(usize),
    /// The attempt that was given up for lost takes effect after all.
    WriteArrivesAgain(usize),
    /// It never does.
    WriteIsLost(usize),
    /// A daemon reads the feed (before a look).
    Poll(usize),
    /// A daemon begins to look.
    Look(usize),
    /// A daemon brings its finding to a region.
    Deliver(usize, u8),
    /// The next request of a daemon.
    Daemon(usize),
    /// A daemon dies.
    DaemonCrashes(usize),
    /// A daemon gives a request up for lost and starts over.
    DaemonLosesReply(usize),
    /// That request takes effect, if its condition holds.
    StrayArrives,
    /// It never does.
    StrayIsLost,
}

impl Protocol {
    fn write_actions(&self, state: &State, actions: &mut Vec<Action>) {
        let fault = |faults| state.may_fail && self.faults == faults;
        for (write, what) in self.scenarios[usize::from(state.scenario)].iter().enumerate() {
            match state.writes[write].stage {
                Stage::Waiting if self.may_begin(state, write) => actions.push(Action::Write(write)),
                Stage::Read { .. } => actions.push(Action::Write(write)),
                Stage::Announced { .. } => {
                    actions.push(Action::Write(write));
                    if fault(Faults::WriterCrash) {
                        actions.push(Action::WriterCrashes(write));
                    }
                    if fault(Faults::LostReply) && what.kind != Kind::Change {
                        actions.push(Action::WriterLosesReply(write));
                    }
                }
                Stage::Repeating => actions.extend([Action::WriteArrivesAgain(write), Action::WriteIsLost(write)]),
                Stage::Waiting | Stage::Acknowledged | Stage::Over => {}
            }
        }
    }

    fn daemon_actions(&self, state: &State, actions: &mut Vec<Action>) {
        for daemon in 0..self.daemons.len() {
            if self.may_poll(state, daemon) {
                actions.push(Action::Poll(daemon));
            }
            match state.daemons[daemon].phase {
                Phase::Idle if self.may_look(state, daemon) => actions.push(Action::Look(daemon)),
                Phase::Idle => continue,
                Phase::Deliver => {
                    actions.extend(self.destinations(state, daemon).map(|to| Action::Deliver(daemon, to)))
                }
                _ => actions.push(Action::Daemon(daemon)),
            }
            let fault = |faults| state.may_fail && self.faults == faults && state.daemons[daemon].phase != Phase::Idle;
            if fault(Faults::DaemonCrash) {
                actions.push(Action::DaemonCrashes(daemon));
            }
            if fault(Faults::LostReply) && self.request(state, daemon).0 != Request::None {
                actions.push(Action::DaemonLosesReply(daemon));
            }
        }
        if state.stray.request != Request::None {
            actions.extend([Action::StrayArrives, Action::StrayIsLost]);
        }
    }
}

impl Model for Protocol {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let may_fail = self.faults != Faults::None;
        (0..).zip(&self.scenarios).map(|(scenario, _)| State::new(scenario, may_fail)).collect()
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        self.write_actions(state, actions);
        self.daemon_actions(state, actions);
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut next = *last;
        let state = &mut next;
        match action {
            Action::Write(write) => self.write_step(state, write),
            Action::WriterCrashes(write) => self.write_crashes(state, write),
            Action::WriterLosesReply(write) => self.write_loses_reply(state, write),
            Action::WriteArrivesAgain(write) => self.write_arrives_again(state, write, true),
            Action::WriteIsLost(write) => self.write_arrives_again(state, write, false),
            Action::Poll(daemon) => self.poll(state, daemon),
            Action::Look(daemon) => self.look(state, daemon),
            Action::Daemon(daemon) => self.daemon_step(state, daemon),
            Action::Deliver(daemon, region) => self.deliver(state, daemon, region),
            Action::DaemonCrashes(daemon) => self.daemon_crashes(state, daemon),
            Action::DaemonLosesReply(daemon) => self.daemon_loses_reply(state, daemon),
            Action::StrayArrives => self.stray_arrives(state, true),
            Action::StrayIsLost => self.stray_arrives(state, false),
        }
        state.may_fail &= !matches!(
            action,
            Action::WriterCrashes(_)
                | Action::WriterLosesReply(_)
                | Action::DaemonCrashes(_)
                | Action::DaemonLosesReply(_)
        );
        if !self.grain.named_daemons {
            self.order_daemons(state);
        }
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        properties::all()
    }
}
