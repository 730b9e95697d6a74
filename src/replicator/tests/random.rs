//! Random histories: writers with skewed clocks in three regions, crashes, faults, daemons that die; at the end all equal.

use super::*;

/// What one history does, drawn from its seed.
struct History {
    world: World,
    regions: usize,
}

impl History {
    fn draw(&self, below: u64) -> u64 {
        self.world.runtime.random() % below
    }

    /// A version of a writer whose clock is off by up to 200 ms, and which does not know what it overwrites.
    fn blind_version(&self, n: usize) -> Version {
        let skew = self.draw(400) as i64 - 200;
        let now = Time::from_ticks(self.world.runtime.now().ticks() + skew * 10_000);
        Version::new(now, self.world.regions[n].region(), WriterId(1 + self.draw(3) as u32))
    }

    async fn step(&mut self) {
        let n = self.draw(self.regions as u64) as usize;
        let (partition, row) = (format!("p{}", self.draw(2)), format!("r{}", self.draw(4)));
        let version = self.blind_version(n);
        let (store, feed) = (self.world.stores[n].by_another_line(), SystemTable::Feed.name());
        let crashes = self.draw(10) == 0;
        match self.draw(8) {
            0 | 1 => {
                // As the protocol says: a version above the tombstone that stands.
                let id = RowId::new(table(), partition.as_str().into(), row.as_str().into());
                let key = crate::feed::tombstone_key(&id);
                let shard = crate::feed::Shard::of(&id.table, &id.partition).partition();
                let Ok(there) = store.get(&feed, &shard, &key).await else { return };
                let standing = there.as_ref().and_then(|row| crate::feed::decode_tombstone(row).ok());
                if standing.is_some_and(|tombstone| tombstone.version >= version) {
                    return;
                }
                if !announce(&store, &partition, &[], &[&row], &version, there).await || crashes {
                    return;
                }
                let gone = Operation::Delete {
                    partition: id.partition.clone(),
                    row: id.row.clone(),
                    condition: Condition::Present,
                };
                let _ = store.write(&table(), &gone).await;
            }
            2 => {
                let other = format!("s{row}");
                if announce(&store, &partition, &[&row, &other], &[], &version, None).await && !crashes {
                    let rows = [&row, &other]
                        .map(|row| Operation::InsertOrReplace(World::body(&partition, row, "together", &version)));
                    let _ = store.transact(&table(), &partition.as_str().into(), &rows).await;
                }
            }
            _ => {
                if announce(&store, &partition, &[&row], &[], &version, None).await && !crashes {
                    // Some writes are slow: up to a second after the announcement.
                    tokio::time::sleep(Duration::from_millis(self.draw(20) * self.draw(50))).await;
                    let body = World::body(&partition, &row, version.as_str(), &version);
                    let _ = store.write(&table(), &Operation::InsertOrReplace(body)).await;
                }
            }
        }
    }

    fn disturb(&self) {
        let n = self.draw(self.regions as u64) as usize;
        let faults = self.world.faults(n);
        match self.draw(6) {
            0 => faults.cut(true),
            1 => {
                let kinds = [0, 1, 2].map(|_| self.draw(9));
                let count = std::sync::atomic::AtomicU64::new(self.draw(100));
                faults.set_rule(move |_| {
                    let n = count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    match n % 9 {
                        k if k == kinds[0] => Some(Fault::lost_reply()),
                        k if k == kinds[1] => Some(Fault::lost_request()),
                        k if k == kinds[2] => Some(Fault::throttled(Duration::from_millis(50))),
                        _ => None,
                    }
                });
            }
            2 => {
                let waits = [7, 41, 113, 29, 450].map(Duration::from_millis);
                let count = std::sync::atomic::AtomicUsize::new(0);
                faults.set_rule(move |_| {
                    Some(Fault::Delay(waits[count.fetch_add(1, std::sync::atomic::Ordering::Relaxed) % waits.len()]))
                });
            }
            _ => {
                faults.cut(false);
                faults.clear();
            }
        }
    }
}

async fn announce(
    store: &MemoryTables,
    partition: &str,
    puts: &[&str],
    deletes: &[&str],
    version: &Version,
    tombstone: Option<Row>,
) -> bool {
    let keys = |names: &[&str]| names.iter().map(|name| RowKey::from(*name)).collect();
    let change = Change {
        table: table(),
        partition: partition.into(),
        puts: keys(puts),
        deletes: keys(deletes),
        version: version.clone(),
        base: None,
    };
    let mut operations: Vec<_> = encode_change(&change).unwrap().into_iter().map(Operation::Insert).collect();
    for (id, _) in change.rows().filter(|(_, delete)| *delete) {
        let body = encode_tombstone(&Tombstone { id, version: version.clone() });
        operations.push(match &tombstone {
            Some(row) => Operation::Replace(body, Condition::Matches(row.etag.clone())),
            None => Operation::Insert(body),
        });
    }
    let shard = operations[0].partition().clone();
    store.transact(&SystemTable::Feed.name(), &shard, &operations).await.is_ok()
}

async fn history(seed: u64) {
    let mut history = History { world: World::seeded(3, seed).await, regions: 3 };
    let settings = Settings {
        settle_window: Duration::from_secs(8),
        max_clock_skew: Duration::from_secs(5),
        ..Settings::default()
    };
    history.world.start(&settings);
    for _ in 0..60 {
        history.step().await;
        if history.draw(4) == 0 {
            history.disturb();
        }
        if history.draw(15) == 0 {
            // A daemon dies and another takes its place.
            let n = history.draw(3) as usize;
            history.world.stops[n].cancel();
            let before = history.world.stops.len();
            history.world.start_one(n, &settings);
            let (stop, board) = (history.world.stops.remove(before), history.world.boards.remove(before));
            (history.world.stops[n], history.world.boards[n]) = (stop, board);
        }
        tokio::time::sleep(Duration::from_millis(history.draw(600))).await;
    }
    for n in 0..3 {
        history.world.faults(n).cut(false);
        history.world.faults(n).clear();
    }
    history.world.settle(Duration::from_secs(300)).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    history.world.settle(Duration::from_secs(300)).await;
    history.world.assert_equal();
    history.caches_are_current().await;
}

impl History {
    async fn caches_are_current(&self) {
        let keys = KeyTemplate::default();
        for (n, cache) in self.world.caches.iter().enumerate() {
            for body in self.world.contents(n) {
                let id = RowId::new(table(), body.partition().clone(), body.row().clone());
                let held = cache.get(&keys.key(&id)).await.unwrap();
                let held = held.unwrap_or_else(|| panic!("{id} is not in the cache of {}", NAMES[n]));
                assert_eq!(Some(held.version.as_str()), body.version().map(Version::as_str), "{id} in {}", NAMES[n]);
            }
        }
    }
}

/// `HISTORY_SEED` repeats one history, `HISTORY_SEEDS` runs so many.
#[test]
fn random_histories_end_equal() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seeds = match number("HISTORY_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("HISTORY_SEEDS").unwrap_or(20),
    };
    for seed in seeds {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        let ran = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| runtime.block_on(history(seed))));
        assert!(ran.is_ok(), "history {seed} failed: repeat it with HISTORY_SEED={seed}");
    }
}
