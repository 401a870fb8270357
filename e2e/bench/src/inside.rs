//! Parts of suites that run in machines of their own: this program again.

use anyhow::Result;
use clap::Subcommand;

use crate::{profile, programming};

/// Which part.
#[derive(Subcommand)]
pub enum Inside {
    /// Tables are programmed.
    Programming(programming::Inside),
    /// Our own programming of tables is profiled.
    Profile(profile::Inside),
    /// What is profiled.
    Profiled(profile::Profiled),
}

impl Inside {
    /// Does it in this machine.
    pub fn run(&self) -> Result<()> {
        match self {
            Self::Programming(inside) => inside.run(),
            Self::Profile(inside) => inside.run(),
            Self::Profiled(inside) => inside.run(),
        }
    }
}
