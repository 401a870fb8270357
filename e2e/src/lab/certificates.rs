//! Who is who in the lab: every component has a certificate of its own, as in a cluster made by kubeadm.

use std::fs;

use anyhow::Result;

use super::cluster::{API_SERVICE, DOMAIN, HOST, Node, api_server};
use super::paths::Paths;
use crate::pki::{Authority, PairPaths, Subject, kubeconfig, service_account_keys, write_private};

/// Components that talk to the API server from the host, by the name of their kubeconfig: user, group.
const CLIENTS: [(&str, &str, Option<&str>); 4] = [
    ("admin", "lab-admin", Some("system:masters")),
    ("controller-manager", "system:kube-controller-manager", None),
    ("scheduler", "system:kube-scheduler", None),
    ("coredns", "system:coredns", None),
];

/// Components of each node that have the same user on all of them.
const NODE_CLIENTS: [(&str, &str); 2] = [("kube-proxy", "system:kube-proxy"), ("flannel", "system:flannel")];

/// Makes what is missing for the control plane.
pub fn issue(paths: &Paths) -> Result<()> {
    let cluster = Issuer::open(paths, "ca")?;
    let service = format!("kubernetes.default.svc.{DOMAIN}");
    let host = HOST.to_string();
    let names = [
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        &service,
        "localhost",
    ];
    let addresses = [API_SERVICE, &host, "127.0.0.1"];
    cluster.server(
        "apiserver",
        "kube-apiserver",
        &[&names[..], &addresses[..]].concat(),
    )?;
    cluster.client("apiserver-kubelet-client", "kube-apiserver-kubelet-client")?;
    for (name, user, group) in CLIENTS {
        cluster.kubeconfig(name, Subject { user, group })?;
    }
    for (name, user) in NODE_CLIENTS {
        cluster.kubeconfig(name, Subject { user, group: None })?;
    }

    let etcd = Issuer::open(paths, "etcd-ca")?;
    etcd.server("etcd", "etcd", &["localhost", "127.0.0.1"])?;
    etcd.client("apiserver-etcd-client", "kube-apiserver-etcd-client")?;

    let front_proxy = Issuer::open(paths, "front-proxy-ca")?;
    front_proxy.client("front-proxy-client", "front-proxy-client")?;
    issue_service_account_keys(paths)
}

/// Makes what is missing for a node's kubelet.
pub fn issue_node(paths: &Paths, node: Node) -> Result<()> {
    let cluster = Issuer::open(paths, "ca")?;
    let name = node.name();
    let user = format!("system:node:{name}");
    cluster.kubeconfig(
        &name,
        Subject {
            user: &user,
            group: Some("system:nodes"),
        },
    )?;
    cluster.server(
        &format!("{name}-kubelet"),
        &user,
        &[&name, &node.address().to_string()],
    )
}

fn issue_service_account_keys(paths: &Paths) -> Result<()> {
    let private = paths.pki().join("service-account.key");
    let public = paths.pki().join("service-account.pub");
    if private.exists() && public.exists() {
        return Ok(());
    }
    let (private_key, public_key) = service_account_keys()?;
    write_private(&private, &private_key)?;
    Ok(fs::write(public, public_key)?)
}

/// An authority that signs what is not there yet.
struct Issuer<'a> {
    paths: &'a Paths,
    authority: Authority,
}

impl<'a> Issuer<'a> {
    fn open(paths: &'a Paths, name: &str) -> Result<Self> {
        Ok(Self {
            paths,
            authority: Authority::open(&paths.pki(), name)?,
        })
    }

    fn is_missing(&self, name: &str) -> bool {
        let pair = PairPaths::new(&self.paths.pki(), name);
        !pair.key.exists() || !pair.certificate.exists()
    }

    fn server(&self, name: &str, user: &str, hosts: &[&str]) -> Result<()> {
        if self.is_missing(name) {
            let pair = self.authority.server(Subject { user, group: None }, hosts)?;
            pair.store(&self.paths.pki(), name)?;
        }
        Ok(())
    }

    fn client(&self, name: &str, user: &str) -> Result<()> {
        if self.is_missing(name) {
            let pair = self.authority.client(Subject { user, group: None })?;
            pair.store(&self.paths.pki(), name)?;
        }
        Ok(())
    }

    fn kubeconfig(&self, name: &str, subject: Subject<'_>) -> Result<()> {
        let path = self.paths.kubeconfig(name);
        if path.exists() {
            return Ok(());
        }
        let client = self.authority.client(subject)?;
        write_private(
            &path,
            &kubeconfig(&api_server(), self.authority.certificate(), &client),
        )
    }
}
