//! What a suite of measurements is.

use anyhow::Result;

use crate::plan::Plan;
use crate::record::Records;
use crate::row::Row;

/// A part of the page.
#[derive(Clone, Debug, Default)]
pub struct Section {
    /// Its heading.
    pub title: &'static str,
    /// Rows for the table at the top.
    pub rows: Vec<Row>,
    /// The text, as Markdown: what was measured, how, and what limits it. Pictures are named as `![text](NAME.svg)`.
    pub text: String,
    /// Pictures: name without `.svg`, and content.
    pub pictures: Vec<(String, String)>,
}

/// Measurements that belong together.
pub trait Suite {
    /// Its name: of the CSV file and on the command line.
    fn name(&self) -> &'static str;

    /// Whether it needs the lab cluster.
    fn needs_lab(&self) -> bool {
        false
    }

    /// Whether it is part of a quick run that names no suites. Not what takes minutes to set up, nor profiles, which
    /// compare with nobody.
    fn is_quick(&self) -> bool {
        true
    }

    /// Measures. What it has recorded when it fails is kept.
    fn measure(&self, plan: Plan, records: &mut Records) -> Result<()>;

    /// Tells of what was measured. It sees nothing but the values.
    fn section(&self, records: &Records) -> Result<Section>;
}
