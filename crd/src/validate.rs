//! What the API server refuses, checked without one: for objects read from files, and against objects that were stored
//! before a rule was.
//!
//! The texts are the rules' own, so both say the same. That both refuse the same is tested with `tests/specs.yaml`.

mod backends;
mod health;
mod ports;
mod traffic;

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

use crate::{
    Agent, BackendsType, Exposure, ExposureType, PortableLoadBalancer, PortableLoadBalancerSpec, Scheduler,
    SchedulerName, names,
};

pub(crate) const NAME: &str = "must not contain '.', since it becomes part of other names";
pub(crate) const CLASS_IMMUTABLE: &str =
    "cannot be changed: delete the object and create one of the other class";
pub(crate) const PORTS_UNIQUE: &str = "must not have overlapping ports of the same protocol";
pub(crate) const ADMIN_PORT_TAKEN: &str = "must not cover 9913 of TCP, where the agents' own server listens";
pub(crate) const END_PORT: &str = "must be greater than port";
pub(crate) const RANGE_TARGET: &str = "must be absent where endPort is given, since a range keeps its ports";
pub(crate) const PORTS_OF_SERVICE: &str =
    "must have at most 100 numbers in all where exposure is Service, those in ranges included";
pub(crate) const TUNNEL_MEMBER: &str = "may be present only if type is TUN";
pub(crate) const TUNNEL_PORT: &str = "may be present only if type is GUE";
pub(crate) const FORWARDING_ADDRESS: &str =
    "must be NAT unless exposure is VirtualIP, since DR and TUN leave the client's destination unchanged";
pub(crate) const FORWARDING_PORTS: &str = "must have no targetPort with DR and TUN, which keep the ports";
pub(crate) const SCOPE_PORTS: &str =
    "must have no targetPort where persistence is of scope All, which keeps the ports";
pub(crate) const TARGET_NAMES: &str =
    "must have no targetPort that is a name where backends are Endpoints, which have no names for ports";
pub(crate) const HOST_ADDRESS: &str =
    "must be an IP address that is not loopback, link-local, multicast or unspecified";
pub(crate) const SOURCE_RANGE: &str = "must be networks such as 192.0.2.0/24 or 2001:db8::/32";
pub(crate) const FLAGS_OF_HASHES: &str = "must be empty unless the scheduler is sh or mh";
pub(crate) const OVF_WEIGHTS: &str = "must not be ovf unless backends are Endpoints: it refuses what is beyond the weights, and those of a Service are 1";
pub(crate) const BACKENDS_SERVICE: &str = "must be present if type is Service, and only then";
pub(crate) const BACKENDS_ENDPOINTS: &str = "must be present if type is Endpoints, and only then";
pub(crate) const EXPOSURE_MEMBER: &str = "may be present only if type is Service";
pub(crate) const EXPOSURE_VIRTUAL_IP: &str = "must be present if type is VirtualIP, and only then";
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
    backends::check(&spec.backends, problems);
    ports::check(spec, problems);
    scheduler(&spec.scheduler, problems);
    let overflows = spec.scheduler.name == SchedulerName::Ovf && spec.backends.type_ == BackendsType::Service;
    problems.unless(!overflows, "spec.scheduler.name", OVF_WEIGHTS);
    traffic::check(spec, problems);
    problems.unless_between(spec.drain_timeout_seconds, (0, 3600), "spec.drainTimeoutSeconds");
    health::health(spec, problems);
    exposure(&spec.exposure, problems);
    problems.unless_between(spec.redundancy.replicas, (1, 8), "spec.redundancy.replicas");
    agent(&spec.agent, problems);
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
    let path = "spec.exposure.virtualIP";
    let Some(virtual_ip) = &exposure.virtual_ip else {
        return problems.unless(
            exposure.type_ != ExposureType::VirtualIP,
            path,
            EXPOSURE_VIRTUAL_IP,
        );
    };
    problems.unless(
        exposure.type_ == ExposureType::VirtualIP,
        path,
        EXPOSURE_VIRTUAL_IP,
    );
    let path = "spec.exposure.virtualIP.addresses";
    let addresses = &virtual_ip.addresses;
    problems.unless((1..=8).contains(&addresses.len()), path, "must have 1 to 8 items");
    problems.unless(
        addresses.iter().all(|address| is_host_address(address)),
        path,
        HOST_ADDRESS,
    );
    let unique: BTreeSet<_> = addresses.iter().collect();
    problems.unless(
        unique.len() == addresses.len(),
        path,
        "must not have an item twice",
    );
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

/// Whether it is an address that one host can have, by the same rules as the API server's `ip(a).isGlobalUnicast()`.
fn is_host_address(text: &str) -> bool {
    match text.parse() {
        Ok(IpAddr::V4(v4)) => {
            !(v4.is_loopback()
                || v4.is_link_local()
                || v4.is_multicast()
                || v4.is_unspecified()
                || v4.is_broadcast())
        }
        Ok(IpAddr::V6(v6)) => {
            !(v6.is_loopback()
                || v6.is_unicast_link_local()
                || v6.is_multicast()
                || v6.is_unspecified()
                || v6.to_ipv4_mapped().is_some())
        }
        Err(_) => false,
    }
}
