//! What the balancer listens on.

use std::collections::BTreeSet;

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::{
    ADMIN_PORT_TAKEN, END_PORT, FORWARDING_PORTS, PORTS_OF_SERVICE, PORTS_UNIQUE, Problems, RANGE_TARGET,
    SCOPE_PORTS, TARGET_NAMES, health,
};
use crate::{
    BackendsType, ExposureType, ForwardingType, PersistenceScope, Port, PortableLoadBalancerSpec, Protocol,
    names,
};

pub(super) fn check(spec: &PortableLoadBalancerSpec, problems: &mut Problems) {
    let (ports, path) = (&spec.ports, "spec.ports");
    problems.unless((1..=64).contains(&ports.len()), path, "must have 1 to 64 items");
    let mut names = BTreeSet::new();
    for (index, port) in ports.iter().enumerate() {
        let path = format!("{path}[{index}]");
        problems.unless(
            names.insert(&port.name),
            &path,
            "must have a name that no other port has",
        );
        one_port(port, &path, problems);
    }
    let overlaps = |(index, port): (usize, &Port)| ports[..index].iter().any(|other| overlap(port, other));
    problems.unless(!ports.iter().enumerate().any(overlaps), path, PORTS_UNIQUE);
    let keeps = ports.iter().all(|port| port.target_port.is_none());
    problems.unless(
        keeps || spec.forwarding.type_ == ForwardingType::NAT,
        path,
        FORWARDING_PORTS,
    );
    let all = spec
        .persistence
        .as_ref()
        .is_some_and(|it| it.scope == PersistenceScope::All);
    problems.unless(keeps || !all, path, SCOPE_PORTS);
    let is_named = |port: &Port| matches!(port.target_port, Some(IntOrString::String(_)));
    let may_name = spec.backends.type_ == BackendsType::Service;
    problems.unless(may_name || !ports.iter().any(is_named), path, TARGET_NAMES);
    let numbers: i64 = ports.iter().map(count).sum();
    let fits = spec.exposure.type_ != ExposureType::Service || numbers <= 100;
    problems.unless(fits, path, PORTS_OF_SERVICE);
}

fn one_port(port: &Port, path: &str, problems: &mut Problems) {
    problems.unless_name(&port.name, &format!("{path}.name"));
    problems.unless_between(port.port, (1, 65535), &format!("{path}.port"));
    if let Some(end) = port.end_port {
        problems.unless_between(end, (1, 65535), &format!("{path}.endPort"));
        problems.unless(end > port.port, &format!("{path}.endPort"), END_PORT);
    }
    let admin = i32::from(names::ADMIN_PORT);
    let covers_admin = port.protocol == Protocol::TCP && port.port <= admin && last(port) >= admin;
    problems.unless(!covers_admin, &format!("{path}.port"), ADMIN_PORT_TAKEN);
    if let Some(check) = &port.health_check {
        health::check(check, &format!("{path}.healthCheck"), problems);
    }
    let path = format!("{path}.targetPort");
    problems.unless(
        port.end_port.is_none() || port.target_port.is_none(),
        &path,
        RANGE_TARGET,
    );
    match &port.target_port {
        Some(IntOrString::Int(number)) => problems.unless_between(*number, (1, 65535), &path),
        Some(IntOrString::String(name)) => problems.unless_name(name, &path),
        None => {}
    }
}

fn last(port: &Port) -> i32 {
    port.end_port.unwrap_or(port.port)
}

fn count(port: &Port) -> i64 {
    i64::from(last(port)) - i64::from(port.port) + 1
}

fn overlap(one: &Port, other: &Port) -> bool {
    one.protocol == other.protocol && one.port <= last(other) && other.port <= last(one)
}
