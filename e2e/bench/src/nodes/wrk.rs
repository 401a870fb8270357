//! wrk, the load: started where this thread is.

use std::net::SocketAddr;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::throughput::wrk::{Answered, parse};

/// Connections that stay open, each with one request after the other.
pub const CONNECTIONS: u32 = 32;

/// Loads `address` for so many seconds, as hard as it can.
pub fn run(address: SocketAddr, seconds: u32) -> Result<Answered> {
    let output = Command::new("wrk")
        .args(["--threads", "1", "--timeout", "5s"])
        .args([
            format!("--connections={CONNECTIONS}"),
            format!("--duration={seconds}s"),
        ])
        .arg(format!("http://{address}/"))
        .output()
        .context("can't start wrk")?;
    let printed = String::from_utf8_lossy(&output.stdout);
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "wrk: {printed}{said}");
    parse(&printed).with_context(|| format!("wrk printed {printed}"))
}
