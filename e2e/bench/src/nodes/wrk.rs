//! wrk, the load: started where this thread is, and its printed result read.

use std::net::SocketAddr;
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// Connections that stay open, each with one request after the other.
pub const CONNECTIONS: u32 = 32;

/// What came of one run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Outcome {
    /// Answers a second.
    pub rate: f64,
    /// Answers.
    pub requests: f64,
    /// Requests and connections that failed.
    pub failed: u32,
}

/// Loads `address` for so many seconds, as hard as it can.
pub fn run(address: SocketAddr, seconds: u32) -> Result<Outcome> {
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
    ensure!(
        output.status.success(),
        "wrk: {printed}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    parse(&printed).with_context(|| format!("wrk printed {printed}"))
}

fn parse(printed: &str) -> Option<Outcome> {
    let mut outcome = Outcome {
        rate: 0.0,
        requests: 0.0,
        failed: 0,
    };
    let mut is_whole = false;
    for line in printed.lines().map(str::trim) {
        if let Some(rate) = line.strip_prefix("Requests/sec:") {
            outcome.rate = rate.trim().parse().ok()?;
            is_whole = true;
        } else if let Some((requests, _)) = line.split_once(" requests in ") {
            outcome.requests = requests.parse().ok()?;
        } else if let Some(errors) = line.strip_prefix("Socket errors:") {
            outcome.failed += errors.split([' ', ',']).filter_map(number).sum::<u32>();
        } else if let Some(others) = line.strip_prefix("Non-2xx or 3xx responses:") {
            outcome.failed += number(others)?;
        }
    }
    is_whole.then_some(outcome)
}

fn number(word: &str) -> Option<u32> {
    word.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rate_answers_and_failures_are_read() {
        let printed = "Running 3s test @ http://10.244.0.7:80/\n  1 threads and 64 connections\n  Thread Stats   \
            Avg      Stdev     Max   +/- Stdev\n    Latency    12.34ms    3.21ms  50.00ms   71.00%\n  \
            5123 requests in 3.01s, 0.91MB read\n  Socket errors: connect 1, read 2, write 0, timeout 30\n  \
            Non-2xx or 3xx responses: 4\nRequests/sec:   1702.12\nTransfer/sec:    309.01KB\n";
        let outcome = parse(printed).unwrap();
        assert!((outcome.rate - 1702.12).abs() < 1e-6 && (outcome.requests - 5123.0).abs() < 1e-6);
        assert_eq!(outcome.failed, 37);
    }

    #[test]
    fn a_run_without_answers_is_one_too() {
        let outcome = parse("  0 requests in 3.01s, 0B read\nRequests/sec:      0.00\n").unwrap();
        assert!(outcome.rate.abs() < 1e-9 && outcome.requests.abs() < 1e-9);
        assert_eq!(parse("unable to connect"), None);
    }
}
