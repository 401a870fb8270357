//! Balancers, and what a cluster would write for each: two running agents' pods, and what they report.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use crd::{AgentRole, AgentStatus, PortableLoadBalancer, ServerCounts, condition, names};
use e2e::api_server::{AGENTS, ApiServer};
use futures::stream::{self, StreamExt, TryStreamExt};
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::{Namespace, Node, Pod, Service};
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tokio::time::{Instant, sleep, sleep_until};

const NAMESPACE: &str = "balancers";
const NODES: usize = 3;
const AGENTS_EACH: usize = 2;
const SERVERS: i32 = 3;
/// So many requests are on their way at a time.
const AT_ONCE: usize = 8;
const PATIENCE: Duration = Duration::from_mins(3);

/// A namespace full of balancers.
pub(super) struct Stage {
    runtime: Runtime,
    client: Client,
}

impl Stage {
    pub(super) fn new(server: &ApiServer) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let client = runtime.block_on(server.client())?;
        let stage = Self { runtime, client };
        stage.runtime.block_on(stage.furnish())?;
        Ok(stage)
    }

    async fn furnish(&self) -> Result<()> {
        let namespace: Namespace = serde_json::from_value(json!({"metadata": {"name": NAMESPACE}}))?;
        Api::all(self.client.clone())
            .create(&PostParams::default(), &namespace)
            .await?;
        let service: Service = serde_json::from_value(json!({
            "metadata": {"name": "web"}, "spec": {"selector": {"app": "web"}, "ports": [{"name": "http", "port": 80}]},
        }))?;
        Api::namespaced(self.client.clone(), NAMESPACE)
            .create(&PostParams::default(), &service)
            .await?;
        let nodes: Api<Node> = Api::all(self.client.clone());
        for number in 0..NODES {
            let node: Node = serde_json::from_value(json!({
                "metadata": {"name": node(number), "annotations": {"flannel.alpha.coreos.com/backend-type": "vxlan"}},
            }))?;
            nodes.create(&PostParams::default(), &node).await?;
            let status = json!({"status": {"conditions": [{"type": "Ready", "status": "True"}]}});
            nodes
                .patch_status(&node.name_any(), &PatchParams::default(), &Patch::Merge(status))
                .await?;
        }
        Ok(())
    }

    /// Makes balancers until there are so many, and waits until the operator calls all of them ready.
    pub(super) fn grow(&self, count: usize) -> Result<()> {
        self.runtime.block_on(async {
            let there = self
                .balancers()
                .list_metadata(&ListParams::default())
                .await?
                .items
                .len();
            each(there..count, |number| self.make(number)).await?;
            let sets = self.replica_sets(count).await?;
            each(there..count, |number| self.serve(number, &sets)).await?;
            self.wait_ready(count).await
        })
    }

    fn balancers(&self) -> Api<PortableLoadBalancer> {
        Api::namespaced(self.client.clone(), NAMESPACE)
    }

    async fn make(&self, number: usize) -> Result<()> {
        let balancer = serde_json::from_value(json!({
            "apiVersion": "portablelb.io/v1alpha1", "kind": "PortableLoadBalancer", "metadata": {"name": name(number)},
            "spec": {
                "backends": {"type": "Service", "service": {"name": "web"}},
                "ports": [{"name": "http", "port": 80}],
            },
        }))?;
        self.balancers().create(&PostParams::default(), &balancer).await?;
        Ok(())
    }

    /// What the operator has made of all balancers, by their names.
    async fn replica_sets(&self, count: usize) -> Result<BTreeMap<String, ReplicaSet>> {
        let api: Api<ReplicaSet> = Api::namespaced(self.client.clone(), AGENTS);
        let deadline = Instant::now() + PATIENCE;
        loop {
            let sets = api.list(&ListParams::default()).await?.items;
            if sets.len() == count {
                let named = |set: ReplicaSet| Some((set.labels().get(names::PLB_NAME_LABEL)?.clone(), set));
                return Ok(sets.into_iter().filter_map(named).collect());
            }
            if Instant::now() > deadline {
                bail!("{} of {count} ReplicaSets are there", sets.len());
            }
            sleep(Duration::from_millis(500)).await;
        }
    }

    /// Writes the pods of a balancer's agents as if they ran, and what the agents report.
    async fn serve(&self, number: usize, sets: &BTreeMap<String, ReplicaSet>) -> Result<()> {
        let set = sets.get(&name(number)).context("a balancer without agents")?;
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), AGENTS);
        for agent in 0..AGENTS_EACH {
            let pod = pod(set, agent)?;
            pods.create(&PostParams::default(), &pod).await?;
            let status = Patch::Merge(json!({"status": running(&pod)}));
            pods.patch_status(&pod.name_any(), &PatchParams::default(), &status)
                .await?;
        }
        self.report(number, &set.name_any(), SERVERS).await
    }

    /// What both agents of a balancer report of their servers.
    async fn report(&self, number: usize, set: &str, healthy: i32) -> Result<()> {
        let entry = |agent| AgentStatus {
            name: format!("{set}-{agent}"),
            node: Some(node(agent)),
            pod_ip: Some(format!("10.244.{agent}.7")),
            role: Some(AgentRole::Active),
            observed_generation: Some(1),
            table_hash: Some("0123456789abcdef".to_owned()),
            mtu: Some(1450),
            servers: Some(ServerCounts {
                total: SERVERS,
                healthy,
                ..ServerCounts::default()
            }),
            ..AgentStatus::default()
        };
        let entries: Vec<AgentStatus> = (0..AGENTS_EACH).map(entry).collect();
        let status = Patch::Merge(json!({"status": {"agents": entries}}));
        self.balancers()
            .patch_status(&name(number), &PatchParams::default(), &status)
            .await?;
        Ok(())
    }

    async fn wait_ready(&self, count: usize) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let all = self.balancers().list(&ListParams::default()).await?.items;
            let is_ready = |lb: &&PortableLoadBalancer| {
                let conditions = lb
                    .status
                    .as_ref()
                    .map(|status| &status.conditions[..])
                    .unwrap_or_default();
                condition::find(conditions, condition::READY).is_some_and(|it| it.status == "True")
            };
            let ready = all.iter().filter(is_ready).count();
            if ready == count {
                return Ok(());
            }
            if Instant::now() > deadline {
                let status = all
                    .iter()
                    .find(|lb| !is_ready(lb))
                    .and_then(|lb| lb.status.clone());
                bail!("{ready} of {count} balancers are ready; another: {status:?}");
            }
            sleep(Duration::from_millis(500)).await;
        }
    }

    /// Agents report one server less or one more, at an even pace over all balancers. Returns how many a second it was.
    pub(super) fn report_steadily(&self, per_second: u32, seconds: u32) -> Result<f64> {
        self.runtime.block_on(async {
            let sets: Api<ReplicaSet> = Api::namespaced(self.client.clone(), AGENTS);
            let sets = sets.list_metadata(&ListParams::default()).await?.items;
            let named: BTreeMap<String, String> = sets
                .iter()
                .filter_map(|set| Some((set.labels().get(names::PLB_NAME_LABEL)?.clone(), set.name_any())))
                .collect();
            let (begin, all) = (Instant::now(), per_second * seconds);
            let reports = (0..all).map(|turn| {
                let number = usize::try_from(turn).unwrap_or_default();
                let (balancer, round) = (number % named.len(), number / named.len());
                let healthy = SERVERS - i32::from(round % 2 == 0);
                let set = named.get(&name(balancer)).cloned().unwrap_or_default();
                let due = begin + Duration::from_secs(1) * turn / per_second;
                async move {
                    sleep_until(due).await;
                    self.report(balancer, &set, healthy).await
                }
            });
            stream::iter(reports)
                .buffered(AT_ONCE)
                .try_for_each(|()| async { Ok(()) })
                .await?;
            Ok(f64::from(all) / begin.elapsed().as_secs_f64())
        })
    }
}

async fn each<F: Future<Output = Result<()>>>(
    numbers: std::ops::Range<usize>,
    work: impl FnMut(usize) -> F,
) -> Result<()> {
    let all = stream::iter(numbers).map(work).buffer_unordered(AT_ONCE);
    all.try_for_each(|()| async { Ok(()) }).await
}

fn name(number: usize) -> String {
    format!("balancer-{number}")
}

fn node(number: usize) -> String {
    format!("node{}", number % NODES + 1)
}

/// A pod as a `ReplicaSet`'s controller makes it.
fn pod(set: &ReplicaSet, agent: usize) -> Result<Pod> {
    let template = set
        .spec
        .as_ref()
        .and_then(|spec| spec.template.clone())
        .context("no template")?;
    let metadata = template.metadata.unwrap_or_default();
    let mut spec = serde_json::to_value(template.spec)?;
    spec["nodeName"] = json!(node(agent));
    let pod = json!({
        "metadata": {
            "name": format!("{}-{agent}", set.name_any()), "namespace": AGENTS,
            "labels": metadata.labels, "annotations": metadata.annotations,
            "ownerReferences": [{
                "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": set.name_any(), "uid": set.uid(),
                "controller": true,
            }],
        },
        "spec": spec,
    });
    serde_json::from_value(pod).context("a pod")
}

/// The status that a kubelet writes.
fn running(pod: &Pod) -> Value {
    let image = pod
        .spec
        .iter()
        .flat_map(|spec| &spec.containers)
        .find_map(|container| container.image.clone());
    let started = "2026-01-01T00:00:00Z";
    json!({
        "phase": "Running", "podIP": "10.244.1.7", "hostIP": "10.98.0.11", "startTime": started,
        "conditions": [{"type": "Ready", "status": "True"}, {"type": "PodScheduled", "status": "True"}],
        "containerStatuses": [{
            "name": "serve", "ready": true, "started": true, "restartCount": 0, "image": image, "imageID": image,
            "containerID": format!("containerd://{}", pod.name_any()),
            "state": {"running": {"startedAt": started}},
        }],
    })
}
