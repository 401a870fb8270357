//! Entry point: arguments, logs, client.

use anyhow::Context as _;
use clap::{Parser, Subcommand, ValueEnum};
use operator::{Config, Context, http, smoke};
use std::path::PathBuf;
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

/// Serves objects of the kind plb: makes agents of them and reports on them.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// How log lines look; what is logged is told by `RUST_LOG`.
    #[arg(
        long,
        env = "PLB_LOG_FORMAT",
        value_enum,
        default_value = "json",
        global = true
    )]
    log_format: LogFormat,
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Copy, ValueEnum)]
enum LogFormat {
    Json,
    Plain,
}

#[derive(Subcommand)]
enum Command {
    /// Serves all balancers of one class, until told to stop.
    Run {
        /// The configuration file.
        #[arg(long)]
        config: PathBuf,
    },
    /// Waits until one balancer is ready, then sends requests through it.
    Smoke(smoke::Request),
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let logs = tracing_subscriber::fmt().with_env_filter(filter);
    match args.log_format {
        LogFormat::Json => logs.json().init(),
        LogFormat::Plain => logs.init(),
    }
    let client = kube::Client::try_default()
        .await
        .context("no Kubernetes client")?;
    match args.command {
        Command::Smoke(request) => Ok(smoke::run(client, &request).await?),
        Command::Run { config } => {
            let stop = CancellationToken::new();
            tokio::spawn(operator::controller::stop_on_signal(stop.clone()));
            let (context, streams) = Context::new(client, Config::load(&config)?);
            let served = http::serve(context.clone(), stop.clone());
            let (served, ()) = tokio::join!(served, operator::run(context, streams, stop));
            Ok(served?)
        }
    }
}
