//! The page: computed from the raw data alone.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::calm;
use crate::record::Records;
use crate::row::Row;
use crate::suite::{Section, Suite};

/// Where a suite's values lie below the page's folder.
#[must_use]
pub fn data(folder: &Path, suite: &str) -> std::path::PathBuf {
    folder.join("data").join(format!("{suite}.csv"))
}

/// Writes `README.md` and the pictures from the data in `folder`. Suites without data are named as not measured.
pub fn write(folder: &Path, suites: &[Box<dyn Suite>]) -> Result<()> {
    let mut sections = Vec::new();
    let mut absent = Vec::new();
    for suite in suites {
        let path = data(folder, suite.name());
        if path.exists() {
            let records = Records::read(&path)?;
            sections.push(suite.section(&records).with_context(|| suite.name())?);
        } else {
            absent.push(suite.name());
        }
    }
    for (name, picture) in sections.iter().flat_map(|section| &section.pictures) {
        fs::write(folder.join(format!("{name}.svg")), picture)?;
    }
    let machine = fs::read_to_string(folder.join("machine.md")).unwrap_or_default();
    fs::write(folder.join("README.md"), markdown(&sections, &absent, &machine))?;
    Ok(())
}

fn markdown(sections: &[Section], absent: &[&str], machine: &str) -> String {
    let rows: Vec<Row> = sections.iter().flat_map(|section| section.rows.clone()).collect();
    let mut text = format!("{HEAD}\n{}\n", Row::table(&rows));
    if !absent.is_empty() {
        let _ = write!(text, "Not measured in this run: {}.\n\n", absent.join(", "));
    }
    for section in sections {
        let _ = write!(text, "## {}\n\n{}\n\n", section.title, section.text.trim());
    }
    let _ = write!(
        text,
        "{REPEAT}\n## The machine\n\n{machine}\n{LIMITS}- {}\n",
        calm::words()
    );
    text
}

const HEAD: &str = "# Benchmarks

Ours beside each rival. All values of a row were measured in one run, in rounds that take turns; a ratio is that of the
two values of one round, and the table shows the median of all rounds and between which values the middle half of them lies.
*Met* tells whether the median meets the target, and how many rounds do: where these are about half, the next run may tell
otherwise. Where a target is missed, the section below says why. `make bench` writes this page; no number on it was written
by hand.
";

const REPEAT: &str = "## How to repeat it

`make bench`, as root on Debian, measures everything again and writes this page, its pictures and `data/*.csv`.
`make bench-long` measures disruption alone, and lets each event happen 20 times, if there is time: `MINUTES=90`.
`make bench-quick` takes few rounds, leaves out profiles and what takes long to set up, and writes to `target/bench`.
`cargo run --release --bin bench -- page` writes the page again from the data.
";

const LIMITS: &str = "## What these numbers are not

- A node is a User Mode Linux machine: an ordinary process that emulates one processor. A system call costs several times
  what it costs on hardware. Absolute numbers mean little; ratios in one run are what counts.
- All nodes, the load and the servers share the processors of one machine. What several nodes could do side by side on
  their own hardware is not shown here.
- There is no network card: nothing here tells of line rate, of interrupts or of hardware queues.
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_names_what_is_absent() {
        let section = Section {
            title: "Throughput",
            text: "words".to_owned(),
            ..Section::default()
        };
        let text = markdown(&[section], &["tables"], "- processors: 2\n");
        assert!(text.contains("## Throughput\n\nwords"), "{text}");
        assert!(text.contains("Not measured in this run: tables."), "{text}");
        assert!(text.contains("- processors: 2"), "{text}");
    }
}
