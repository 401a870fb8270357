//! The command line, and the parts of it that need no loop.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand};
use ipnetwork::IpNetwork;
use tracing::warn;

use crate::addresses::Addresses;
use crate::backend::BackendArgs;
use crate::converge::{Converger, Pace};
use crate::dataplane::{Dataplane, Depth};
use crate::diff::diff;
use crate::facts::Facts;
use crate::link::LOOPBACK;
use crate::steering::Steering;
use crate::sysctl::{Bypass, Needs};
use crate::table::{Family, Table};
use crate::trust::Trust;
use crate::ways::{self, Ways};
use crate::{dataplane, file, link, prepare};

/// The balancer in the pod: turns one `PortableLoadBalancer` into IPVS and iptables.
#[derive(Debug, Parser)]
#[command(version)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What the agent can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make this network namespace fit for IPVS: modules, sysctls, packet steering. Needs all privileges, never fails.
    Prepare(PrepareArgs),
    /// Follow the object and serve it.
    Serve(ServeArgs),
    /// Print what `serve --file` would change now, in the words of ipvsadm and iptables, and change nothing.
    Plan(PlanArgs),
    /// Remove all that is the agent's from this network namespace: services, servers and rules.
    Clear,
    /// Make a server's network namespace fit for DR or TUN. Needs all privileges; may run again.
    Backend(BackendArgs),
}

/// Arguments of `prepare`.
#[derive(Debug, Args)]
pub struct PrepareArgs {
    /// Where the findings are left.
    #[arg(long, default_value = prepare::FINDINGS)]
    pub findings: PathBuf,
    /// The pod's addresses; without them those of this machine.
    #[arg(long, env = "POD_IPS", value_delimiter = ',')]
    pub pod_ips: Vec<String>,
    /// Seconds that the object's timeouts.udpSeconds says: so long conntrack remembers flows too.
    #[arg(long, env = "PLB_UDP_SECONDS", default_value_t = Needs::UDP_SECONDS)]
    pub udp_seconds: u32,
    /// Servers will answer clients directly, as with DR and TUN.
    #[arg(long, env = "PLB_BYPASS")]
    pub bypass: bool,
    /// Receive packet steering: Auto spreads flows over all CPUs, None leaves it as the node has it.
    #[arg(long, env = "PLB_RPS", value_enum, ignore_case = true, default_value_t)]
    pub rps: Steering,
}

/// Arguments of `serve`.
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// Serve the object in this file, without Kubernetes. The file is followed.
    #[arg(long)]
    pub file: Option<PathBuf>,
    /// Namespace of the object.
    #[arg(long, env = "PLB_NAMESPACE", default_value = "default")]
    pub namespace: String,
    /// Name of the object.
    #[arg(long, env = "PLB_NAME", required_unless_present = "file")]
    pub name: Option<String>,
    /// UID of the object; another of the same name is not served.
    #[arg(long, env = "PLB_UID", default_value = "")]
    pub uid: String,
    /// Name of the agent's pod.
    #[arg(long, env = "POD_NAME", default_value = "lb-agent")]
    pub pod: String,
    /// The pod's addresses; without them those of this machine.
    #[arg(long, env = "POD_IPS", value_delimiter = ',')]
    pub pod_ips: Vec<String>,
    /// Name of the agent's node.
    #[arg(long, env = "NODE_NAME")]
    pub node: Option<String>,
    /// Seconds to serve on after SIGTERM while clients are connected; without it the object's drain timeout.
    #[arg(long, env = "PLB_TERMINATION_GRACE_SECONDS")]
    pub termination_grace_seconds: Option<u64>,
    /// Networks from which the object may name servers of its own; with --file it may name any.
    #[arg(long, env = "PLB_ALLOWED_ENDPOINT_CIDRS", value_delimiter = ',')]
    pub allowed_endpoint_cidrs: Vec<IpNetwork>,
    /// Port of /healthz, /readyz and /metrics.
    #[arg(long, env = "PLB_ADMIN_PORT", default_value_t = crd::names::ADMIN_PORT)]
    pub admin_port: u16,
    /// Seconds between two looks at all that is in the kernel, to mend what others changed. A look waits while changes
    /// keep coming, for as long again at most.
    #[arg(long, env = "PLB_RESYNC_SECONDS", default_value_t = 60)]
    pub resync_seconds: u64,
}

/// Arguments of `plan`.
#[derive(Debug, Args)]
pub struct PlanArgs {
    /// The file.
    #[arg(long)]
    pub file: PathBuf,
}

/// Prepares and leaves the findings.
pub async fn run_prepare(arguments: PrepareArgs) {
    let needs = Needs {
        families: addresses(&arguments.pod_ips).await.families(),
        udp_seconds: arguments.udp_seconds,
        bypass: Bypass {
            answers: arguments.bypass,
            takes_over: false,
        },
    };
    let findings = prepare::prepare(&needs, arguments.rps);
    if let Err(error) = prepare::write(&findings, &arguments.findings) {
        warn!(error = &error as &dyn std::error::Error, "findings not written");
    }
}

/// Prints the difference from what the kernel holds to what the file wants.
pub async fn run_plan(arguments: PlanArgs) -> anyhow::Result<()> {
    let addresses = addresses(&[]).await;
    let wanted = wanted_of(&arguments.file, &addresses).await?;
    let mut dataplane = Dataplane::new(&addresses.families());
    let current = match dataplane.read(Depth::All, &wanted) {
        Ok(observed) => observed.table,
        Err(error) => {
            warn!(
                error = &error as &dyn std::error::Error,
                "the kernel can't be read; planning from nothing"
            );
            Table::default()
        }
    };
    for line in diff(&current, &dataplane.printed(), &wanted) {
        println!("{line}");
    }
    Ok(())
}

async fn wanted_of(path: &Path, addresses: &Addresses) -> anyhow::Result<Table> {
    let mut facts = Facts::default();
    for fact in file::read(path)? {
        facts.take(fact, &Trust::All);
    }
    if let Some(refusal) = facts.refusal() {
        anyhow::bail!("the object is not valid: {}", refusal.message);
    }
    let wanted = ways::wanted(&facts, addresses, &mut Ways::default())
        .await
        .context("the file does not tell all that is needed")?;
    for error in &wanted.desired.unresolved {
        warn!(error = error as &dyn std::error::Error, "a port leads nowhere");
    }
    Ok(wanted.desired.table)
}

/// Removes all that is ours; what is not there needs no removal.
pub async fn run_clear() -> anyhow::Result<()> {
    for family in [Family::V4, Family::V6] {
        dataplane::remove_rules(family)?;
    }
    let mut converger = Converger::new(Dataplane::new(&BTreeSet::new()));
    converger.converge(&Table::default(), Pace::default(), Depth::All)?;
    link::address::release(LOOPBACK, &BTreeSet::new()).await?;
    Ok(())
}

/// The pod's addresses, or this machine's.
pub async fn addresses(pod_ips: &[String]) -> Addresses {
    let given = pod_ips.iter().filter_map(|address| address.trim().parse().ok());
    let given: Vec<IpAddr> = given.collect();
    if !given.is_empty() {
        return given.into_iter().collect();
    }
    link::addresses().await.unwrap_or_else(|error| {
        warn!(
            error = &error as &dyn std::error::Error,
            "addresses not known; serving IPv4 only"
        );
        Addresses::default()
    })
}
