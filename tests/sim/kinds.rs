//! What can go wrong: every kind of fault has a name and is counted.

use std::collections::BTreeMap;

macro_rules! kinds {
    ($($kind:ident = $name:literal;)+) => {
        /// A kind of fault.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Kind { $($kind),+ }

        impl Kind {
            pub const ALL: &'static [Self] = &[$(Self::$kind),+];

            pub fn name(self) -> &'static str {
                match self { $(Self::$kind => $name),+ }
            }
        }
    };
}

kinds! {
    // A request to a storage account.
    RequestLost = "request lost before its effect";
    ReplyLost = "reply lost after the effect";
    EffectLate = "effect long after the caller was told it was lost";
    Duplicate = "request that takes effect twice";
    SlowRequest = "slow request";
    SlowReply = "slow reply, which says what was";
    Reordered = "requests that overtake each other";
    Throttled = "429 without Retry-After";
    ThrottledAfter = "429 with Retry-After";
    Busy = "503 without Retry-After";
    BusyAfter = "503 with Retry-After";
    ServerError = "500 before the effect";
    ServerErrorAfter = "500 after the effect";
    BusyStorm = "storm of 503";
    AccountStorm = "account that refuses everything for long: 503";
    AccountStormAfter = "account that refuses everything for long: 503 with Retry-After";
    ErrorStorm = "storm of errors of all kinds";
    TokenExpired = "token expired: 401";
    ShortPages = "continuation in the middle of changes";
    TornTransaction = "transaction that failed in the middle";
    // Places.
    CutOneWay = "link cut one way";
    CutBothWays = "link cut both ways";
    RegionDown = "region down";
    StoreFrozen = "store frozen";
    RegionLost = "region lost with its daemons";
    // Roles.
    PlannedFailover = "planned failover";
    FailoverCutOff = "planned failover whose command was cut off";
    ForcedFailover = "forced failover";
    RolesUnread = "roles that cannot be read";
    LateWrite = "write in a region that is no writer";
    // Daemons.
    DaemonKilled = "daemon killed and restarted";
    DaemonStopped = "daemon asked to end and restarted";
    TwoDaemons = "two daemons on one feed";
    StaleDaemon = "stale daemon that comes back after minutes";
    LeaseStuck = "lease that cannot be renewed";
    LeaseStolen = "lease removed by a stranger";
    DaemonClock = "daemon's clock stepped";
    // Whoever moves in.
    CopyKilled = "copy of a table killed and gone on with";
    // Rows that move to other accounts.
    RebalanceKilled = "rebalance killed and gone on with";
    RebalanceTurned = "rebalance told of other routes on its way";
    RoutesUnread = "routes that cannot be read";
    RoutesOutlived = "write by routes that were gone by for too long";
    // Rows that grow old.
    RowsDemoted = "old rows demoted among faults";
    MoverKilled = "mover killed and begun again";
    // Writers.
    WriterSkew = "writer's clock wrong";
    WriterJump = "writer's clock stepped";
    WriterDrift = "writer's clock drifting";
    WriterCrash = "writer crashed between announcing and writing";
    BlindRepeat = "writer's library wrote twice";
    OwnDisagreement = "clocks of one region's writers disagree about a row";
    Contention = "row written by several regions";
    FutureVersion = "version from the future";
    Unversioned = "row written without a version";
    RefusedRow = "row that one region refuses for good";
    RefusedDelete = "conditional delete refused, its tombstone left";
    // The feed.
    MalformedRecord = "malformed record";
    MalformedMessage = "malformed message";
    MessageTwice = "message delivered twice";
    MessageLate = "message sent late";
    // The cache.
    CacheCut = "cache cut off";
    CacheFlushed = "cache flushed";
    CacheRestarted = "cache restarted";
    CacheReplyLost = "cache's reply lost";
    CacheLate = "refresh that arrives late";
    CacheDown = "cache down until nothing else is left to do";
    CacheFrozen = "cache frozen until nothing else is left to do";
}

impl Kind {
    /// Whether it is a storm that must not be answered by more requests.
    pub fn is_throttling(self) -> bool {
        matches!(self, Self::AccountStorm | Self::AccountStormAfter)
    }

    /// Whether it befalls whoever copies tables.
    pub fn is_of_movers(self) -> bool {
        self == Self::CopyKilled
    }

    /// Whether it befalls regions whose rows move to other accounts.
    pub fn is_of_rebalances(self) -> bool {
        use Kind::{MoverKilled, RebalanceKilled, RebalanceTurned, RoutesOutlived, RoutesUnread, RowsDemoted};
        matches!(self, RebalanceKilled | RebalanceTurned | RoutesOutlived | RoutesUnread | RowsDemoted | MoverKilled)
    }

    /// Whether it lasts until it alone is left.
    pub fn outlasts(self) -> bool {
        matches!(self, Self::CacheDown | Self::CacheFrozen)
    }

    /// Whether it may be the trouble of one daemon alone.
    pub fn befalls_one(self) -> bool {
        matches!(self, Self::SlowRequest | Self::SlowReply | Self::Reordered | Self::ReplyLost | Self::RequestLost)
    }
}

/// How often each fired.
pub type Counts = BTreeMap<Kind, u64>;
