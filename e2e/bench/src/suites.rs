//! All suites, in the order of the page.

use crate::suite::Suite;

/// All of them.
#[must_use]
pub fn all() -> Vec<Box<dyn Suite>> {
    vec![
        Box::new(crate::throughput::Throughput),
        Box::new(crate::path::PacketPath),
        Box::new(crate::nodes::AcrossNodes),
        Box::new(crate::latency::Latency),
        Box::new(crate::steering::Steering),
        Box::new(crate::programming::Programming),
        Box::new(crate::convergence::Convergence),
        Box::new(crate::disruption::Disruption),
        Box::new(crate::footprint::Footprint),
        Box::new(crate::profile::Profile),
    ]
}
