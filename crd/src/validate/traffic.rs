//! How connections are forwarded, remembered and limited.

use std::collections::BTreeSet;

use super::{FORWARDING_ADDRESS, FORWARDING_CHECKS, Problems, SOURCE_RANGE, TUNNEL_MEMBER, TUNNEL_PORT};
use crate::{
    ExposureType, Forwarding, ForwardingType, HealthCheckType, Limits, Persistence, Port,
    PortableLoadBalancerSpec, Protocol, Timeouts, TunnelType,
};

pub(super) fn check(spec: &PortableLoadBalancerSpec, problems: &mut Problems) {
    forwarding(&spec.forwarding, problems);
    let fits = spec.forwarding.type_ == ForwardingType::NAT || spec.exposure.type_ == ExposureType::VirtualIP;
    problems.unless(fits, "spec.forwarding.type", FORWARDING_ADDRESS);
    let proves = |port: &Port| match &port.health_check {
        _ if port.protocol == Protocol::TCP => true,
        Some(own) => own.type_ != HealthCheckType::Readiness,
        None => {
            spec.health_check.type_ != HealthCheckType::Readiness && spec.health_check.is_for(port.protocol)
        }
    };
    let fits = spec.forwarding.type_ == ForwardingType::NAT || spec.ports.iter().all(proves);
    problems.unless(fits, "spec.ports", FORWARDING_CHECKS);
    if let Some(wanted) = &spec.persistence {
        persistence(wanted, problems);
    }
    limits(&spec.limits, problems);
    timeouts(&spec.timeouts, problems);
    source_ranges(&spec.source_ranges, problems);
}

fn forwarding(forwarding: &Forwarding, problems: &mut Problems) {
    let Some(tunnel) = &forwarding.tunnel else { return };
    let is_tunnel = forwarding.type_ == ForwardingType::TUN;
    problems.unless(is_tunnel, "spec.forwarding.tunnel", TUNNEL_MEMBER);
    let Some(port) = tunnel.port else { return };
    let path = "spec.forwarding.tunnel.port";
    problems.unless(tunnel.type_ == TunnelType::GUE, path, TUNNEL_PORT);
    problems.unless_between(port, (1, 65535), path);
}

fn persistence(wanted: &Persistence, problems: &mut Problems) {
    let path = |field: &str| format!("spec.persistence.{field}");
    problems.unless_between(wanted.timeout_seconds, (1, 86400), &path("timeoutSeconds"));
    problems.unless_between(wanted.prefix_length_ipv4, (1, 32), &path("prefixLengthIPv4"));
    problems.unless_between(wanted.prefix_length_ipv6, (1, 128), &path("prefixLengthIPv6"));
}

fn limits(limits: &Limits, problems: &mut Problems) {
    for (value, max, name) in [
        (limits.entries_per_server, i32::MAX, "entriesPerServer"),
        (
            limits.new_connections_per_second,
            1_000_000,
            "newConnectionsPerSecond",
        ),
        (
            limits.new_connections_per_second_per_source,
            1_000_000,
            "newConnectionsPerSecondPerSource",
        ),
    ] {
        if let Some(value) = value {
            problems.unless_between(value, (1, max), &format!("spec.limits.{name}"));
        }
    }
}

fn timeouts(timeouts: &Timeouts, problems: &mut Problems) {
    problems.unless_between(timeouts.tcp_seconds, (1, 432_000), "spec.timeouts.tcpSeconds");
    problems.unless_between(timeouts.tcp_fin_seconds, (1, 3600), "spec.timeouts.tcpFinSeconds");
    problems.unless_between(timeouts.udp_seconds, (1, 3600), "spec.timeouts.udpSeconds");
}

fn source_ranges(ranges: &[String], problems: &mut Problems) {
    let path = "spec.sourceRanges";
    problems.unless(ranges.len() <= 64, path, "must have at most 64 items");
    let valid = |range: &String| range.contains('/') && range.parse::<ipnetwork::IpNetwork>().is_ok();
    problems.unless(ranges.iter().all(valid), path, SOURCE_RANGE);
    let unique: BTreeSet<_> = ranges.iter().collect();
    problems.unless(unique.len() == ranges.len(), path, "must not have an item twice");
}
