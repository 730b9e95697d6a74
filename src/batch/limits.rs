//! How much goes into one batch.

/// Bounds of a batch. The first item always fits, however large it is: a bound must never stop the line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most rows.
    pub rows: usize,
    /// Most bytes.
    pub bytes: usize,
}

impl Limits {
    /// Whether `rows` rows of `bytes` bytes more fit beside what is `taken` (rows, bytes) already.
    pub fn admit(self, taken: (usize, usize), rows: usize, bytes: usize) -> bool {
        taken.0 == 0 || (taken.0 + rows <= self.rows && taken.1 + bytes <= self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_item_always_fits() {
        let limits = Limits { rows: 2, bytes: 10 };
        assert!(limits.admit((0, 0), 5, 50));
        assert!(limits.admit((1, 5), 1, 5));
        assert!(!limits.admit((2, 5), 1, 1));
        assert!(!limits.admit((1, 5), 1, 6));
    }
}
