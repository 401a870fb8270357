//! Services and servers of every kind, each with the line by which `ipvsadm` makes it.
use ipvs::{
    Destination, Family, Forwarding, Persistence, Protocol, Service, ServiceFlags, TunnelFlags, TunnelKind,
};

use crate::{WEB, address, mark, nat, service, tcp};

pub(crate) fn services() -> Vec<(Service, &'static str)> {
    let mut services = mark_services();
    services.extend(address_services());
    services
}

fn mark_services() -> Vec<(Service, &'static str)> {
    let mh = Service {
        flags: ServiceFlags::SCHEDULER_1 | ServiceFlags::SCHEDULER_2,
        ..service(mark(Family::V6, 0x4001_0050), "mh")
    };
    vec![
        (service(WEB, "wlc"), "-A -f 1073741904 -s wlc"),
        (mh, "-A -f 1073807440 -6 -s mh -b mh-fallback,mh-port"),
    ]
}

fn address_services() -> Vec<(Service, &'static str)> {
    let web = service(tcp("192.0.2.1:80"), "rr");
    let sticky = Service {
        persistence: persistence(60, 64),
        ..service(tcp("[2001:db8::1]:80"), "sh")
    };
    let dns = Service {
        flags: ServiceFlags::ONE_PACKET,
        ..service(address(Protocol::Udp, "[2001:db8::1]:53"), "nq")
    };
    let s1ap = Service {
        persistence: persistence(360, 24),
        ..service(address(Protocol::Sctp, "192.0.2.1:36412"), "lc")
    };
    vec![
        (web, "-A -t 192.0.2.1:80 -s rr"),
        (sticky, "-A -t [2001:db8::1]:80 -s sh -p 60 -M 64"),
        (dns, "-A -u [2001:db8::1]:53 -s nq -o"),
        (
            s1ap,
            "-A --sctp-service 192.0.2.1:36412 -s lc -p 360 -M 255.255.255.0",
        ),
    ]
}

#[allow(clippy::unnecessary_wraps, reason = "as the field wants it")]
fn persistence(timeout_seconds: u32, prefix_length: u8) -> Option<Persistence> {
    Some(Persistence {
        timeout_seconds,
        prefix_length,
    })
}

fn forwarded(addr: &str, forwarding: Forwarding) -> Destination {
    Destination {
        forwarding,
        ..nat(addr, 1)
    }
}

pub(crate) fn servers() -> Vec<(Destination, &'static str)> {
    let tunnel = |kind, flags| Forwarding::Tunnel { kind, flags };
    let none = TunnelFlags::empty();
    let gue = TunnelKind::Gue {
        port: 6080.try_into().unwrap(),
    };
    let limited = Destination {
        upper_threshold: 20,
        lower_threshold: 10,
        ..nat("10.0.0.2:0", 0)
    };
    vec![
        (
            nat("10.0.0.1:8080", 5),
            "-a -f 1073741904 -r 10.0.0.1:8080 -m -w 5",
        ),
        (limited, "-a -f 1073741904 -r 10.0.0.2:0 -m -w 0 -x 20 -y 10"),
        (
            forwarded("10.0.0.3:80", Forwarding::Direct),
            "-a -f 1073741904 -r 10.0.0.3:80 -g -w 1",
        ),
        (
            forwarded("10.0.0.4:80", tunnel(TunnelKind::Ipip, none)),
            "-a -f 1073741904 -r 10.0.0.4:80 -i -w 1 --tun-type ipip",
        ),
        (
            forwarded("10.0.0.5:80", tunnel(gue, TunnelFlags::REMOTE_CHECKSUM)),
            "-a -f 1073741904 -r 10.0.0.5:80 -i -w 1 --tun-type gue --tun-port 6080 --tun-remcsum",
        ),
        (
            forwarded("10.0.0.6:80", tunnel(TunnelKind::Gre, TunnelFlags::CHECKSUM)),
            "-a -f 1073741904 -r 10.0.0.6:80 -i -w 1 --tun-type gre --tun-csum",
        ),
        (
            forwarded("[2001:db8::7]:80", tunnel(TunnelKind::Ipip, none)),
            "-a -f 1073741904 -r [2001:db8::7]:80 -i -w 1 --tun-type ipip",
        ),
    ]
}
