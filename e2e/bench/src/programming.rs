//! How fast tables are programmed: ours beside `ipvsadm` and keepalived, in one kernel.

pub(crate) mod contender;
mod eyes;
pub(crate) mod machine;
mod rounds;
mod serve;
pub(crate) mod table;
mod words;

use std::time::Duration;

use anyhow::Result;

use crate::inside::Options;
use crate::plan::Plan;
use crate::record::Records;
use crate::suite::{Section, Suite};

/// The suite.
pub struct Programming;

/// Measures in the machine. What was measured is kept after each step.
pub(crate) fn inside(options: &Options) -> Result<()> {
    rounds::measure(options.plan(), &options.records)
}

impl Suite for Programming {
    fn name(&self) -> &'static str {
        "programming"
    }

    fn measure(&self, plan: Plan, records: &mut Records) -> Result<()> {
        let limit = Duration::from_mins(plan.pick(9, 3));
        machine::measure("programming", plan, limit, records)
    }

    fn section(&self, records: &Records) -> Result<Section> {
        words::section(records)
    }
}
