//! What the API server refuses, checked without one: for objects read from files, and against objects that were stored
//! before a rule was.
//!
//! The texts are the rules' own, so both say the same. That both refuse the same is tested with `tests/specs.yaml`.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use std::collections::BTreeSet;
use std::fmt;

mod health;

use crate::{
    Agent, Backends, BackendsType, Exposure, ExposureType, Port, PortableLoadBalancer,
    PortableLoadBalancerSpec, Protocol, Scheduler, SchedulerName, names,
};

pub(crate) const NAME: &str = "must not contain '.', since it becomes part of other names";
pub(crate) const CLASS_IMMUTABLE: &str =
    "cannot be changed: delete the object and create one of the other class";
pub(crate) const PORTS_UNIQUE: &str = "must not have two ports of the same number and protocol";
pub(crate) const ADMIN_PORT_TAKEN: &str = "must not be 9913 for TCP, where the agents' own server listens";
pub(crate) const FLAGS_OF_HASHES: &str = "must be empty unless the scheduler is sh or mh";
pub(crate) const BACKENDS_MEMBER: &str = "must be present if type is Service, and only then";
pub(crate) const EXPOSURE_MEMBER: &str = "may be present only if type is Service";
pub(crate) const RESOURCE_NAME: &str = "must have no other keys than cpu, memory and ephemeral-storage";
pub(crate) const NODE_SELECTOR_KEY: &str = "must have keys of 1 to 317 characters";
pub(crate) const HEALTH_HTTP: &str = "may be present only if type is HTTP or HTTPS";
pub(crate) const HEALTH_TLS: &str =
    "must be present if type is HTTPS, may be if it is GRPC, and must not be otherwise";
pub(crate) const HEALTH_GRPC: &str = "may be present only if type is GRPC";
pub(crate) const HEALTH_UDP: &str = "must be present if type is UDP, and only then";
pub(crate) const HEALTH_DNS: &str = "must be present if type is DNS, and only then";
pub(crate) const HEALTH_TIMEOUT: &str = "must not be greater than intervalSeconds";
pub(crate) const HEALTH_CA: &str = "must be present unless insecureSkipVerify is true, and not then";
pub(crate) const HEALTH_HEX: &str = "must be two hexadecimal digits a byte";
pub(crate) const WARM_UP_BY_WEIGHT: &str =
    "must be 0 unless the scheduler is wrr, wlc, sed or nq, which go by weight";

/// One thing that is wrong with an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where, for example `spec.ports[0].port`.
    pub path: String,
    /// What must be.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.message)
    }
}

/// All that is wrong with an object, in the order of its fields. Nothing, if it is valid.
#[must_use]
pub fn validate(lb: &PortableLoadBalancer) -> Vec<Problem> {
    let mut problems = Problems::default();
    let name = lb.metadata.name.as_deref().unwrap_or_default();
    problems.unless(
        name.len() <= names::NAME_MAX,
        "metadata.name",
        "must have at most 63 characters",
    );
    problems.unless(!name.contains('.'), "metadata.name", NAME);
    spec(&lb.spec, &mut problems);
    problems.0
}

#[derive(Default)]
struct Problems(Vec<Problem>);

impl Problems {
    fn unless(&mut self, valid: bool, path: &str, message: &str) {
        if !valid {
            self.0.push(Problem {
                path: path.to_owned(),
                message: message.to_owned(),
            });
        }
    }

    fn unless_between(&mut self, value: i32, (min, max): (i32, i32), path: &str) {
        let valid = (min..=max).contains(&value);
        self.unless(valid, path, &format!("must be from {min} to {max}"));
    }

    fn unless_name(&mut self, value: &str, path: &str) {
        let message =
            "must be 1 to 63 lowercase letters, digits and '-', with a letter or digit at both ends";
        self.unless(is_label(value), path, message);
    }
}

fn spec(spec: &PortableLoadBalancerSpec, problems: &mut Problems) {
    let message = "must be 1 to 63 lowercase letters, digits, '-' and '.'";
    let class = is_label(&spec.class_name.replace('.', "a"));
    let edges = !spec.class_name.starts_with('.') && !spec.class_name.ends_with('.');
    problems.unless(class && edges, "spec.className", message);
    backends(&spec.backends, problems);
    ports(&spec.ports, problems);
    scheduler(&spec.scheduler, problems);
    problems.unless_between(spec.drain_timeout_seconds, (0, 3600), "spec.drainTimeoutSeconds");
    health::health(spec, problems);
    exposure(&spec.exposure, problems);
    problems.unless_between(spec.redundancy.replicas, (1, 8), "spec.redundancy.replicas");
    agent(&spec.agent, problems);
}

fn backends(backends: &Backends, problems: &mut Problems) {
    match (backends.type_, &backends.service) {
        (BackendsType::Service, None) => problems.unless(false, "spec.backends.service", BACKENDS_MEMBER),
        (BackendsType::Service, Some(service)) => {
            problems.unless_name(&service.name, "spec.backends.service.name");
        }
    }
}

fn ports(ports: &[Port], problems: &mut Problems) {
    problems.unless(
        (1..=64).contains(&ports.len()),
        "spec.ports",
        "must have 1 to 64 items",
    );
    let mut names = BTreeSet::new();
    let mut numbers = BTreeSet::new();
    let mut unique = true;
    for (index, port) in ports.iter().enumerate() {
        let path = format!("spec.ports[{index}]");
        problems.unless(
            names.insert(&port.name),
            &path,
            "must have a name that no other port has",
        );
        unique &= numbers.insert((port.port, port.protocol));
        one_port(port, &path, problems);
    }
    problems.unless(unique, "spec.ports", PORTS_UNIQUE);
}

fn one_port(port: &Port, path: &str, problems: &mut Problems) {
    problems.unless_name(&port.name, &format!("{path}.name"));
    problems.unless_between(port.port, (1, 65535), &format!("{path}.port"));
    let admin = port.protocol == Protocol::TCP && port.port == i32::from(names::ADMIN_PORT);
    problems.unless(!admin, &format!("{path}.port"), ADMIN_PORT_TAKEN);
    if let Some(check) = &port.health_check {
        health::check(check, &format!("{path}.healthCheck"), problems);
    }
    let path = format!("{path}.targetPort");
    match &port.target_port {
        Some(IntOrString::Int(number)) => problems.unless_between(*number, (1, 65535), &path),
        Some(IntOrString::String(name)) => problems.unless_name(name, &path),
        None => {}
    }
}

fn scheduler(scheduler: &Scheduler, problems: &mut Problems) {
    let hashes = matches!(scheduler.name, SchedulerName::Sh | SchedulerName::Mh);
    problems.unless(
        hashes || scheduler.flags.is_empty(),
        "spec.scheduler.flags",
        FLAGS_OF_HASHES,
    );
    for (index, flag) in scheduler.flags.iter().enumerate() {
        let again = scheduler.flags[..index].contains(flag);
        let path = format!("spec.scheduler.flags[{index}]");
        problems.unless(!again, &path, "must not be there twice");
    }
}

fn exposure(exposure: &Exposure, problems: &mut Problems) {
    let valid = exposure.type_ == ExposureType::Service || exposure.service.is_none();
    problems.unless(valid, "spec.exposure.service", EXPOSURE_MEMBER);
}

/// Quantities and labels are left to the API server, which alone makes pods of them.
fn agent(agent: &Agent, problems: &mut Problems) {
    let known = |key: &String| ["cpu", "memory", "ephemeral-storage"].contains(&key.as_str());
    if let Some(resources) = &agent.resources {
        let limits = resources.limits.iter().flat_map(|it| it.keys()).all(known);
        problems.unless(limits, "spec.agent.resources.limits", RESOURCE_NAME);
        let requests = resources.requests.iter().flat_map(|it| it.keys()).all(known);
        problems.unless(requests, "spec.agent.resources.requests", RESOURCE_NAME);
    }
    let path = "spec.agent.nodeSelector";
    problems.unless(
        agent.node_selector.len() <= 16,
        path,
        "must have at most 16 entries",
    );
    let keys = agent
        .node_selector
        .keys()
        .all(|key| (1..=317).contains(&key.chars().count()));
    problems.unless(keys, path, NODE_SELECTOR_KEY);
}

/// Whether it is a DNS label.
fn is_label(name: &str) -> bool {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    (1..=names::NAME_MAX).contains(&name.len())
        && name.chars().all(inner)
        && !name.starts_with('-')
        && !name.ends_with('-')
}
