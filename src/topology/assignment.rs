//! Which role every region has, since when and by whose word: the row that stands in every region's `RelayControl`.
//!
//! Each region holds a copy of its own, in the partition `roles` under `current`. Copies differ while a failover is under
//! way and while a region cannot be reached. What is right then is decided by order alone: by the epoch, and where two
//! failovers made the same epoch in two regions, by an id that each drew. The highest that anybody can read is in force, a
//! copy is replaced by a higher one only, and so all copies end as one, whoever brings them together.
//!
//! Beside `current` each assignment leaves a row of its own in the same partition, written in the same transaction: the
//! audit trail. So there is no failover without its trail.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;
use sha2::{Digest, Sha256};

use super::{Cut, FileRoles, Role};
use crate::closed_list;
use crate::model::{ClosedList, PartitionKey, Region, RowBody, RowKey, Time};

closed_list! {
    /// How roles came to be as they are.
    pub enum MoveKind {
        First = "first", "the configuration gave them, before any failover", "none";
        Planned = "planned", "by a planned failover: the old writer had stopped and nothing was left behind", "none";
        Forced = "forced", "by a forced failover: what the old writer had not delivered may come later", "none";
    }
}

/// The place of an assignment in the order of all: a later one has a higher epoch, and of two of the same epoch the id
/// decides.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Mark {
    /// Counts the moves, from 1.
    pub epoch: u64,
    /// Drawn by whoever made it, 16 hex digits.
    pub id: String,
}

impl Mark {
    /// Where a new assignment stands that replaces this one; `random` is drawn for it.
    #[must_use]
    pub fn next(&self, random: u64) -> Self {
        Self { epoch: self.epoch + 1, id: id(random) }
    }

    /// Reads what it is displayed as.
    pub fn parse(text: &str) -> Option<Self> {
        let (epoch, id) = text.split_once('.')?;
        Some(Self { epoch: epoch.parse().ok()?, id: id.to_owned() }).filter(|mark| is_id(&mark.id))
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.epoch, self.id)
    }
}

/// A random number as an id.
pub(super) fn id(random: u64) -> String {
    format!("{random:016x}")
}

pub(super) fn is_id(text: &str) -> bool {
    text.len() == 16 && text.bytes().all(|b| b.is_ascii_hexdigit() && !b.is_ascii_uppercase())
}

/// The roles of all regions, and how they came to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Assignment {
    /// Its place in the order of all.
    #[serde(flatten)]
    pub mark: Mark,
    /// The roles. A region that is not named was added later: see [`role_of`](Self::role_of).
    pub roles: BTreeMap<Region, Role>,
    /// How they came to be.
    pub kind: MoveKind,
    /// The region that the move made a writer.
    pub to: Option<Region>,
    /// The region that gave its role up for that.
    pub from: Option<Region>,
    /// Who moved them.
    pub who: String,
    /// When, by the storage clock of the region where it was decided.
    pub at: Time,
    /// Why, in the words of whoever did it.
    pub why: String,
    /// What a forced failover left behind as far as it could be told, as JSON.
    pub risk: Option<String>,
}

impl Assignment {
    /// What the file gives, before any failover. Its id is made of the roles, so that all daemons of one file write the same.
    pub fn first(file: &FileRoles) -> Self {
        let roles = file.roles().clone();
        let digest = Sha256::digest(roles_text(&roles));
        let id = digest[..8].iter().map(|byte| format!("{byte:02x}")).collect();
        Self {
            mark: Mark { epoch: 1, id },
            roles,
            kind: MoveKind::First,
            to: None,
            from: None,
            who: "the configuration".to_owned(),
            at: Time::EPOCH,
            why: String::new(),
            risk: None,
        }
    }

    /// The role of a region.
    pub fn role_of(&self, region: &Region, file: &FileRoles) -> Role {
        self.roles.get(region).copied().unwrap_or_else(|| file.of_newcomer(region))
    }

    /// The roles of every region of the configuration.
    pub fn effective(&self, file: &FileRoles) -> BTreeMap<Region, Role> {
        file.roles().keys().map(|region| (region.clone(), self.role_of(region, file))).collect()
    }

    /// The regions that are writers.
    pub fn writers(&self, file: &FileRoles) -> Vec<Region> {
        let writer = |(region, role): (Region, Role)| (role == Role::Writer).then_some(region);
        self.effective(file).into_iter().filter_map(writer).collect()
    }
}

/// A planned failover that is under way: its region is still the writer and takes no more writes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Moving {
    /// Drawn by the command that began it, 16 hex digits.
    pub id: String,
    /// Where the role is to go.
    pub to: Region,
    /// Until when it may take, by the storage clock of the region whose row this stands in. Then the region takes it out
    /// again and serves as before.
    pub deadline: Time,
    /// Who began it.
    pub by: String,
}

impl Moving {
    /// One that begins now; `random` is drawn for it.
    pub fn new(to: Region, deadline: Time, by: String, random: u64) -> Self {
        Self { id: id(random), to, deadline, by }
    }

    /// Whether its time is over. The storage clock is a lower bound, so that it never is too soon.
    pub fn has_expired(&self, storage_now: Option<Time>) -> bool {
        storage_now.is_some_and(|now| now >= self.deadline)
    }
}

/// A region's copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RolesRow {
    /// The roles.
    pub assignment: Assignment,
    /// A planned failover that takes this region's role away. It counts in this region alone, and is never carried to others.
    pub moving: Option<Moving>,
    /// A drill that cuts a region off. It stands in every region's copy, each of which counts for its own daemons.
    pub cut: Option<Cut>,
}

/// A row that does not read as a region's roles.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the row {key:?} of the partition roles should have {property} as {expected}")]
pub struct RolesRowError {
    key: String,
    property: &'static str,
    expected: &'static str,
}

impl RolesRow {
    /// The partition of `RelayControl`.
    pub const PARTITION: &'static str = "roles";
    /// What the row keys of the trail begin with.
    pub const TRAIL: &'static str = "epoch:";

    /// The row key of what is in force.
    pub fn current() -> RowKey {
        RowKey::from("current")
    }

    /// The row key of an assignment in the trail, which sorts by epoch.
    pub fn trail_key(mark: &Mark) -> RowKey {
        RowKey::new(format!("{}{:020}:{}", Self::TRAIL, mark.epoch, mark.id))
    }

    /// A copy in which nothing is under way.
    pub fn still(assignment: Assignment) -> Self {
        Self { assignment, moving: None, cut: None }
    }

    /// The same with the cut that stands in `known`: who moves a role, or tells of it, leaves a drill to whoever holds it.
    #[must_use]
    pub fn keeping_cut_of(self, known: Option<&Self>) -> Self {
        Self { cut: known.and_then(|known| known.cut.clone()), ..self }
    }

    /// The row that is in force.
    pub fn encode(&self) -> RowBody {
        let moving = self.moving.as_ref().map(|moving| {
            let Moving { id, to, deadline, by } = moving;
            serde_json::json!({ "id": id, "to": to.as_str(), "deadline": deadline.to_string(), "by": by }).to_string()
        });
        let cut = self.cut.as_ref().map(Cut::encode);
        self.body(&Self::current()).maybe("Moving", moving.as_deref()).maybe("Cut", cut.as_deref()).finish()
    }

    /// The row that it leaves in the trail.
    pub fn encode_trail(&self) -> RowBody {
        self.body(&Self::trail_key(&self.assignment.mark)).finish()
    }

    fn body(&self, key: &RowKey) -> crate::model::BodyBuilder {
        let Assignment { mark, roles, kind, to, from, who, at, why, risk } = &self.assignment;
        RowBody::builder(&PartitionKey::from(Self::PARTITION), key)
            .int64("Epoch", i64::try_from(mark.epoch).unwrap_or(i64::MAX))
            .string("Id", &mark.id)
            .string("Roles", &roles_text(roles))
            .string("Kind", kind.as_str())
            .maybe("To", to.as_ref().map(Region::as_str))
            .maybe("From", from.as_ref().map(Region::as_str))
            .string("Who", who)
            .string("When", &at.to_string())
            .string("Why", why)
            .maybe("Risk", risk.as_deref())
    }

    /// Reads either row.
    ///
    /// # Errors
    /// [`RolesRowError`], which names the row, the property and what it should be.
    pub fn decode(row: &RowBody) -> Result<Self, RolesRowError> {
        let error = |property, expected| RolesRowError { key: row.row().as_str().to_owned(), property, expected };
        let text = |property| row.string(property).ok_or_else(|| error(property, "a string"));
        let region = |property| match row.string(property) {
            None => Ok(None),
            Some(name) => Region::new(&name).map(Some).map_err(|_| error(property, "a region's name")),
        };
        let epoch = row.string("Epoch").and_then(|text| text.parse().ok());
        let id = row.string("Id").filter(|id| is_id(id));
        let mark = Mark {
            epoch: epoch.ok_or_else(|| error("Epoch", "an Int64 of zero or more"))?,
            id: id.ok_or_else(|| error("Id", "16 hex digits"))?,
        };
        let assignment = Assignment {
            mark,
            roles: row
                .string("Roles")
                .and_then(|text| roles_of(&text))
                .ok_or_else(|| error("Roles", "a JSON object with a role for each region"))?,
            kind: MoveKind::parse(&text("Kind")?).ok_or_else(|| error("Kind", "first, planned or forced"))?,
            to: region("To")?,
            from: region("From")?,
            who: text("Who")?,
            at: Time::parse(&text("When")?).map_err(|_| error("When", "a UTC time with 7 digits of a second"))?,
            why: text("Why")?,
            risk: row.string("Risk"),
        };
        let moving = match row.string("Moving") {
            None => None,
            Some(text) => Some(moving_of(&text).ok_or_else(|| error("Moving", "a JSON object of four strings"))?),
        };
        let cut = match row.string("Cut") {
            None => None,
            Some(text) => Some(Cut::decode(&text).ok_or_else(|| error("Cut", "a JSON object of four strings"))?),
        };
        Ok(Self { assignment, moving, cut })
    }
}

fn roles_text(roles: &BTreeMap<Region, Role>) -> String {
    let fields = roles.iter().map(|(region, role)| (region.as_str().to_owned(), role.as_str().into()));
    serde_json::Value::Object(fields.collect()).to_string()
}

fn roles_of(text: &str) -> Option<BTreeMap<Region, Role>> {
    let fields: BTreeMap<String, String> = serde_json::from_str(text).ok()?;
    fields.into_iter().map(|(name, role)| Some((Region::new(&name).ok()?, Role::parse(&role)?))).collect()
}

fn moving_of(text: &str) -> Option<Moving> {
    let mut fields: BTreeMap<String, String> = serde_json::from_str(text).ok()?;
    Some(Moving {
        id: fields.remove("id").filter(|id| is_id(id))?,
        to: Region::new(&fields.remove("to")?).ok()?,
        deadline: Time::parse(&fields.remove("deadline")?).ok()?,
        by: fields.remove("by")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn region(name: &str) -> Region {
        Region::new(name).unwrap()
    }

    fn file() -> FileRoles {
        FileRoles::new([(region("west"), Role::Writer), (region("north"), Role::Standby)].into())
    }

    fn moved() -> Assignment {
        let first = Assignment::first(&file());
        Assignment {
            mark: first.mark.next(0xa1),
            roles: [(region("west"), Role::Standby), (region("north"), Role::Writer)].into(),
            kind: MoveKind::Forced,
            to: Some(region("north")),
            from: Some(region("west")),
            who: "ada@ops".to_owned(),
            at: Time::from_unix_seconds(1_600_000_000),
            why: "west is \"dark\"".to_owned(),
            risk: Some("{\"links\":[]}".to_owned()),
        }
    }

    #[test]
    fn a_copy_and_its_trail_read_back_as_they_were_written() {
        let moving = Moving::new(region("north"), Time::from_unix_seconds(1_600_000_060), "ada".to_owned(), 7);
        for assignment in [Assignment::first(&file()), moved()] {
            let cut = Cut::new(region("west"), moving.deadline, "ada".to_owned(), 9);
            let row = RolesRow { moving: Some(moving.clone()), cut: Some(cut), assignment };
            assert_eq!(RolesRow { cut: None, ..row.clone() }.keeping_cut_of(Some(&row)), row);
            row.encode().row().check().unwrap();
            row.encode_trail().row().check().unwrap();
            assert_eq!(RolesRow::decode(&row.encode()), Ok(row.clone()));
            assert_eq!(RolesRow::decode(&row.encode_trail()), Ok(RolesRow::still(row.assignment.clone())));
        }
    }

    #[test]
    fn all_daemons_of_one_file_write_the_same_and_the_next_is_higher() {
        assert_eq!(Assignment::first(&file()), Assignment::first(&file()));
        let other = FileRoles::new([(region("west"), Role::Writer)].into());
        assert_ne!(Assignment::first(&file()).mark, Assignment::first(&other).mark);
        assert!(moved().mark > Assignment::first(&file()).mark);
        assert!(Mark { epoch: 10, id: id(0) } > Mark { epoch: 9, id: id(9) });
        assert!(
            RolesRow::trail_key(&Mark { epoch: 10, id: id(0) }) > RolesRow::trail_key(&Mark { epoch: 9, id: id(9) })
        );
        let mark = moved().mark;
        assert_eq!(Mark::parse(&mark.to_string()), Some(mark));
        assert_eq!(Mark::parse("7.xyz"), None);
    }

    #[test]
    fn a_row_that_is_none_names_the_property_and_what_it_should_be() {
        let text = |json: &str| RolesRow::decode(&RowBody::parse(json).unwrap()).unwrap_err().to_string();
        let said = text(r#"{"PartitionKey":"roles","RowKey":"current","Epoch":"x"}"#);
        assert!(said.contains("current") && said.contains("Epoch as an Int64"), "{said}");
        let json = moved_json().replace("forced", "wished");
        assert!(text(&json).contains("Kind as first, planned or forced"), "{}", text(&json));
        let json = moved_json().replace("standby", "bystander");
        assert!(text(&json).contains("Roles"), "{}", text(&json));
    }

    fn moved_json() -> String {
        RolesRow::still(moved()).encode().json().to_string()
    }

    #[test]
    fn a_planned_failover_expires_by_the_storage_clock() {
        let moving = Moving::new(region("north"), Time::from_unix_seconds(100), String::new(), 7);
        assert!(!moving.has_expired(None) && !moving.has_expired(Some(Time::from_unix_seconds(99))));
        assert!(moving.has_expired(Some(Time::from_unix_seconds(100))));
    }

    #[test]
    fn kinds_are_a_closed_list() {
        crate::model::assert_well_formed::<MoveKind>();
    }
}
