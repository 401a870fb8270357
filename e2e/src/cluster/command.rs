//! Runs the programs that a user would run.

use crate::tools::{self, Tool};
use anyhow::{Context, Result, ensure};
use std::ffi::OsStr;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

/// Runs `kubectl` with these words and gives what it printed.
pub fn kubectl(words: &str) -> Result<String> {
    kubectl_with("", words)
}

/// Runs `kubectl` with `input` on its standard input.
pub fn kubectl_with(input: &str, words: &str) -> Result<String> {
    run_with(&tools::path(Tool::Kubectl), words, input)
}

/// Runs Helm 4, in the checkout.
pub fn helm(words: &str) -> Result<String> {
    run_with(&tools::path(Tool::Helm), words, "")
}

/// Runs a program in the checkout. What it said on standard error is the error if it fails.
pub fn run(program: &Path, words: &str) -> Result<String> {
    run_with(program, words, "")
}

fn run_with(program: &Path, words: &str, input: &str) -> Result<String> {
    let name = program
        .file_name()
        .unwrap_or_else(|| OsStr::new("?"))
        .to_string_lossy();
    let mut child = Command::new(program)
        .args(words.split_whitespace())
        .current_dir(super::root())
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
    ensure!(output.status.success(), "{name} {}: {}", words, said.trim());
    Ok(String::from_utf8(output.stdout)?)
}
