//! Rows of the table that the page starts with: ours beside one rival.

use std::fmt::{self, Display, Write as _};

use crate::record::{OURS, Records};
use crate::spread::{Number, Spread, ratios};

/// What ours wants to reach, as a ratio of ours to the rival's value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Target {
    /// More is better.
    AtLeast(f64),
    /// Less is better.
    AtMost(f64),
}

impl Target {
    fn is_met(self, ratio: f64) -> bool {
        match self {
            Self::AtLeast(bound) => ratio >= bound,
            Self::AtMost(bound) => ratio <= bound,
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
    /// The same, pair by pair.
    pub ratios: Vec<f64>,
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
        let ratios = ratios(ours, theirs);
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
            ratio: Spread::of(&ratios)?,
            ratios,
            target,
        })
    }

    /// The target, and whether the median meets it; then how many pairs do, where there are several.
    fn verdict(&self) -> Option<(String, String)> {
        let target = self.target?;
        let mut met = if target.is_met(self.ratio.median) {
            "yes"
        } else {
            "**no**"
        }
        .to_owned();
        let all = self.ratios.len();
        if all > 1 {
            let those = self.ratios.iter().filter(|ratio| target.is_met(**ratio)).count();
            let _ = write!(met, ", {those} of {all}");
        }
        Some((target.to_string(), met))
    }

    /// The table, as Markdown.
    #[must_use]
    pub fn table(rows: &[Self]) -> String {
        let mut text =
            "| what | ours | rival | theirs | ours ÷ theirs, median [middle half] | target | met |\n\
                        |---|---|---|---|---|---|---|\n"
                .to_owned();
        for row in rows {
            let (target, met) = row.verdict().unwrap_or_default();
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

    #[test]
    fn a_row_says_how_many_pairs_meet_its_target() {
        let mut values = Records::default();
        for (round, ours) in [(0, 12.0), (1, 8.0), (2, 11.0)] {
            values.0.push(value(OURS, 1.0, round, ours));
            values.0.push(value("ipvsadm", 1.0, round, 10.0));
        }
        let row = Row::compare("speed", &values, "ipvsadm", Some(Target::AtLeast(1.0))).unwrap();
        assert_eq!(row.verdict(), Some(("≥ 1".to_owned(), "yes, 2 of 3".to_owned())));
    }
}
