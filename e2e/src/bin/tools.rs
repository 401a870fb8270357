//! Builds the lab's tools, and runs one of them.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};
use e2e::tools::{self, Group, Tool};

#[derive(Parser)]
#[command(about = "Builds the lab's tools into a cache, and runs them", version)]
struct Args {
    #[command(subcommand)]
    command: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Build what is missing of these groups, or of all.
    Ensure { groups: Vec<String> },
    /// Run a tool, which is built first if it is missing, with the others of the cache on PATH.
    #[command(trailing_var_arg = true, disable_help_flag = true)]
    Run {
        tool: String,
        #[arg(allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
}

fn main() -> Result<()> {
    match Args::parse().command {
        Action::Ensure { groups } if groups.is_empty() => tools::ensure(&Group::ALL),
        Action::Ensure { groups } => tools::ensure(
            &groups
                .iter()
                .map(|name| group(name))
                .collect::<Result<Vec<_>>>()?,
        ),
        Action::Run { tool, arguments } => run(&tool, &arguments),
    }
}

fn group(name: &str) -> Result<Group> {
    let known = Group::ALL.map(Group::name).join(", ");
    Group::ALL
        .into_iter()
        .find(|group| group.name() == name)
        .with_context(|| format!("no group {name}: {known}"))
}

fn run(name: &str, arguments: &[OsString]) -> Result<()> {
    let Some(tool) = Tool::ALL.into_iter().find(|tool| tool.name() == name) else {
        bail!("no tool {name}: {}", Tool::ALL.map(Tool::name).join(", "));
    };
    tools::ensure(&[tool.group()])?;
    let program = tools::path(tool);
    let error = Command::new(&program)
        .args(arguments)
        .env("PATH", tools::search_path()?)
        .exec();
    Err(error).with_context(|| format!("cannot run {}", program.display()))
}
