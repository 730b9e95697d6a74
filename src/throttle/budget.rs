//! How much of what failed may be asked again.

/// A retry budget: a failure takes one from it, ten successes give one back, and there is a handful to begin with. So over any
/// time the repeats are at most a tenth of what succeeded, and the handful.
///
/// It is counted in tenths, in whole numbers.
#[derive(Debug)]
pub(super) struct Budget {
    tenths: u32,
    most: u32,
}

impl Budget {
    pub fn new(failures: u32) -> Self {
        Self { tenths: failures * 10, most: failures * 10 }
    }

    pub fn succeeded(&mut self) {
        self.tenths = (self.tenths + 1).min(self.most);
    }

    pub fn failed(&mut self) {
        self.tenths = self.tenths.saturating_sub(10);
    }

    /// Nothing more may fail.
    pub fn is_spent(&self) -> bool {
        self.tenths < 10
    }

    /// Whether something may be asked again at once: the lower half is for what comes for the first time.
    pub fn spares(&self) -> bool {
        self.tenths > self.most / 2
    }

    /// What a place gets that answers again: half, so that it is shut sooner if that was luck.
    pub fn halve(&mut self) {
        self.tenths = self.most / 2;
    }
}
