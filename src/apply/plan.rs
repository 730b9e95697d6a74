//! Packing writes into transactions.

use std::collections::BTreeMap;

use crate::batch::Limits;
use crate::model::{PartitionKey, TableName, Version};
use crate::stores::Operation;
use crate::stores::limits::{ENVELOPE_BYTES, MAX_TRANSACTION_BYTES, operation_bytes};

/// Azure: at most 100 operations and less than 4 MiB in a transaction, envelope included.
const TRANSACTION: Limits = Limits { rows: 100, bytes: MAX_TRANSACTION_BYTES - ENVELOPE_BYTES - 1 };

/// One write to be done, and which item of the caller's batch it is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The caller's index.
    pub item: usize,
    /// The table.
    pub table: TableName,
    /// The version that is written or deleted: what a writer wrote together shares it.
    pub version: Version,
    /// The conditional write.
    pub operation: Operation,
    /// It goes in a transaction of its own.
    pub alone: bool,
}

/// Writes of one partition that are applied together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transaction {
    /// The table.
    pub table: TableName,
    /// The partition.
    pub partition: PartitionKey,
    /// The writes, each of another row.
    pub operations: Vec<Operation>,
    /// For each of them the caller's index.
    pub items: Vec<usize>,
}

/// Packs steps into transactions: by partition, the rows of one version together, as many versions as fit.
///
/// A version that does not fit into one transaction is split: a writer's own transaction always fits, for it had to
/// pass the same limits.
pub fn plan(steps: Vec<Step>) -> Vec<Transaction> {
    let mut partitions: BTreeMap<(TableName, PartitionKey), BTreeMap<Version, Vec<Step>>> = BTreeMap::new();
    let mut transactions = Vec::new();
    for step in steps {
        if step.alone {
            let mut open = Open::new(&step.table, step.operation.partition());
            open.push(step, 0);
            transactions.push(open.transaction);
            continue;
        }
        let partition = (step.table.clone(), step.operation.partition().clone());
        partitions.entry(partition).or_default().entry(step.version.clone()).or_default().push(step);
    }
    for ((table, partition), versions) in partitions {
        let mut open = Open::new(&table, &partition);
        for group in versions.into_values() {
            let bytes = group.iter().map(|step| operation_bytes(&step.operation)).sum();
            if !TRANSACTION.admit((open.transaction.items.len(), open.bytes), group.len(), bytes) {
                transactions.push(std::mem::replace(&mut open, Open::new(&table, &partition)).transaction);
            }
            for step in group {
                let bytes = operation_bytes(&step.operation);
                if !TRANSACTION.admit((open.transaction.items.len(), open.bytes), 1, bytes) {
                    transactions.push(std::mem::replace(&mut open, Open::new(&table, &partition)).transaction);
                }
                open.push(step, bytes);
            }
        }
        transactions.push(open.transaction);
    }
    transactions
}

struct Open {
    transaction: Transaction,
    bytes: usize,
}

impl Open {
    fn new(table: &TableName, partition: &PartitionKey) -> Self {
        let (operations, items) = (Vec::new(), Vec::new());
        let transaction = Transaction { table: table.clone(), partition: partition.clone(), operations, items };
        Self { transaction, bytes: 0 }
    }

    fn push(&mut self, step: Step, bytes: usize) {
        self.bytes += bytes;
        self.transaction.items.push(step.item);
        self.transaction.operations.push(step.operation);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Region, RowBody, RowKey, Time, WriterId};
    use proptest::prelude::*;

    fn step(item: usize, partition: u8, tick: i64, bytes: usize) -> Step {
        let body = RowBody::builder(&PartitionKey::new(format!("p{partition}")), &RowKey::new(format!("r{item}")));
        Step {
            item,
            table: TableName::new("orders").unwrap(),
            version: Version::new(Time::from_ticks(tick), &Region::new("west").unwrap(), WriterId(1)),
            operation: Operation::Insert(body.string("A", &"x".repeat(bytes)).finish()),
            alone: false,
        }
    }

    #[test]
    fn a_hundred_contiguous_rows_are_one_transaction() {
        let steps = (0..100).map(|item| step(item, 0, 1, 10)).collect();
        assert_eq!(plan(steps).len(), 1);
    }

    #[test]
    fn what_was_written_together_is_not_split_where_it_fits() {
        let steps = (0..60).map(|item| step(item, 0, 1, 10)).chain((60..120).map(|item| step(item, 0, 2, 10)));
        let sizes: Vec<usize> = plan(steps.collect()).iter().map(|t| t.items.len()).collect();
        assert_eq!(sizes, [60, 60]);
    }

    #[test]
    fn bytes_bound_a_transaction_too() {
        let steps = (0..9).map(|item| step(item, 0, item as i64, 900_000)).collect();
        let sizes: Vec<usize> = plan(steps).iter().map(|t| t.items.len()).collect();
        assert_eq!(sizes, [4, 4, 1]);
    }

    #[test]
    fn a_row_that_may_be_the_one_at_fault_goes_alone() {
        let steps = (0..5).map(|item| Step { alone: item == 2, ..step(item, 0, 1, 10) }).collect();
        let sizes: Vec<usize> = plan(steps).iter().map(|t| t.items.len()).collect();
        assert_eq!(sizes, [1, 4]);
    }

    proptest! {
        // Megabytes are built for each case: a few dozen cases tell as much as hundreds.
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn every_step_is_in_one_transaction_of_its_partition(
            steps in proptest::collection::vec((0u8..2, 0i64..3, 1usize..60_000), 0..150),
        ) {
            let count = steps.len();
            let steps = steps.into_iter().enumerate().map(|(item, (p, t, b))| step(item, p, t, b)).collect();
            let mut seen = vec![0; count];
            for transaction in plan(steps) {
                prop_assert!((1..=100).contains(&transaction.items.len()));
                let bytes: usize = transaction.operations.iter().map(operation_bytes).sum();
                prop_assert!(bytes < 4 * 1_024 * 1_024);
                for (item, operation) in transaction.items.iter().zip(&transaction.operations) {
                    seen[*item] += 1;
                    prop_assert_eq!(operation.partition(), &transaction.partition);
                }
            }
            prop_assert!(seen.iter().all(|n| *n == 1));
        }
    }
}
