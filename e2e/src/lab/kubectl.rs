//! What the lab asks of its own API server, by kubectl. The caller is inside the lab's network namespace.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::paths::Paths;
use super::{process, session};

/// Runs kubectl as the lab's administrator and returns what it printed.
pub fn kubectl(paths: &Paths, arguments: &[&str]) -> Result<String> {
    process::run(
        session::command(paths, "kubectl")?
            .arg("--request-timeout=10s")
            .args(arguments),
    )
}

/// Waits until `probe` succeeds; when time is up, its last error is the reason.
pub fn wait_for<T>(what: &str, patience: Duration, mut probe: impl FnMut() -> Result<T>) -> Result<T> {
    let deadline = Instant::now() + patience;
    loop {
        match probe() {
            Ok(found) => return Ok(found),
            Err(error) if Instant::now() >= deadline => {
                return Err(error).with_context(|| format!("{what}: not within {} s", patience.as_secs()));
            }
            Err(_) => std::thread::sleep(Duration::from_millis(300)),
        }
    }
}

/// Whether the API server answers and is ready.
pub fn api_is_ready(paths: &Paths) -> Result<()> {
    kubectl(paths, &["get", "--raw=/readyz"]).map(drop)
}

/// A node as the cluster sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeView {
    /// Its name.
    pub name: String,
    /// Its Ready condition.
    pub ready: bool,
    /// Its pods' network.
    pub pods: Option<String>,
    /// The backend flannel says it uses.
    pub backend: Option<String>,
}

/// All nodes of the cluster.
pub fn nodes(paths: &Paths) -> Result<Vec<NodeView>> {
    let list: Value = serde_json::from_str(&kubectl(paths, &["get", "nodes", "-o", "json"])?)?;
    Ok(parse_nodes(&list))
}

/// One node, when it is Ready and has a pod network.
pub fn ready_node(paths: &Paths, name: &str) -> Result<NodeView> {
    let node = nodes(paths)?.into_iter().find(|node| node.name == name);
    match node {
        Some(node) if node.ready && node.pods.is_some() => Ok(node),
        Some(_) => bail!("{name} is not Ready"),
        None => bail!("{name} has not registered itself"),
    }
}

fn parse_nodes(list: &Value) -> Vec<NodeView> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let node = |item: &Value| {
        let conditions = item["status"]["conditions"]
            .as_array()
            .map(Vec::as_slice)
            .unwrap_or_default();
        NodeView {
            name: text(&item["metadata"]["name"]).unwrap_or_default(),
            ready: conditions
                .iter()
                .any(|each| each["type"] == "Ready" && each["status"] == "True"),
            pods: text(&item["spec"]["podCIDR"]),
            backend: text(&item["metadata"]["annotations"]["flannel.alpha.coreos.com/backend-type"]),
        }
    };
    list["items"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default()
        .iter()
        .map(node)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_without_annotations_has_no_backend_yet() {
        let list = serde_json::json!({"items": [
            {"metadata": {"name": "node1", "annotations": {"flannel.alpha.coreos.com/backend-type": "udp"}},
             "spec": {"podCIDR": "10.244.0.0/24"},
             "status": {"conditions": [{"type": "Ready", "status": "True"}]}},
            {"metadata": {"name": "node2"}, "status": {"conditions": [{"type": "Ready", "status": "False"}]}},
        ]});
        let nodes = parse_nodes(&list);
        assert!(nodes[0].ready && nodes[0].backend.as_deref() == Some("udp"));
        assert_eq!(
            nodes[1],
            NodeView {
                name: "node2".to_owned(),
                ready: false,
                pods: None,
                backend: None
            }
        );
    }
}
