//! Brings the lab up, from nothing or from whatever is left of it.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::cluster::{Backend, Cluster, Node};
use super::kubectl::{api_is_ready, kubectl, wait_for};
use super::paths::{Paths, images};
use super::progress::Progress;
use super::{certificates, control_plane, down, flannel, machine, network, node, session, supervisor};
use crate::tools::{self, Group, Tool};
use crate::uml::Kernel;

const PATIENCE: Duration = Duration::from_secs(90);

/// Programs of the system that the lab needs, and the Debian packages they come in.
const PROGRAMS: [(&str, &str); 5] = [
    ("/usr/sbin/ip", "iproute2"),
    ("/usr/sbin/xtables-legacy-multi", "iptables"),
    ("/usr/sbin/modprobe", "kmod"),
    ("/usr/sbin/runc", "runc"),
    ("/usr/lib/cni/bridge", "containernetworking-plugins"),
];

/// What `up` was asked for; what is `None` stays as it is.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wish {
    /// At least node1 to this one.
    pub nodes: Option<u8>,
    /// The pod network.
    pub flannel: Option<Backend>,
}

/// Brings the lab up and waits until all nodes are Ready.
pub fn up(paths: &Paths, wish: Wish) -> Result<()> {
    let progress = Progress::start();
    let kernel = check_machine()?;
    tools::ensure(&Group::ALL)?;
    let before = Cluster::load(paths)?;
    if before.is_none() {
        down::remove(paths)?;
        remove_logs(paths)?;
    }
    let cluster = merge(before.clone(), wish);
    prepare(paths, &cluster)?;
    network::create()?;
    session::enter()?;
    start_supervisor(paths)?;
    start_control_plane(paths, progress)?;
    for &node in &cluster.nodes {
        node::launch(paths, node, &kernel)?;
    }
    progress.say(&format!("{} nodes boot", cluster.nodes.len()));
    finish_control_plane(paths, progress)?;
    for &node in &cluster.nodes {
        node::settle(paths, node)?;
        progress.say(&format!("{} is Ready", node.name()));
    }
    if before.is_some_and(|before| before.flannel != cluster.flannel) {
        flannel::change(paths, cluster.flannel)?;
    }
    progress.say(&format!(
        "the lab is up: {} nodes, flannel {}",
        cluster.nodes.len(),
        cluster.flannel
    ));
    if images().is_empty() {
        eprintln!("No image archives in target/images, so no pod can start: `make images`, then `lab load`.");
    }
    Ok(())
}

/// Starts etcd and the API server.
fn start_control_plane(paths: &Paths, progress: Progress) -> Result<()> {
    for service in control_plane::services(paths).iter().take(2) {
        paths.services().put(service)?;
    }
    progress.say("etcd and the API server start");
    Ok(())
}

/// Starts what would only fail until the API server is ready.
fn finish_control_plane(paths: &Paths, progress: Progress) -> Result<()> {
    wait_for("the API server is ready", PATIENCE, || api_is_ready(paths))?;
    progress.say("the API server is ready");
    for service in control_plane::services(paths).iter().skip(2) {
        paths.services().put(service)?;
    }
    apply_manifests(paths)
}

fn merge(before: Option<Cluster>, wish: Wish) -> Cluster {
    let Some(mut cluster) = before else {
        return Cluster::new(wish.nodes.unwrap_or(3), wish.flannel.unwrap_or_default());
    };
    for number in 1..=wish.nodes.unwrap_or(0) {
        if !cluster.nodes.iter().any(|node| node.number == number) {
            cluster.put(Node::ordinary(number));
        }
    }
    cluster.flannel = wish.flannel.unwrap_or(cluster.flannel);
    cluster
}

fn check_machine() -> Result<Kernel> {
    if !nix::unistd::geteuid().is_root() {
        bail!("the lab needs root: it makes a network namespace and tap devices");
    }
    let missing: Vec<&str> = PROGRAMS
        .iter()
        .filter(|(program, _)| !Path::new(program).exists())
        .map(|(_, package)| *package)
        .collect();
    if !missing.is_empty() {
        bail!("missing programs; apt-get install {}", missing.join(" "));
    }
    Kernel::find()
}

fn remove_logs(paths: &Paths) -> Result<()> {
    match fs::remove_dir_all(paths.logs()) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).context("could not remove the old logs")
        }
        _ => Ok(()),
    }
}

fn prepare(paths: &Paths, cluster: &Cluster) -> Result<()> {
    paths.create()?;
    cluster.store(paths)?;
    certificates::issue(paths)?;
    control_plane::write_configuration(paths)?;
    machine::write_scripts(paths)?;
    link_tools(&paths.bin())
}

/// Fills the folder that is on the `PATH` of the lab, its nodes and its shell.
fn link_tools(bin: &Path) -> Result<()> {
    for tool in Tool::ALL {
        let link = bin.join(tool.name());
        let target = tools::path(tool);
        if fs::read_link(&link).ok().as_deref() != Some(&target) {
            let _ = fs::remove_file(&link);
            symlink(&target, &link).with_context(|| format!("could not link {}", link.display()))?;
        }
    }
    // A copy, and in a new file: a build replaces the program while machines still run it.
    let copy = bin.join("lab.new");
    fs::copy(std::env::current_exe()?, &copy)?;
    Ok(fs::rename(copy, bin.join("lab"))?)
}

fn start_supervisor(paths: &Paths) -> Result<()> {
    if supervisor::is_running(&paths.services())? {
        return Ok(());
    }
    let log = File::options()
        .create(true)
        .append(true)
        .open(paths.logs().join("supervisor.log"))?;
    Command::new(paths.bin().join("lab"))
        .args([
            "supervise".into(),
            "--folder".into(),
            PathBuf::from(paths.services().path()),
        ])
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .context("could not start the supervisor")?;
    wait_for("the supervisor starts", PATIENCE, || {
        if supervisor::is_running(&paths.services())? {
            Ok(())
        } else {
            bail!("it has not")
        }
    })
}

fn apply_manifests(paths: &Paths) -> Result<()> {
    for (name, _) in control_plane::MANIFESTS {
        let file = paths.config(name).display().to_string();
        // The first moments of a new API server lack its own roles and namespaces.
        wait_for(&format!("{name} is applied"), PATIENCE, || {
            kubectl(
                paths,
                &["apply", "--server-side", "--force-conflicts", "-f", &file],
            )
        })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_lab_has_three_nodes() {
        let cluster = merge(None, Wish::default());
        assert_eq!(cluster.nodes.len(), 3);
        assert_eq!(cluster.flannel, Backend::default());
    }

    #[test]
    fn up_again_changes_only_what_is_wished() {
        let before = Cluster::new(2, Backend::Udp);
        assert_eq!(merge(Some(before.clone()), Wish::default()), before);
        let more = merge(
            Some(before),
            Wish {
                nodes: Some(4),
                flannel: None,
            },
        );
        assert_eq!((more.nodes.len(), more.flannel), (4, Backend::Udp));
    }
}
