//! A kube-proxy of its own on a node, in the network namespace of a pod that does nothing else.

use std::net::SocketAddr;

use anyhow::Result;
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

/// Where each tells of itself.
const METRICS: u16 = 10249;

/// Starts one on the node of these eyes, and gives the address of its metrics. Its pod is called as its mode.
pub fn start(space: &Space<'_>, eyes: &mut Eyes, kernel: Kernel) -> Result<SocketAddr> {
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
    let address = space.kubectl(&format!("get pod {mode} -o jsonpath={{.status.podIP}}"))?;
    let metrics = SocketAddr::new(address.trim().parse()?, METRICS);
    let command = vec![
        tools::path(Tool::KubeProxy).display().to_string(),
        format!("--kubeconfig={}", paths.kubeconfig("kube-proxy").display()),
        format!("--hostname-override={}", eyes.node),
        format!("--cluster-cidr={POD_NETWORK}"),
        format!("--proxy-mode={mode}"),
        "--conntrack-max-per-core=0".to_owned(),
        format!("--metrics-bind-address={metrics}"),
    ];
    let pod = mode.to_owned();
    until("the rival runs", wait::NOTICE, || {
        let (pod, command) = (pod.clone(), command.clone());
        eyes.ask(&Request::StartRival { pod, command }).map(drop)
    })?;
    Ok(metrics)
}

/// Ends it, and takes its pod away.
pub fn end(space: &Space<'_>, eyes: &mut Eyes, kernel: Kernel) -> Result<()> {
    eyes.ask(&Request::EndRival)?;
    space
        .kubectl(&format!("delete pod {} --wait=true", kernel.mode()))
        .map(drop)
}
