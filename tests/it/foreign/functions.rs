//! The queue form, sent by the Azure Function in `examples/` through its output bindings. The test is in the place of
//! the host: it writes the row that the function bound, then sends the message.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::Value;
use tablerelay::feed::decode_tombstone;
use tablerelay::model::{RowBody, RowId, SystemTable};
use tablerelay::stores::{Condition, Operation};

use super::{Pair, TABLE, id, open_records, row, rows, table};
use crate::support::deployment::Site;
use crate::support::eventually;
use crate::support::programs::{node, python, run};

const CUSTOMER: &str = "it's 100 %";

/// What the function bound to its outputs when it was asked for an order.
fn bound(order: &str) -> Value {
    let script = format!(
        r#"import order from "./order/index.mjs";
        const context = {{ bindings: {{}} }};
        await order(context, {{ body: {{ customer: "{CUSTOMER}", id: "{order}", total: 12.5 }} }});
        console.log(JSON.stringify(context.bindings));"#
    );
    let arguments = ["--input-type=module", "--eval", &script];
    let said = run(&node(), "functions", &arguments, &[("TABLERELAY_REGION", "west")]);
    serde_json::from_str(&said).unwrap_or_else(|err| panic!("{err}: {said}"))
}

/// The message that tells of a row's delete, by the writer in Python.
fn delete_message(id: &RowId) -> String {
    let script = "import sys; from tablerelay_writer import Clock, queue_message\n\
                  table, partition, row = sys.argv[1:]\n\
                  print(queue_message(table, partition, [], [row], Clock('west').issue()))";
    let arguments = ["-c", script, TABLE, id.partition.as_str(), id.row.as_str()];
    run(&python(), "python", &arguments, &[]).trim().to_owned()
}

async fn send(site: &Site, text: &str) {
    let queue = site.store.accounts()[0].queue.as_ref().expect("the account has a queue");
    queue.send(text).await.expect("the queue is there");
}

#[tokio::test]
async fn what_a_function_wrote_and_sent_through_its_bindings_is_at_the_destination_and_so_are_deletes() {
    let pair = Pair::start(&[]).await;
    let source = &pair.source;
    // A host encodes messages, unless host.json says that it should not.
    for (order, encoded) in [("1", true), ("2", false)] {
        let (bindings, id) = (bound(order), id(CUSTOMER, order));
        let body = RowBody::parse(&bindings["row"].to_string()).expect("a row");
        source.store.home().write(&table(), &Operation::Insert(body)).await.expect("the table is there");
        let message = bindings["change"].as_str().expect("the message is text");
        send(source, &if encoded { BASE64.encode(message) } else { message.to_owned() }).await;
        eventually("the row is at the destination", || async { row(&pair.destination, &id).await.is_some() }).await;
        let [here, there] = [row(source, &id).await, row(&pair.destination, &id).await].map(|row| row.unwrap().body);
        assert_eq!(here, there);
        assert_eq!(here.version().map(ToString::to_string).as_deref(), bindings["row"]["RelayVersion"].as_str());

        let delete =
            Operation::Delete { partition: id.partition.clone(), row: id.row.clone(), condition: Condition::Present };
        source.store.home().write(&table(), &delete).await.expect("the row is there");
        let message = delete_message(&id);
        send(source, &if encoded { BASE64.encode(&message) } else { message.clone() }).await;
        eventually("the row is gone at the destination", || async { row(&pair.destination, &id).await.is_none() })
            .await;
        let message: Value = serde_json::from_str(&message).unwrap();
        for site in [source, &pair.destination] {
            let feed = rows(site, &SystemTable::Feed.name()).await;
            let stones = feed.iter().filter_map(|row| decode_tombstone(row).ok());
            let stone = stones.into_iter().find(|stone| stone.id == id).expect("the delete left its tombstone");
            assert_eq!(stone.version.as_str(), message["version"], "in {}", site.region);
        }
    }
    eventually("none but the deletes wait for the settle window", || async { open_records(source).await <= 2 }).await;
    pair.end().await;
}
