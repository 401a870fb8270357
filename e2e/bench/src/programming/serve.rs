//! The whole agent with a file in place of Kubernetes.

use std::fs::{self, File};
use std::net::IpAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::eyes;
use super::table::address;
use crate::scratch::Running;
use crate::{site, slices};

/// The file that it follows.
const FILE: &str = "web.yaml";
/// Between two looks at whether it is done.
const POLL: Duration = Duration::from_millis(5);
/// How long it may take.
const PATIENCE: Duration = Duration::from_mins(1);

/// It runs, and is stopped when dropped.
pub(super) struct ServeFile(Running);

impl ServeFile {
    /// Starts it with nothing to serve, and waits until that is in the kernel.
    pub(super) fn start() -> Result<Self> {
        replace(0)?;
        let log = File::create("agent.log")?;
        let child = Command::new(site::agent()?)
            .args(["serve", "--file", FILE, "--pod-ips", "10.98.0.1"])
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("could not start the agent")?;
        let started = Self(Running(child));
        let deadline = Instant::now() + PATIENCE;
        while !fs::read_to_string("agent.log")?.contains("programmed") {
            ensure!(Instant::now() < deadline, "the agent does not start: {}", said());
            sleep(POLL);
        }
        Ok(started)
    }

    /// Gives it a file with so many servers, and tells how long it took until the kernel had them.
    pub(super) fn serve(&mut self, servers: usize) -> Result<Duration> {
        let start = replace(servers)?;
        while eyes::held()?.len() != servers {
            ensure!(self.0.0.try_wait()?.is_none(), "the agent ended: {}", said());
            ensure!(start.elapsed() < PATIENCE, "the agent is not done: {}", said());
            sleep(POLL);
        }
        Ok(start.elapsed())
    }
}

fn said() -> String {
    let text = fs::read_to_string("agent.log").unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(5)..].join("\n")
}

/// Replaces the file at once, and tells when.
fn replace(servers: usize) -> Result<Instant> {
    let new = Path::new(FILE).with_extension("new");
    fs::write(&new, text(servers))?;
    let now = Instant::now();
    fs::rename(&new, FILE)?;
    Ok(now)
}

fn text(servers: usize) -> String {
    let addresses: Vec<IpAddr> = (0..servers).map(|number| address(number).ip()).collect();
    "{apiVersion: portablelb.io/v1alpha1, kind: PortableLoadBalancer, metadata: {name: web, generation: 1}, \
     spec: {backends: {service: {name: web}}, ports: [{name: http, port: 1000, targetPort: 8080}]}}\n"
        .to_owned()
        + &slices::documents(&addresses, 8080)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_what_the_agent_reads() {
        let facts = lb_agent::file::parse(&text(slices::LONGEST + 1)).unwrap();
        assert!(!facts.is_empty());
        lb_agent::file::parse(&text(0)).unwrap();
    }
}
