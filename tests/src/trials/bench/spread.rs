//! What rounds of one figure come to: their median and their range.

use std::fmt;

use serde::Serialize;

/// The median, the least and the most of some rounds; not a number where there was none.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Spread {
    pub median: f64,
    pub min: f64,
    pub max: f64,
}

impl Spread {
    /// Of the values of all rounds.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let mut sorted: Vec<f64> = values.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        let at = |place: usize| sorted.get(place).copied().unwrap_or(f64::NAN);
        let median = if sorted.len() % 2 == 1 {
            at(middle)
        } else {
            f64::midpoint(at(middle.wrapping_sub(1)), at(middle))
        };
        Self {
            median,
            min: at(0),
            max: at(sorted.len().wrapping_sub(1)),
        }
    }

    /// Of the ratio of each round: a round's two values were measured one after the other, so what disturbs
    /// the machine for longer disturbs both.
    pub fn of_ratios(rounds: impl IntoIterator<Item = (f64, f64)>) -> Self {
        let ratios = rounds.into_iter().map(|(value, base)| value / base);
        Self::of(ratios)
    }
}

/// As a table has it, with the precision that is asked for: `12.7 (12.1–14.3)`.
impl fmt::Display for Spread {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = to.precision().unwrap_or(1);
        let Self { median, min, max } = self;
        write!(to, "{median:.digits$} ({min:.digits$}–{max:.digits$})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spread(median: f64, min: f64, max: f64) -> Spread {
        Spread { median, min, max }
    }

    #[test]
    fn the_median_is_the_middle_one_or_between_the_middle_two() {
        assert_eq!(Spread::of([3.0, 1.0, 20.0]), spread(3.0, 1.0, 20.0));
        assert_eq!(Spread::of([4.0, 1.0, 2.0, 20.0]), spread(3.0, 1.0, 20.0));
        assert_eq!(Spread::of([7.0]), spread(7.0, 7.0, 7.0));
    }

    #[test]
    fn without_a_round_there_is_no_number() {
        let none = Spread::of([]);
        assert!(none.median.is_nan() && none.min.is_nan() && none.max.is_nan());
        // What is not a number is within no bound.
        assert!(!matches!(none.median.partial_cmp(&1.35), Some(order) if order.is_le()));
    }

    #[test]
    fn a_ratio_is_of_its_round_and_not_of_the_medians() {
        // A slow moment of the machine came to both sides of the second round.
        let rounds = [(2.0, 1.0), (30.0, 20.0), (4.0, 2.5)];
        assert_eq!(Spread::of_ratios(rounds), spread(1.6, 1.5, 2.0));
    }

    #[test]
    fn a_table_has_median_and_range() {
        let spread = spread(12.71, 12.1, 14.26);
        assert_eq!(spread.to_string(), "12.7 (12.1–14.3)");
        assert_eq!(format!("{spread:.0}"), "13 (12–14)");
    }
}
