//! Sets of consumers, small enough to be copied.

/// A set of the consumers of a feed: its destinations, and the cache of its own region. By index, at most 64.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Consumers(u64);

impl Consumers {
    /// The most consumers that a set can hold.
    pub const MOST: usize = 64;

    /// The consumers 0 to `count` - 1; more than [`MOST`](Self::MOST) are cut off, which the configuration refuses.
    pub fn first(count: usize) -> Self {
        if count >= Self::MOST { Self(u64::MAX) } else { Self((1 << count) - 1) }
    }

    /// Adds one.
    pub fn insert(&mut self, consumer: usize) {
        self.0 |= 1 << consumer;
    }

    /// Whether it is among them.
    pub fn contains(self, consumer: usize) -> bool {
        self.0 & (1 << consumer) != 0
    }

    /// Whether nobody is.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// How many.
    pub fn len(self) -> usize {
        self.0.count_ones() as usize
    }

    /// Whether all of `others` are among them.
    pub fn covers(self, others: Self) -> bool {
        self.0 & others.0 == others.0
    }

    /// Each of them, by index, in rising order.
    pub fn iter(self) -> impl Iterator<Item = usize> {
        (0..Self::MOST).filter(move |consumer| self.contains(*consumer))
    }
}
