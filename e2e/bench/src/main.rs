//! `bench`: measures, and writes the page.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, bail};
use bench::plan::Plan;
use bench::stage::eyes;
use bench::suite::Suite;
use bench::{inside, page, run, suites};
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(about = "Measures the balancer beside its rivals")]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// The page's folder.
    #[arg(long, global = true, default_value = "docs/benchmarks")]
    folder: PathBuf,
}

#[derive(Subcommand)]
enum Command {
    /// Measure, and write data, pictures and page.
    Run {
        /// Few rounds, and without suites that take long to set up: shows that everything works.
        #[arg(long)]
        quick: bool,
        /// More rounds of what takes minutes each, such as an API server that is away: none is begun after so many minutes.
        #[arg(long, value_name = "MINUTES", conflicts_with = "quick")]
        long: Option<u64>,
        /// Only these suites; `bench list` names them.
        suites: Vec<String>,
    },
    /// Write pictures and page again from the data.
    Page,
    /// List the suites.
    List,
    /// The part of a suite that runs in a machine of its own.
    #[command(subcommand, hide = true)]
    Inside(inside::Inside),
    /// Look around in a node of the lab, for the suite that started this (used by the suites themselves).
    #[command(hide = true)]
    Eyes { address: SocketAddr },
}

fn main() -> Result<()> {
    let cli = Cli::parse();
    match cli.command {
        Command::Run { quick, long, suites } => {
            let plan = match (quick, long) {
                (true, _) => Plan::Quick,
                (_, Some(minutes)) => Plan::Long(Duration::from_secs(60 * minutes)),
                _ => Plan::Full,
            };
            run::run(&chosen(&suites, plan)?, plan, &cli.folder)
        }
        Command::Inside(inside) => inside.run(),
        Command::Page => page::write(&cli.folder, &suites::all()),
        Command::Eyes { address } => eyes::serve(address),
        Command::List => {
            for suite in suites::all() {
                println!(
                    "{}{}",
                    suite.name(),
                    if suite.needs_lab() { " (lab)" } else { "" }
                );
            }
            Ok(())
        }
    }
}

fn chosen(names: &[String], plan: Plan) -> Result<Vec<Box<dyn Suite>>> {
    let mut all = suites::all();
    if let Some(unknown) = names
        .iter()
        .find(|name| !all.iter().any(|suite| suite.name() == *name))
    {
        bail!("no suite {unknown}; `bench list` names them");
    }
    let is_due = |suite: &dyn Suite| plan != Plan::Quick || suite.is_quick();
    all.retain(|suite| {
        if names.is_empty() {
            is_due(suite.as_ref())
        } else {
            names.iter().any(|name| name == suite.name())
        }
    });
    Ok(all)
}
