//! Keeping this daemon's lease: its row written and the rows of all read, and shards started and ended by what follows.
//!
//! The rules are [`Tenancy`]'s. Here is what waits: two requests a quarter of a lease, more only while shards move.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::assembly::Assembly;
use super::board::StatusBoard;
use super::duty::Duty;
use super::removal::{removal, remove};
use super::tasks::Group;
use super::{Roles, Setup};
use crate::feed::AccountShard;
use crate::model::{ClosedList, Etag, PartitionKey, Row, SystemTable};
use crate::runtime::Runtime;
use crate::stores::limits::MAX_OPERATIONS;
use crate::stores::{Condition, DATE_RESOLUTION, ErrorKind, Operation, Query, RegionStore, Scope, StoreError, Tables};
use crate::telemetry::Event;
use crate::topology::{LeaseRules, Member, MemberId, Obeyed, Tenancy, Turn};

/// The wait before a round that has something new to say.
const SOON: Duration = Duration::from_millis(5);
/// How long the last word may take: who does not hear it waits for the end of the lease.
const LAST_WORD: Duration = Duration::from_secs(3);

/// Keeps the lease and what hangs on it.
#[derive(Debug)]
pub(super) struct Leases {
    assembly: Assembly,
    tenancy: Tenancy,
    duty: Arc<Duty>,
    board: Arc<StatusBoard>,
    local: RegionStore,
    lease: Duration,
    runtime: Runtime,
    groups: BTreeMap<AccountShard, Group>,
    etag: Option<Etag>,
    /// The row may stand: it was sent once.
    sent: bool,
    /// What the row says of the roles that this daemon goes by.
    said: Option<Obeyed>,
    failing: bool,
}

impl Leases {
    pub fn new(assembly: Assembly, shards: Vec<AccountShard>, duty: Arc<Duty>, board: Arc<StatusBoard>) -> Self {
        let Setup { local, settings, runtime, .. } = assembly.setup();
        let rules =
            LeaseRules { lease: settings.lease, window: settings.settle_window, date_resolution: DATE_RESOLUTION };
        let (local, runtime) = (local.clone(), runtime.clone());
        Self {
            tenancy: Tenancy::new(MemberId::new(runtime.random()), shards, rules),
            assembly,
            duty,
            board,
            local,
            lease: rules.lease,
            runtime,
            groups: BTreeMap::new(),
            etag: None,
            sent: false,
            said: None,
            failing: false,
        }
    }

    /// Keeps the lease until it is stopped, then gives everything up and says so.
    ///
    /// It begins once the roles are known: a region that comes back is to learn what it is before it does anything.
    pub async fn run(mut self: Box<Self>, stop: CancellationToken) {
        let roles = self.board.roles().clone();
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = roles.until_confirmed() => {}
        }
        loop {
            let pause = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                pause = self.round() => pause,
            };
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                // Whoever moves a role waits for the word that it was heard.
                () = self.until_unsaid(&roles) => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
        self.leave().await;
    }

    /// Waits until this daemon goes by other roles than its row says.
    async fn until_unsaid(&self, roles: &Roles) {
        match &self.said {
            Some(said) => roles.until_changed(said).await,
            // The row could not be written: the next round is soon.
            None => std::future::pending().await,
        }
    }

    /// Renews, reads, and does what follows; says how long to wait for the next round.
    async fn round(&mut self) -> Duration {
        self.board.turned();
        if self.tenancy.has_lapsed(self.runtime.instant()) {
            self.lose("its lease could not be renewed in time").await;
        }
        let every = self.lease / 4;
        match timeout(every, self.renew()).await {
            Ok(Ok((turn, rows))) => {
                if std::mem::take(&mut self.failing) {
                    info!(event = Event::LeaseHeld.as_str(), daemon = %self.tenancy.me(), "the lease is renewed again");
                }
                let pause = self.pause(&turn);
                let old = turn.traceless.clone();
                self.act(turn).await;
                self.collect(&rows, &old).await;
                return pause;
            }
            Ok(Err(error)) => self.failed(&error),
            Err(_) => self.failed(&StoreError::new(ErrorKind::Unreachable, format!("no answer within {every:?}"))),
        }
        self.lease / 16 + self.runtime.jitter(self.lease / 16)
    }

    fn pause(&self, turn: &Turn) -> Duration {
        if turn.urgent {
            return SOON;
        }
        let usual = if turn.waiting { self.lease / 16 } else { self.lease / 4 };
        let usual = usual - self.runtime.jitter(usual / 8);
        let now = self.local.home().clock().at(self.runtime.instant());
        self.tenancy.next_expiry(now).map_or(usual, |expiry| usual.min(expiry + SOON))
    }

    /// Writes the row, and reads those of all.
    async fn renew(&mut self) -> Result<(Turn, Vec<Row>), StoreError> {
        let sent = self.runtime.instant();
        self.write(false).await?;
        self.tenancy.renewed(sent);
        self.duty.extend(self.tenancy.until());
        // From before the reading is sent: a slow reply says what was, and nobody is to be found gone by that.
        let storage_now = self.local.home().clock().at(self.runtime.instant());
        let rows = self.read().await?;
        let read = |row: &Row| match Member::decode(row) {
            Ok(member) => Some(member),
            Err(error) => {
                debug!(%error, "passed over; is a newer version running?");
                None
            }
        };
        let members = rows.iter().filter_map(read).collect();
        Ok((self.tenancy.seen(members, storage_now, self.runtime.instant()), rows))
    }

    async fn read(&self) -> Result<Vec<Row>, StoreError> {
        let scope = Scope::Partition { partition: PartitionKey::from(Member::PARTITION), from: None, through: None };
        let (mut query, mut rows) = (Query::new(scope), Vec::new());
        loop {
            let page = self.local.home().query(&SystemTable::Control.name(), &query).await?;
            rows.extend(page.rows);
            query.continuation = page.continuation;
            if query.continuation.is_none() {
                return Ok(rows);
            }
        }
    }

    /// Writes this daemon's row on its ETag. Nobody else writes it; where it is gone, somebody took it away.
    async fn write(&mut self, left: bool) -> Result<(), StoreError> {
        let etag = match self.etag.take() {
            // What became of the last write is not known.
            None if self.sent => self.find().await?,
            etag => etag,
        };
        if etag.is_none() && !self.tenancy.held().is_empty() {
            self.lose("its row in RelayControl is gone").await;
        }
        let member = self.member(left);
        let (body, said) = (member.encode(), member.obeyed);
        let operation = match etag {
            Some(etag) => Operation::Replace(body, Condition::Matches(etag)),
            None => Operation::Insert(body),
        };
        self.sent = true;
        self.said = None;
        self.etag = self.home().write(&SystemTable::Control.name(), &operation).await?;
        self.said = said;
        Ok(())
    }

    async fn find(&self) -> Result<Option<Etag>, StoreError> {
        let (partition, key) = (PartitionKey::from(Member::PARTITION), Member::row_key(self.tenancy.me()));
        Ok(self.home().get(&SystemTable::Control.name(), &partition, &key).await?.map(|row| row.etag))
    }

    fn home(&self) -> &Arc<dyn Tables> {
        self.local.home()
    }

    fn member(&self, left: bool) -> Member {
        let now = self.runtime.now();
        Member {
            id: self.tenancy.me().clone(),
            claims: self.tenancy.claims(),
            left,
            renewed: now,
            read: self.board.read(),
            links: self.assembly.parts(),
            published: now,
            obeyed: Some(self.board.roles().obeyed()),
        }
    }

    /// Ends what is given up before the next row says so, and starts what was gained.
    async fn act(&mut self, turn: Turn) {
        self.publish();
        for shard in &turn.given_up {
            self.end(shard).await;
        }
        let (gained, given_up) = (turn.gained.len(), turn.given_up.len());
        if given_up > 0 {
            self.assembly.let_go();
        }
        for (shard, alone_from) in turn.gained {
            if let Some(group) = self.assembly.start_shard(&shard, alone_from) {
                self.groups.insert(shard, group);
            }
        }
        if gained + given_up > 0 {
            info!(event = Event::ShardsMoved.as_str(), daemon = %self.tenancy.me(), gained, given_up,
                held = self.tenancy.held().len(), first = self.tenancy.is_first(), "shards moved");
        }
    }

    /// Tells the rest of the line and the board.
    fn publish(&self) {
        self.duty.set(self.tenancy.until(), self.tenancy.held().clone(), self.tenancy.is_first());
        let now = self.local.home().clock().at(self.runtime.instant());
        let others = self.tenancy.others().filter(|row| self.tenancy.is_there(row, now)).cloned().collect();
        self.board.joined(self.tenancy.me(), self.tenancy.is_complete(), others);
        // What somebody knew that is gone by now is true even so.
        for member in self.tenancy.others() {
            for (consumer, to) in self.assembly.destinations().enumerate() {
                let part = member.links.iter().find(|part| part.destination == *to);
                if let Some(time) = part.and_then(|part| part.last_sync) {
                    self.board.learn(consumer, &member.read, time);
                }
                if let Some(time) = part.and_then(|part| part.fresh_to) {
                    self.board.learn_fresh(consumer, &member.read, time);
                }
            }
        }
    }

    async fn end(&mut self, shard: &AccountShard) {
        if let Some(group) = self.groups.get(shard) {
            group.end().await;
        }
        self.groups.remove(shard);
        self.board.dropped(shard);
    }

    /// Everything is lost: whoever takes it over may have begun.
    async fn lose(&mut self, why: &str) {
        let held = self.tenancy.lapse();
        self.duty.set(None, BTreeSet::new(), false);
        if !held.is_empty() {
            warn!(event = Event::LeaseLost.as_str(), daemon = %self.tenancy.me(), why, shards = held.len(),
                "the lease is lost: this daemon carries nothing until it has one again");
            self.failing = true;
        }
        for shard in held {
            self.end(&shard).await;
        }
        self.assembly.let_go();
        self.publish();
    }

    fn failed(&mut self, error: &StoreError) {
        // Whoever has a lease has time until it ends; the loss is what people are told of.
        debug!(daemon = %self.tenancy.me(), %error, "the lease could not be renewed; trying again");
    }

    /// Deletes the rows of daemons that are long gone; who fails to leaves them to the next round.
    async fn collect(&self, rows: &[Row], old: &[MemberId]) {
        let old = |row: &&Row| old.iter().any(|id| Member::row_key(id) == *row.body.row());
        let deletes: Vec<Operation> = rows.iter().filter(old).map(removal).take(MAX_OPERATIONS).collect();
        if deletes.is_empty() || !self.tenancy.is_first() {
            return;
        }
        let (table, partition) = (SystemTable::Control.name(), PartitionKey::from(Member::PARTITION));
        let removed = timeout(self.lease / 4, remove(self.home().as_ref(), &table, &partition, &deletes)).await;
        if let Ok(Err(error)) = removed {
            debug!(%error, "rows of daemons that are gone could not be deleted yet");
        }
    }

    /// The last word: nothing is carried any more.
    async fn leave(&mut self) {
        for group in self.groups.values() {
            group.end().await;
        }
        self.groups.clear();
        self.tenancy.lapse();
        self.duty.set(None, BTreeSet::new(), false);
        if !self.sent {
            return;
        }
        match timeout(LAST_WORD, self.write(true)).await {
            Ok(Ok(())) => debug!(daemon = %self.tenancy.me(), "the lease is given back"),
            Ok(Err(error)) => debug!(%error, "the lease could not be given back; it ends by itself"),
            Err(_) => debug!("the lease could not be given back in time; it ends by itself"),
        }
    }
}
