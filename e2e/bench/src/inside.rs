//! Parts of suites that run in machines of their own: this program again.

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, Subcommand};

use crate::plan::Plan;
use crate::record::Records;
use crate::throughput::one_kernel;
use crate::{profile, programming, steering};

/// Which part.
#[derive(Subcommand)]
pub enum Inside {
    /// Tables are programmed.
    Programming(Options),
    /// Our own programming of tables is profiled.
    Profile(Options),
    /// What is profiled.
    Profiled(profile::Profiled),
    /// Client, balancer and servers in one kernel.
    OneKernel(Options),
    /// Packets are spread over processors, or not.
    Steering(Options),
}

/// How much a part measures, and for whom.
#[derive(Args, Debug)]
pub struct Options {
    /// Where values go.
    #[arg(long)]
    pub(crate) records: PathBuf,
    /// Few rounds.
    #[arg(long)]
    quick: bool,
}

impl Options {
    /// How much.
    pub(crate) fn plan(&self) -> Plan {
        if self.quick { Plan::Quick } else { Plan::Full }
    }

    /// Measures. What was measured is kept if it fails.
    pub(crate) fn measure(&self, work: impl FnOnce(Plan, &mut Records) -> Result<()>) -> Result<()> {
        let mut records = Records::default();
        let done = work(self.plan(), &mut records);
        records.write(&self.records)?;
        done
    }
}

impl Inside {
    /// Does it in this machine.
    pub fn run(&self) -> Result<()> {
        match self {
            Self::Programming(options) => programming::inside(options),
            Self::Profile(options) => profile::inside(options),
            Self::Profiled(profiled) => profiled.run(),
            Self::OneKernel(options) => options.measure(one_kernel::inside),
            Self::Steering(options) => options.measure(steering::inside),
        }
    }
}
