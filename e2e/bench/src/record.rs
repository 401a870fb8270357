//! Measured values, as they are kept in CSV files.

use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

/// One measured value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// What was measured: the word for a picture or table, such as `throughput`.
    pub figure: String,
    /// Where: `one-kernel`, `host-gw`, `vxlan`.
    pub setting: String,
    /// Whose: `ours`, `ipvsadm`, `nginx-stream`.
    pub contender: String,
    /// At which number of whatever the figure counts: servers, changes, a percentile.
    pub x: f64,
    /// In which round. Values of one round were measured right after each other, so only they are compared.
    pub round: u32,
    /// The value.
    pub value: f64,
    /// Its unit: `requests/s`, `ms`, `MiB`.
    pub unit: String,
}

/// Who measured: ours, beside whom all others are rivals.
pub const OURS: &str = "ours";

/// Values of one suite.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Records(pub Vec<Record>);

impl Records {
    /// The values of a figure in a setting.
    #[must_use]
    pub fn of(&self, figure: &str, setting: &str) -> Self {
        let wanted = |record: &&Record| record.figure == figure && record.setting == setting;
        Self(self.0.iter().filter(wanted).cloned().collect())
    }

    /// The values of one contender.
    #[must_use]
    pub fn by(&self, contender: &str) -> Self {
        let wanted = |record: &&Record| record.contender == contender;
        Self(self.0.iter().filter(wanted).cloned().collect())
    }

    /// The values at one x.
    #[must_use]
    pub fn at(&self, x: f64) -> Self {
        let wanted = |record: &&Record| (record.x - x).abs() < f64::EPSILON;
        Self(self.0.iter().filter(wanted).cloned().collect())
    }

    /// The numbers alone.
    #[must_use]
    pub fn values(&self) -> Vec<f64> {
        self.0.iter().map(|record| record.value).collect()
    }

    /// Who is in it, ours first, then in the order of their first value.
    #[must_use]
    pub fn contenders(&self) -> Vec<&str> {
        let mut names = Vec::new();
        let ours = self.0.iter().filter(|record| record.contender == OURS);
        for record in ours.chain(&self.0) {
            if !names.contains(&record.contender.as_str()) {
                names.push(record.contender.as_str());
            }
        }
        names
    }

    /// The settings of a figure, in the order of their first value.
    #[must_use]
    pub fn settings(&self, figure: &str) -> Vec<&str> {
        let mut names = Vec::new();
        for record in self.0.iter().filter(|record| record.figure == figure) {
            if !names.contains(&record.setting.as_str()) {
                names.push(record.setting.as_str());
            }
        }
        names
    }

    /// Every x that has a value, ascending.
    #[must_use]
    pub fn xs(&self) -> Vec<f64> {
        let mut xs: Vec<f64> = self.0.iter().map(|record| record.x).collect();
        xs.sort_by(f64::total_cmp);
        xs.dedup();
        xs
    }

    /// Reads what [`Records::write`] wrote.
    pub fn read(path: &Path) -> Result<Self> {
        let mut reader = csv::Reader::from_path(path).with_context(|| path.display().to_string())?;
        let records = reader.deserialize().collect::<Result<_, _>>();
        records.map(Self).with_context(|| path.display().to_string())
    }

    /// Writes a CSV file with a header line.
    pub fn write(&self, path: &Path) -> Result<()> {
        let mut writer = csv::Writer::from_path(path).with_context(|| path.display().to_string())?;
        for record in &self.0 {
            writer.serialize(record)?;
        }
        Ok(writer.flush()?)
    }
}

/// Short ways to make values for tests.
#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A value of figure `f`, setting `s`, in `ms`.
    pub(crate) fn value(contender: &str, x: f64, round: u32, value: f64) -> Record {
        Record {
            figure: "f".to_owned(),
            setting: "s".to_owned(),
            contender: contender.to_owned(),
            x,
            round,
            value,
            unit: "ms".to_owned(),
        }
    }

    #[test]
    fn what_is_written_can_be_read() {
        let path = std::env::temp_dir().join(format!("plb-bench-{}.csv", std::process::id()));
        let records = Records(vec![value("a, \"b\"", 1.0, 2, 3.5), value("ours", 1.0, 2, 0.1)]);
        records.write(&path).unwrap();
        let read = Records::read(&path);
        std::fs::remove_file(&path).unwrap();
        assert_eq!(read.unwrap(), records);
    }

    #[test]
    fn ours_is_named_first() {
        let records = Records(vec![value("nginx", 1.0, 0, 1.0), value(OURS, 1.0, 0, 1.0)]);
        assert_eq!(records.contenders(), [OURS, "nginx"]);
    }
}
