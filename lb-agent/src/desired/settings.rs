//! The spec's settings in the kernel's terms.

use std::num::NonZeroU16;

use crd::{ForwardingType, PortableLoadBalancerSpec, RedundancyMode, SchedulerName, TunnelType};
use ipnetwork::IpNetwork;

use super::fronts;
use crate::sysctl::Bypass;
use crate::table::{Family, Forwarding, Persistence, Rules, Scheduler, Scheduling, Timeouts, Tunnel};

/// A number that was validated to be none below 0.
pub(super) fn number(value: i32) -> u32 {
    u32::try_from(value).unwrap_or_default()
}

pub(super) fn timeouts(wanted: &crd::Timeouts) -> Timeouts {
    Timeouts {
        tcp_seconds: number(wanted.tcp_seconds),
        tcp_fin_seconds: number(wanted.tcp_fin_seconds),
        udp_seconds: number(wanted.udp_seconds),
    }
}

/// Rules without marks.
pub(super) fn rules(spec: &PortableLoadBalancerSpec, family: Family) -> Rules {
    let of_family = |range: &IpNetwork| Family::of(range.ip()) == family;
    let networks = || {
        let ranges = spec.source_ranges.iter().filter_map(|range| range.parse().ok());
        ranges.filter(of_family).filter_map(masked).collect()
    };
    let limits = &spec.limits;
    Rules {
        masquerades: spec.forwarding.type_ == ForwardingType::NAT,
        virtual_addresses: fronts::own(spec, family).collect(),
        sources: (!spec.source_ranges.is_empty()).then(networks),
        rate: limits.new_connections_per_second.map(number),
        source_rate: limits.new_connections_per_second_per_source.map(number),
        ..Rules::default()
    }
}

/// As iptables prints it: without the bits of a host.
fn masked(range: IpNetwork) -> Option<IpNetwork> {
    IpNetwork::new(range.network(), range.prefix()).ok()
}

/// What it takes that answers go past the agent.
pub(super) fn bypass(spec: &PortableLoadBalancerSpec) -> Bypass {
    let is_shared = spec.redundancy.mode == RedundancyMode::ActiveActive;
    Bypass {
        answers: spec.forwarding.type_ != ForwardingType::NAT,
        takes_over: spec.forwarding.type_ == ForwardingType::TUN
            && spec.scheduler.name == SchedulerName::Mh
            && is_shared,
    }
}

pub(super) fn forwarding(wanted: &crd::Forwarding) -> Forwarding {
    match wanted.type_ {
        ForwardingType::NAT => Forwarding::Nat,
        ForwardingType::DR => Forwarding::Direct,
        ForwardingType::TUN => Forwarding::Tunnel(wanted.tunnel.as_ref().map_or(Tunnel::Ipip, tunnel)),
    }
}

fn tunnel(wanted: &crd::Tunnel) -> Tunnel {
    match (wanted.type_, NonZeroU16::new(wanted.gue_port())) {
        (TunnelType::GUE, Some(port)) => Tunnel::Gue(port),
        (TunnelType::GRE, _) => Tunnel::Gre,
        _ => Tunnel::Ipip,
    }
}

pub(super) fn scheduling(spec: &PortableLoadBalancerSpec, family: Family) -> Scheduling {
    let persistence = spec.persistence.as_ref().map(|wanted| {
        let prefix = match family {
            Family::V4 => wanted.prefix_length_ipv4,
            Family::V6 => wanted.prefix_length_ipv6,
        };
        Persistence {
            seconds: number(wanted.timeout_seconds),
            prefix: u8::try_from(prefix).unwrap_or(u8::MAX),
        }
    });
    Scheduling {
        scheduler: scheduler(&spec.scheduler),
        persistence,
    }
}

fn scheduler(wanted: &crd::Scheduler) -> Scheduler {
    let mut flags = 0;
    if matches!(wanted.name, SchedulerName::Sh | SchedulerName::Mh) {
        // `mh` without fallback refuses the connections that hash to a draining server (kubernetes#138688).
        if wanted.falls_back() {
            flags |= Scheduler::FALLBACK;
        }
        if wanted.hashes_port() {
            flags |= Scheduler::PORT;
        }
    }
    Scheduler {
        name: wanted.name.as_str().to_owned(),
        flags,
    }
}
