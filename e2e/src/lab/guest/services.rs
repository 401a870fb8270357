//! The services of a node, and kubelet's configuration.

use std::collections::BTreeMap;

use anyhow::Result;
use serde_json::{Value, json};

use super::{cni, runtime};
use crate::lab::cluster::{DNS_SERVICE, DOMAIN, Node, POD_NETWORK};
use crate::lab::paths::Paths;
use crate::lab::service::{Service, ServiceFolder, write_whole};
use crate::pki::PairPaths;

/// The pod network's daemon, which a change of backend starts anew.
pub(super) const FLANNELD: &str = "flanneld";

const KUBELET_CONFIGURATION: &str = "/run/plb/kubelet.json";

/// What the machine's supervisor runs.
pub(super) fn folder() -> ServiceFolder {
    ServiceFolder::new("/run/plb/services".into())
}

pub(super) fn write_configuration(paths: &Paths, node: Node) -> Result<()> {
    write_whole(
        KUBELET_CONFIGURATION.as_ref(),
        &format!("{:#}\n", kubelet_configuration(paths, node)),
    )
}

fn kubelet_configuration(paths: &Paths, node: Node) -> Value {
    let serving = PairPaths::new(&paths.pki(), &format!("{}-kubelet", node.name()));
    json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": false},
            "webhook": {"enabled": true},
            "x509": {"clientCAFile": paths.pki().join("ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": serving.certificate,
        "tlsPrivateKeyFile": serving.key,
        "clusterDNS": [DNS_SERVICE],
        "clusterDomain": DOMAIN,
        "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
        "cgroupDriver": "cgroupfs",
        "enforceNodeAllocatable": ["none"],
        // Pods with the node's own resolver get none: the lab has no way out.
        "resolvConf": "",
        // Images come from archives; one that is removed would not come back.
        "imageGCHighThresholdPercent": 100,
    })
}

pub(super) fn containerd(paths: &Paths, node: Node) -> Service {
    service(
        paths,
        node,
        "containerd",
        vec![format!("--config={}", runtime::CONFIGURATION)],
    )
}

pub(super) fn kubelet(paths: &Paths, node: Node) -> Service {
    let args = vec![
        format!("--config={KUBELET_CONFIGURATION}"),
        format!("--kubeconfig={}", paths.kubeconfig(&node.name()).display()),
        format!("--hostname-override={}", node.name()),
        format!("--node-ip={}", node.address()),
        "--v=2".to_owned(),
    ];
    service(paths, node, "kubelet", args)
}

pub(super) fn flanneld(paths: &Paths, node: Node) -> Service {
    let args = vec![
        format!("--kubeconfig-file={}", paths.kubeconfig("flannel").display()),
        format!("--net-config-path={}", cni::NETWORK),
        format!("--subnet-file={}", cni::SUBNET),
        "--iface=vec0".to_owned(),
        "--ip-masq".to_owned(),
    ];
    service(paths, node, FLANNELD, args)
}

pub(super) fn kube_proxy(paths: &Paths, node: Node) -> Service {
    let args = vec![
        format!("--kubeconfig={}", paths.kubeconfig("kube-proxy").display()),
        format!("--hostname-override={}", node.name()),
        format!("--cluster-cidr={POD_NETWORK}"),
        "--proxy-mode=iptables".to_owned(),
        // The kernel's own limit stays; writing it needs rights that a node in a container would not have.
        "--conntrack-max-per-core=0".to_owned(),
    ];
    service(paths, node, "kube-proxy", args)
}

fn service(paths: &Paths, node: Node, name: &str, args: Vec<String>) -> Service {
    Service {
        name: name.to_owned(),
        program: paths.bin().join(name),
        args,
        env: BTreeMap::new(),
        log: paths.logs().join(format!("{}-{name}.log", node.name())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kubelet_lets_in_only_whom_the_api_server_knows() {
        let configuration = kubelet_configuration(&Paths::new("/lab".into()), Node::ordinary(1));
        assert_eq!(configuration["authentication"]["anonymous"]["enabled"], false);
        assert_eq!(configuration["authentication"]["webhook"]["enabled"], true);
        assert_eq!(configuration["authorization"]["mode"], "Webhook");
        assert_eq!(configuration["tlsCertFile"], "/lab/pki/node1-kubelet.crt");
        assert_eq!(configuration["allowedUnsafeSysctls"], Value::Null);
    }
}
