//! What `tests/golden/netns_record` made `ipvsadm` add and set: each run, and the same in our words.
use crate::ServiceId::{self, Address, Mark};
use crate::{
    Destination, Family, Forwarding, Persistence, Protocol, Service, ServiceFlags, TunnelFlags, TunnelKind,
};

pub(super) fn web() -> ServiceId {
    mark(Family::V4, 80)
}

pub(super) fn web6() -> ServiceId {
    mark(Family::V6, 81)
}

fn mark(family: Family, mark: u32) -> ServiceId {
    let mark = mark.try_into().unwrap();
    Mark { family, mark }
}

pub(super) fn address(protocol: Protocol, addr: &str) -> ServiceId {
    let addr = addr.parse().unwrap();
    Address { protocol, addr }
}

fn service(id: ServiceId, scheduler: &str, flags: ServiceFlags) -> Service {
    let scheduler = scheduler.parse().unwrap();
    let persistence = None;
    Service {
        id,
        scheduler,
        flags,
        persistence,
    }
}

fn sticky(id: ServiceId, scheduler: &str, persistence: (u32, u8)) -> Service {
    let (timeout_seconds, prefix_length) = persistence;
    let persistence = Some(Persistence {
        timeout_seconds,
        prefix_length,
    });
    Service {
        persistence,
        ..service(id, scheduler, ServiceFlags::empty())
    }
}

pub(super) fn added_services() -> Vec<(&'static str, Service)> {
    let none = ServiceFlags::empty();
    let both = ServiceFlags::SCHEDULER_1 | ServiceFlags::SCHEDULER_2;
    let tcp = address(Protocol::Tcp, "192.0.2.1:80");
    let tcp6 = address(Protocol::Tcp, "[2001:db8::1]:80");
    let dns = address(Protocol::Udp, "[2001:db8::1]:53");
    let s1ap = address(Protocol::Sctp, "192.0.2.1:36412");
    vec![
        ("-A -f 80 -s wlc", service(web(), "wlc", none)),
        ("-A -f 81 -6 -s mh -b flag-1,flag-2", service(web6(), "mh", both)),
        ("-A -t 192.0.2.1:80 -s rr", service(tcp, "rr", none)),
        (
            "-A -u [2001:db8::1]:53 -s rr -o",
            service(dns, "rr", ServiceFlags::ONE_PACKET),
        ),
        (
            "-A --sctp-service 192.0.2.1:36412 -s lc -p 360 -M 255.255.255.0",
            sticky(s1ap, "lc", (360, 24)),
        ),
        (
            "-A -t [2001:db8::1]:80 -s sh -p 60 -M 64",
            sticky(tcp6, "sh", (60, 64)),
        ),
    ]
}

pub(super) fn set_service() -> (&'static str, Service) {
    ("-E -f 80 -s sed -p 300", sticky(web(), "sed", (300, 32)))
}

fn server(addr: &str, forwarding: Forwarding, weight: u32) -> Destination {
    Destination {
        forwarding,
        ..Destination::masquerade(addr.parse().unwrap(), weight)
    }
}

fn tunnel(addr: &str, kind: TunnelKind, flags: TunnelFlags) -> Destination {
    server(addr, Forwarding::Tunnel { kind, flags }, 1)
}

/// Servers without thresholds and tunnels.
fn plain_servers() -> Vec<(&'static str, ServiceId, Destination)> {
    let nat = |addr, weight| server(addr, Forwarding::Masquerade, weight);
    vec![
        (
            "-a -f 80 -r 10.0.0.1:8080 -m -w 5",
            web(),
            nat("10.0.0.1:8080", 5),
        ),
        ("-a -f 80 -r 10.0.0.2 -m -w 0", web(), nat("10.0.0.2:0", 0)),
        (
            "-a -f 81 -6 -r [2001:db8::2]:8080 -m -w 1",
            web6(),
            nat("[2001:db8::2]:8080", 1),
        ),
    ]
}

pub(super) fn added_servers() -> Vec<(&'static str, ServiceId, Destination)> {
    let direct = Destination {
        upper_threshold: 20,
        lower_threshold: 10,
        ..server("10.0.0.3:80", Forwarding::Direct, 1)
    };
    let none = TunnelFlags::empty();
    let gue = TunnelKind::Gue {
        port: 6080.try_into().unwrap(),
    };
    let gue = tunnel("10.0.0.5:80", gue, TunnelFlags::REMOTE_CHECKSUM);
    let gre = tunnel("10.0.0.6:80", TunnelKind::Gre, TunnelFlags::CHECKSUM);
    let ipip6 = tunnel("[2001:db8::3]:80", TunnelKind::Ipip, none);
    let tcp = address(Protocol::Tcp, "192.0.2.1:80");
    let mut servers = plain_servers();
    servers.extend([
        ("-a -f 80 -r 10.0.0.3:80 -g -x 20 -y 10", web(), direct),
        (
            "-a -f 80 -r 10.0.0.4:80 -i",
            web(),
            tunnel("10.0.0.4:80", TunnelKind::Ipip, none),
        ),
        (
            "-a -f 80 -r 10.0.0.5:80 -i --tun-type gue --tun-port 6080 --tun-remcsum",
            web(),
            gue,
        ),
        ("-a -f 80 -r 10.0.0.6:80 -i --tun-type gre --tun-csum", web(), gre),
        ("-a -t 192.0.2.1:80 -r [2001:db8::3]:80 -i", tcp, ipip6),
    ]);
    servers
}

pub(super) fn set_server() -> (&'static str, Destination) {
    let server = server("10.0.0.1:8080", Forwarding::Masquerade, 7);
    (
        "-e -f 80 -r 10.0.0.1:8080 -m -w 7 -x 100",
        Destination {
            upper_threshold: 100,
            ..server
        },
    )
}
