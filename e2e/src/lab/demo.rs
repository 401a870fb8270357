//! The first look at the product: chart, example, and traffic through it.

use anyhow::Result;

use super::paths::Paths;

/// Installs the chart, applies the example and sends requests through it.
pub fn run(_paths: &Paths) -> Result<()> {
    anyhow::bail!("not yet")
}
