//! How fast tables are programmed: ours beside `ipvsadm`, keepalived and kube-proxy, in one kernel.

mod contender;
mod eyes;
mod machine;
mod rounds;
mod table;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use clap::Args;

use crate::plan::Plan;
use crate::record::Records;
use crate::suite::{Section, Suite};
use machine::{Folder, Machine};

/// The suite.
pub struct Programming;

/// What runs in the machine.
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
        let folder = Folder::create()?;
        let path = folder.path().join("records.csv");
        let text = path.display().to_string();
        let mut arguments = vec!["inside", "--records", &text];
        arguments.extend((plan == Plan::Quick).then_some("--quick"));
        let machine = Machine {
            arguments: &arguments,
            tap: None,
            limit: Duration::from_mins(plan.pick(6, 2)),
        };
        let run = machine.run(&folder);
        if path.exists() {
            records.0.extend(Records::read(&path)?.0);
        }
        run
    }

    fn section(&self, _: &Records) -> Result<Section> {
        Ok(Section::default())
    }
}
