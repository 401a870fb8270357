//! A kube-proxy of its own on a node, in the network namespace of a pod that does nothing else.

use anyhow::Result;
use e2e::cluster::command::kubectl;
use e2e::cluster::{Space, until, wait};
use e2e::lab::cluster::POD_NETWORK;
use e2e::lab::paths::Paths;
use e2e::tools::{self, Tool};
use serde_json::json;

use super::node::Eyes;
use super::wire::{Kernel, Request};

impl Kernel {
    /// The name of the kube-proxy that uses it.
    #[must_use]
    pub fn rival(self) -> &'static str {
        match self {
            Self::Ipvs => "kube-proxy, ipvs",
            Self::Iptables => "kube-proxy, iptables",
        }
    }

    /// What kube-proxy calls it, and the name of the pod.
    #[must_use]
    pub fn mode(self) -> &'static str {
        match self {
            Self::Ipvs => "ipvs",
            Self::Iptables => "iptables",
        }
    }
}

/// Where each tells of itself, at its pod's address.
const METRICS: u16 = 10249;

/// What the one of that mode tells of itself.
pub fn metrics(space: &Space<'_>, kernel: Kernel) -> Result<String> {
    let (namespace, pod) = (&space.name, kernel.mode());
    kubectl(&format!(
        "get --raw /api/v1/namespaces/{namespace}/pods/{pod}:{METRICS}/proxy/metrics"
    ))
}

/// Starts one on the node of these eyes. Its pod is called as its mode.
pub fn start(space: &Space<'_>, eyes: &mut Eyes, kernel: Kernel) -> Result<()> {
    let mode = kernel.mode();
    let version = env!("CARGO_PKG_VERSION");
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": mode},
        "spec": {
            "nodeName": eyes.node, "automountServiceAccountToken": false, "terminationGracePeriodSeconds": 0,
            "containers": [{
                "name": "namespace", "image": format!("portable-lb/lab-pod:{version}"),
                "imagePullPolicy": "IfNotPresent", "args": ["pause"],
            }],
        },
    });
    space.apply(&pod.to_string())?;
    space.kubectl(&format!("wait pod/{mode} --for=condition=Ready --timeout=120s"))?;
    let paths = Paths::new(e2e::cluster::root().join("target/lab").canonicalize()?);
    let command = vec![
        tools::path(Tool::KubeProxy).display().to_string(),
        format!("--kubeconfig={}", paths.kubeconfig("kube-proxy").display()),
        format!("--hostname-override={}", eyes.node),
        format!("--cluster-cidr={POD_NETWORK}"),
        format!("--proxy-mode={mode}"),
        "--conntrack-max-per-core=0".to_owned(),
        format!("--metrics-bind-address=0.0.0.0:{METRICS}"),
    ];
    let pod = mode.to_owned();
    until("the rival runs", wait::NOTICE, || {
        let (pod, command) = (pod.clone(), command.clone());
        eyes.ask(&Request::StartRival { pod, command }).map(drop)
    })
}

/// Ends it, and takes its pod away.
pub fn end(space: &Space<'_>, eyes: &mut Eyes, kernel: Kernel) -> Result<()> {
    eyes.ask(&Request::EndRival)?;
    space
        .kubectl(&format!("delete pod {} --wait=true", kernel.mode()))
        .map(drop)
}
