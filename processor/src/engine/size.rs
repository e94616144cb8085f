//! How much a transaction takes, and when the next may begin. It takes half as much after an abort, twice as
//! much after a commit: what fails for its size passes in parts, and a partition that is behind catches up in
//! larger ones.

use std::time::Instant;

use super::batch::Bounds;

/// The most that a batch grows over its normal records while there is more to read. It never grows over its
/// bytes, on which the memory of a worker that is behind depends.
const GROWTH: usize = 4;

/// The size of a worker's transactions.
#[derive(Debug)]
pub struct Size {
    normal: Bounds,
    records: usize,
    began: Option<Instant>,
}

impl Size {
    /// The normal one.
    pub fn new(normal: Bounds) -> Self {
        let records = normal.records;
        Self {
            normal,
            records,
            began: None,
        }
    }

    /// The most records that the next transaction takes.
    pub fn records(&self) -> usize {
        self.records
    }

    /// The bounds of what is collected: never less than the normal ones, for what is collected may be
    /// committed in parts.
    pub fn bounds(&self) -> Bounds {
        let Bounds {
            records,
            bytes,
            time,
            pace,
        } = self.normal;
        let times = (self.records / records).max(1);
        Bounds {
            records: records * times,
            bytes,
            time: time * u32::try_from(times).unwrap_or(1),
            pace,
        }
    }

    /// A transaction begins.
    pub fn begins(&mut self, now: Instant) {
        self.began = Some(now);
    }

    /// The earliest that the next one may begin; `None`: at once.
    pub fn earliest(&self) -> Option<Instant> {
        self.began.map(|began| began + self.normal.pace)
    }

    /// A transaction of so many records was aborted.
    pub fn aborted(&mut self, records: usize) {
        self.records = (records / 2).clamp(1, self.normal.records);
    }

    /// A transaction was committed. `full`: a bound kept it from taking more.
    pub fn committed(&mut self, full: bool) {
        let normal = self.normal.records;
        self.records = if self.records < normal {
            (self.records * 2).min(normal)
        } else if full {
            (self.records * 2).min(normal * GROWTH)
        } else {
            normal
        };
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn aborts_halve_it_and_commits_double_it_within_its_bounds() {
        let normal = Bounds {
            records: 5_000,
            bytes: 8 << 20,
            time: Duration::from_millis(50),
            pace: Duration::from_millis(18),
        };
        let mut size = Size::new(normal);
        for expected in [10_000, 20_000, 20_000] {
            size.committed(true);
            assert_eq!(size.records(), expected);
        }
        let large = size.bounds();
        assert_eq!((large.records, large.bytes), (20_000, 8 << 20));
        assert_eq!(large.time, Duration::from_millis(200));
        // Nothing more is at hand.
        size.committed(false);
        assert_eq!(size.records(), 5_000);
        // What was taken counts, not what might have been.
        size.aborted(300);
        assert_eq!(size.records(), 150);
        assert_eq!(size.bounds().records, 5_000, "it is collected in full");
        for _ in 0..20 {
            size.aborted(size.records());
        }
        assert_eq!(size.records(), 1);
        for expected in [2, 4, 8] {
            size.committed(false);
            assert_eq!(size.records(), expected);
        }
        for _ in 0..20 {
            size.committed(false);
        }
        assert_eq!(size.records(), 5_000);
    }
}
