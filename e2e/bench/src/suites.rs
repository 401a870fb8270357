//! All suites, in the order of the page.

use crate::suite::Suite;

/// All of them.
#[must_use]
pub fn all() -> Vec<Box<dyn Suite>> {
    vec![
        Box::new(crate::throughput::Throughput),
        Box::new(crate::nodes::AcrossNodes),
        Box::new(crate::programming::Programming),
        Box::new(crate::profile::Profile),
    ]
}
