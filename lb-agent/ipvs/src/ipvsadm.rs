//! Commands in the words of `ipvsadm`, as it takes them and as `ipvsadm --save --numeric` prints them.
use std::fmt::Write as _;
use std::net::Ipv4Addr;

use crate::{
    Command, Config, Destination, Family, Forwarding, Persistence, Protocol, Service, ServiceFlags,
    ServiceId, TunnelFlags, TunnelKind,
};

impl Command {
    /// The arguments with which `ipvsadm` gives this command. Two things it can't say, and so they are left out:
    /// forwarding that is [`Forwarding::Local`] or [`Forwarding::Bypass`], and flags that only their owner knows.
    #[must_use]
    pub fn ipvsadm(&self) -> String {
        match self {
            Self::AddService(service) => format!("-A {}", of_service(service)),
            Self::SetService(service) => format!("-E {}", of_service(service)),
            Self::RemoveService(id) => format!("-D {}", of_id(id)),
            Self::AddDestination(id, server) => format!("-a {} {}", of_id(id), of_destination(server)),
            Self::SetDestination(id, server) => format!("-e {} {}", of_id(id), of_destination(server)),
            Self::RemoveDestination(id, addr) => format!("-d {} -r {addr}", of_id(id)),
            Self::SetConfig(Config {
                tcp_seconds,
                tcp_fin_seconds,
                udp_seconds,
            }) => format!("--set {tcp_seconds} {tcp_fin_seconds} {udp_seconds}"),
            Self::Zero(None) => "-Z".to_owned(),
            Self::Zero(Some(id)) => format!("-Z {}", of_id(id)),
            Self::Flush => "-C".to_owned(),
        }
    }
}

/// It takes marks in decimal only.
fn of_id(id: &ServiceId) -> String {
    match id {
        ServiceId::Mark { family, mark } => match family {
            Family::V4 => format!("-f {mark}"),
            Family::V6 => format!("-f {mark} -6"),
        },
        ServiceId::Address { protocol, addr } => match protocol {
            Protocol::Tcp => format!("-t {addr}"),
            Protocol::Udp => format!("-u {addr}"),
            Protocol::Sctp => format!("--sctp-service {addr}"),
        },
    }
}

fn of_service(service: &Service) -> String {
    let mut text = format!("{} -s {}", of_id(&service.id), service.scheduler);
    if let Some(persistence) = service.persistence {
        let _ = write!(text, " -p {}", persistence.timeout_seconds);
        if let Some(mask) = mask(service.id.family(), persistence) {
            let _ = write!(text, " -M {mask}");
        }
    }
    if service.flags.contains(ServiceFlags::ONE_PACKET) {
        text.push_str(" -o");
    }
    let flags = scheduler_flags(service);
    if !flags.is_empty() {
        let _ = write!(text, " -b {}", flags.join(","));
    }
    text
}

/// How much of a client's address counts, if not all of it.
fn mask(family: Family, persistence: Persistence) -> Option<String> {
    let length = u32::from(persistence.prefix_length);
    match family {
        Family::V4 if length < 32 => {
            let mask = u32::MAX.checked_shl(32 - length).unwrap_or_default();
            Some(Ipv4Addr::from_bits(mask).to_string())
        }
        Family::V6 if length < 128 => Some(length.to_string()),
        _ => None,
    }
}

fn scheduler_flags(service: &Service) -> Vec<&'static str> {
    let names = match service.scheduler.as_str() {
        "mh" => ["mh-fallback", "mh-port", "flag-3"],
        "sh" => ["sh-fallback", "sh-port", "flag-3"],
        _ => ["flag-1", "flag-2", "flag-3"],
    };
    let flags = [
        ServiceFlags::SCHEDULER_1,
        ServiceFlags::SCHEDULER_2,
        ServiceFlags::SCHEDULER_3,
    ];
    let set = names.into_iter().zip(flags);
    set.filter(|(_, flag)| service.flags.contains(*flag))
        .map(|(name, _)| name)
        .collect()
}

fn of_destination(server: &Destination) -> String {
    let way = match server.forwarding {
        Forwarding::Masquerade => " -m",
        Forwarding::Direct => " -g",
        Forwarding::Tunnel { .. } => " -i",
        Forwarding::Local | Forwarding::Bypass => "",
    };
    let mut text = format!("-r {}{way} -w {}", server.addr, server.weight);
    if server.upper_threshold > 0 {
        let _ = write!(text, " -x {}", server.upper_threshold);
    }
    if server.lower_threshold > 0 {
        let _ = write!(text, " -y {}", server.lower_threshold);
    }
    if let Forwarding::Tunnel { kind, flags } = server.forwarding {
        put_tunnel(&mut text, kind, flags);
    }
    text
}

fn put_tunnel(text: &mut String, kind: TunnelKind, flags: TunnelFlags) {
    match kind {
        TunnelKind::Ipip => return text.push_str(" --tun-type ipip"),
        TunnelKind::Gue { port } => {
            let _ = write!(text, " --tun-type gue --tun-port {port}");
        }
        TunnelKind::Gre => text.push_str(" --tun-type gre"),
    }
    text.push_str(if flags.contains(TunnelFlags::REMOTE_CHECKSUM) {
        " --tun-remcsum"
    } else if flags.contains(TunnelFlags::CHECKSUM) {
        " --tun-csum"
    } else {
        " --tun-nocsum"
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(family: Family, mark: u32) -> ServiceId {
        let mark = mark.try_into().unwrap();
        ServiceId::Mark { family, mark }
    }

    fn service(id: ServiceId, scheduler: &str) -> Service {
        Service {
            id,
            scheduler: scheduler.parse().unwrap(),
            flags: ServiceFlags::empty(),
            persistence: None,
        }
    }

    fn server(addr: &str) -> Destination {
        Destination::masquerade(addr.parse().unwrap(), 5)
    }

    #[test]
    fn services_are_written_as_ipvsadm_prints_them() {
        let web = mark(Family::V4, 80);
        let sticky = |id, prefix_length| Service {
            flags: ServiceFlags::SCHEDULER_1 | ServiceFlags::SCHEDULER_2,
            persistence: Some(Persistence {
                timeout_seconds: 300,
                prefix_length,
            }),
            ..service(id, "mh")
        };
        let address = ServiceId::Address {
            protocol: Protocol::Sctp,
            addr: "[fd00::1]:80".parse().unwrap(),
        };
        for (service, text) in [
            (service(web, "wlc"), "-A -f 80 -s wlc"),
            (service(address, "rr"), "-A --sctp-service [fd00::1]:80 -s rr"),
            (
                sticky(web, 24),
                "-A -f 80 -s mh -p 300 -M 255.255.255.0 -b mh-fallback,mh-port",
            ),
            (sticky(web, 32), "-A -f 80 -s mh -p 300 -b mh-fallback,mh-port"),
            (
                sticky(mark(Family::V6, 81), 64),
                "-A -f 81 -6 -s mh -p 300 -M 64 -b mh-fallback,mh-port",
            ),
        ] {
            assert_eq!(Command::AddService(service).ipvsadm(), text);
        }
    }

    #[test]
    fn servers_are_written_as_ipvsadm_prints_them() {
        let tunnel = |kind, flags| Destination {
            forwarding: Forwarding::Tunnel { kind, flags },
            ..server("10.0.0.3:80")
        };
        let gue = TunnelKind::Gue {
            port: 6080.try_into().unwrap(),
        };
        let full = Destination {
            upper_threshold: 100,
            ..server("[fd00::2]:0")
        };
        for (server, text) in [
            (server("10.0.0.1:8080"), "-r 10.0.0.1:8080 -m -w 5"),
            (full, "-r [fd00::2]:0 -m -w 5 -x 100"),
            (
                tunnel(TunnelKind::Ipip, TunnelFlags::empty()),
                "-r 10.0.0.3:80 -i -w 5 --tun-type ipip",
            ),
            (
                tunnel(gue, TunnelFlags::empty()),
                "-r 10.0.0.3:80 -i -w 5 --tun-type gue --tun-port 6080 --tun-nocsum",
            ),
            (
                tunnel(TunnelKind::Gre, TunnelFlags::CHECKSUM),
                "-r 10.0.0.3:80 -i -w 5 --tun-type gre --tun-csum",
            ),
        ] {
            let command = Command::AddDestination(mark(Family::V4, 80), server);
            assert_eq!(command.ipvsadm(), format!("-a -f 80 {text}"));
        }
    }
}
