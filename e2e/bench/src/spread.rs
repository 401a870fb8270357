//! Medians, and how far values lie from them.

use std::fmt::{self, Display};

use crate::record::{Record, Records};

/// A median, and between which two values the middle half lies.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// A quarter of the values is at most this.
    pub low: f64,
    /// Half of the values is at most this.
    pub median: f64,
    /// Three quarters of the values are at most this.
    pub high: f64,
}

impl Spread {
    /// Of at least one value.
    #[must_use]
    pub fn of(values: &[f64]) -> Option<Self> {
        Some(Self {
            low: quantile(values, 0.25)?,
            median: quantile(values, 0.5)?,
            high: quantile(values, 0.75)?,
        })
    }

    /// Of `numerator / denominator`, each pair of one round and the same x.
    #[must_use]
    pub fn of_ratios(numerator: &Records, denominator: &Records) -> Option<Self> {
        Self::of(&ratios(numerator, denominator))
    }

    /// The same as text, also where there is no pair.
    #[must_use]
    pub fn ratio_text(numerator: &Records, denominator: &Records) -> String {
        let ratio = Self::of_ratios(numerator, denominator);
        ratio.map_or_else(|| "not measured".to_owned(), |ratio| ratio.to_string())
    }
}

impl Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { low, median, high } = self;
        write!(f, "{} [{} to {}]", Number(*median), Number(*low), Number(*high))
    }
}

/// `numerator / denominator`, each pair of one round and the same x.
#[must_use]
pub fn ratios(numerator: &Records, denominator: &Records) -> Vec<f64> {
    let partner = |round, x: f64| {
        let mut all = denominator.0.iter();
        all.find(|other| other.round == round && (other.x - x).abs() < f64::EPSILON)
    };
    let ratio = |one: &Record| {
        let other = partner(one.round, one.x)?.value;
        (other > 0.0).then(|| one.value / other)
    };
    numerator.0.iter().filter_map(ratio).collect()
}

/// A number with three digits that count: `0.0123`, `1.23`, `12.3`, `1230`.
pub struct Number(pub f64);

impl Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let size = self.0.abs();
        #[allow(clippy::cast_possible_truncation, reason = "the exponent of a finite number")]
        let decimals = if size > 0.0 && size.is_finite() {
            (2 - size.log10().floor() as i32).clamp(0, 9)
        } else {
            0
        };
        let decimals = usize::try_from(decimals).unwrap_or_default();
        write!(f, "{:.decimals$}", self.0)
    }
}

/// The value that a part of all values does not exceed, interpolated between its neighbours.
#[must_use]
#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "positions in a list of measured values are small"
)]
pub fn quantile(values: &[f64], part: f64) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().checked_sub(1)?;
    let position = last as f64 * part.clamp(0.0, 1.0);
    let below = sorted.get(position.floor() as usize)?;
    let above = sorted.get(position.ceil() as usize)?;
    Some(below + (above - below) * position.fract())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::tests::value;

    #[test]
    fn quartiles_of_five() {
        let spread = Spread::of(&[5.0, 1.0, 4.0, 2.0, 3.0]).unwrap();
        assert_eq!((spread.low, spread.median, spread.high), (2.0, 3.0, 4.0));
        assert_eq!(Spread::of(&[]), None);
        assert_eq!(quantile(&[1.0, 2.0], 0.5), Some(1.5));
    }

    #[test]
    fn only_values_of_one_round_are_compared() {
        let ours = Records(vec![value("ours", 1.0, 0, 10.0), value("ours", 1.0, 1, 40.0)]);
        let theirs = Records(vec![value("nginx", 1.0, 1, 20.0), value("nginx", 1.0, 0, 10.0)]);
        let spread = Spread::of_ratios(&ours, &theirs).unwrap();
        assert!((spread.median - 1.5).abs() < 1e-9, "{spread}");
        assert_eq!(Spread::of_ratios(&ours, &Records::default()), None);
        assert_eq!(Spread::ratio_text(&ours, &theirs), spread.to_string());
        assert_eq!(Spread::ratio_text(&ours, &Records::default()), "not measured");
    }

    #[test]
    fn three_digits_count() {
        let text =
            [0.0, 0.000_012_34, 0.01234, 0.1234, 1.234, 12.34, 1234.5].map(|value| Number(value).to_string());
        assert_eq!(
            text,
            ["0", "0.0000123", "0.0123", "0.123", "1.23", "12.3", "1234"]
        );
    }
}
