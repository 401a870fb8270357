//! Runs the programs that a user would run.

use crate::tools::{self, Tool};
use anyhow::{Context, Result, ensure};
use std::ffi::OsStr;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

/// Runs `kubectl` and gives what it printed.
pub fn kubectl(arguments: &[&str]) -> Result<String> {
    run(&tools::path(Tool::Kubectl), arguments)
}

/// Runs `kubectl` with `input` on its standard input.
pub fn kubectl_with(input: &str, arguments: &[&str]) -> Result<String> {
    run_with(&tools::path(Tool::Kubectl), arguments, input)
}

/// Runs Helm 4.
pub fn helm(arguments: &[&str]) -> Result<String> {
    run(&tools::path(Tool::Helm), arguments)
}

/// Runs a program. What it said on standard error is the error if it fails.
pub fn run(program: &Path, arguments: &[&str]) -> Result<String> {
    run_with(program, arguments, "")
}

fn run_with(program: &Path, arguments: &[&str], input: &str) -> Result<String> {
    let name = program
        .file_name()
        .unwrap_or_else(|| OsStr::new("?"))
        .to_string_lossy();
    let mut child = Command::new(program)
        .args(arguments)
        .env("KUBECONFIG", super::kubeconfig())
        .env("PATH", tools::search_path()?)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("can't start {}", program.display()))?;
    // A program that doesn't read its input closes it: its own words tell then what is wrong.
    let _ = child
        .stdin
        .take()
        .map(|mut stdin| stdin.write_all(input.as_bytes()));
    let output = child.wait_with_output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "{name} {}: {}",
        arguments.join(" "),
        said.trim()
    );
    Ok(String::from_utf8(output.stdout)?)
}
