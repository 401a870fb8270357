//! The lab's namespace and environment, for commands and shells.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::{Context, Result, anyhow};

use super::paths::Paths;
use crate::netns::{LAB, Namespace};

/// Moves this thread into the lab; commands of [`command`] started from it run there.
pub fn enter() -> Result<()> {
    Namespace::named(LAB).enter()
}

/// A command that finds kubectl, helm and the cluster.
pub fn command(paths: &Paths, program: &str) -> Result<Command> {
    let mut command = Command::new(program);
    command
        .env("PATH", search_path(paths)?)
        .env("KUBECONFIG", paths.kubeconfig("admin"));
    Ok(command)
}

/// Becomes `program`, inside the lab. Returns only if that fails.
pub fn become_command(paths: &Paths, program: &str, arguments: &[OsString]) -> Result<()> {
    enter()?;
    let error = command(paths, program)?.args(arguments).exec();
    Err(anyhow!(error)).with_context(|| format!("could not start {program}"))
}

/// Becomes an interactive shell inside the lab.
pub fn become_shell(paths: &Paths) -> Result<()> {
    enter()?;
    println!(
        "In the lab's network, outside its cluster. Try: kubectl get nodes; kubectl get plb -A; helm list -A. Leave with exit."
    );
    let error = command(paths, "bash")?
        .args(["--norc", "-i"])
        .env("PS1", "lab:\\w\\$ ")
        .exec();
    Err(anyhow!(error)).context("could not start bash")
}

fn search_path(paths: &Paths) -> Result<OsString> {
    let before = std::env::var_os("PATH").unwrap_or_default();
    std::env::join_paths(std::iter::once(paths.bin()).chain(std::env::split_paths(&before)))
        .context("the checkout's path must not have a colon")
}
