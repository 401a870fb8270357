//! The agents: a `ReplicaSet`, whose pods each balance in their own network namespace.

use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetSpec};
use k8s_openapi::api::core::v1::{
    Capabilities, Container, ContainerPort, EnvVar, EnvVarSource, HTTPGetAction, ObjectFieldSelector,
    PodSpec, PodTemplateSpec, Probe, ResourceRequirements, SeccompProfile, SecurityContext, Toleration,
    TopologySpreadConstraint,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt;

use super::Wanted;
use super::volumes::{self, mount, read_only};
use crate::fingerprint;
use crd::{BackendsType, Rps, Timeouts, names};

/// The container that balances.
pub(crate) const SERVE: &str = "serve";
/// Annotation of a pod: the fingerprint of all in its template that can't be changed in a running pod.
pub(crate) const TEMPLATE: &str = "portablelb.io/template";

const PREPARE: &str = "prepare";
const TOKEN_DIR: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// Added to the drain time before the kubelet kills: the agent needs a moment of its own.
const GRACE_SECONDS: i64 = 10;

/// A `ReplicaSet`, since a Deployment would make pods anew for each new image; see `rollout`.
pub(super) fn replica_set(wanted: &Wanted<'_>) -> ReplicaSet {
    ReplicaSet {
        metadata: wanted.metadata(),
        spec: Some(ReplicaSetSpec {
            replicas: Some(wanted.lb.spec.redundancy.replicas),
            selector: wanted.label_selector(),
            template: Some(template(wanted)),
            ..ReplicaSetSpec::default()
        }),
        status: None,
    }
}

fn template(wanted: &Wanted<'_>) -> PodTemplateSpec {
    let mut labels = wanted.settings.labels.clone();
    // Ours win: the selector depends on them.
    labels.extend(wanted.labels());
    let mut template = PodTemplateSpec {
        metadata: Some(ObjectMeta {
            labels: Some(labels),
            annotations: Some(wanted.settings.annotations.clone()),
            ..ObjectMeta::default()
        }),
        spec: Some(pod(wanted)),
    };
    let print = lasting(&template);
    if let Some(annotations) = template.metadata.as_mut().and_then(|it| it.annotations.as_mut()) {
        annotations.insert(TEMPLATE.to_owned(), print);
    }
    template
}

/// The fingerprint of what a pod keeps for life: all but images, which are patched in place, and the grace period,
/// which isn't worth a new pod.
fn lasting(template: &PodTemplateSpec) -> String {
    let mut lasting = template.clone();
    if let Some(pod) = &mut lasting.spec {
        pod.termination_grace_period_seconds = None;
        let init = pod.init_containers.iter_mut().flatten();
        for container in pod.containers.iter_mut().chain(init) {
            container.image = None;
        }
    }
    fingerprint::of(&lasting)
}

fn pod(wanted: &Wanted<'_>) -> PodSpec {
    let (settings, agent) = (wanted.settings, &wanted.lb.spec.agent);
    let mut nodes = agent.node_selector.clone();
    nodes.insert("kubernetes.io/os".to_owned(), "linux".to_owned());
    let mut tolerations = vec![away("not-ready"), away("unreachable")];
    tolerations.extend(settings.tolerations.iter().cloned());
    PodSpec {
        service_account_name: Some(names::service_account(&wanted.namespace())),
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        // IPVS netlink refuses other user namespaces than the first.
        host_users: Some(true),
        image_pull_secrets: Some(settings.image_pull_secrets.clone()),
        priority_class_name: Some(settings.priority_class_name.clone()).filter(|name| !name.is_empty()),
        node_selector: Some(nodes),
        tolerations: Some(tolerations),
        topology_spread_constraints: Some(vec![spread(wanted)]),
        termination_grace_period_seconds: Some(
            i64::from(wanted.lb.spec.drain_timeout_seconds) + GRACE_SECONDS,
        ),
        init_containers: Some(vec![prepare(wanted)]),
        containers: vec![serve(wanted)],
        volumes: Some(vec![volumes::run(), volumes::modules(), volumes::token()]),
        ..PodSpec::default()
    }
}

/// The default of 300 s would leave a balancer without its agent for as long.
fn away(taint: &str) -> Toleration {
    Toleration {
        key: Some(format!("node.kubernetes.io/{taint}")),
        operator: Some("Exists".to_owned()),
        effect: Some("NoExecute".to_owned()),
        toleration_seconds: Some(30),
        ..Toleration::default()
    }
}

/// Preferred, never required: two agents on one node are better than one agent.
fn spread(wanted: &Wanted<'_>) -> TopologySpreadConstraint {
    TopologySpreadConstraint {
        max_skew: 1,
        topology_key: "kubernetes.io/hostname".to_owned(),
        when_unsatisfiable: "ScheduleAnyway".to_owned(),
        label_selector: Some(wanted.label_selector()),
        ..TopologySpreadConstraint::default()
    }
}

/// Loads modules and sets sysctls, which need more rights than `serve` should have.
fn prepare(wanted: &Wanted<'_>) -> Container {
    let seconds = wanted.lb.spec.timeouts.udp_seconds;
    // What is as usual is left out: a pod's template is the same then for all versions.
    let udp =
        (seconds != Timeouts::default().udp_seconds).then(|| value("PLB_UDP_SECONDS", &seconds.to_string()));
    let rps = (wanted.lb.spec.packet_steering.rps == Rps::None).then(|| value("PLB_RPS", "None"));
    Container {
        name: PREPARE.to_owned(),
        args: Some(vec!["prepare".to_owned()]),
        security_context: Some(SecurityContext {
            privileged: Some(true),
            read_only_root_filesystem: Some(true),
            ..SecurityContext::default()
        }),
        volume_mounts: Some(vec![mount("run", "/run"), read_only("modules", "/lib/modules")]),
        env: Some(env(wanted, udp.into_iter().chain(rps))),
        ..container(wanted)
    }
}

fn serve(wanted: &Wanted<'_>) -> Container {
    Container {
        name: SERVE.to_owned(),
        args: Some(vec!["serve".to_owned()]),
        ports: Some(vec![ContainerPort {
            name: Some("admin".to_owned()),
            container_port: i32::from(names::ADMIN_PORT),
            protocol: Some("TCP".to_owned()),
            ..ContainerPort::default()
        }]),
        resources: resources(wanted),
        readiness_probe: Some(Probe {
            period_seconds: Some(2),
            timeout_seconds: Some(2),
            failure_threshold: Some(2),
            ..probe("/readyz")
        }),
        liveness_probe: Some(Probe {
            period_seconds: Some(10),
            timeout_seconds: Some(5),
            failure_threshold: Some(3),
            ..probe("/healthz")
        }),
        security_context: Some(SecurityContext {
            allow_privilege_escalation: Some(false),
            read_only_root_filesystem: Some(true),
            capabilities: Some(Capabilities {
                add: Some(vec!["NET_ADMIN".to_owned(), "NET_RAW".to_owned()]),
                drop: Some(vec!["ALL".to_owned()]),
            }),
            seccomp_profile: Some(SeccompProfile {
                type_: "RuntimeDefault".to_owned(),
                ..SeccompProfile::default()
            }),
            ..SecurityContext::default()
        }),
        volume_mounts: Some(vec![mount("run", "/run"), read_only("token", TOKEN_DIR)]),
        env: Some(env(wanted, allowed(wanted))),
        ..container(wanted)
    }
}

/// The balancer's own resources, else the administrator's default.
fn resources(wanted: &Wanted<'_>) -> Option<ResourceRequirements> {
    let own = wanted.lb.spec.agent.resources.clone();
    let default = Some(wanted.settings.resources.clone());
    own.or(default)
        .filter(|it| *it != ResourceRequirements::default())
}

/// The networks that servers may be named from, for the agents that need to know.
fn allowed(wanted: &Wanted<'_>) -> Option<EnvVar> {
    let networks = &wanted.settings.allowed_endpoint_cidrs;
    let networks: Vec<String> = networks.iter().map(ToString::to_string).collect();
    let is_given = wanted.lb.spec.backends.type_ == BackendsType::Endpoints && !networks.is_empty();
    is_given.then(|| value("PLB_ALLOWED_ENDPOINT_CIDRS", &networks.join(",")))
}

fn container(wanted: &Wanted<'_>) -> Container {
    let settings = wanted.settings;
    Container {
        image: Some(settings.image.clone()),
        image_pull_policy: Some(settings.image_pull_policy.clone()),
        ..Container::default()
    }
}

fn env(wanted: &Wanted<'_>, more: impl IntoIterator<Item = EnvVar>) -> Vec<EnvVar> {
    let common = [
        value("PLB_NAMESPACE", &wanted.namespace()),
        value("PLB_NAME", &wanted.lb.name_any()),
        value("PLB_UID", &wanted.lb.uid().unwrap_or_default()),
        field("POD_NAME", "metadata.name"),
        field("POD_IPS", "status.podIPs"),
        field("NODE_NAME", "spec.nodeName"),
        value("RUST_LOG", &wanted.settings.log_level),
    ];
    common.into_iter().chain(more).collect()
}

fn probe(path: &str) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.to_owned()),
            port: IntOrString::String("admin".to_owned()),
            ..HTTPGetAction::default()
        }),
        ..Probe::default()
    }
}

fn value(name: &str, value: &str) -> EnvVar {
    EnvVar {
        name: name.to_owned(),
        value: Some(value.to_owned()),
        value_from: None,
    }
}

fn field(name: &str, path: &str) -> EnvVar {
    EnvVar {
        name: name.to_owned(),
        value: None,
        value_from: Some(EnvVarSource {
            field_ref: Some(selector(path)),
            ..EnvVarSource::default()
        }),
    }
}

fn selector(path: &str) -> ObjectFieldSelector {
    ObjectFieldSelector {
        api_version: Some("v1".to_owned()),
        field_path: path.to_owned(),
    }
}
