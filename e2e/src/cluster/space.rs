//! A namespace for one test: made, filled, looked into when the test fails, and removed.

use super::command::{kubectl, kubectl_with};
use super::wait::{CONTAINER, NOTICE};
use super::{Agent, Cluster, describe, install, root, until};
use anyhow::{Context, Result, anyhow, ensure};
use crd::{PortableLoadBalancer, condition};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::ops::Deref;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{SystemTime, UNIX_EPOCH};

const LABEL: &str = "portablelb.io/e2e";

/// A test's namespace.
pub struct Space<'a> {
    cluster: &'a Cluster,
    /// Its name.
    pub name: String,
}

impl Deref for Space<'_> {
    type Target = Cluster;

    fn deref(&self) -> &Cluster {
        self.cluster
    }
}

/// Runs a test in a namespace of its own, with the chart installed. If it fails, the cluster's state is printed.
pub fn in_namespace(name: &str, test: impl FnOnce(&Space<'_>) -> Result<()>) -> Result<()> {
    let cluster = Cluster::connect()?;
    remove_leftovers()?;
    install::ensure_installed()?;
    let space = Space::create(&cluster, name)?;
    let outcome = catch_unwind(AssertUnwindSafe(|| test(&space)));
    let outcome = outcome.unwrap_or_else(|_| Err(anyhow!("the test panicked, see above")));
    if let Err(error) = &outcome {
        // First, for whoever sees no more than the beginning.
        eprintln!("{name}: {error:#}");
        describe::print(&space);
    }
    let removed = kubectl(&format!(
        "delete namespace {} --wait=false --ignore-not-found",
        space.name
    ));
    outcome.and(removed.map(drop))
}

/// What a test that was killed left behind.
fn remove_leftovers() -> Result<()> {
    kubectl(&format!("delete namespace -l {LABEL} --wait=false")).map(drop)
}

impl<'a> Space<'a> {
    fn create(cluster: &'a Cluster, name: &str) -> Result<Self> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.subsec_nanos();
        let name = format!("e2e-{name}-{now:08x}");
        kubectl(&format!("create namespace {name}"))?;
        kubectl(&format!("label namespace {name} {LABEL}={}", std::process::id()))?;
        until("the namespace has its service account", NOTICE, || {
            cluster.get::<k8s_openapi::api::core::v1::ServiceAccount>(&name, "default")
        })?;
        Ok(Self { cluster, name })
    }

    /// One more namespace. It goes before the next test, or when the test deletes it.
    pub fn another(&self, name: &str) -> Result<Self> {
        Space::create(self.cluster, name)
    }

    /// Runs `kubectl` in this namespace.
    pub fn kubectl(&self, words: &str) -> Result<String> {
        kubectl(&format!("--namespace {} {words}", self.name))
    }

    /// Applies YAML, of any number of documents.
    pub fn apply(&self, yaml: &str) -> Result<()> {
        let words = format!(
            "--namespace {} apply --server-side --force-conflicts -f -",
            self.name
        );
        kubectl_with(yaml, &words).map(drop)
    }

    /// Applies a file of the examples.
    pub fn apply_example(&self, file: &str) -> Result<()> {
        let path = root().join("examples").join(file);
        self.apply(&std::fs::read_to_string(&path).with_context(|| path.display().to_string())?)
    }

    /// The balancer of that name.
    pub fn plb(&self, name: &str) -> Result<PortableLoadBalancer> {
        self.get(&self.name, name)
    }

    /// A condition of a balancer, once it speaks of the present generation.
    pub fn condition(&self, plb: &str, type_: &str) -> Result<Condition> {
        let plb = self.plb(plb)?;
        let status = plb.status.context("no status yet")?;
        let condition = condition::find(&status.conditions, type_).cloned();
        let condition = condition.with_context(|| format!("no condition {type_} yet"))?;
        ensure!(
            condition.observed_generation == plb.metadata.generation,
            "{type_} speaks of an older generation"
        );
        Ok(condition)
    }

    /// Waits as a user would, with `kubectl wait`.
    pub fn wait_ready(&self, plb: &str) -> Result<()> {
        let timeout = CONTAINER.as_secs();
        self.kubectl(&format!(
            "wait --for=condition=Ready plb/{plb} --timeout={timeout}s"
        ))
        .map(drop)
    }

    /// Waits until all agents of a balancer hold this generation, with this many of this many servers healthy.
    pub fn wait_serving(&self, plb: &str, backends: &str) -> Result<Vec<Agent>> {
        until(&format!("{plb} serves {backends}"), CONTAINER, || {
            let programmed = self.condition(plb, condition::PROGRAMMED)?;
            ensure!(
                programmed.status == "True",
                "Programmed is {}: {}",
                programmed.status,
                programmed.message
            );
            let status = self.plb(plb)?.status.unwrap_or_default();
            let summary = status.summary.context("no summary")?;
            ensure!(
                summary.backends.as_deref() == Some(backends),
                "{plb} has {:?}",
                summary.backends
            );
            self.agents(&self.name, plb)
        })
    }

    /// The agents of a balancer.
    pub fn agents_of(&self, plb: &str) -> Result<Vec<Agent>> {
        self.agents(&self.name, plb)
    }

    /// Waits until the kernel of an agent holds exactly these lines.
    pub fn wait_table(&self, agent: &Agent, lines: &BTreeSet<String>) -> Result<()> {
        until("the table is as expected", CONTAINER, || {
            let table = agent.table()?;
            ensure!(
                table == *lines,
                "{} on {} holds {table:#?}, expected {lines:#?}",
                agent.pod,
                agent.node
            );
            Ok(())
        })
    }

    /// Sets the number of pods of a Deployment, and waits until there are just so many, all ready.
    pub fn scale(&self, deployment: &str, replicas: usize) -> Result<Vec<Ipv4Addr>> {
        self.kubectl(&format!("scale deployment/{deployment} --replicas={replicas}"))?;
        self.wait_servers(deployment, replicas)
    }

    /// Waits until just so many pods of a Deployment are ready, and gives their addresses.
    pub fn wait_servers(&self, deployment: &str, count: usize) -> Result<Vec<Ipv4Addr>> {
        until(
            &format!("{count} pods of {deployment} are ready"),
            CONTAINER,
            || {
                let mut pods: Vec<Pod> = self.list(&self.name, &format!("app={deployment}"))?;
                pods.retain(|pod| pod.metadata.deletion_timestamp.is_none());
                let ready = pods.iter().filter(|pod| is_ready(pod)).count();
                ensure!(
                    (pods.len(), ready) == (count, count),
                    "{ready} of {} are ready",
                    pods.len()
                );
                pods.iter().map(address).collect()
            },
        )
    }

    /// Waits for a pod that ends by itself, and gives its log.
    pub fn wait_log(&self, pod: &str) -> Result<String> {
        until(&format!("pod {pod} ends"), CONTAINER, || {
            let status = self.get::<Pod>(&self.name, pod)?.status.unwrap_or_default();
            let phase = status.phase.unwrap_or_default();
            ensure!(phase == "Succeeded" || phase == "Failed", "it is {phase}");
            Ok(())
        })?;
        self.kubectl(&format!("logs {pod}"))
    }
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.is_some_and(|all| all.iter().any(|one| one.type_ == "Ready" && one.status == "True"))
}

fn address(pod: &Pod) -> Result<Ipv4Addr> {
    let address = pod.status.as_ref().and_then(|status| status.pod_ip.as_deref());
    Ok(address.context("a pod without address")?.parse()?)
}
