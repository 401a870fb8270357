//! The operator's sweep against a real API server, with the rights that the chart gives: what belongs to no living
//! balancer goes, and nothing else.

use anyhow::{Context, Result};
use crd::{PortableLoadBalancer, names};
use e2e::api_server::{AGENTS, ApiServer, OPERATOR};
use kube::Client;
use kube::api::{Api, DeleteParams};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// The kinds of children in the agents' namespace that a balancer has for itself.
const KINDS: [&str; 3] = ["ReplicaSet", "Service", "PodDisruptionBudget"];

async fn balancer(server: &ApiServer, client: &Client, namespace: &str) -> Result<String> {
    let lb = json!({
        "apiVersion": "portablelb.io/v1alpha1", "kind": "PortableLoadBalancer",
        "metadata": {"name": "web", "namespace": namespace},
        "spec": {"backends": {"service": {"name": "web"}}, "ports": [{"name": "http", "port": 80}]},
    });
    server.kubectl_with(&["apply", "-f", "-"], &lb.to_string())?;
    let api: Api<PortableLoadBalancer> = Api::namespaced(client.clone(), namespace);
    api.get("web").await?.metadata.uid.context("it has a UID")
}

/// A child as the operator labels one.
fn child(kind: &str, name: &str, (namespace, uid): (&str, &str)) -> Value {
    let mut labels = json!({
        names::NAME_LABEL: names::NAME,
        names::MANAGED_BY_LABEL: names::MANAGED_BY,
        names::NAMESPACE_LABEL: namespace,
    });
    if kind != "ServiceAccount" {
        labels[names::UID_LABEL] = json!(uid);
        labels[names::PLB_NAME_LABEL] = json!("web");
    }
    let selector = json!({"matchLabels": {"app": name}});
    let (version, spec) = match kind {
        "ReplicaSet" => (
            "apps/v1",
            json!({
                "replicas": 2,
                "selector": selector,
                "template": {
                    "metadata": {"labels": {"app": name}},
                    "spec": {"containers": [{"name": "serve", "image": "none"}]},
                },
            }),
        ),
        "Service" => ("v1", json!({"ports": [{"port": 80}]})),
        "PodDisruptionBudget" => ("policy/v1", json!({"minAvailable": 1, "selector": selector})),
        _ => ("v1", Value::Null),
    };
    let metadata = json!({"name": name, "namespace": AGENTS, "labels": labels});
    let mut child = json!({"apiVersion": version, "kind": kind, "metadata": metadata});
    if !spec.is_null() {
        child["spec"] = spec;
    }
    child
}

/// Makes all children of a balancer, and gives their names.
fn make_children(server: &ApiServer, namespace: &str, uid: &str) -> Result<BTreeSet<String>> {
    let name = names::child_name(namespace, "web");
    let account = names::service_account(namespace);
    let owner = (namespace, uid);
    let mut children: Vec<Value> = KINDS.iter().map(|kind| child(kind, &name, owner)).collect();
    children.push(child("ServiceAccount", &account, owner));
    let list = json!({"apiVersion": "v1", "kind": "List", "items": children});
    server.kubectl_with(&["apply", "-f", "-"], &list.to_string())?;
    let all = KINDS.iter().map(|kind| format!("{kind}/{name}"));
    Ok(all.chain([format!("ServiceAccount/{account}")]).collect())
}

/// What of ours is in the agents' namespace.
fn remaining(server: &ApiServer) -> Result<BTreeSet<String>> {
    let kinds = "replicasets,services,poddisruptionbudgets,serviceaccounts";
    let found = server.kubectl(&["get", kinds, "-n", AGENTS, "-o", "json"])?.out;
    let found: Value = serde_json::from_str(&found)?;
    let items = found["items"].as_array().context("a list has items")?;
    let name = |item: &Value| -> String {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        format!("{}/{}", text(&item["kind"]), text(&item["metadata"]["name"]))
    };
    Ok(items.iter().map(name).collect())
}

#[tokio::test]
async fn only_children_without_a_living_balancer_are_swept() -> Result<()> {
    let server = ApiServer::with_chart();
    let client = server.client().await?;
    let operator = server.client_as(OPERATOR, &["system:authenticated"]).await?;
    let living = server.namespace(&client).await?;
    let dead = server.namespace(&client).await?;
    let of_living = make_children(server, &living, &balancer(server, &client, &living).await?)?;
    let of_dead = make_children(server, &dead, &balancer(server, &client, &dead).await?)?;
    let foreign = json!({"apiVersion": "v1", "kind": "ServiceAccount",
                         "metadata": {"name": "foreign", "namespace": AGENTS}});
    server.kubectl_with(&["apply", "-f", "-"], &foreign.to_string())?;

    assert_eq!(
        operator::sweep::sweep(&operator, AGENTS).await?,
        0,
        "all of them live"
    );

    let api: Api<PortableLoadBalancer> = Api::namespaced(client.clone(), &dead);
    api.delete("web", &DeleteParams::default()).await?;
    assert_eq!(operator::sweep::sweep(&operator, AGENTS).await?, 4);
    let now = remaining(server)?;
    assert!(
        now.is_superset(&of_living) && now.is_disjoint(&of_dead),
        "{now:?}"
    );
    assert!(now.contains("ServiceAccount/foreign"), "{now:?}");

    // One of the same name has another UID, so the children of the first are not its own.
    api.delete("web", &DeleteParams::default())
        .await
        .expect_err("it is gone");
    let orphans = make_children(server, &dead, "00000000-0000-0000-0000-000000000000")?;
    balancer(server, &client, &dead).await?;
    assert_eq!(operator::sweep::sweep(&operator, AGENTS).await?, 3);
    let left: BTreeSet<_> = remaining(server)?.intersection(&orphans).cloned().collect();
    assert_eq!(
        left,
        [format!("ServiceAccount/{}", names::service_account(&dead))].into()
    );
    Ok(())
}
