//! All suites, in the order of the page.

use crate::suite::Suite;

/// All of them.
#[must_use]
pub fn all() -> Vec<Box<dyn Suite>> {
    vec![
        Box::new(crate::convergence::Convergence),
        Box::new(crate::disruption::Disruption),
        Box::new(crate::footprint::Footprint),
    ]
}
