//! Inside a machine: turns it into a node, then meets the host's requests.
//!
//! Each step may be done twice, since the supervisor starts this program again if it fails.

mod cni;
mod runtime;
mod services;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};

use super::cluster::{Cluster, Node};
use super::kubectl::wait_for;
use super::machine;
use super::paths::{Paths, images};
use super::queue::{Answer, Queue, Request, TURN};
use super::service::ServiceFolder;

const PATIENCE: Duration = Duration::from_mins(2);

/// Runs until the machine ends.
pub fn run(paths: Paths, node: Node) -> Result<()> {
    let mut guest = Guest {
        paths,
        node,
        services: services::folder(),
        imported: BTreeMap::new(),
    };
    guest.boot()?;
    loop {
        if !guest.meet_request()? {
            std::thread::sleep(TURN);
        }
    }
}

struct Guest {
    paths: Paths,
    node: Node,
    services: ServiceFolder,
    /// Archives in the container runtime, with the time they were written.
    imported: BTreeMap<PathBuf, SystemTime>,
}

impl Guest {
    fn boot(&mut self) -> Result<()> {
        self.phase("starting containerd")?;
        runtime::write_configuration()?;
        self.services.put(&services::containerd(&self.paths, self.node))?;
        wait_for("containerd answers", PATIENCE, runtime::answers)?;
        self.phase("starting kubelet")?;
        services::write_configuration(&self.paths, self.node)?;
        self.services.put(&services::kubelet(&self.paths, self.node))?;
        self.phase("importing images")?;
        self.import(&images())?;
        // Only now, since flannel fails until kubelet has registered the node.
        self.phase("starting flannel and kube-proxy")?;
        self.start_flannel()?;
        self.services.put(&services::kube_proxy(&self.paths, self.node))?;
        Self::finish_flannel()?;
        self.phase("ready")
    }

    fn phase(&self, phase: &str) -> Result<()> {
        let uptime = fs::read_to_string("/proc/uptime").unwrap_or_default();
        println!("{} s: {phase}", uptime.split(' ').next().unwrap_or_default());
        machine::set_phase(&self.paths, self.node, phase)
    }

    fn import(&mut self, archives: &[PathBuf]) -> Result<()> {
        for archive in archives {
            // Not by the layered root: it would not notice that the host has built the archive anew.
            let archive = &Path::new("/run/host").join(archive.strip_prefix("/")?);
            let written = fs::metadata(archive)
                .and_then(|file| file.modified())
                .with_context(|| format!("could not read {}", archive.display()))?;
            if self.imported.get(archive) != Some(&written) {
                runtime::import(archive)?;
                self.imported.insert(archive.clone(), written);
            }
        }
        Ok(())
    }

    fn start_flannel(&self) -> Result<()> {
        let backend = Cluster::running(&self.paths)?.flannel;
        cni::write_network(backend)?;
        self.services.put(&services::flanneld(&self.paths, self.node))
    }

    fn finish_flannel() -> Result<()> {
        let subnet = wait_for("flannel has a subnet", PATIENCE, cni::read_subnet)?;
        cni::write_plugins(&subnet)
    }

    fn change_flannel(&self) -> Result<()> {
        let name = services::FLANNELD;
        self.services.remove(name)?;
        wait_for("flannel ends", PATIENCE, || {
            self.services
                .state(name)
                .map_or(Ok(()), |_| Err(anyhow::anyhow!("it still runs")))
        })?;
        cni::clear()?;
        self.start_flannel()?;
        Self::finish_flannel()
    }

    /// Meets the oldest request. Returns whether there was one.
    fn meet_request(&mut self) -> Result<bool> {
        let Some((path, request)) = machine::queue(&self.paths, self.node).take()? else {
            return Ok(false);
        };
        let answer = match request {
            Request::Import(archives) => report(self.import(&archives)),
            Request::ChangeFlannel => report(self.change_flannel()),
            Request::Run(command) => {
                // A command may take its time, and the next request must not wait for it.
                std::thread::spawn(move || answer_later(&path, &command));
                return Ok(true);
            }
        };
        Queue::answer(&path, &answer)?;
        Ok(true)
    }
}

fn report(result: Result<()>) -> Answer {
    match result {
        Ok(()) => Answer {
            code: 0,
            output: String::new(),
            error: String::new(),
        },
        Err(error) => Answer {
            code: 1,
            output: String::new(),
            error: format!("{error:#}"),
        },
    }
}

fn answer_later(path: &Path, command: &[String]) {
    if let Err(error) = Queue::answer(path, &execute(command)) {
        eprintln!("could not answer: {error:#}");
    }
}

fn execute(command: &[String]) -> Answer {
    let Some((program, arguments)) = command.split_first() else {
        return report(Err(anyhow::anyhow!("no command")));
    };
    match Command::new(program).args(arguments).output() {
        Ok(output) => Answer {
            code: output.status.code().unwrap_or(-1),
            output: String::from_utf8_lossy(&output.stdout).into_owned(),
            error: String::from_utf8_lossy(&output.stderr).into_owned(),
        },
        Err(error) => report(Err(error).with_context(|| format!("could not start {program}"))),
    }
}
