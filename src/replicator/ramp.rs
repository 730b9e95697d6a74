//! How much the drain asks of a destination that is just back.

/// Rows of the next batch: one at first, twice as many after every success, half as many after every failure.
#[derive(Debug)]
pub(super) struct Ramp {
    rows: usize,
    most: usize,
}

impl Ramp {
    pub fn new(most: usize) -> Self {
        Self { rows: 1, most: most.max(1) }
    }

    pub fn rows(&self) -> usize {
        self.rows
    }

    pub fn succeeded(&mut self) {
        self.rows = (self.rows * 2).min(self.most);
    }

    pub fn failed(&mut self) {
        self.rows = (self.rows / 2).max(1);
    }

    /// The destination was down: it begins anew.
    pub fn restart(&mut self) {
        self.rows = 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_doubles_while_all_is_well_and_halves_when_it_is_not() {
        let mut ramp = Ramp::new(100);
        let mut rows = Vec::new();
        for _ in 0..8 {
            rows.push(ramp.rows());
            ramp.succeeded();
        }
        assert_eq!(rows, [1, 2, 4, 8, 16, 32, 64, 100]);
        ramp.failed();
        assert_eq!(ramp.rows(), 50);
        (0..10).for_each(|_| ramp.failed());
        assert_eq!(ramp.rows(), 1, "never less than one, or it would stand still");
        ramp.succeeded();
        ramp.restart();
        assert_eq!(ramp.rows(), 1);
    }
}
