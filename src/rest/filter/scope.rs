//! What a filter says of the keys, as the range that a store is asked for.

use super::value::Value;
use super::{Filter, Operand, Operator};
use crate::model::{PartitionKey, RowKey};
use crate::stores::Scope;

/// How a filter is answered: a range of keys, and what is still to be decided of each of its rows.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::rest) struct Scan {
    /// Holds every row for which the filter holds.
    pub(in crate::rest) scope: Scope,
    /// The filter, where it does not hold for every row of the scope.
    pub(in crate::rest) filter: Option<Filter>,
}

/// Finds the narrowest scope that the conditions on the keys allow.
pub(in crate::rest) fn scan(filter: Option<Filter>) -> Scan {
    let Some(filter) = filter else { return Scan { scope: Scope::Table, filter: None } };
    let mut bounds = Bounds { exact: true, ..Bounds::default() };
    bounds.take(&filter);
    let (scope, exact) = bounds.scope();
    Scan { scope, filter: (!exact).then_some(filter) }
}

/// A range of one key. The smallest character of a key is a blank, so that the next key after `k` is `k` with a blank.
#[derive(Default)]
struct Range {
    /// Inclusive.
    from: Option<String>,
    /// Exclusive.
    until: Option<String>,
    /// Inclusive.
    through: Option<String>,
    /// The one key, where an equation names it.
    equal: Option<String>,
}

#[derive(Default)]
struct Bounds {
    partition: Range,
    row: Range,
    /// Whether the ranges say all that was read.
    exact: bool,
}

impl Bounds {
    fn take(&mut self, filter: &Filter) {
        let condition = match filter {
            Filter::And(a, b) => {
                self.take(a);
                return self.take(b);
            }
            Filter::Compare(Operand::Property(name), operator, Operand::Literal(Value::String(key))) => {
                Some((name, *operator, key))
            }
            Filter::Compare(Operand::Literal(Value::String(key)), operator, Operand::Property(name)) => {
                Some((name, operator.mirrored(), key))
            }
            _ => None,
        };
        let taken = match condition {
            Some((name, operator, key)) if name == "PartitionKey" => self.partition.narrow(operator, key),
            Some((name, operator, key)) if name == "RowKey" => self.row.narrow(operator, key),
            _ => false,
        };
        self.exact &= taken;
    }

    fn scope(self) -> (Scope, bool) {
        let Self { partition, row, exact } = self;
        let row_is_free = row.is_free();
        if let Some(key) = partition.equal {
            let exact = exact && row.until.is_none();
            // One of the two ends is the nearer one; which, the filter decides row by row.
            let through = row.through.or(row.until).map(RowKey::new);
            let from = row.from.map(RowKey::new);
            return (Scope::Partition { partition: PartitionKey::new(key), from, through }, exact);
        }
        let until = partition.until.or(partition.through.map(|key| key + " ")).map(PartitionKey::new);
        let from = partition.from.map(PartitionKey::new);
        let scope = match (&from, &until) {
            (None, None) => Scope::Table,
            _ => Scope::Partitions { from, until },
        };
        (scope, exact && row_is_free)
    }
}

impl Range {
    /// Takes in a condition; `false` where it says more than the range does then.
    fn narrow(&mut self, operator: Operator, key: &str) -> bool {
        let end = match operator {
            Operator::Equal => {
                let first = self.is_free();
                self.equal = Some(key.to_owned());
                (self.from, self.through) = (Some(key.to_owned()), Some(key.to_owned()));
                return first;
            }
            Operator::NotEqual => return false,
            Operator::Greater => return put(&mut self.from, format!("{key} ")),
            Operator::GreaterOrEqual => return put(&mut self.from, key.to_owned()),
            Operator::Less => &mut self.until,
            Operator::LessOrEqual => &mut self.through,
        };
        put(end, key.to_owned()) && (self.until.is_none() || self.through.is_none())
    }

    fn is_free(&self) -> bool {
        self.from.is_none() && self.until.is_none() && self.through.is_none()
    }
}

/// Sets an end that is not set yet. One that is stays, and the filter decides.
fn put(end: &mut Option<String>, key: String) -> bool {
    let free = end.is_none();
    end.get_or_insert(key);
    free
}

#[cfg(test)]
mod tests {
    use super::super::{holds, parse};
    use super::*;
    use crate::model::Row;
    use proptest::prelude::*;

    fn of(text: &str) -> Scan {
        scan(Some(parse(text).unwrap()))
    }

    fn partition(partition: &str, from: Option<&str>, through: Option<&str>) -> Scope {
        let key = |key: Option<&str>| key.map(RowKey::from);
        Scope::Partition { partition: partition.into(), from: key(from), through: key(through) }
    }

    #[test]
    fn conditions_on_keys_become_the_range_that_is_read() {
        let bounds = |from: Option<&str>, until: Option<&str>| Scope::Partitions {
            from: from.map(PartitionKey::from),
            until: until.map(PartitionKey::from),
        };
        for (filter, scope, exact) in [
            ("PartitionKey eq 'p'", partition("p", None, None), true),
            ("PartitionKey eq 'p' and RowKey eq 'r'", partition("p", Some("r"), Some("r")), true),
            ("PartitionKey eq 'p' and RowKey ge 'a' and RowKey le 'b'", partition("p", Some("a"), Some("b")), true),
            ("RowKey gt 'a' and 'p' eq PartitionKey", partition("p", Some("a "), None), true),
            ("PartitionKey eq 'p' and RowKey lt 'b'", partition("p", None, Some("b")), false),
            ("PartitionKey eq 'p' and A eq 1", partition("p", None, None), false),
            ("PartitionKey ge 'a' and PartitionKey lt 'b'", bounds(Some("a"), Some("b")), true),
            ("PartitionKey gt 'a' and PartitionKey le 'b'", bounds(Some("a "), Some("b ")), true),
            ("PartitionKey ge 'a' and RowKey eq 'r'", bounds(Some("a"), None), false),
            ("RowKey eq 'r'", Scope::Table, false),
            ("PartitionKey eq 'a' or PartitionKey eq 'b'", Scope::Table, false),
            ("not (PartitionKey eq 'a')", Scope::Table, false),
            ("PartitionKey ne 'a'", Scope::Table, false),
        ] {
            let found = of(filter);
            assert_eq!((found.scope, found.filter.is_none()), (scope, exact), "{filter}");
        }
    }

    fn holds_in(scope: &Scope, row: &Row) -> bool {
        let (partition, key) = (row.body.partition(), row.body.row());
        match scope {
            Scope::Table => true,
            Scope::Partitions { from, until } => {
                from.as_ref().is_none_or(|from| partition >= from)
                    && until.as_ref().is_none_or(|until| partition < until)
            }
            Scope::Partition { partition: own, from, through } => {
                partition == own
                    && from.as_ref().is_none_or(|from| key >= from)
                    && through.as_ref().is_none_or(|through| key <= through)
            }
        }
    }

    fn condition() -> impl Strategy<Value = String> {
        let name = prop::sample::select(vec!["PartitionKey", "RowKey", "A"]);
        let operator = prop::sample::select(vec!["eq", "ne", "gt", "ge", "lt", "le"]);
        let key = prop::sample::select(vec!["", "a", "a ", "a b", "b"]);
        (name, operator, key, any::<bool>()).prop_map(|(name, operator, key, not)| {
            let text = format!("{name} {operator} '{key}'");
            if not && key == "b" { format!("not ({text})") } else { text }
        })
    }

    fn key() -> impl Strategy<Value = String> {
        prop::sample::select(vec!["", " ", "a", "a ", "a  ", "a!", "a b", "aa", "b", "c"]).prop_map(str::to_owned)
    }

    proptest! {
        #[test]
        fn a_scan_finds_what_the_filter_holds_for(
            conditions in prop::collection::vec(condition(), 1..5),
            either in any::<bool>(), partition in key(), row in key()
        ) {
            let filter = parse(&conditions.join(if either { " or " } else { " and " })).unwrap();
            let json = format!(
                r#"{{"odata.etag":"x","PartitionKey":"{partition}","RowKey":"{row}","Timestamp":"2026-11-22T12:18:00Z","A":"a"}}"#
            );
            let row = Row::from_wire(&json, None).unwrap();
            let scan = scan(Some(filter.clone()));
            let found = holds_in(&scan.scope, &row) && scan.filter.is_none_or(|filter| holds(&filter, &row));
            prop_assert_eq!(found, holds(&filter, &row), "{:?}", scan.scope);
        }
    }
}
