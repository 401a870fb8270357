//! Samples of what processes run, taken by `perf`.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use e2e::lab::process;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::scratch::Running;
use crate::site::cpus::Share;

/// Samples a second of processor time, beside whatever else happens at full milliseconds.
const RATE: &str = "1999";

/// Does some work, and tells which addresses these processes were at meanwhile.
pub(super) fn sample<T>(
    processes: &[u32],
    folder: &Path,
    work: impl FnOnce() -> Result<T>,
) -> Result<(Vec<u64>, T)> {
    let file = folder.join("perf.data");
    let ids: Vec<String> = processes.iter().map(u32::to_string).collect();
    let perf = Share::Rest
        .command(Path::new("perf"))
        .args(["record", "--quiet", "--event", "cpu-clock", "--freq", RATE])
        .args(["--pid", &ids.join(","), "--output"])
        .arg(&file)
        .stdin(Stdio::null())
        .spawn()
        .context("could not start perf")?;
    let mut perf = Running(perf);
    let done = work()?;
    // It writes all that it has.
    kill(Pid::from_raw(i32::try_from(perf.0.id())?), Signal::SIGINT)?;
    perf.0.wait()?;
    let mut command = Command::new("perf");
    command.args(["script", "--fields", "ip", "--input"]).arg(&file);
    let text = process::run(&mut command)?;
    let samples: Vec<u64> = text.lines().filter_map(address).collect();
    ensure!(!samples.is_empty(), "perf saw nothing of processes {ids:?}");
    Ok((samples, done))
}

fn address(line: &str) -> Option<u64> {
    u64::from_str_radix(line.trim(), 16).ok()
}
