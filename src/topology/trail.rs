//! What is added to the trail of a forced failover once the region is back that lost its role: what it had not sent.

use crate::feed::{part_name, row_lists, rows_of_list};
use crate::model::{PartitionKey, Region, RowBody, RowId, Time};

use super::{Mark, RolesRow};

/// Properties that rows are listed in, of 30,000 UTF-16 units each.
const LISTS: usize = 7;

/// What a region had not sent when a forced failover took its role away: changed rows that no other region had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsent {
    /// How many.
    pub rows: u64,
    /// How many of them were written after the failover, by their versions: by applications that had not heard.
    pub later: u64,
    /// Which: as many as fit.
    pub named: Vec<RowId>,
    /// Regions that could not be asked, and may have had some of it.
    pub unasked: Vec<Region>,
    /// When it was found out, by the clock of the daemon that did.
    pub at: Time,
}

impl Unsent {
    /// What the trail has of a failover whose unsent rows could not be counted before they went on: nobody can count them any more.
    const UNKNOWN: &str = "UnsentUnknown";

    /// The word that it is unknown, to be merged into the trail.
    pub fn unknown(mark: &Mark) -> RowBody {
        let (partition, row) = (PartitionKey::from(RolesRow::PARTITION), RolesRow::trail_key(mark));
        RowBody::builder(&partition, &row).string(Self::UNKNOWN, "yes").finish()
    }

    /// Whether a row of the trail says that.
    pub fn is_unknown(row: &RowBody) -> bool {
        row.string(Self::UNKNOWN).is_some()
    }

    /// Of rows of which each is told when its version was issued. `moved` is when the failover was.
    pub fn new(rows: Vec<(RowId, Time)>, moved: Time, unasked: Vec<Region>, at: Time) -> Self {
        let later = rows.iter().filter(|(_, issued)| *issued > moved).count() as u64;
        let count = rows.len() as u64;
        let ids: Vec<RowId> = rows.into_iter().map(|(id, _)| id).collect();
        let lists = row_lists(&ids);
        let named = lists.iter().take(LISTS).filter_map(|list| rows_of_list(list)).flatten().collect();
        Self { rows: count, later, named, unasked, at }
    }

    /// How many rows are not named, since there is no room for them.
    pub fn left_out(&self) -> u64 {
        self.rows.saturating_sub(self.named.len() as u64)
    }

    /// Whether a row of the trail tells it already.
    pub fn is_told(row: &RowBody) -> bool {
        row.string("Unsent").is_some()
    }

    /// What to merge into the row of the trail.
    pub fn encode(&self, mark: &Mark) -> RowBody {
        let whole = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        let unasked: Vec<&str> = self.unasked.iter().map(Region::as_str).collect();
        let mut body = RowBody::builder(&PartitionKey::from(RolesRow::PARTITION), &RolesRow::trail_key(mark))
            .int64("Unsent", whole(self.rows))
            .int64("UnsentLater", whole(self.later))
            .int64("UnsentLeftOut", whole(self.left_out()))
            .maybe("UnsentUnasked", (!unasked.is_empty()).then(|| unasked.join(", ")).as_deref())
            .string("UnsentAt", &self.at.to_string());
        for (n, list) in row_lists(&self.named).iter().enumerate() {
            body = body.string(&part_name("UnsentRows", n), list);
        }
        body.finish()
    }

    /// Reads it out of a row of the trail; `None` where nobody has found it out, or it cannot be read.
    pub fn decode(row: &RowBody) -> Option<Self> {
        let whole = |name| row.string(name)?.parse().ok();
        let lists = (0..LISTS).map_while(|n| row.string(&part_name("UnsentRows", n)));
        let unasked = row.string("UnsentUnasked").unwrap_or_default();
        let unasked = unasked.split(", ").filter(|name| !name.is_empty());
        Some(Self {
            rows: whole("Unsent")?,
            later: whole("UnsentLater")?,
            named: lists.map(|list| rows_of_list(&list)).collect::<Option<Vec<_>>>()?.into_iter().flatten().collect(),
            unasked: unasked.map(|name| Region::new(name).ok()).collect::<Option<_>>()?,
            at: Time::parse(&row.string("UnsentAt")?).ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::TableName;
    use crate::stores::limits::check_body;

    fn rows(count: usize) -> Vec<(RowId, Time)> {
        let id = |n: usize| {
            let key = format!("{n:0>500}");
            RowId::new(TableName::new("orders").unwrap(), "p".into(), key.as_str().into())
        };
        (0..count).map(|n| (id(n), Time::from_unix_seconds(n as i64))).collect()
    }

    #[test]
    fn it_reads_back_and_what_does_not_fit_is_counted() {
        let mark = Mark { epoch: 2, id: "0123456789abcdef".to_owned() };
        let unasked = vec![Region::new("north").unwrap(), Region::new("south").unwrap()];
        for count in [0, 3, 2_000] {
            let unsent = Unsent::new(rows(count), Time::from_unix_seconds(1), unasked.clone(), Time::EPOCH);
            let body = unsent.encode(&mark);
            check_body(&body).unwrap();
            assert!(Unsent::is_told(&body) && *body.row() == RolesRow::trail_key(&mark));
            assert_eq!(Unsent::decode(&body), Some(unsent.clone()));
            assert_eq!((unsent.rows, unsent.later), (count as u64, count.saturating_sub(2) as u64));
            assert_eq!(unsent.left_out() > 0, count > 1_000, "{}", unsent.left_out());
        }
        assert_eq!(
            Unsent::decode(
                &RolesRow::still(super::super::Assignment::first(&super::super::FileRoles::multi_active([])))
                    .encode_trail()
            ),
            None
        );
    }
}
