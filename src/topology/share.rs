//! How the shards of a region are dealt out to its daemons.

use std::collections::{BTreeMap, BTreeSet};

use sha2::{Digest, Sha256};

use super::MemberId;
use crate::feed::AccountShard;

/// Who should carry what: every shard has one daemon, and no daemon has more than one shard above another.
///
/// Rendezvous hashing (Thaler and Ravishankar, 1998) under a limit: of all pairs of a daemon and a shard the one with the
/// highest score comes first, and a daemon that has its part takes no more. It depends on who is there and on nothing else,
/// so that daemons which see the same members agree without a word; and few shards move when one comes or goes. With two
/// daemons that is as few as can be.
pub fn shares(members: &BTreeSet<MemberId>, shards: &[AccountShard]) -> BTreeMap<AccountShard, MemberId> {
    if members.is_empty() {
        return BTreeMap::new();
    }
    let least = shards.len() / members.len();
    // So many have one more.
    let mut larger = shards.len() % members.len();
    let mut pairs: Vec<_> =
        shards.iter().flat_map(|shard| members.iter().map(move |id| (score(id, shard), shard, id))).collect();
    pairs.sort_unstable_by(|a, b| b.cmp(a));
    let (mut dealt, mut counts) = (BTreeMap::new(), BTreeMap::new());
    for (_, shard, id) in pairs {
        let count = counts.entry(id).or_insert(0);
        if dealt.contains_key(shard) || *count > least || (*count == least && larger == 0) {
            continue;
        }
        if *count == least {
            larger -= 1;
        }
        *count += 1;
        dealt.insert(shard.clone(), id.clone());
    }
    dealt
}

fn score(id: &MemberId, shard: &AccountShard) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(id.as_str().as_bytes());
    hash.update(b"/");
    hash.update(shard.to_string().as_bytes());
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::AccountName;
    use proptest::prelude::*;

    fn shards(accounts: usize) -> Vec<AccountShard> {
        let names: Vec<_> = (0..accounts).map(|n| AccountName::new(&format!("account{n}")).unwrap()).collect();
        AccountShard::all(&names)
    }

    fn moved(before: &BTreeMap<AccountShard, MemberId>, after: &BTreeMap<AccountShard, MemberId>) -> usize {
        before.iter().filter(|(shard, id)| after[*shard] != **id).count()
    }

    proptest! {
        #[test]
        fn every_shard_has_one_daemon_and_the_parts_are_even(seeds in prop::collection::btree_set(any::<u64>(), 1..40), accounts in 1usize..4) {
            let (members, shards): (BTreeSet<_>, _) = (seeds.into_iter().map(MemberId::new).collect(), shards(accounts));
            let dealt = shares(&members, &shards);
            prop_assert_eq!(dealt.len(), shards.len());
            let count = |id: &MemberId| dealt.values().filter(|of| *of == id).count();
            let counts: Vec<_> = members.iter().map(count).collect();
            prop_assert!(counts.iter().max().unwrap() - counts.iter().min().unwrap() <= 1);
        }

        #[test]
        fn few_shards_move_when_a_daemon_comes_or_goes(seeds in prop::collection::btree_set(any::<u64>(), 2..6)) {
            let (more, shards): (BTreeSet<_>, _) = (seeds.into_iter().map(MemberId::new).collect(), shards(1));
            let (before, gone) = (shares(&more, &shards), more.first().unwrap());
            let fewer: BTreeSet<_> = more.iter().filter(|id| *id != gone).cloned().collect();
            let after = shares(&fewer, &shards);
            let must = before.values().filter(|id| *id == gone).count();
            let most = if more.len() == 2 { must } else { must + shards.len() / 2 };
            prop_assert!((must..=most).contains(&moved(&before, &after)), "{} moved, {must} must", moved(&before, &after));
        }
    }

    #[test]
    fn nobody_is_dealt_nothing() {
        assert!(shares(&BTreeSet::new(), &shards(1)).is_empty());
    }
}
