//! Cache-aside readers at the destination, while the daemon there refreshes the same cache.

use serde_json::Value;
use tablerelay::model::{RowBody, RowId, Version};
use tablerelay::runtime::Runtime;
use tablerelay::stores::Condition;
use tablerelay::writer::{Writer, WriterOptions};

use super::reader::Reader;
use super::{Pair, id, is_cached, row, table};
use crate::support::eventually;

/// Two regions, a writer at the source.
struct Scene {
    pair: Pair,
    writer: Writer,
}

impl Scene {
    /// The daemons put nothing into the caches that was not there: all that is there, readers have filled in.
    async fn start() -> Self {
        let mode = |region: &str| format!("TABLERELAY__REGION__{region}__CACHE__MODE");
        let (west, north) = (mode("WEST"), mode("NORTH"));
        let pair = Pair::start(&[(&west, "refresh-existing"), (&north, "refresh-existing")]).await;
        let writer = Writer::new(pair.source.store.clone(), WriterOptions::default(), Runtime::system());
        Self { pair, writer }
    }

    /// Writes a row at the source, and waits until the daemon of the destination has brought its cache up to date:
    /// there is an entry of this version, or the mark that there is none.
    async fn write(&self, id: &RowId, number: i32, entry: bool) -> Version {
        let body = RowBody::builder(&id.partition, &id.row).string("Text", "it's 日本").finish();
        let text = body.json().trim_end_matches('}').to_owned() + &format!(r#","N":{number},"D":1.0}}"#);
        let body = RowBody::parse(&text).expect("a row");
        let over = row(&self.pair.source, id).await;
        let over = over.as_ref().and_then(|row| row.body.version());
        let written = self.writer.insert_or_replace(&table(), &body, over).await.expect("the source takes it");
        self.eventually_cached(id, &written.version, entry).await;
        written.version
    }

    async fn delete(&self, id: &RowId) -> Version {
        let over = row(&self.pair.source, id).await.expect("it is there");
        let (partition, row) = (&id.partition, &id.row);
        let deleted = self.writer.delete(&table(), partition, row, Condition::Present, over.body.version()).await;
        let version = deleted.expect("the source takes it").version;
        self.eventually_cached(id, &version, false).await;
        version
    }

    async fn eventually_cached(&self, id: &RowId, version: &Version, entry: bool) {
        let what = format!("the cache has {id} at {version}, entry: {entry}");
        eventually(&what, || is_cached(&self.pair.destination, id, version, entry)).await;
    }

    /// The cache holds this now, and not only at last.
    async fn assert_cached(&self, id: &RowId, version: &Version, entry: bool) {
        let held = self.pair.destination.cached(std::slice::from_ref(id)).await;
        assert!(is_cached(&self.pair.destination, id, version, entry).await, "{id} at {version}: {held:?}");
    }

    /// A miss is filled in; the version that is replicated next is what the reader then returns.
    async fn fresh(&self, reader: &mut Reader) {
        let id = id(reader.language, "it's 100 %:42");
        let first = self.write(&id, 1, false).await;
        shows(&reader.get(&id), 1, &first);
        self.assert_cached(&id, &first, true).await;
        let second = self.write(&id, 2, true).await;
        shows(&reader.get(&id), 2, &second);
        self.delete(&id).await;
        assert_eq!(reader.get(&id), Value::Null, "{}", reader.language);
        let again = self.write(&id, 3, false).await;
        shows(&reader.get(&id), 3, &again);
        self.assert_cached(&id, &again, true).await;
    }

    /// A reader is slow, and meanwhile the daemon marks, another reader fills, and at last the row is deleted.
    async fn overtaken(&self, slow: &mut Reader, other: &mut Reader) {
        let id = id(slow.language, "slow");
        let first = self.write(&id, 1, false).await;
        slow.read_slowly(&id);
        let second = self.write(&id, 2, false).await;
        shows(&slow.go_on(), 1, &first);
        self.assert_cached(&id, &second, false).await;

        slow.read_slowly(&id);
        let third = self.write(&id, 3, false).await;
        shows(&other.get(&id), 3, &third);
        self.assert_cached(&id, &third, true).await;
        shows(&slow.go_on(), 2, &second);
        self.assert_cached(&id, &third, true).await;
        shows(&slow.get(&id), 3, &third);

        let gone = self.other_row(slow.language);
        let first = self.write(&gone, 1, false).await;
        slow.read_slowly(&gone);
        let deleted = self.delete(&gone).await;
        shows(&slow.go_on(), 1, &first);
        self.assert_cached(&gone, &deleted, false).await;
        assert_eq!(slow.get(&gone), Value::Null, "{}", slow.language);
    }

    fn other_row(&self, language: &str) -> RowId {
        id(language, "deleted meanwhile")
    }
}

/// A reader returned the row as it was written with this number.
fn shows(found: &Value, number: i32, version: &Version) {
    assert_eq!((&found["N"], &found["RelayVersion"]), (&number.into(), &version.as_str().into()), "{found}");
    assert_eq!((&found["D@odata.type"], &found["Text"]), (&"Edm.Double".into(), &"it's 日本".into()), "{found}");
}

#[tokio::test]
async fn readers_return_what_was_replicated_and_a_slow_one_never_puts_an_older_row_back() {
    let scene = Scene::start().await;
    let mut python = Reader::in_python(&scene.pair.destination);
    let mut javascript = Reader::in_javascript(&scene.pair.destination);
    scene.fresh(&mut python).await;
    scene.fresh(&mut javascript).await;
    scene.overtaken(&mut python, &mut javascript).await;
    scene.overtaken(&mut javascript, &mut python).await;
    // Before their Redis goes.
    drop((python, javascript));
    scene.pair.end().await;
}
