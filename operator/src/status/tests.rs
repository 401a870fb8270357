use super::*;
use serde_json::{Value, json};
use std::sync::Arc;

fn lb(status: &Value) -> PortableLoadBalancer {
    serde_json::from_value(json!({
        "apiVersion": "portablelb.io/v1alpha1", "kind": "PortableLoadBalancer",
        "metadata": {"namespace": "shop", "name": "web", "uid": "u1", "generation": 3},
        "spec": {"backends": {"type": "Service", "service": {"name": "web"}}, "ports": [{"name": "http", "port": 80}]},
        "status": status,
    }))
    .expect("valid")
}

fn settings() -> Agents {
    serde_json::from_value(json!({"namespace": "agents", "clusterRole": "r", "image": "i"})).expect("valid")
}

fn entry(name: &str, hash: &str) -> Value {
    json!({"name": name, "node": "node1", "observedGeneration": 3, "tableHash": hash, "mtu": 1450,
           "servers": {"total": 3, "healthy": 2, "draining": 0}})
}

fn pod(name: &str) -> Arc<Pod> {
    let pod = json!({
        "metadata": {"name": name}, "spec": {"containers": []},
        "status": {"conditions": [{"type": "Ready", "status": "True"}]},
    });
    Arc::new(serde_json::from_value(pod).expect("valid"))
}

fn observed(pods: &[&str]) -> Observed {
    let service = json!({
        "metadata": {"labels": {"portablelb.io/plb-uid": "u1"}},
        "spec": {"clusterIPs": ["10.96.0.7"], "ports": [{"port": 80}]},
    });
    let service: Arc<k8s_openapi::api::core::v1::Service> =
        Arc::new(serde_json::from_value(service).expect("valid"));
    Observed {
        pods: pods.iter().copied().map(pod).collect(),
        service: Some(service.clone()),
        backend: Some(service),
        ..Observed::default()
    }
}

fn of(lb: &PortableLoadBalancer, observed: &Observed, behind: &[String]) -> PortableLoadBalancerStatus {
    let facts = Facts {
        lb,
        observed,
        settings: &settings(),
        refused: None,
    };
    let before = lb.status.clone().unwrap_or_default().conditions;
    status(&facts, &before, behind)
}

#[test]
fn the_first_status_has_all_conditions_of_this_generation() {
    let status = of(&lb(&Value::Null), &Observed::default(), &[]);
    let types: Vec<&str> = status.conditions.iter().map(|it| it.type_.as_str()).collect();
    assert_eq!(types, condition::ALL);
    assert_eq!(status.observed_generation, Some(3));
    assert!(
        status
            .conditions
            .iter()
            .all(|it| it.observed_generation == Some(3) && !it.reason.is_empty())
    );
    assert!(!condition::is_true(&status.conditions, condition::READY));
}

#[test]
fn agents_that_hold_this_generation_make_it_ready() {
    let lb = lb(&json!({"agents": [entry("a", "x"), entry("b", "x")]}));
    let status = of(&lb, &observed(&["a", "b"]), &[]);
    for type_ in [
        condition::READY,
        condition::PROGRAMMED,
        condition::BACKENDS_AVAILABLE,
    ] {
        assert!(condition::is_true(&status.conditions, type_), "{type_}");
    }
    let summary = status.summary.expect("a summary");
    assert_eq!(
        (summary.agents.as_deref(), summary.backends.as_deref()),
        (Some("2/2"), Some("2/3"))
    );
    assert_eq!(status.network.and_then(|network| network.mtu), Some(1450));
    assert!(status.agents.is_empty(), "each agent owns its entry");
}

#[test]
fn an_entry_without_its_pod_counts_for_nothing() {
    let lb = lb(&json!({"agents": [entry("a", "x"), entry("b", "x")]}));
    let status = of(&lb, &observed(&["a"]), &[]);
    assert_eq!(status.summary.and_then(|it| it.agents).as_deref(), Some("1/2"));
    assert!(condition::is_true(&status.conditions, condition::READY));
    assert!(condition::is_true(&status.conditions, condition::DEGRADED));
}

#[test]
fn a_second_look_changes_nothing_even_later() {
    let mut lb = lb(&json!({"agents": [entry("a", "x")]}));
    let first = of(&lb, &observed(&["a"]), &[]);
    let mut stored = first.clone();
    for condition in &mut stored.conditions {
        condition.last_transition_time = Time(Timestamp::from_second(1).expect("a time"));
    }
    stored.agents = lb.status.take().expect("a status").agents;
    // The API server may keep another order.
    stored.conditions.reverse();
    lb.status = Some(stored.clone());
    assert_eq!(own_part(&of(&lb, &observed(&["a"]), &[])), own_part(&stored));
}

#[test]
fn tables_that_differ_are_told_once_they_stay_so() {
    let lb = lb(&json!({"agents": [entry("a", "x"), entry("b", "y")]}));
    let observed = observed(&["a", "b"]);
    let facts = Facts {
        lb: &lb,
        observed: &observed,
        settings: &settings(),
        refused: None,
    };
    assert_eq!(hashes(&facts).len(), 2);
    let degraded = |behind: &[String]| {
        let status = of(&lb, &observed, behind);
        condition::find(&status.conditions, condition::DEGRADED)
            .expect("set")
            .reason
            .clone()
    };
    assert_eq!(degraded(&[]), reason::AS_WANTED);
    assert_eq!(degraded(&["b".to_owned()]), reason::TABLES_DIFFER);
}

#[test]
fn a_bad_edit_says_that_the_previous_configuration_serves() {
    let mut lb = lb(&json!({"agents": [entry("a", "x")]}));
    lb.spec.ports[0].port = 70_000;
    let status = of(&lb, &observed(&["a"]), &[]);
    let accepted = condition::find(&status.conditions, condition::ACCEPTED).expect("set");
    assert_eq!(
        (accepted.status.as_str(), accepted.reason.as_str()),
        ("False", reason::INVALID_SPEC)
    );
    assert!(
        accepted.message.contains("spec.ports[0].port"),
        "{}",
        accepted.message
    );
    assert!(
        accepted
            .message
            .ends_with("the previous configuration keeps serving"),
        "{}",
        accepted.message
    );
    assert!(!condition::is_true(&status.conditions, condition::READY));
}

#[test]
fn schedulers_by_destination_are_accepted_with_a_warning() {
    let mut lb = lb(&Value::Null);
    lb.spec.scheduler.name = SchedulerName::Dh;
    let warning = accept(&lb, &settings()).expect("accepted").expect("a warning");
    assert_eq!(warning.reason, reason::SCHEDULER_USES_ONE_SERVER);
}

#[test]
fn a_quota_that_refuses_pods_is_told() {
    let failure = json!({"spec": {"selector": {}}, "status": {"replicas": 0, "conditions": [
        {"type": "ReplicaFailure", "status": "True", "message": "pods \"x\" is forbidden: exceeded quota"}]}});
    let observed = Observed {
        agents: Some(Arc::new(serde_json::from_value(failure).expect("valid"))),
        ..observed(&[])
    };
    let status = of(&lb(&Value::Null), &observed, &[]);
    let programmed = condition::find(&status.conditions, condition::PROGRAMMED).expect("set");
    assert_eq!(programmed.reason, reason::CHILD_REFUSED);
    assert!(
        programmed.message.contains("exceeded quota"),
        "{}",
        programmed.message
    );
}
