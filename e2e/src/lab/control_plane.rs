//! The control plane's services and their configuration files. Pure but for [`write_configuration`].

use std::collections::BTreeMap;

use anyhow::Result;

use super::cluster::{DNS_SERVICE, DOMAIN, HOST, POD_NETWORK, SERVICE_NETWORK};
use super::paths::Paths;
use super::service::{Service, write_whole};

/// Roles of the components and the DNS Service, applied to every new cluster.
pub const MANIFESTS: [(&str, &str); 2] = [
    ("roles.yaml", include_str!("manifests/roles.yaml")),
    ("dns.yaml", include_str!("manifests/dns.yaml")),
];

const ADMISSION: &str = include_str!("manifests/admission.yaml");

/// Writes what the services read beside their arguments.
pub fn write_configuration(paths: &Paths) -> Result<()> {
    write_whole(&paths.config("admission.yaml"), ADMISSION)?;
    write_whole(&paths.config("Corefile"), &corefile(paths))?;
    for (name, text) in MANIFESTS {
        let text = text
            .replace("@HOST@", &HOST.to_string())
            .replace("@DNS@", DNS_SERVICE);
        write_whole(&paths.config(name), &text)?;
    }
    Ok(())
}

/// All services of the control plane, in the order they need each other.
#[must_use]
pub fn services(paths: &Paths) -> Vec<Service> {
    let [controller_manager, scheduler] = leaders(paths);
    vec![
        etcd(paths),
        api_server(paths),
        controller_manager,
        scheduler,
        coredns(paths),
    ]
}

/// Those of which a cluster has one that leads. Here is no other, so none is elected.
#[must_use]
pub fn leaders(paths: &Paths) -> [Service; 2] {
    [controller_manager(paths), scheduler(paths)]
}

/// The API server, the part that tests stop and start.
#[must_use]
pub fn api_server(paths: &Paths) -> Service {
    let pki = Pki(paths);
    let mut args = vec![
        "--etcd-servers=https://127.0.0.1:2379".to_owned(),
        pki.file("--etcd-cafile", "etcd-ca.crt"),
        pki.file("--etcd-certfile", "apiserver-etcd-client.crt"),
        pki.file("--etcd-keyfile", "apiserver-etcd-client.key"),
        format!("--advertise-address={HOST}"),
        "--secure-port=6443".to_owned(),
        pki.file("--tls-cert-file", "apiserver.crt"),
        pki.file("--tls-private-key-file", "apiserver.key"),
        pki.file("--client-ca-file", "ca.crt"),
        "--anonymous-auth=false".to_owned(),
        "--authorization-mode=Node,RBAC".to_owned(),
        "--enable-admission-plugins=NodeRestriction".to_owned(),
        format!(
            "--admission-control-config-file={}",
            paths.config("admission.yaml").display()
        ),
        "--allow-privileged=true".to_owned(),
        format!("--service-cluster-ip-range={SERVICE_NETWORK}"),
    ];
    args.extend(service_accounts(&pki));
    args.extend(kubelets(&pki));
    args.extend(front_proxy(&pki));
    service(paths, "kube-apiserver", args)
}

fn service_accounts(pki: &Pki<'_>) -> [String; 3] {
    [
        format!("--service-account-issuer=https://kubernetes.default.svc.{DOMAIN}"),
        pki.file("--service-account-key-file", "service-account.pub"),
        pki.file("--service-account-signing-key-file", "service-account.key"),
    ]
}

fn kubelets(pki: &Pki<'_>) -> [String; 4] {
    [
        pki.file("--kubelet-certificate-authority", "ca.crt"),
        pki.file("--kubelet-client-certificate", "apiserver-kubelet-client.crt"),
        pki.file("--kubelet-client-key", "apiserver-kubelet-client.key"),
        "--kubelet-preferred-address-types=InternalIP".to_owned(),
    ]
}

/// How extension API servers know that a request came through this one.
fn front_proxy(pki: &Pki<'_>) -> [String; 7] {
    [
        pki.file("--requestheader-client-ca-file", "front-proxy-ca.crt"),
        "--requestheader-allowed-names=front-proxy-client".to_owned(),
        "--requestheader-username-headers=X-Remote-User".to_owned(),
        "--requestheader-group-headers=X-Remote-Group".to_owned(),
        "--requestheader-extra-headers-prefix=X-Remote-Extra-".to_owned(),
        pki.file("--proxy-client-cert-file", "front-proxy-client.crt"),
        pki.file("--proxy-client-key-file", "front-proxy-client.key"),
    ]
}

fn etcd(paths: &Paths) -> Service {
    let pki = Pki(paths);
    let args = vec![
        "--name=lab".to_owned(),
        format!("--data-dir={}", paths.etcd().display()),
        "--listen-client-urls=https://127.0.0.1:2379".to_owned(),
        "--advertise-client-urls=https://127.0.0.1:2379".to_owned(),
        "--listen-peer-urls=http://127.0.0.1:2380".to_owned(),
        "--client-cert-auth=true".to_owned(),
        pki.file("--trusted-ca-file", "etcd-ca.crt"),
        pki.file("--cert-file", "etcd.crt"),
        pki.file("--key-file", "etcd.key"),
        // The data lives no longer than the lab.
        "--unsafe-no-fsync".to_owned(),
    ];
    service(paths, "etcd", args)
}

fn controller_manager(paths: &Paths) -> Service {
    let pki = Pki(paths);
    let mut args = client_of_api_server(paths, "controller-manager");
    args.extend([
        "--use-service-account-credentials=true".to_owned(),
        pki.file("--service-account-private-key-file", "service-account.key"),
        pki.file("--root-ca-file", "ca.crt"),
        pki.file("--cluster-signing-cert-file", "ca.crt"),
        pki.file("--cluster-signing-key-file", "ca.key"),
        "--allocate-node-cidrs=true".to_owned(),
        format!("--cluster-cidr={POD_NETWORK}"),
        format!("--service-cluster-ip-range={SERVICE_NETWORK}"),
    ]);
    service(paths, "kube-controller-manager", args)
}

fn scheduler(paths: &Paths) -> Service {
    service(paths, "kube-scheduler", client_of_api_server(paths, "scheduler"))
}

fn client_of_api_server(paths: &Paths, user: &str) -> Vec<String> {
    let kubeconfig = paths.kubeconfig(user);
    let kubeconfig = kubeconfig.display();
    vec![
        format!("--kubeconfig={kubeconfig}"),
        format!("--authentication-kubeconfig={kubeconfig}"),
        format!("--authorization-kubeconfig={kubeconfig}"),
        "--bind-address=127.0.0.1".to_owned(),
        "--leader-elect=false".to_owned(),
    ]
}

fn coredns(paths: &Paths) -> Service {
    service(
        paths,
        "coredns",
        vec![format!("-conf={}", paths.config("Corefile").display())],
    )
}

/// `CoreDNS` as clusters have it, but for names outside the cluster: the lab has no way out.
fn corefile(paths: &Paths) -> String {
    format!(
        ".:53 {{
    bind {HOST}
    errors
    ready 127.0.0.1:8181
    kubernetes {DOMAIN} in-addr.arpa ip6.arpa {{
        kubeconfig {} lab
        pods insecure
        fallthrough in-addr.arpa ip6.arpa
        ttl 5
    }}
    cache 5
    loadbalance
}}
",
        paths.kubeconfig("coredns").display()
    )
}

fn service(paths: &Paths, name: &str, args: Vec<String>) -> Service {
    Service {
        name: name.to_owned(),
        program: paths.bin().join(name),
        args,
        env: BTreeMap::new(),
        log: paths.logs().join(format!("{name}.log")),
    }
}

struct Pki<'a>(&'a Paths);

impl Pki<'_> {
    fn file(&self, flag: &str, name: &str) -> String {
        format!("{flag}={}", self.0.pki().join(name).display())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths() -> Paths {
        Paths::new("/lab".into())
    }

    #[test]
    fn nobody_is_anonymous_or_always_allowed() {
        for service in services(&paths()) {
            let args = service.args.join(" ");
            assert!(
                !args.contains("AlwaysAllow") && !args.contains("token-auth-file"),
                "{args}"
            );
        }
        assert!(
            api_server(&paths())
                .args
                .contains(&"--anonymous-auth=false".to_owned())
        );
        assert!(
            api_server(&paths())
                .args
                .contains(&"--authorization-mode=Node,RBAC".to_owned())
        );
    }

    #[test]
    fn pod_security_is_enforced_by_default() {
        let text = ADMISSION.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(text.contains("enforce: baseline"), "{text}");
        assert!(text.contains("namespaces: [kube-system]"), "{text}");
    }

    #[test]
    fn dns_answers_for_the_cluster_domain() {
        let corefile = corefile(&paths());
        assert!(
            corefile.contains("kubernetes cluster.local in-addr.arpa"),
            "{corefile}"
        );
        assert!(
            corefile.contains("kubeconfig /lab/coredns.conf lab"),
            "{corefile}"
        );
    }
}
