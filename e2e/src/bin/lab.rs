//! The lab: a Kubernetes cluster on this machine. See `lab --help`.

use std::process::ExitCode;

use clap::Parser;
use e2e::lab::cli::{self, Args};

fn main() -> ExitCode {
    match cli::run(Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("lab: {error:#}");
            ExitCode::FAILURE
        }
    }
}
