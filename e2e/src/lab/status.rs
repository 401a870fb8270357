//! Tells how the lab is.

use anyhow::Result;

use super::cluster::{Cluster, HOST, Ipvs};
use super::kubectl::nodes;
use super::paths::Paths;
use super::service::State;
use super::{machine, session, supervisor};
use crate::netns::{LAB, Namespace};

/// Prints the state of everything.
pub fn print(paths: &Paths) -> Result<()> {
    let Some(cluster) = Cluster::load(paths)? else {
        println!("There is no lab; `make lab-up` starts one.");
        return Ok(());
    };
    let supervised = supervisor::is_running(&paths.services())?;
    let text = |yes: bool| {
        if yes {
            "running"
        } else {
            "MISSING, `make lab-up` mends it"
        }
    };
    println!(
        "namespace   {LAB}: {}, address {HOST}",
        text(Namespace::named(LAB).exists())
    );
    println!("supervisor  {}", text(supervised));
    println!("flannel     {}", cluster.flannel);
    println!("kubeconfig  {}", paths.kubeconfig("admin").display());
    println!("logs        {}\n", paths.logs().display());
    print_services(paths)?;
    print_nodes(paths, &cluster);
    Ok(())
}

fn print_services(paths: &Paths) -> Result<()> {
    println!("{:<26}{:<10}{:<10}LAST END", "COMPONENT", "PID", "RESTARTS");
    let services = paths.services();
    for wanted in services.wanted()? {
        let state = services.state(&wanted.name);
        let process = state
            .as_ref()
            .and_then(|state| state.process)
            .filter(super::process::Process::alive);
        let pid = process.map_or_else(|| "down".to_owned(), |process| process.pid.to_string());
        let restarts = state.as_ref().map_or(0, |state| state.restarts);
        let last = state
            .and_then(|state: State| state.last_exit)
            .unwrap_or_else(|| "-".to_owned());
        println!("{:<26}{pid:<10}{restarts:<10}{last}", wanted.name);
    }
    println!();
    Ok(())
}

fn print_nodes(paths: &Paths, cluster: &Cluster) {
    let views = session::enter().and_then(|()| nodes(paths));
    if let Err(error) = &views {
        println!("The API server does not answer: {error:#}\n");
    }
    let views = views.unwrap_or_default();
    println!(
        "{:<8}{:<14}{:<9}{:<16}{:<10}{:<10}MACHINE",
        "NODE", "ADDRESS", "READY", "PODS", "BACKEND", "IPVS"
    );
    for &node in &cluster.nodes {
        let view = views.iter().find(|view| view.name == node.name());
        let ready = view.map_or("unknown", |view| if view.ready { "yes" } else { "no" });
        let pods = view.and_then(|view| view.pods.as_deref()).unwrap_or("-");
        let backend = view.and_then(|view| view.backend.as_deref()).unwrap_or("-");
        let ipvs = if node.ipvs == Ipvs::Missing {
            "missing"
        } else {
            "loadable"
        };
        println!(
            "{:<8}{:<14}{ready:<9}{pods:<16}{backend:<10}{ipvs:<10}{}",
            node.name(),
            node.address(),
            machine::phase(paths, node)
        );
    }
}
