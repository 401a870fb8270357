//! The lab: a Kubernetes cluster on this machine. See `lab --help`.

use clap::Parser;
use e2e::lab::cli::{self, Args};

fn main() -> anyhow::Result<()> {
    cli::run(Args::parse())
}
