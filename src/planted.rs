//! Bugs that the simulator plants, to see whether it would catch them.
//!
//! A test that cannot fail proves nothing, and a simulator is one large test. So each clause of the protocol can be broken
//! here, one at a time and in one thread: where the code keeps the clause, it asks whether this very bug is planted. In
//! a program that is built for use there are none: without the feature `planted-bugs`, which only this crate's own
//! tests switch on, [`planted`] is a constant `false`, and what stands behind it is not compiled.

use crate::closed_list;

closed_list! {
    /// A bug that can be planted. The remedies say which rule catches it.
    pub enum Bug {
        EndEarly = "end-early", "a record ends when anything was delivered, written or not", "R1";
        LowestFirst = "lowest-first", "a record ends while a higher one of its row is open", "R1";
        EndedByOthers = "ended-by-others", "what another daemon delivered last is thought to have come before", "R1";
        DeleteIsExact = "delete-is-exact", "the record of a delete ends at the first absent look", "R1";
        LookBeforeWindow = "look-before-window", "a look that began within the window settles", "R1";
        SupersededIsWritten = "superseded-is-written", "a newer row is taken for the announced one", "R2";
        TombstoneIgnored = "tombstone-ignored", "a put whose row is absent is delivered as nothing, whatever the tombstone", "R2";
        DeleteOfPresent = "delete-of-present", "a delete is delivered although its row still stands", "R3";
        ReplaceBlindly = "replace-blindly", "a row is replaced without its ETag", "R4";
        InsertBlindly = "insert-blindly", "a row is inserted over one that has come meanwhile", "R4";
        NoLookAfterInsert = "no-look-after-insert", "no look at the tombstone after an insert, by its sender or by its receiver", "R4";
        NoLookAfterReplace = "no-look-after-replace", "no look at the tombstone after a replace", "R4";
        NoLookAfterEqual = "no-look-after-equal", "no look at the tombstone of a row that stands there already", "R4";
        OlderWins = "older-wins", "a newer row at the destination is replaced", "R4";
        NoRaise = "no-raise", "a delete does not raise the destination's tombstone", "R5";
        RemoveFirst = "remove-first", "a delete removes the row before it raises the tombstone", "R5";
        RemoveBlindly = "remove-blindly", "a delete removes the row without its ETag", "R5";
        NoAnnouncement = "no-announcement", "what the destination has newer is not announced in the own feed", "R6";
        TakenOutUnannounced = "taken-out-unannounced", "a row below a newer tombstone is taken out before the delete is announced", "R6";
        NoTakeOver = "no-take-over", "what the destination has newer is left there", "R6";
        FutureApplied = "future-applied", "a version from the future is applied", "R7";
        StaleLook = "stale-look", "a write goes out however old its look is", "R9";
        NoLift = "no-lift", "a region's own older version is put back over what stands there", "R10";
        NoLiftOfDeletes = "no-lift-of-deletes", "a region's own older delete is put back over what stands there", "R10";
        UndoneIsDelivered = "undone-is-delivered", "whoever has the row that landed over a delete is thought to have the delete", "the ledger";
        EndBeforeApply = "end-before-apply", "what was offered counts as delivered", "the ledger";
        FailedIsDone = "failed-is-done", "a failed transaction is taken for a success", "the lane";
        UnknownIsDone = "unknown-is-done", "a lost reply is taken for a success", "the lane";
        TransactionTorn = "transaction-torn", "a failed row takes the rest of its transaction with it as done", "the lane";
        WrongEtag = "wrong-etag", "the ETag of what was read is remembered for what was brought", "the destination's memory";
        EtagKept = "etag-kept", "a remembered ETag is trusted for ever: no read follows a refusal", "the destination's memory";
        FirstPageOnly = "first-page-only", "a shard is thought to end with its first page", "the source";
        CacheUnguarded = "cache-unguarded", "a cache is set without looking at the version it holds", "the cache's script";
        CacheForgotten = "cache-forgotten", "a failed refresh of the cache is not tried again", "the cache's lane";
        CacheHintNotDurable = "cache-hint-not-durable", "what a parked cache misses is kept nowhere", "hints of the cache";
        CacheHoldsTheFeed = "cache-holds-the-feed", "records wait for a cache that is down", "hints of the cache";
        FlushUnnoticed = "flush-unnoticed", "a cache that was emptied is thought to hold what it held", "the cache's markers";
        CacheShownStale = "cache-shown-stale", "what was found long ago is shown to the cache", "R9";
        CacheOrderIgnored = "cache-order-ignored", "a version that stands nowhere but in the cache is left there", "R10";
        NotTold = "not-told", "what was delivered is not written to the applied log", "the applied log";
        MessageFirst = "message-first", "a queue message is deleted before its record stands", "the queue's reader";
        MalformedDropped = "malformed-dropped", "a malformed record is deleted instead of quarantined", "quarantine";
        StraysUnread = "strays-unread", "a row of the feed that stands where no shard's reader looks stays there", "quarantine";
        RefusedDropped = "refused-dropped", "a row that a destination refuses is dropped instead of quarantined", "quarantine";
        NeverSuperseded = "never-superseded", "what lies in quarantine stays there when a later version has arrived", "quarantine";
        LoserForgotten = "loser-forgotten", "what a delivery overwrites in its own region is not named in the journal", "the journal";
        TwoWaysIgnored = "two-ways-ignored", "a later update of a row that had come in counts as a conflict", "the journal";
        SyncedTooSoon = "synced-too-soon", "Last Sync Time passes announcements that are open", "Last Sync Time";
        HintNotDurable = "hint-not-durable", "a record ends on a hint that was never written", "hints";
        HintEndedBlindly = "hint-ended-blindly", "a hint is deleted although it was renewed meanwhile", "hints";
        HintForgetsItsTime = "hint-forgets-its-time", "a renewed hint says it waits since now", "hints";
        HintsNotCounted = "hints-not-counted", "Last Sync Time passes what only hints wait for", "Last Sync Time";
        HintDropped = "hint-dropped", "a hint ends although its delivery failed", "hints";
        RetryAfterIgnored = "retry-after-ignored", "what a server asks to wait is not waited for", "throttling";
        BudgetNotKept = "budget-not-kept", "what is refused for want of capacity is asked again without a budget", "throttling";
        ShutForGood = "shut-for-good", "an account that was held back stays so when it answers again", "throttling";
        HeartbeatUnheard = "heartbeat-unheard", "a link whose heartbeat fails is said to flow while nothing waits", "the heartbeat";
        ShardsKept = "shards-kept", "a daemon gives up no shard to one that joins", "leases";
        DeadCounted = "dead-counted", "a daemon whose lease is over counts as there for ever", "leases";
        ClaimNotConfirmed = "claim-not-confirmed", "a shard is taken before the row that claims it was written", "leases";
        LeaseOutlived = "lease-outlived", "a daemon goes on although its lease is over", "leases";
        OthersForgotten = "others-forgotten", "Last Sync Time leaves out what other daemons carry", "Last Sync Time";
        ExactThoughShared = "exact-though-shared", "a record ends at once although another daemon had its shard just now", "leases";
        AllRefuse = "all-refuse", "a region too far behind refuses its readers although none is fresher", "bounded staleness";
        SilenceIsFresh = "silence-is-fresh", "a link whose source says nothing counts as it did when it was heard of last", "bounded staleness";
        SuspectsCount = "suspects-count", "rows that differ when pages are compared count, and are not looked at again", "verification";
        WaitsUnasked = "waits-unasked", "what a row that differs is known to wait for is not asked", "verification";
        KeyBeforeRows = "key-before-rows", "a page counts as copied before it is there", "the copy";
        ResumedAsCopied = "resumed-as-copied", "a range that was begun counts as copied when somebody goes on with it", "the copy";
        CopiedBare = "copied-bare", "a row without a version is copied without one", "the copy";
        RangeUnchecked = "range-unchecked", "a range counts as verified without being compared", "the copy";
        MendedAnew = "mended-anew", "what differs gets a new version when it is mended", "repair";
        WrongLink = "wrong-link", "a wait ends by the link in the other direction", "waits";
        HintNotLookedBack = "hint-not-looked-back", "a hint ends without a look at what stands after its delivery", "hints";
        StaleEpochObeyed = "stale-epoch-obeyed", "changes are brought to a region whose roles have not been read for long", "the fence";
        LateDelivered = "late-delivered", "a late write is delivered although the journal is its place", "late writes";
        LateTakenOver = "late-taken-over", "a late write that is found where something is brought to is taken over", "late writes";
        LateNotNamed = "late-not-named", "a late write that is not delivered is named nowhere", "late writes";
        LateNotOverruled = "late-not-overruled", "the writer's row is not lifted above a late write", "late writes";
        RoleReadOnce = "role-read-once", "the roles of a region are read at the start and never again", "roles";
        EarlyServing = "early-serving", "a region that comes back lets applications write before it has asked the others", "roles";
        SurvivorsUnequal = "survivors-unequal", "what some regions got of a lost one and others did not stays so", "survivors";
        CollectedByAge = "collected-by-age", "a tombstone goes once it is old enough, whatever else", "R8";
        CollectedUnverified = "collected-unverified", "a tombstone goes although no pass over the regions began after it", "R8";
        CollectedOneWay = "collected-one-way", "a tombstone goes although a link into its region has not passed it", "R8";
        CollectedBlindly = "collected-blindly", "a tombstone goes although it was raised since it was read", "R8";
        CollectedUnlooked = "collected-unlooked", "a tombstone goes although its row still stands somewhere, or waits by a name", "R8";
        CollectedWhileOut = "collected-while-out", "a tombstone goes although a region that was taken out still counts", "R8";
        MovedBlindly = "moved-blindly", "a row that moves to another account replaces what stands there, whatever that is", "routes";
        PreviousPlaceForgotten = "previous-place-forgotten", "what is written by the routes before is looked for where the new ones lead alone", "routes";
        BroughtDeleteUnannounced = "brought-delete-unannounced", "a row that goes below a tombstone which was brought over is announced by nobody", "routes";
        RefusedLeftAlone = "refused-left-alone", "a row goes from where it was before the tombstone of its refused delete does", "routes";
        BroughtNotCarried = "brought-not-carried", "what is written behind the back of a move that deletes stays where it was", "routes";
        ReplayedElsewhere = "replayed-elsewhere", "a record out of quarantine is announced where the routes lead and not where it was found", "routes";
        OldPlaceNotRead = "old-place-not-read", "a reader looks where the routes in force lead alone while rows move", "routes";
        MovedRowDeletedUnverified = "moved-row-deleted-unverified", "what was moved is deleted where it was without a look at where it is", "routes";
        ColdPlaceForgotten = "cold-place-forgotten", "a row that is not at home is taken for absent without a look at its cold place", "routes";
        InsertedUnlooked = "inserted-unlooked", "a row is inserted at home without a look though it may be elsewhere", "routes";
        DemotedBlindly = "demoted-blindly", "a row that was demoted or promoted is deleted where it was, whatever stands there", "routes";
        DemotedTooSoon = "demoted-too-soon", "a row is demoted that somebody has only just written", "routes";
        CopiedByOldRoutes = "copied-by-old-routes", "a copy is put over what is written by routes that came into force meanwhile", "routes";
        QuarantinedTakenForCopy = "quarantined-taken-for-copy", "a copy is put over what was written there by other routes, whose record lies in quarantine", "routes";
        WrittenTakenForStale = "written-taken-for-stale", "what a writer by other routes put where the row is cold goes as a stale copy", "routes";
        BroughtByAnother = "brought-by-another", "a move ends though what another has brought lies where it was", "routes";
        GivenUpUnsaid = "given-up-unsaid", "what was copied is deleted while another command may yet have the routes to it come into force", "routes";
        OldRowNotTouched = "old-row-not-touched", "a row is written over while it may be demoted", "routes";
        StaleCopyTakenBlindly = "stale-copy-taken-blindly", "a cold copy goes as stale though its home has the same", "routes";
        ResidualLost = "residual-lost", "what a region had not sent when it lost its role counts as superseded", "late writes";
    }
}

/// Whether daemons of a region carry what others of it carry. Leases keep them from that, and make up for three clauses of R1 that
/// are about another daemon: with any of these broken there are none, so that it is the clause that is missed.
pub fn leases_ignored() -> bool {
    planted(Bug::LowestFirst) || planted(Bug::EndedByOthers) || planted(Bug::ExactThoughShared)
}

/// Whether ranges that are copied are compared. That makes up for what the copy leaves out, so with a clause of that broken they are not.
pub fn ranges_unchecked() -> bool {
    planted(Bug::RangeUnchecked) || planted(Bug::KeyBeforeRows) || planted(Bug::ResumedAsCopied)
}

#[cfg(feature = "planted-bugs")]
mod switch {
    use std::cell::Cell;

    use super::Bug;

    thread_local! {
        static PLANTED: Cell<Option<Bug>> = const { Cell::new(None) };
    }

    /// Plants a bug in this thread, or takes it out again.
    pub fn plant(bug: Option<Bug>) {
        PLANTED.set(bug);
    }

    /// Whether this bug is planted in this thread.
    pub fn planted(bug: Bug) -> bool {
        PLANTED.get() == Some(bug)
    }
}

#[cfg(not(feature = "planted-bugs"))]
mod switch {
    use super::Bug;

    /// Whether this bug is planted: never in a program that is built for use.
    pub const fn planted(_: Bug) -> bool {
        false
    }
}

pub use switch::*;
