use super::*;
use k8s_openapi::api::core::v1::{Container, PodTemplateSpec};
use serde::Serialize;
use serde_json::{Value, json};
use std::path::Path;

/// Set to write the golden files anew; look at the difference then.
const BLESS: &str = "PLB_BLESS";

fn settings() -> Agents {
    serde_json::from_value(json!({
        "namespace": "portable-lb-agents",
        "clusterRole": "portable-lb-agent",
        "image": "portable-lb/agent:0.1.0",
        "labels": {"team": "network", "app.kubernetes.io/name": "stolen"},
        "annotations": {"example.com/scrape": "true"},
        "tolerations": [{"key": "dedicated", "operator": "Exists"}],
        "priorityClassName": "high",
    }))
    .expect("valid settings")
}

fn lb(spec: &Value) -> PortableLoadBalancer {
    let mut whole = json!({
        "backends": {"type": "Service", "service": {"name": "web"}},
        "ports": [{"name": "http", "port": 80, "targetPort": 8080}, {"name": "dns", "port": 53, "protocol": "UDP"}],
    });
    for (key, value) in spec.as_object().expect("a map") {
        whole[key] = value.clone();
    }
    serde_json::from_value(json!({
        "apiVersion": "portablelb.io/v1alpha1", "kind": "PortableLoadBalancer",
        "metadata": {"namespace": "shop", "name": "web", "uid": "0b4a1bd2-0000-4000-8000-000000000000", "generation": 1},
        "spec": whole,
    }))
    .expect("a valid balancer")
}

fn built(spec: &Value) -> Children {
    build(&lb(spec), &settings())
}

fn yaml(object: &impl Serialize) -> String {
    // Through a value, so that keys are in the order of the alphabet.
    let value = serde_json::to_value(object).expect("serializable");
    serde_yaml::to_string(&value).expect("serializable")
}

fn assert_golden(name: &str, children: Children) {
    let Children {
        service_account,
        role_binding,
        agents,
        service,
        budget,
    } = children;
    let documents = [
        Some(yaml(&service_account)),
        Some(yaml(&role_binding)),
        service.as_ref().map(yaml),
        budget.as_ref().map(yaml),
        Some(yaml(&agents)),
    ];
    let text = documents.into_iter().flatten().collect::<Vec<_>>().join("---\n");
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name);
    if std::env::var_os(BLESS).is_some() {
        std::fs::write(&path, &text).expect("a writable checkout");
    }
    let golden = std::fs::read_to_string(&path).expect("a golden file");
    assert_eq!(
        text, golden,
        "{name} differs; write it anew with {BLESS}=1 if that is wanted"
    );
}

#[test]
fn the_defaults_make_two_agents_behind_a_service() {
    assert_golden("defaults.yaml", built(&json!({})));
}

#[test]
fn one_agent_on_a_node_port_with_its_own_resources() {
    let spec = json!({
        "exposure": {"type": "Service", "service": {"type": "NodePort"}},
        "redundancy": {"replicas": 1},
        "drainTimeoutSeconds": 120,
        "agent": {"resources": {"limits": {"memory": "64Mi"}}, "nodeSelector": {"zone": "a"}},
    });
    assert_golden("node-port.yaml", built(&spec));
}

#[test]
fn given_servers_ranges_persistence_and_timeouts_on_a_service() {
    let spec = json!({
        "backends": {"type": "Endpoints", "endpoints": [{"address": "192.0.2.7"}]},
        "ports": [{"name": "sip", "port": 5060, "protocol": "SCTP"}, {"name": "rtp", "port": 20000, "endPort": 20001, "protocol": "UDP"}],
        "persistence": {"timeoutSeconds": 600},
        "timeouts": {"udpSeconds": 900},
    });
    let settings = Agents {
        allowed_endpoint_cidrs: vec!["192.0.2.0/24".parse().expect("a network")],
        ..settings()
    };
    assert_golden("endpoints.yaml", build(&lb(&spec), &settings));
}

#[test]
fn what_an_administrator_allows_makes_no_other_pods_anew() {
    let newer = Agents {
        allowed_endpoint_cidrs: vec!["192.0.2.0/24".parse().expect("a network")],
        ..settings()
    };
    let before = template_print(&built(&json!({})));
    assert_eq!(template_print(&build(&lb(&json!({})), &newer)), before);
}

#[test]
fn pod_addresses_need_no_service() {
    assert!(built(&json!({"exposure": {"type": "PodIP"}})).service.is_none());
}

fn template(children: &Children) -> &PodTemplateSpec {
    let spec = children.agents.spec.as_ref().expect("a spec");
    spec.template.as_ref().expect("a template")
}

fn template_print(children: &Children) -> String {
    let metadata = template(children).metadata.as_ref().expect("metadata");
    metadata.annotations.as_ref().expect("annotations")[TEMPLATE].clone()
}

#[test]
fn a_new_image_or_drain_time_needs_no_new_pods() {
    let before = template_print(&built(&json!({})));
    assert_eq!(
        template_print(&built(&json!({"drainTimeoutSeconds": 300}))),
        before
    );
    let newer = Agents {
        image: "portable-lb/agent:0.2.0".into(),
        ..settings()
    };
    assert_eq!(template_print(&build(&lb(&json!({})), &newer)), before);
}

#[test]
fn listeners_and_schedulers_need_no_new_pods() {
    let before = template_print(&built(&json!({})));
    let spec = json!({"ports": [{"name": "https", "port": 443}], "scheduler": {"name": "rr"}, "redundancy": {"replicas": 5}});
    assert_eq!(template_print(&built(&spec)), before);
}

#[test]
fn other_nodes_or_resources_need_new_pods() {
    let before = template_print(&built(&json!({})));
    for agent in [
        json!({"nodeSelector": {"zone": "a"}}),
        json!({"resources": {"limits": {"memory": "64Mi"}}}),
    ] {
        assert_ne!(template_print(&built(&json!({"agent": agent}))), before);
    }
}

#[test]
fn packets_are_steered_unless_the_balancer_says_no() {
    let spec = json!({"packetSteering": {"rps": "None"}});
    let pod = template(&built(&spec)).spec.clone().expect("a pod");
    let steering = |container: &Container| {
        let mut all = container.env.iter().flatten();
        all.find_map(|it| (it.name == "PLB_RPS").then(|| it.value.clone()).flatten())
    };
    assert_eq!(
        pod.init_containers.iter().flatten().find_map(steering),
        Some("None".to_owned())
    );
    let (auto, absent) = (
        built(&json!({"packetSteering": {"rps": "Auto"}})),
        built(&json!({})),
    );
    assert_eq!(template_print(&auto), template_print(&absent));
    assert_ne!(template_print(&built(&spec)), template_print(&absent));
}

#[test]
fn the_administrators_labels_cannot_take_the_place_of_ours() {
    let children = built(&json!({}));
    let labels = template(&children)
        .metadata
        .as_ref()
        .and_then(|it| it.labels.as_ref())
        .expect("labels");
    assert_eq!(labels[names::NAME_LABEL], names::NAME);
    assert_eq!(labels["team"], "network");
}
