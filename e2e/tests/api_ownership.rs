//! The status is written by many: each agent owns its own entry, and the operator all else.

use anyhow::{Context, Result};
use crd::names::OPERATOR_MANAGER;
use crd::{AgentRole, AgentStatus, PortableLoadBalancer, PortableLoadBalancerStatus};
use e2e::api_server::ApiServer;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

/// A balancer in a namespace of its own.
async fn balancer() -> Result<Api<PortableLoadBalancer>> {
    let (server, _) = ApiServer::with_definition();
    let client = server.client().await?;
    let namespace = server.namespace(&client).await?;
    let api = Api::namespaced(client, &namespace);
    let lb = json!({
        "apiVersion": "portablelb.io/v1alpha1",
        "kind": "PortableLoadBalancer",
        "metadata": {"name": "web"},
        "spec": {"backends": {"service": {"name": "web"}}, "ports": [{"name": "http", "port": 80}]},
    });
    api.create(&PostParams::default(), &serde_json::from_value(lb)?)
        .await?;
    Ok(api)
}

/// Applies a status as one manager does, and gives the one that is there then.
async fn apply(
    api: &Api<PortableLoadBalancer>,
    manager: &str,
    status: &PortableLoadBalancerStatus,
) -> Result<PortableLoadBalancerStatus> {
    let mut patch = nothing();
    patch["status"] = serde_json::to_value(status)?;
    let params = PatchParams::apply(manager);
    let lb = api.patch_status("web", &params, &Patch::Apply(patch)).await?;
    lb.status.context("it has a status")
}

/// No status at all. An empty one would leave a managed field for every pod that ever was, and is refused where nothing
/// else is left in the status.
fn nothing() -> Value {
    json!({"apiVersion": "portablelb.io/v1alpha1", "kind": "PortableLoadBalancer"})
}

/// What the operator does for a pod that is gone.
async fn withdraw(api: &Api<PortableLoadBalancer>, pod: &str) -> Result<PortableLoadBalancer> {
    let patch = Patch::Apply(nothing());
    Ok(api.patch_status("web", &PatchParams::apply(pod), &patch).await?)
}

fn agent(name: &str, generation: i64) -> PortableLoadBalancerStatus {
    let entry = AgentStatus {
        name: name.to_owned(),
        role: Some(AgentRole::Active),
        observed_generation: Some(generation),
        ..AgentStatus::default()
    };
    PortableLoadBalancerStatus {
        agents: vec![entry],
        ..PortableLoadBalancerStatus::default()
    }
}

fn operator() -> Result<PortableLoadBalancerStatus> {
    let ready: Condition = serde_json::from_value(json!({
        "type": "Ready", "status": "True", "reason": "Ready", "message": "",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }))?;
    Ok(PortableLoadBalancerStatus {
        observed_generation: Some(1),
        conditions: vec![ready],
        ..PortableLoadBalancerStatus::default()
    })
}

fn names(status: &PortableLoadBalancerStatus) -> Vec<&str> {
    status.agents.iter().map(|agent| agent.name.as_str()).collect()
}

#[tokio::test]
async fn two_agents_and_the_operator_never_touch_each_other() -> Result<()> {
    let api = balancer().await?;
    apply(&api, "pod-a", &agent("pod-a", 1)).await?;
    apply(&api, OPERATOR_MANAGER, &operator()?).await?;
    let status = apply(&api, "pod-b", &agent("pod-b", 1)).await?;
    assert_eq!(names(&status), ["pod-a", "pod-b"]);
    assert_eq!(status.conditions.len(), 1);

    let status = apply(&api, "pod-a", &agent("pod-a", 2)).await?;
    let generations: Vec<_> = status
        .agents
        .iter()
        .map(|agent| agent.observed_generation)
        .collect();
    assert_eq!(generations, [Some(2), Some(1)]);
    assert_eq!(status.observed_generation, Some(1));
    let status = apply(&api, OPERATOR_MANAGER, &operator()?).await?;
    assert_eq!(names(&status), ["pod-a", "pod-b"]);
    Ok(())
}

#[tokio::test]
async fn an_agents_write_of_anothers_entry_is_a_conflict() -> Result<()> {
    let api = balancer().await?;
    apply(&api, "pod-a", &agent("pod-a", 1)).await?;
    let error = apply(&api, "pod-b", &agent("pod-a", 2))
        .await
        .expect_err("a conflict");
    assert!(error.to_string().contains("conflict"), "{error}");
    Ok(())
}

#[tokio::test]
async fn applying_nothing_in_a_pods_name_removes_its_entry() -> Result<()> {
    let api = balancer().await?;
    apply(&api, OPERATOR_MANAGER, &operator()?).await?;
    apply(&api, "pod-a", &agent("pod-a", 1)).await?;
    apply(&api, "pod-b", &agent("pod-b", 1)).await?;
    let lb = withdraw(&api, "pod-a").await?;
    let status = lb.status.context("it has a status")?;
    assert_eq!(names(&status), ["pod-b"]);
    assert_eq!(status.conditions.len(), 1);
    Ok(())
}

#[tokio::test]
async fn a_pod_that_withdrew_leaves_no_trace() -> Result<()> {
    let api = balancer().await?;
    apply(&api, "pod-a", &agent("pod-a", 1)).await?;
    let lb = withdraw(&api, "pod-a").await?;
    assert_eq!(lb.status, None);
    let fields = lb.metadata.managed_fields.unwrap_or_default();
    let managers: Vec<_> = fields
        .iter()
        .filter_map(|entry| entry.manager.as_deref())
        .collect();
    assert!(!managers.contains(&"pod-a"), "{managers:?}");
    Ok(())
}

#[tokio::test]
async fn a_field_left_out_is_gone() -> Result<()> {
    let api = balancer().await?;
    let mut status = agent("pod-a", 1);
    status.agents[0].message = Some("a module is missing".to_owned());
    apply(&api, "pod-a", &status).await?;
    let status = apply(&api, "pod-a", &agent("pod-a", 1)).await?;
    assert_eq!(status.agents[0].message, None);
    Ok(())
}

#[tokio::test]
async fn a_write_that_changes_nothing_makes_no_version() -> Result<()> {
    let api = balancer().await?;
    apply(&api, "pod-a", &agent("pod-a", 1)).await?;
    let before = api.get("web").await?.metadata.resource_version;
    apply(&api, "pod-a", &agent("pod-a", 1)).await?;
    assert_eq!(api.get("web").await?.metadata.resource_version, before);
    Ok(())
}

#[tokio::test]
async fn a_status_leaves_the_generation_as_it_is() -> Result<()> {
    let api = balancer().await?;
    apply(&api, "pod-a", &agent("pod-a", 1)).await?;
    assert_eq!(api.get("web").await?.metadata.generation, Some(1));
    Ok(())
}
