//! `quarantine list`, `show`, `replay` and `drop`: what could not be replicated, and what to do about it.

mod deal;

use serde::Serialize;

pub(super) use self::deal::{discard, replay};
use super::arguments::{List, Output, Show};
use super::exit::Failure;
use super::output;
use super::regions::{self, Unreachable};
use crate::feed::{Entry, entry_keys};
use crate::model::{AccountName, ClosedList, Region, Row, SystemTable, Time};
use crate::stores::{ErrorKind, Query, RegionStore, Scope};

/// What `quarantine list --output json` prints, and `show` with one entry.
#[derive(Debug, Serialize)]
struct Report {
    schema: u32,
    /// Oldest first.
    entries: Vec<Shown>,
    /// Regions that hold more than the limit.
    more_in: Vec<Region>,
    unreachable: Vec<Unreachable>,
}

/// An entry as it is printed.
#[derive(Debug, Serialize)]
struct Shown {
    id: String,
    /// In whose `RelayQuarantine` it lies.
    region: Region,
    at: Time,
    reason: &'static str,
    detail: String,
    source: &'static str,
    destination: Option<Region>,
    account: Option<AccountName>,
    table: Option<String>,
    partition: Option<String>,
    row: Option<String>,
    version: Option<String>,
    request: Option<String>,
    meaning: &'static str,
    remedy: &'static str,
    /// The record or message as it came; in `show` alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    whole: Option<String>,
    /// UTF-16 units that `whole` lacks.
    #[serde(skip_serializing_if = "Option::is_none")]
    cut: Option<usize>,
}

impl Shown {
    fn of(region: &Region, entry: Entry, whole: bool) -> Self {
        Self {
            id: entry.id,
            region: region.clone(),
            at: entry.at,
            reason: entry.reason.as_str(),
            detail: entry.detail,
            source: entry.source.as_str(),
            destination: entry.destination,
            account: entry.account,
            table: entry.table,
            partition: entry.partition,
            row: entry.row,
            version: entry.version,
            request: entry.request,
            meaning: entry.reason.meaning(),
            remedy: entry.reason.remedy(),
            cut: (whole && entry.cut > 0).then_some(entry.cut),
            whole: whole.then_some(entry.whole),
        }
    }

    fn render(&self) -> String {
        let or_dash = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
        let mut lines = vec![
            format!("id           {}", self.id),
            format!("region       {}", self.region),
            format!("at           {}", self.at),
            format!("reason       {}: {}", self.reason, self.meaning),
            format!("detail       {}", self.detail),
            format!("remedy       {}", self.remedy),
            format!("source       {}", self.source),
            format!("destination  {}", self.destination.as_ref().map_or("every one", Region::as_str)),
            format!("account      {}", self.account.as_ref().map_or("-", AccountName::as_str)),
            format!("table        {}", or_dash(&self.table)),
            format!("partition    {}", or_dash(&self.partition)),
            format!("row          {}", or_dash(&self.row)),
            format!("version      {}", or_dash(&self.version)),
            format!("request      {}", or_dash(&self.request)),
        ];
        if let Some(cut) = self.cut {
            lines.push(format!("cut          {cut} UTF-16 units at the end of what follows"));
        }
        lines.extend(self.whole.clone());
        lines.join("\n")
    }
}

pub(super) async fn list(command: &List) -> Result<(), Failure> {
    let stores = regions::stores(&command.config.file)?;
    let report = collect(&stores, usize::try_from(command.limit).unwrap_or(usize::MAX)).await;
    match command.output {
        Output::Json => output::print_json(&report)?,
        Output::Table => output::print(&report.render())?,
    }
    regions::report(&report.unreachable, stores.len())
}

async fn collect(stores: &[RegionStore], limit: usize) -> Report {
    let (answered, unreachable) = regions::ask(stores, |store| async move {
        regions::rows(store, SystemTable::Quarantine, Query::new(Scope::Table), limit).await
    })
    .await;
    let (mut entries, mut more_in) = (Vec::new(), Vec::new());
    for (region, (rows, more)) in answered {
        entries.extend(
            rows.iter()
                .filter_map(|row| regions::readable(Entry::decode(row)))
                .map(|entry| Shown::of(region, entry, false)),
        );
        more_in.extend(more.then(|| region.clone()));
    }
    entries.sort_by(|a, b| (a.at, &a.region, &a.id).cmp(&(b.at, &b.region, &b.id)));
    Report { schema: 1, entries, more_in, unreachable }
}

impl Report {
    fn render(&self) -> String {
        if self.entries.is_empty() {
            return output::nothing("Nothing is in quarantine", self.unreachable.is_empty());
        }
        let mut table = output::table(&["ID", "REGION", "AT", "REASON", "TABLE", "PARTITION", "DETAIL"]);
        for entry in &self.entries {
            table.add_row([
                entry.id.clone(),
                entry.region.to_string(),
                output::time(entry.at),
                entry.reason.to_owned(),
                entry.table.clone().unwrap_or_default(),
                entry.partition.clone().unwrap_or_default(),
                entry.detail.clone(),
            ]);
        }
        let mut text = output::render(&table);
        for region in &self.more_in {
            text.push_str(&format!("\nThere is more in {region}; raise --limit to see it."));
        }
        text
    }
}

pub(super) async fn show(command: &Show) -> Result<(), Failure> {
    let stores = regions::stores(&command.config.file)?;
    let (found, unreachable) = find(&stores, &command.id).await;
    if found.is_empty() {
        regions::report(&unreachable, stores.len())?;
        return Err(none(&command.id));
    }
    match command.output {
        Output::Table => output::print(&found.iter().map(Shown::render).collect::<Vec<_>>().join("\n\n"))?,
        Output::Json => {
            output::print_json(&Report {
                schema: 1,
                entries: found,
                more_in: Vec::new(),
                unreachable: unreachable.clone(),
            })?;
        }
    }
    regions::report(&unreachable, stores.len())
}

fn none(id: &str) -> Failure {
    anyhow::anyhow!("no region that answers has {id}; `tablerelay quarantine list` shows what there is").into()
}

async fn stored<'a>(stores: &'a [RegionStore], id: &str) -> (Vec<(&'a Region, Option<Row>)>, Vec<Unreachable>) {
    regions::ask(stores, |store| async move {
        let (partition, row) = entry_keys(id);
        match store.home().get(&SystemTable::Quarantine.name(), &partition, &row).await {
            Err(error) if error.kind == ErrorKind::NoTable => Ok(None),
            row => row,
        }
    })
    .await
}

async fn find(stores: &[RegionStore], id: &str) -> (Vec<Shown>, Vec<Unreachable>) {
    let (answered, unreachable) = stored(stores, id).await;
    let entries =
        answered.into_iter().filter_map(|(region, row)| Some((region, regions::readable(Entry::decode(&row?))?)));
    (entries.map(|(region, entry)| Shown::of(region, entry, true)).collect(), unreachable)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::feed::{Malformed, Reason, Source};
    use crate::runtime::Runtime;
    use crate::stores::memory::MemoryTables;
    use crate::stores::{Account, Operation};

    pub(super) async fn region(name: &str, whole: &[&str]) -> RegionStore {
        let runtime = Runtime::simulated(Time::from_unix_seconds(1_600_000_000), 1);
        let name = Region::new(name).unwrap();
        let tables = MemoryTables::new(name.clone(), AccountName::new("one").unwrap(), runtime);
        let store = RegionStore::new(name, vec![Account { tables, queue: None }]);
        if whole.is_empty() {
            return store;
        }
        let table = SystemTable::Quarantine.name();
        store.home().create_table(&table).await.unwrap();
        for (n, whole) in whole.iter().enumerate() {
            let malformed = Malformed::new(Reason::BadVersion, format!("\"{n}\" is no version"));
            let at = Time::from_unix_seconds(2_000 - n as i64);
            let entry = Entry { table: Some("orders".into()), ..Entry::new(Source::Message, &malformed, at, *whole) };
            store.home().write(&table, &Operation::Insert(entry.encode())).await.unwrap();
        }
        store
    }

    #[tokio::test(start_paused = true)]
    async fn entries_of_every_region_are_listed_oldest_first_and_never_whole() {
        let stores = [region("east", &[]).await, region("west", &["{\"a\":1}", "{\"b\":2}"]).await];
        let report = collect(&stores, 1_000).await;
        insta::assert_snapshot!(report.render(), @r#"
        ID                REGION  AT                    REASON       TABLE   PARTITION  DETAIL
        419ff0571b966529  west    1970-01-01T00:33:19Z  bad-version  orders             "1" is no version
        0ba428e665ca6ac4  west    1970-01-01T00:33:20Z  bad-version  orders             "0" is no version
        "#);
        let json = serde_json::to_string(&report).unwrap();
        assert!(json.contains("\"schema\":1") && !json.contains("whole") && !json.contains("{\\\"a\\\""), "{json}");
        let cut = collect(&stores, 1).await;
        assert!(cut.render().contains("There is more in west"), "{}", cut.render());
        let mut empty = collect(&stores[..1], 1).await;
        assert_eq!(empty.render(), "Nothing is in quarantine.");
        empty.unreachable.push(Unreachable { region: Region::new("west").unwrap(), error: "no reply".to_owned() });
        assert!(empty.render().contains("not all could"), "{}", empty.render());
    }

    #[tokio::test(start_paused = true)]
    async fn an_entry_is_shown_whole_with_its_meaning_and_remedy() {
        let stores = [region("east", &[]).await, region("west", &["{\"a\":1}"]).await];
        let id = collect(&stores, 10).await.entries[0].id.clone();
        let (found, unreachable) = find(&stores, &id).await;
        assert!(unreachable.is_empty(), "{unreachable:?}");
        insta::assert_snapshot!(found[0].render(), @r#"
        id           0ba428e665ca6ac4
        region       west
        at           1970-01-01T00:33:20.0000000Z
        reason       bad-version: its version does not have the form of a version
        detail       "0" is no version
        remedy       mend the writer, then let it write or delete the rows once more
        source       message
        destination  every one
        account      -
        table        orders
        partition    -
        row          -
        version      -
        request      -
        {"a":1}
        "#);
        assert!(find(&stores, "0000000000000000").await.0.is_empty());
    }
}
