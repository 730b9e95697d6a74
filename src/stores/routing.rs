//! The routes that a region has published, read and replaced: the row `current` of the partition `routes` in `RelayControl` of each
//! of its accounts.
//!
//! What stands in the first account counts. The others have copies of it, for whoever knows but one account of the region.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::{Condition, ErrorKind, Operation, RegionStore, StoreError, Tables};
use crate::model::{Etag, PartitionKey, SystemTable};
use crate::topology::PublishedRoutes;

/// Published routes as they were read in one account, and the ETag by which they may be replaced there.
#[derive(Debug, Clone)]
pub struct RoutesCopy {
    /// What stands there; `None` where nothing does.
    pub published: Option<PublishedRoutes>,
    etag: Option<Etag>,
    /// How long it has stood there, at least.
    age: Duration,
}

impl RegionStore {
    /// Reads the routes in force and goes by them from now on. Says whether they are others than before.
    ///
    /// # Errors
    /// Whatever the store answers; where what stands there cannot be gone by, [unusable](StoreError::is_unusable) and why.
    pub async fn follow_routes(&self) -> Result<bool, StoreError> {
        let began = Instant::now();
        let RoutesCopy { published, age, .. } = self.read_routes().await?;
        Ok(self.go_by_since(published, began, began.checked_sub(age).unwrap_or(began)))
    }

    /// Reads the routes again where those that are known may soon be gone by no longer: after half of the time that they say, or of
    /// `otherwise` where none are published. A region with one account has none to read.
    ///
    /// # Errors
    /// As [`follow_routes`](Self::follow_routes).
    pub async fn keep_up(&self, otherwise: Duration) -> Result<(), StoreError> {
        if self.accounts().len() == 1 {
            return Ok(());
        }
        let hold = self.published().map_or(otherwise, |published| published.hold);
        match self.routes_heard() {
            Some(heard) if Instant::now() < heard + hold / 2 => Ok(()),
            _ => self.follow_routes().await.map(drop),
        }
    }

    /// Reads what is published in the region's first account. Nobody goes by what cannot be read: who went by older routes would look
    /// for rows where they are not.
    ///
    /// # Errors
    /// As [`follow_routes`](Self::follow_routes).
    pub async fn read_routes(&self) -> Result<RoutesCopy, StoreError> {
        let copy = self.read_copy(self.home()).await?;
        if copy.published.is_some() || self.published().is_some() {
            return Ok(copy);
        }
        // Nothing was ever read here: the first account may be one that came later, and what belongs to the region stand in another.
        for account in &self.accounts()[1..] {
            if let Some(PublishedRoutes { home, .. }) = self.read_copy(&account.tables).await?.published {
                let (region, first) = (self.region(), self.home().account());
                return Err(StoreError::unusable(format!(
                    "what belongs to region {region} as a whole stands in its account {home}, and {first} comes before it by \
                     name; give a new account a name that comes after {home}"
                )));
            }
        }
        Ok(copy)
    }

    /// Reads the copy that an account has.
    async fn read_copy(&self, tables: &Arc<dyn Tables>) -> Result<RoutesCopy, StoreError> {
        let (partition, began) = (PartitionKey::from(PublishedRoutes::PARTITION), Instant::now());
        let row = match tables.get(&SystemTable::Control.name(), &partition, &PublishedRoutes::current()).await {
            Err(error) if error.kind == ErrorKind::NoTable => None,
            row => row?,
        };
        let Some(row) = row else { return Ok(RoutesCopy { published: None, etag: None, age: Duration::ZERO }) };
        let (account, now) = (tables.account(), tables.clock().at(began));
        let published = PublishedRoutes::decode(&row.body).map_err(|error| {
            StoreError::unusable(format!("in account {account}: {error}; is a newer version running?"))
        })?;
        if published.region != *self.region() {
            let (other, region) = (&published.region, self.region());
            return Err(StoreError::unusable(format!(
                "account {account} belongs to region {other}, and not to {region}"
            )));
        }
        let age = now.map_or(Duration::ZERO, |now| now.since(row.timestamp));
        Ok(RoutesCopy { published: Some(published), etag: Some(row.etag), age })
    }

    /// Puts `routes` in the place of `copy` in the region's first account, and goes by them. Says whether it was done: not where somebody
    /// was faster.
    ///
    /// # Errors
    /// Whatever the store answers. Where the outcome is unknown, a reading tells.
    pub async fn replace_routes(&self, copy: &RoutesCopy, routes: &PublishedRoutes) -> Result<bool, StoreError> {
        let began = Instant::now();
        let done = replace(self.home(), copy, routes).await?;
        if done {
            self.go_by(Some(routes.clone()), began);
        }
        Ok(done)
    }

    /// Brings what is published to every account that is behind.
    ///
    /// # Errors
    /// The first account that fails; those before it have it.
    pub async fn spread_routes(&self, routes: &PublishedRoutes) -> Result<(), StoreError> {
        for account in &self.accounts()[1..] {
            let copy = self.read_copy(&account.tables).await?;
            if copy.published.as_ref().is_none_or(|there| there.epoch < routes.epoch) {
                // Whoever was faster brought this or something newer.
                replace(&account.tables, &copy, routes).await?;
            }
        }
        Ok(())
    }
}

async fn replace(tables: &Arc<dyn Tables>, copy: &RoutesCopy, routes: &PublishedRoutes) -> Result<bool, StoreError> {
    let body = routes.encode();
    let operation = match &copy.etag {
        Some(etag) => Operation::Replace(body, Condition::Matches(etag.clone())),
        None => Operation::Insert(body),
    };
    match tables.write(&SystemTable::Control.name(), &operation).await {
        Ok(_) => Ok(true),
        Err(error) => match error.kind {
            ErrorKind::Precondition | ErrorKind::AlreadyExists | ErrorKind::NotFound => Ok(false),
            _ => Err(error),
        },
    }
}
