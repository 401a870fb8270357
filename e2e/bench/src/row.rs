//! Rows of the table that the page starts with: ours beside one rival.

use std::fmt::{self, Display, Write as _};

use crate::record::{OURS, Records};
use crate::spread::{Number, Spread};

/// What ours wants to reach, as a ratio of ours to the rival's value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Target {
    /// More is better.
    AtLeast(f64),
    /// Less is better.
    AtMost(f64),
}

impl Target {
    fn is_met(self, median: f64) -> bool {
        match self {
            Self::AtLeast(bound) => median >= bound,
            Self::AtMost(bound) => median <= bound,
        }
    }
}

impl Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtLeast(bound) => write!(f, "≥ {bound}"),
            Self::AtMost(bound) => write!(f, "≤ {bound}"),
        }
    }
}

/// One row.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// What was measured, and where.
    pub what: String,
    /// The rival.
    pub rival: String,
    /// Ours, with its unit.
    pub ours: String,
    /// Theirs, with its unit.
    pub theirs: String,
    /// Ours divided by theirs, in pairs of one round.
    pub ratio: Spread,
    /// What was to be reached.
    pub target: Option<Target>,
}

impl Row {
    /// Ours beside a rival, in the values of one figure and setting. None if one of them has no values.
    #[must_use]
    pub fn compare(what: &str, values: &Records, rival: &str, target: Option<Target>) -> Option<Self> {
        Self::between(what, &values.by(OURS), &values.by(rival), target)
    }

    /// Any two lots of values, paired by round and x. The rival is named as in its values.
    #[must_use]
    pub fn between(what: &str, ours: &Records, theirs: &Records, target: Option<Target>) -> Option<Self> {
        let rival = theirs.0.first()?;
        let in_words = |records: &Records| {
            Some(format!(
                "{} {}",
                Number(Spread::of(&records.values())?.median),
                rival.unit
            ))
        };
        Some(Self {
            what: what.to_owned(),
            rival: rival.contender.clone(),
            ours: in_words(ours)?,
            theirs: in_words(theirs)?,
            ratio: Spread::of_ratios(ours, theirs)?,
            target,
        })
    }

    /// The table, as Markdown.
    #[must_use]
    pub fn table(rows: &[Self]) -> String {
        let mut text =
            "| what | ours | rival | theirs | ours ÷ theirs, median [middle half] | target | met |\n\
                        |---|---|---|---|---|---|---|\n"
                .to_owned();
        for row in rows {
            let (target, met) = match row.target {
                Some(target) if target.is_met(row.ratio.median) => (target.to_string(), "yes"),
                Some(target) => (target.to_string(), "**no**"),
                None => (String::new(), ""),
            };
            let Self {
                what,
                ours,
                rival,
                theirs,
                ratio,
                ..
            } = row;
            let _ = writeln!(
                text,
                "| {what} | {ours} | {rival} | {theirs} | {ratio} | {target} | {met} |"
            );
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::tests::value;

    #[test]
    fn a_row_says_whether_its_target_is_met() {
        let values = Records(vec![value(OURS, 1.0, 0, 30.0), value("nginx", 1.0, 0, 10.0)]);
        let row = |target| Row::compare("speed", &values, "nginx", Some(target)).unwrap();
        let text = Row::table(&[row(Target::AtLeast(2.5)), row(Target::AtMost(1.0))]);
        let lines: Vec<&str> = text.lines().skip(2).collect();
        assert_eq!(
            lines,
            [
                "| speed | 30.0 ms | nginx | 10.0 ms | 3.00 [3.00 to 3.00] | ≥ 2.5 | yes |",
                "| speed | 30.0 ms | nginx | 10.0 ms | 3.00 [3.00 to 3.00] | ≤ 1 | **no** |",
            ]
        );
        assert_eq!(Row::compare("speed", &values, "haproxy", None), None);
    }
}
