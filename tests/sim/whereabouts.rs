//! In which accounts the rows of a region are whose rows move from one to another, as its accounts tell it.

use std::collections::{BTreeMap, BTreeSet};

use tablerelay::model::{AccountName, RowBody, RowId};
use tablerelay::topology::{MoveState, PublishedRoutes, Routes};

use crate::chronicle::{Event, Stood, Touch};
use crate::world::ACCOUNTS;

/// What an account has of a row.
#[derive(Debug, Clone, Default)]
struct Held {
    row: Option<Stood>,
    tomb: Option<String>,
}

impl Held {
    /// Whether it has this version or a newer one, as row or as tombstone.
    fn has(&self, version: &str) -> bool {
        self.row.as_ref().is_some_and(|row| row.version.as_str() >= version) || self.buries(version)
    }

    fn buries(&self, version: &str) -> bool {
        self.tomb.as_deref().is_some_and(|tomb| tomb >= version)
    }
}

/// What an effect was to the region as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Passing {
    /// Something happened to the row.
    No,
    /// It came from another account, over something else.
    Over,
    /// It came from the account where it is written to one where nobody writes yet.
    Mirrored,
    /// It came from another account, or went where it was no more: nothing happened to the row.
    Moved,
    /// It went where it was, and its place has nothing of it.
    Lost,
}

/// The rows of one region.
#[derive(Debug)]
pub struct Whereabouts {
    pub region: usize,
    /// What stands in its first account.
    pub published: Option<PublishedRoutes>,
    held: BTreeMap<RowId, BTreeMap<usize, Held>>,
    /// Which versions stood where, as rows or as tombstones.
    stood: BTreeSet<(RowId, String, bool, usize)>,
    /// How often something happened to a row that was no passing from account to account.
    touched: BTreeMap<RowId, u64>,
    /// What writers wrote by routes that nobody goes by any more, and where.
    outlived: BTreeSet<(RowId, usize)>,
}

impl Whereabouts {
    pub fn of(region: usize) -> Self {
        let (held, stood, touched, outlived) = Default::default();
        Self { region, published: None, held, stood, touched, outlived }
    }

    /// The first account of the region was told something.
    pub fn hear(&mut self, body: &RowBody) {
        if let Ok(published) = PublishedRoutes::decode(body) {
            self.published = Some(published);
        }
    }

    /// What an effect on a row or a tombstone is to the region, before it is [taken in](Self::take).
    pub fn passing(&self, id: &RowId, event: &Event, before: Option<&Stood>) -> Passing {
        let elsewhere = |version: &str, tomb: bool| {
            (0..ACCOUNTS.len())
                .any(|at| at != event.account && self.stood.contains(&(id.clone(), version.to_owned(), tomb, at)))
        };
        let places = self.rules().map(|rules| places(rules, id));
        let cold = places.is_some_and(|(home, cold)| cold == Some(event.account) && home != cold);
        // Where nobody reads it: it is taken out there once its place has it.
        let astray = !cold && places.is_some_and(|(home, _)| home != Some(event.account));
        let clears = astray && event.line.contains("rebalancer");
        match &event.touch {
            Touch::Put(put) if elsewhere(&put.version, false) => match before.filter(|_| !cold) {
                Some(before) if before.version == put.version => Passing::Moved,
                Some(_) if event.line.contains("rebalancer") && !self.may_write(id, event.account) => Passing::Mirrored,
                Some(_) => Passing::Over,
                _ => Passing::Moved,
            },
            Touch::Tombstone(version) if elsewhere(version, true) => Passing::Moved,
            // Promoted, or no more than a copy: what stands at home counts.
            Touch::Deleted(_) if cold => {
                let kept = before.is_none_or(|before| {
                    self.elsewhere(id, event.account, |held| held.row.is_some() || held.buries(&before.version))
                });
                if kept { Passing::Moved } else { Passing::Lost }
            }
            Touch::Deleted(_) if event.line.contains("demoter") && before.is_some_and(|it| self.is_cold(id, it)) => {
                Passing::Moved
            }
            Touch::Deleted(_) if clears => {
                let kept =
                    before.is_none_or(|before| self.elsewhere(id, event.account, |held| held.has(&before.version)));
                // While it fills, a copy goes when that of which it is one does, whatever their versions.
                let copy = self.fills(id, event.account) && before.is_some_and(|row| elsewhere(&row.version, false));
                if kept || copy { Passing::Moved } else { Passing::Lost }
            }
            // What it has brought home that was announced here goes here, once its place has it.
            Touch::Deleted(_) if astray && event.by_own_daemon() => {
                let kept = before.is_some_and(|row| self.elsewhere(id, event.account, |held| held.has(&row.version)));
                if kept { Passing::Moved } else { Passing::No }
            }
            // A daemon does so where it carries home a row that stands below, since its delete was refused.
            Touch::Collected(version) if clears || astray && event.by_own_daemon() => {
                let kept = self.elsewhere(id, event.account, |held| held.buries(version));
                if kept { Passing::Moved } else { Passing::Lost }
            }
            _ => Passing::No,
        }
    }

    /// Takes an effect in; says whether somebody wrote where no route leads any more.
    pub fn take(&mut self, id: &RowId, event: &Event, passing: &Passing) -> bool {
        let held = self.held.entry(id.clone()).or_default().entry(event.account).or_default();
        let (what, tomb) = match &event.touch {
            Touch::Put(put) => {
                held.row = Some(put.clone());
                (Some(&put.version), false)
            }
            Touch::Deleted(_) => {
                held.row = None;
                (None, false)
            }
            Touch::Tombstone(version) => {
                held.tomb = Some(version.clone());
                (Some(version), true)
            }
            Touch::Collected(_) => {
                held.tomb = None;
                (None, true)
            }
            _ => return false,
        };
        self.stood.extend(what.map(|version| (id.clone(), version.clone(), tomb, event.account)));
        if !matches!(passing, Passing::Moved | Passing::Mirrored) {
            *self.touched.entry(id.clone()).or_default() += 1;
        }
        let outlived =
            *passing == Passing::No && event.by_writer() && what.is_some() && !self.may_write(id, event.account);
        if outlived {
            self.outlived.insert((id.clone(), event.account));
        }
        outlived
    }

    /// Whether a writer that keeps to the protocol may put the row into this account.
    fn may_write(&self, id: &RowId, account: usize) -> bool {
        let Some(published) = &self.published else { return true };
        let before = published.moving.as_ref().filter(|moving| moving.state == MoveState::Reading);
        let may = std::iter::once(&published.rules).chain(before.map(|moving| &moving.rules));
        may.into_iter().any(|rules| place(rules, id) == Some(account))
    }

    /// Whether the account is one that rows are copied to and nobody writes in yet.
    fn fills(&self, id: &RowId, account: usize) -> bool {
        let moving = self.published.as_ref().and_then(|published| published.moving.as_ref());
        let fills = moving.filter(|moving| moving.state == MoveState::Filling);
        fills.is_some_and(|moving| place(&moving.rules, id) == Some(account)) && !self.may_write(id, account)
    }

    /// Whether its cold place has the same.
    fn is_cold(&self, id: &RowId, stood: &Stood) -> bool {
        let cold = self.rules().and_then(|rules| places(rules, id).1);
        let held = cold.and_then(|cold| self.held.get(id)?.get(&cold));
        held.and_then(|held| held.row.as_ref()) == Some(stood)
    }

    /// Whether some account has a tombstone of the row at this version or above.
    pub fn buries(&self, id: &RowId, version: &str) -> bool {
        self.held.get(id).into_iter().flatten().any(|(_, held)| held.buries(version))
    }

    fn rules(&self) -> Option<&Routes> {
        self.published.as_ref().map(|published| &published.rules)
    }

    fn elsewhere(&self, id: &RowId, account: usize, holds: impl Fn(&Held) -> bool) -> bool {
        self.held.get(id).into_iter().flatten().any(|(at, held)| *at != account && holds(held))
    }

    /// The rows that were ever there.
    pub fn rows(&self) -> impl ExactSizeIterator<Item = &RowId> {
        self.held.keys()
    }

    /// How often the row was touched, if it surely stands: nowhere is a tombstone above it, and nobody wrote it where no reader looks.
    pub fn stands(&self, id: &RowId) -> Option<u64> {
        let held = self.held.get(id)?;
        // What is anywhere else is a copy.
        let in_force = held.iter().filter(|(at, _)| self.may_write(id, **at)).filter_map(|(_, held)| held.row.as_ref());
        let highest = in_force.map(|row| row.version.as_str()).max()?;
        let buried = held.values().any(|held| held.buries(highest));
        let astray = self.outlived.iter().any(|(row, _)| row == id);
        (!buried && !astray).then(|| self.touched.get(id).copied().unwrap_or_default())
    }

    /// Rows and tombstones that lie where the routes in force do not lead; but for what a writer left there that went by its routes for too
    /// long, once its place has it as well.
    pub fn astray(&self) -> Vec<(RowId, String)> {
        let Some(rules) = self.rules() else { return Vec::new() };
        let mut astray = Vec::new();
        for (id, held) in &self.held {
            let (home, cold) = places(rules, id);
            let has_cold = |version: &str| cold.and_then(|cold| held.get(&cold)).is_some_and(|held| held.has(version));
            let at_home = home.and_then(|home| held.get(&home)).cloned().unwrap_or_default();
            for (at, there) in held.iter().filter(|(at, _)| Some(**at) != home && Some(**at) != cold) {
                let excused = self.outlived.contains(&(id.clone(), *at));
                let row =
                    there.row.as_ref().filter(|row| !excused || !(at_home.has(&row.version) || has_cold(&row.version)));
                let tomb = there.tomb.as_ref().filter(|tomb| !excused || !(at_home.has(tomb) || has_cold(tomb)));
                if row.is_some() || tomb.is_some() {
                    astray.push((
                        id.clone(),
                        format!("{there:?} is in {}, and its place has {at_home:?}", ACCOUNTS[*at]),
                    ));
                }
            }
        }
        astray
    }

    /// Whether any writer went by its routes for too long.
    pub fn is_outlived(&self) -> bool {
        !self.outlived.is_empty()
    }
}

/// The number of the account that rules lead to.
fn place(rules: &Routes, id: &RowId) -> Option<usize> {
    places(rules, id).0
}

/// The numbers of the home of a row and of its cold place.
fn places(rules: &Routes, id: &RowId) -> (Option<usize>, Option<usize>) {
    let number = |name: &AccountName| ACCOUNTS.iter().position(|account| *account == name.as_str());
    let (home, cold) = rules.places(&id.table, &id.partition);
    (number(home), cold.and_then(number))
}
