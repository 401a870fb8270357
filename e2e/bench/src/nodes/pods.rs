//! The cluster's objects for these measurements, as YAML: web pods, the pods of rivals, and our balancer.
//!
//! A node's root is the machine's own file system, so pods run the machine's programs, from the node's folders.

use std::fmt::Write as _;

use super::rival::{LIFE, PORT, Rival, SERVER_PORT};

/// Of every balancer's pod, ours too.
const RESOURCES: &str = "{requests: {cpu: 20m, memory: 32Mi}, limits: {memory: 128Mi}}";

/// Where programs and what they need lie; all of them in `/usr` on a Debian of today.
const FOLDERS: [(&str, &str); 5] = [
    ("/usr", "/usr"),
    ("/usr/lib", "/lib"),
    ("/usr/lib64", "/lib64"),
    ("/usr/bin", "/bin"),
    ("/usr/sbin", "/sbin"),
];
const FILES: [&str; 2] = ["/etc/passwd", "/etc/group"];

/// The name of the Service of so many web pods.
#[must_use]
pub fn service(count: usize) -> String {
    format!("web-{count}")
}

/// The web pods: `sizes` says how many of them each Service has, and `nodes` where they are, in turns.
#[must_use]
pub fn web(nodes: &[&str], sizes: &[usize]) -> String {
    let mut yaml = String::new();
    for size in sizes {
        let name = service(*size);
        let _ = write!(
            yaml,
            "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec:\n  type: NodePort\n  \
             selector: {{{name}: member}}\n  ports: [{{name: http, port: {PORT}, targetPort: {SERVER_PORT}}}]\n"
        );
    }
    let most = sizes.iter().copied().max().unwrap_or_default();
    for (number, node) in (1..=most).zip(nodes.iter().cycle()) {
        let services = sizes.iter().filter(|size| number <= **size);
        let labels: Vec<String> = services
            .map(|size| format!("{}: member", service(*size)))
            .collect();
        let pod = Pod {
            name: format!("server-{number}"),
            labels: format!("app: web, {}", labels.join(", ")),
            node,
            security: "{runAsUser: 65532}",
            resources: "{}",
        };
        yaml += &pod.yaml();
    }
    yaml
}

/// The pods of the rivals, all on one node.
#[must_use]
pub fn rivals(node: &str) -> String {
    let pod = |rival: Rival| Pod {
        name: rival.name().to_owned(),
        labels: "app: rival".to_owned(),
        node,
        security: "{runAsUser: 0, privileged: true}",
        resources: RESOURCES,
    };
    Rival::ALL.map(|rival| pod(rival).yaml()).concat()
}

/// Our balancer, one agent on that node.
#[must_use]
pub fn ours(node: &str, servers: usize) -> String {
    let service = service(servers);
    format!(
        "apiVersion: portablelb.io/v1alpha1\nkind: PortableLoadBalancer\nmetadata: {{name: ours}}\nspec:\n  \
         backends: {{type: Service, service: {{name: {service}}}}}\n  \
         ports: [{{name: http, port: {PORT}, targetPort: {SERVER_PORT}}}]\n  scheduler: {{name: rr}}\n  \
         redundancy: {{replicas: 1}}\n  \
         agent: {{nodeSelector: {{kubernetes.io/hostname: {node}}}, resources: {RESOURCES}}}\n"
    )
}

struct Pod<'a> {
    name: String,
    labels: String,
    node: &'a str,
    security: &'a str,
    resources: &'a str,
}

impl Pod<'_> {
    fn yaml(&self) -> String {
        let Self {
            name,
            labels,
            node,
            security,
            resources,
        } = self;
        let version = env!("CARGO_PKG_VERSION");
        let (mounts, volumes) = volumes();
        format!(
            "---
apiVersion: v1
kind: Pod
metadata: {{name: {name}, labels: {{{labels}}}}}
spec:
  nodeSelector: {{kubernetes.io/hostname: {node}}}
  automountServiceAccountToken: false
  enableServiceLinks: false
  terminationGracePeriodSeconds: 1
  containers:
  - name: main
    image: portable-lb/lab-pod:{version}
    imagePullPolicy: IfNotPresent
    command: [/bin/sh, -c]
    args: [\"{LIFE}\"]
    env:
    - {{name: PATH, value: \"/usr/sbin:/usr/bin\"}}
    securityContext: {security}
    resources: {resources}
    volumeMounts:
{mounts}  volumes:
{volumes}"
        )
    }
}

fn volumes() -> (String, String) {
    let mut mounts = "    - {name: tmp, mountPath: /tmp}\n    - {name: run, mountPath: /run}\n".to_owned();
    let mut volumes = "  - {name: tmp, emptyDir: {}}\n  - {name: run, emptyDir: {}}\n".to_owned();
    let all = FOLDERS.into_iter().chain(FILES.map(|file| (file, file)));
    for (number, (from, to)) in all.enumerate() {
        let _ = writeln!(
            mounts,
            "    - {{name: node-{number}, mountPath: {to}, readOnly: true}}"
        );
        let _ = writeln!(volumes, "  - {{name: node-{number}, hostPath: {{path: {from}}}}}");
    }
    (mounts, volumes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_has_as_many_pods_as_its_name_says() {
        let yaml = web(&["node2", "node3"], &[1, 2, 4]);
        let members = |count| yaml.matches(&format!("web-{count}: member")).count();
        // One more is the selector.
        assert_eq!((members(1), members(2), members(4)), (2, 3, 5), "{yaml}");
        assert_eq!(yaml.matches("kubernetes.io/hostname: node2").count(), 2);
        assert_eq!(yaml.matches("kubernetes.io/hostname: node3").count(), 2);
    }
}
