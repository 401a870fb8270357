//! Entry point.

use std::process::ExitCode;

use clap::Parser as _;
use lb_agent::cli::{Cli, Command, run_clear, run_plan, run_prepare};
use lb_agent::{backend, serve};
use tracing::error;
use tracing_subscriber::EnvFilter;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .init();
    let result = match Cli::parse().command {
        Command::Prepare(arguments) => {
            run_prepare(arguments).await;
            Ok(())
        }
        Command::Serve(arguments) => serve::run(arguments).await,
        Command::Plan(arguments) => run_plan(arguments).await,
        Command::Clear => run_clear().await,
        Command::Backend(arguments) => backend::run(arguments).await,
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error!(error = AsRef::<dyn std::error::Error>::as_ref(&error), "failed");
            ExitCode::FAILURE
        }
    }
}
