//! How fast tables are programmed: ours beside `ipvsadm` and keepalived, in one kernel.

pub(crate) mod contender;
mod eyes;
pub(crate) mod machine;
mod rounds;
mod serve;
pub(crate) mod table;
mod words;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use clap::Args;

use crate::plan::Plan;
use crate::record::Records;
use crate::suite::{Section, Suite};

/// The suite.
pub struct Programming;

/// What is measured in the machine.
#[derive(Args)]
pub struct Inside {
    /// Where values go.
    #[arg(long)]
    records: PathBuf,
    /// Few rounds.
    #[arg(long)]
    quick: bool,
}

impl Inside {
    /// Measures in this machine.
    pub fn run(&self) -> Result<()> {
        let plan = if self.quick { Plan::Quick } else { Plan::Full };
        rounds::measure(plan, &self.records)
    }
}

impl Suite for Programming {
    fn name(&self) -> &'static str {
        "programming"
    }

    fn measure(&self, plan: Plan, records: &mut Records) -> Result<()> {
        let limit = Duration::from_mins(plan.pick(7, 3));
        machine::measure("programming", plan, limit, records)
    }

    fn section(&self, records: &Records) -> Result<Section> {
        words::section(records)
    }
}
