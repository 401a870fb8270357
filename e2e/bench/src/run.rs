//! Runs suites one after the other. One that fails does not stop the others, and what it measured is kept.

use std::fs;
use std::path::Path;
use std::time::Instant;

use anyhow::{Result, ensure};

use crate::plan::Plan;
use crate::record::Records;
use crate::suite::Suite;
use crate::{calm, machine, page, suites};

/// Measures, and writes data, pictures and page to `folder`.
pub fn run(chosen: &[Box<dyn Suite>], plan: Plan, folder: &Path) -> Result<()> {
    fs::create_dir_all(folder.join("data"))?;
    fs::write(folder.join("machine.md"), machine::describe()?)?;
    let mut failed = Vec::new();
    for suite in chosen {
        calm::wait();
        let begin = Instant::now();
        println!("=== {}", suite.name());
        let mut records = Records::default();
        if let Err(error) = suite.measure(plan, &mut records) {
            println!("{} failed: {error:#}", suite.name());
            failed.push(suite.name());
        }
        records.write(&page::data(folder, suite.name()))?;
        println!(
            "=== {}: {} values in {} s",
            suite.name(),
            records.0.len(),
            begin.elapsed().as_secs()
        );
    }
    // What was measured before stays on it.
    page::write(folder, &suites::all())?;
    println!("the page: {}", folder.join("README.md").display());
    ensure!(failed.is_empty(), "failed: {}", failed.join(", "));
    Ok(())
}
