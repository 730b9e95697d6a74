//! What a daemon writes by the protocol.

use std::time::Duration;

use super::bench::{At, Bench, partition};
use crate::model::{Change, RowId, Tombstone};
use crate::stores::memory::Fault;
use crate::writer::{Raised, raise_tombstone, relay};

#[tokio::test(start_paused = true)]
async fn a_relayed_row_is_announced_once_and_another_of_the_same_key_takes_the_next_number() {
    let bench = Bench::new().await;
    let version = bench.ahead(Duration::ZERO);
    // Two partitions of one shard, one row key, one version: implicit versions of one tick.
    let shard = |partition: &str| crate::feed::Shard::of(&bench.orders, &partition.into());
    let twin = (0..).map(|n| format!("p{n}")).find(|twin| shard(twin) == shard("p")).unwrap();
    let change = |partition: &str| Change {
        table: bench.orders.clone(),
        partition: partition.into(),
        puts: vec!["a".into()],
        deletes: vec![],
        version: version.clone(),
        base: None,
    };
    let tables = bench.tables.as_ref();
    let first = relay(tables, &change("p"), None).await.unwrap();
    let again = relay(tables, &change("p"), None).await.unwrap();
    assert_eq!((first.already, again.already, &again.key), (false, true, &first.key));
    let other = relay(tables, &change(&twin), None).await.unwrap();
    assert!(!other.already && other.key.as_str().contains("~1~r"), "{}", other.key);
    bench.fault_once(At::Feed, Fault::lost_reply());
    let gone = Change { puts: vec![], deletes: vec!["b".into()], ..change("p") };
    assert!(relay(tables, &gone, None).await.is_err());
    assert!(relay(tables, &gone, None).await.unwrap().already);
    // What was announced before the look that a write rests on may end before that write: it is announced anew.
    let stands = bench.records().into_iter().find(|record| record.key == first.key).unwrap().inserted;
    assert!(relay(tables, &change("p"), Some(stands)).await.unwrap().already);
    let anew = relay(tables, &change("p"), Some(stands.next())).await.unwrap();
    assert!(!anew.already && anew.key != first.key, "{}", anew.key);
    let announced: Vec<_> = bench.records().into_iter().map(|record| record.change).collect();
    assert_eq!(announced.len(), 4);
    for change in [change("p"), change(&twin), gone] {
        assert!(announced.contains(&change), "{change:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_tombstone_is_raised_and_never_lowered() {
    let bench = Bench::new().await;
    let id = RowId::new(bench.orders.clone(), partition(), "a".into());
    let at = |seconds| Tombstone { id: id.clone(), version: bench.ahead(Duration::from_secs(seconds)) };
    let tables = bench.tables.as_ref();
    assert_eq!(raise_tombstone(tables, &at(5)).await.unwrap(), Raised::Raised);
    assert_eq!(raise_tombstone(tables, &at(3)).await.unwrap(), Raised::Standing(at(5).version));
    assert_eq!(raise_tombstone(tables, &at(5)).await.unwrap(), Raised::Standing(at(5).version));
    assert_eq!(raise_tombstone(tables, &at(9)).await.unwrap(), Raised::Raised);
    bench.fault_once(At::Feed, Fault::lost_reply());
    assert!(raise_tombstone(tables, &at(12)).await.is_err());
    assert_eq!(raise_tombstone(tables, &at(12)).await.unwrap(), Raised::Standing(at(12).version));
    assert_eq!(bench.tombstones(), [at(12)]);
}
