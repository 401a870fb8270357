//! Parts of suites that run in machines of their own: this program again.

use anyhow::Result;
use clap::Subcommand;

use crate::throughput::one_kernel;
use crate::{profile, programming, steering};

/// Which part.
#[derive(Subcommand)]
pub enum Inside {
    /// Tables are programmed.
    Programming(programming::Inside),
    /// Our own programming of tables is profiled.
    Profile(profile::Inside),
    /// What is profiled.
    Profiled(profile::Profiled),
    /// Client, balancer and servers in one kernel.
    OneKernel(one_kernel::Inside),
    /// Packets are spread over processors, or not.
    Steering(steering::Inside),
}

impl Inside {
    /// Does it in this machine.
    pub fn run(&self) -> Result<()> {
        match self {
            Self::Programming(inside) => inside.run(),
            Self::Profile(inside) => inside.run(),
            Self::Profiled(inside) => inside.run(),
            Self::OneKernel(inside) => inside.run(),
            Self::Steering(inside) => inside.run(),
        }
    }
}
