//! Objects that several tests apply.

/// A Deployment and a Service, both named `web`, of three small servers on as many nodes.
pub const WEB: &str = include_str!("web.yaml");

/// The same with two servers that answer by UDP too, to be rolled.
pub const ROLL: &str = include_str!("roll.yaml");

/// A balancer in front of `web`; `spec` is the rest of its spec, as a flow mapping's inner part.
#[must_use]
pub fn plb(name: &str, spec: &str) -> String {
    format!(
        "apiVersion: portablelb.io/v1alpha1\nkind: PortableLoadBalancer\nmetadata: {{name: {name}}}\n\
         spec: {{backends: {{type: Service, service: {{name: web}}}}, {spec}}}\n"
    )
}

/// A pod that makes `count` requests for `url`, and fails if one of them does.
#[must_use]
pub fn client(url: &str, count: usize) -> String {
    let version = env!("CARGO_PKG_VERSION");
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: client}}\n\
         spec:\n  restartPolicy: Never\n  containers:\n  - name: client\n    image: portable-lb/lab-pod:{version}\n    \
         imagePullPolicy: IfNotPresent\n    args: [get, \"{url}\", --count, \"{count}\"]\n"
    )
}
