//! Tells how the lab is.

use std::io::{ErrorKind, Write};

use anyhow::Result;

use super::cluster::{Cluster, HOST, Ipvs};
use super::kubectl::nodes;
use super::paths::Paths;
use super::process::Process;
use super::service::State;
use super::{machine, session, supervisor};
use crate::netns::{LAB, Namespace};

/// Prints the state of everything.
pub fn print(paths: &Paths) -> Result<()> {
    let mut text = Vec::new();
    write(paths, &mut text)?;
    match std::io::stdout().write_all(&text) {
        // Whoever reads may have seen enough.
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

fn write(paths: &Paths, out: &mut impl Write) -> Result<()> {
    let Some(cluster) = Cluster::load(paths)? else {
        writeln!(out, "There is no lab; `make lab-up` starts one.")?;
        return Ok(());
    };
    let word = |there: bool| {
        if there {
            "running"
        } else {
            "MISSING, `make lab-up` mends it"
        }
    };
    writeln!(
        out,
        "namespace   {LAB}, address {HOST}: {}",
        word(Namespace::named(LAB).exists())
    )?;
    writeln!(
        out,
        "supervisor  {}",
        word(supervisor::is_running(&paths.services())?)
    )?;
    writeln!(out, "flannel     {}", cluster.flannel)?;
    writeln!(out, "kubeconfig  {}", paths.kubeconfig("admin").display())?;
    writeln!(out, "logs        {}\n", paths.logs().display())?;
    write_services(paths, out)?;
    write_nodes(paths, &cluster, out)
}

fn write_services(paths: &Paths, out: &mut impl Write) -> Result<()> {
    writeln!(out, "{:<26}{:<10}{:<10}LAST END", "COMPONENT", "PID", "RESTARTS")?;
    let services = paths.services();
    for wanted in services.wanted()? {
        let state = services.state(&wanted.name);
        let process = state
            .as_ref()
            .and_then(|state| state.process)
            .filter(Process::alive);
        let pid = process.map_or_else(|| "down".to_owned(), |process| process.pid.to_string());
        let restarts = state.as_ref().map_or(0, |state| state.restarts);
        let last = state
            .and_then(|state: State| state.last_exit)
            .unwrap_or_else(|| "-".to_owned());
        writeln!(out, "{:<26}{pid:<10}{restarts:<10}{last}", wanted.name)?;
    }
    Ok(writeln!(out)?)
}

fn write_nodes(paths: &Paths, cluster: &Cluster, out: &mut impl Write) -> Result<()> {
    let views = session::enter().and_then(|()| nodes(paths));
    if let Err(error) = &views {
        writeln!(out, "The API server does not answer: {error:#}\n")?;
    }
    let views = views.unwrap_or_default();
    writeln!(
        out,
        "{:<8}{:<14}{:<9}{:<16}{:<10}{:<10}MACHINE",
        "NODE", "ADDRESS", "READY", "PODS", "BACKEND", "IPVS"
    )?;
    for &node in &cluster.nodes {
        let view = views.iter().find(|view| view.name == node.name());
        let ready = view.map_or("unknown", |view| if view.ready { "yes" } else { "no" });
        let pods = view.and_then(|view| view.pods.as_deref()).unwrap_or("-");
        let backend = match view.and_then(|view| view.backend.as_deref()) {
            Some("") => "udp",
            Some(name) => name,
            None => "-",
        };
        let ipvs = if node.ipvs == Ipvs::Missing {
            "missing"
        } else {
            "loadable"
        };
        let (name, address, phase) = (node.name(), node.address(), machine::phase(paths, node));
        writeln!(
            out,
            "{name:<8}{address:<14}{ready:<9}{pods:<16}{backend:<10}{ipvs:<10}{phase}"
        )?;
    }
    Ok(())
}
