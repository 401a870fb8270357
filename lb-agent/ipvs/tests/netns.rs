//! The client on a real kernel, checked with `ipvsadm`. Each test has a network namespace of its own.
//!
//! `e2e/runner` boots a machine for these, since few kernels of build machines have IPVS.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command as Process;
use std::time::{Duration, Instant};

use ipvs::{
    Batch, Client, Command, Config, Destination, Error, Family, Forwarding, Persistence, Protocol, Service,
    ServiceFlags, ServiceId, TunnelFlags, TunnelKind,
};
use nix::sched::{CloneFlags, unshare};

/// A client in a fresh network namespace, which this thread enters for good.
fn fresh() -> Client {
    unshare(CloneFlags::CLONE_NEWNET).expect("root, in a machine of its own; cargo runs e2e/runner");
    // Without it the kernel takes no address for unicast.
    run("ip", "link set lo up");
    Client::open().unwrap()
}

/// Runs a tool with arguments parted by spaces, and returns what it says.
fn run(tool: &str, arguments: &str) -> String {
    let output = Process::new(tool)
        .args(arguments.split_whitespace())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{tool} {arguments}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

/// The table as `ipvsadm` saves it, sorted.
fn saved() -> Vec<String> {
    let mut lines: Vec<_> = run("ipvsadm", "-Sn")
        .lines()
        .map(|line| line.trim().to_owned())
        .collect();
    lines.sort();
    lines
}

/// All that `ipvsadm` can show of the table, sorted: what it saves lacks thresholds and tunnels.
fn shown() -> Vec<String> {
    let mut lines = saved();
    for what in ["-Ln --thresholds", "-Ln --tun-info"] {
        lines.extend(run("ipvsadm", what).lines().map(str::to_owned));
    }
    lines.sort();
    lines
}

fn mark(family: Family, mark: u32) -> ServiceId {
    ServiceId::Mark {
        family,
        mark: mark.try_into().unwrap(),
    }
}

fn tcp(addr: &str) -> ServiceId {
    ServiceId::Address {
        protocol: Protocol::Tcp,
        addr: addr.parse().unwrap(),
    }
}

fn service(id: ServiceId, scheduler: &str) -> Service {
    Service {
        id,
        scheduler: scheduler.parse().unwrap(),
        flags: ServiceFlags::empty(),
        persistence: None,
    }
}

fn nat(addr: &str, weight: u32) -> Destination {
    Destination::masquerade(addr.parse().unwrap(), weight)
}

fn forwarded(addr: &str, forwarding: Forwarding) -> Destination {
    Destination {
        forwarding,
        ..nat(addr, 1)
    }
}

fn apply_all(client: &mut Client, commands: impl IntoIterator<Item = Command>) {
    let rejections = client.apply(&commands.into_iter().collect()).unwrap();
    assert!(rejections.is_empty(), "{rejections:?}");
}

/// Services of every kind, and the line by which `ipvsadm` makes each.
fn services() -> Vec<(Service, &'static str)> {
    let persistence = |timeout_seconds, prefix_length| {
        Some(Persistence {
            timeout_seconds,
            prefix_length,
        })
    };
    let udp = ServiceId::Address {
        protocol: Protocol::Udp,
        addr: "[2001:db8::1]:53".parse().unwrap(),
    };
    let sctp = ServiceId::Address {
        protocol: Protocol::Sctp,
        addr: "192.0.2.1:36412".parse().unwrap(),
    };
    let flags = ServiceFlags::SCHEDULER_1 | ServiceFlags::SCHEDULER_2;
    vec![
        (
            service(mark(Family::V4, 0x4000_0050), "wlc"),
            "-A -f 1073741904 -s wlc",
        ),
        (
            Service {
                flags,
                ..service(mark(Family::V6, 0x4001_0050), "mh")
            },
            "-A -f 1073807440 -6 -s mh -b mh-fallback,mh-port",
        ),
        (service(tcp("192.0.2.1:80"), "rr"), "-A -t 192.0.2.1:80 -s rr"),
        (
            Service {
                persistence: persistence(60, 64),
                ..service(tcp("[2001:db8::1]:80"), "sh")
            },
            "-A -t [2001:db8::1]:80 -s sh -p 60 -M 64",
        ),
        (
            Service {
                flags: ServiceFlags::ONE_PACKET,
                ..service(udp, "nq")
            },
            "-A -u [2001:db8::1]:53 -s nq -o",
        ),
        (
            Service {
                persistence: persistence(360, 24),
                ..service(sctp, "lc")
            },
            "-A --sctp-service 192.0.2.1:36412 -s lc -p 360 -M 255.255.255.0",
        ),
    ]
}

/// Servers of every kind for the IPv4 mark service, and the line by which `ipvsadm` makes each.
fn servers() -> Vec<(Destination, &'static str)> {
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

const WEB: ServiceId = match std::num::NonZeroU32::new(0x4000_0050) {
    Some(mark) => ServiceId::Mark {
        family: Family::V4,
        mark,
    },
    None => panic!(),
};

#[test]
fn what_we_add_is_what_ipvsadm_would_have_added() {
    let mut client = fresh();
    apply_all(
        &mut client,
        services()
            .into_iter()
            .map(|(service, _)| Command::AddService(service)),
    );
    apply_all(
        &mut client,
        servers()
            .into_iter()
            .map(|(server, _)| Command::AddDestination(WEB, server)),
    );
    let ours = shown();

    fresh();
    for line in services()
        .iter()
        .map(|(_, line)| line)
        .chain(servers().iter().map(|(_, line)| line))
    {
        run("ipvsadm", line);
    }
    assert_eq!(ours, shown());
    assert_eq!(saved().len(), services().len() + servers().len());
}

#[test]
fn what_ipvsadm_adds_is_what_we_read() {
    let mut client = fresh();
    for line in services()
        .iter()
        .map(|(_, line)| line)
        .chain(servers().iter().map(|(_, line)| line))
    {
        run("ipvsadm", line);
    }
    let mut read: Vec<_> = client
        .services()
        .unwrap()
        .into_iter()
        .map(|entry| entry.service)
        .collect();
    let mut wanted: Vec<_> = services().into_iter().map(|(service, _)| service).collect();
    read.sort_by_key(|service| service.id);
    wanted.sort_by_key(|service| service.id);
    assert_eq!(read, wanted);

    let entries = client.destinations(&WEB).unwrap();
    let mut read: Vec<_> = entries.into_iter().map(|entry| entry.destination).collect();
    read.sort_by_key(|server| server.addr);
    assert_eq!(
        read,
        servers()
            .into_iter()
            .map(|(server, _)| server)
            .collect::<Vec<_>>()
    );
}

#[test]
fn setting_changes_all_but_the_identity() {
    let mut client = fresh();
    apply_all(
        &mut client,
        [
            Command::AddService(service(WEB, "rr")),
            Command::AddDestination(WEB, nat("10.0.0.1:8080", 1)),
            Command::AddDestination(WEB, nat("10.0.0.2:8080", 1)),
            Command::SetService(Service {
                flags: ServiceFlags::SCHEDULER_1,
                persistence: Some(Persistence {
                    timeout_seconds: 300,
                    prefix_length: 32,
                }),
                ..service(WEB, "mh")
            }),
            Command::SetDestination(
                WEB,
                Destination {
                    upper_threshold: 9,
                    ..nat("10.0.0.1:8080", 0)
                },
            ),
        ],
    );
    assert_eq!(
        saved(),
        [
            "-A -f 1073741904 -s mh -p 300 -b mh-fallback",
            "-a -f 1073741904 -r 10.0.0.1:8080 -m -w 0",
            "-a -f 1073741904 -r 10.0.0.2:8080 -m -w 1",
        ]
    );
    let server = "10.0.0.1:8080".parse().unwrap();
    let entries = client.destinations(&WEB).unwrap();
    let limited = entries
        .iter()
        .find(|entry| entry.destination.addr == server)
        .unwrap();
    assert_eq!(limited.destination.upper_threshold, 9);
    // Flags and persistence also go away again.
    client.run(Command::SetService(service(WEB, "rr"))).unwrap();
    assert_eq!(client.services().unwrap()[0].service, service(WEB, "rr"));
}

#[test]
fn removing_leaves_the_others() {
    let mut client = fresh();
    let (web, web6) = (tcp("192.0.2.1:80"), tcp("[2001:db8::1]:80"));
    apply_all(
        &mut client,
        [
            Command::AddService(service(web, "rr")),
            Command::AddService(service(web6, "rr")),
            Command::AddService(service(WEB, "rr")),
            Command::AddDestination(web6, nat("[2001:db8::2]:8080", 1)),
            Command::AddDestination(web6, nat("[2001:db8::3]:8080", 1)),
            Command::RemoveDestination(web6, "[2001:db8::2]:8080".parse().unwrap()),
            Command::RemoveService(web),
            Command::RemoveService(WEB),
        ],
    );
    assert_eq!(
        saved(),
        [
            "-A -t [2001:db8::1]:80 -s rr",
            "-a -t [2001:db8::1]:80 -r [2001:db8::3]:8080 -m -w 1"
        ]
    );
    client.run(Command::Flush).unwrap();
    assert_eq!(saved(), [""; 0]);
}

#[test]
fn a_missing_or_doubled_thing_is_told_as_such() {
    let mut client = fresh();
    let (absent, server) = (mark(Family::V4, 99), nat("10.0.0.1:80", 1));
    client.run(Command::AddService(service(WEB, "rr"))).unwrap();
    client.run(Command::AddDestination(WEB, server)).unwrap();
    let mut error = |command| client.run(command).unwrap_err();

    assert!(matches!(error(Command::AddService(service(WEB, "lc"))), Error::ServiceExists(id) if id == WEB));
    assert!(matches!(
        error(Command::AddDestination(WEB, server)),
        Error::DestinationExists(id, addr) if (id, addr) == (WEB, server.addr)
    ));
    for command in [
        Command::SetService(service(absent, "rr")),
        Command::RemoveService(absent),
        Command::Zero(Some(absent)),
        Command::AddDestination(absent, server),
        Command::SetDestination(absent, server),
        Command::RemoveDestination(absent, server.addr),
    ] {
        let text = command.to_string();
        let error = error(command);
        assert!(
            matches!(error, Error::ServiceMissing(id) if id == absent),
            "{text}: {error:?}"
        );
    }
    let other: SocketAddr = "10.0.0.2:80".parse().unwrap();
    for command in [
        Command::SetDestination(WEB, nat("10.0.0.2:80", 1)),
        Command::RemoveDestination(WEB, other),
    ] {
        let error = error(command);
        assert!(
            matches!(error, Error::DestinationMissing(id, addr) if (id, addr) == (WEB, other)),
            "{error:?}"
        );
    }
}

#[test]
fn an_unknown_scheduler_is_told_as_such_not_as_a_missing_server() {
    let mut client = fresh();
    client.run(Command::AddService(service(WEB, "rr"))).unwrap();
    for command in [
        Command::AddService(service(mark(Family::V4, 99), "nosuch")),
        Command::SetService(service(WEB, "nosuch")),
    ] {
        let error = client.run(command).unwrap_err();
        assert!(
            matches!(&error, Error::SchedulerUnavailable(name) if name.as_str() == "nosuch"),
            "{error:?}"
        );
    }
    assert_eq!(saved(), ["-A -f 1073741904 -s rr"]);
}

#[test]
fn values_out_of_range_are_invalid() {
    let mut client = fresh();
    let web6 = mark(Family::V6, 80);
    apply_all(
        &mut client,
        [
            Command::AddService(service(WEB, "rr")),
            Command::AddService(service(web6, "rr")),
        ],
    );
    let prefix = |prefix_length| {
        Some(Persistence {
            timeout_seconds: 60,
            prefix_length,
        })
    };
    for command in [
        Command::SetService(Service {
            persistence: prefix(0),
            ..service(web6, "rr")
        }),
        Command::SetService(Service {
            persistence: prefix(129),
            ..service(web6, "rr")
        }),
        Command::AddDestination(WEB, nat("224.0.0.1:80", 1)),
        Command::AddDestination(web6, nat("[ff02::1]:80", 1)),
        Command::AddDestination(WEB, nat("[2001:db8::2]:80", 1)),
        Command::AddDestination(WEB, nat("10.0.0.1:80", u32::MAX)),
        Command::AddDestination(
            WEB,
            Destination {
                upper_threshold: 1,
                lower_threshold: 2,
                ..nat("10.0.0.1:80", 1)
            },
        ),
        Command::SetConfig(Config {
            tcp_seconds: u32::MAX,
            ..Config::default()
        }),
    ] {
        let text = command.to_string();
        let error = client.run(command).unwrap_err();
        assert!(matches!(error, Error::Invalid(..)), "{text}: {error:?}");
    }
}

#[test]
fn a_refused_command_harms_none_around_it() {
    let mut client = fresh();
    let batch = Batch::from_iter([
        Command::AddService(service(WEB, "rr")),
        Command::AddDestination(WEB, nat("10.0.0.1:80", 1)),
        Command::AddDestination(WEB, nat("10.0.0.1:80", 2)),
        Command::AddDestination(WEB, nat("10.0.0.2:80", 1)),
        Command::RemoveDestination(WEB, "10.0.0.3:80".parse().unwrap()),
        Command::AddDestination(WEB, nat("10.0.0.4:80", 1)),
        Command::RemoveService(mark(Family::V4, 99)),
    ]);
    let rejections = client.apply(&batch).unwrap();
    assert_eq!(
        rejections
            .iter()
            .map(|rejection| rejection.index)
            .collect::<Vec<_>>(),
        [2, 4, 6]
    );
    assert!(
        matches!(rejections[0].error, Error::DestinationExists(..)),
        "{:?}",
        rejections[0]
    );
    assert!(
        matches!(rejections[1].error, Error::DestinationMissing(..)),
        "{:?}",
        rejections[1]
    );
    assert!(
        matches!(rejections[2].error, Error::ServiceMissing(..)),
        "{:?}",
        rejections[2]
    );
    assert_eq!(
        saved(),
        [
            "-A -f 1073741904 -s rr",
            "-a -f 1073741904 -r 10.0.0.1:80 -m -w 1",
            "-a -f 1073741904 -r 10.0.0.2:80 -m -w 1",
            "-a -f 1073741904 -r 10.0.0.4:80 -m -w 1",
        ]
    );
}

#[test]
fn thousands_of_servers_go_in_and_come_back() {
    let mut client = fresh();
    let servers: Vec<_> = (0..3000_u32)
        .map(|n| nat(&format!("10.0.{}.{}:80", n / 250, n % 250 + 1), n % 7))
        .collect();
    let mut batch = Batch::from_iter([Command::AddService(service(WEB, "rr"))]);
    batch.extend(servers.iter().map(|server| Command::AddDestination(WEB, *server)));
    assert!(client.apply(&batch).unwrap().is_empty());

    let entries = client.destinations(&WEB).unwrap();
    let mut read: Vec<_> = entries.into_iter().map(|entry| entry.destination).collect();
    read.sort_by_key(|server| server.addr);
    assert_eq!(read, servers);
    assert_eq!(saved().len(), 3001);

    // Again, all are refused, and each refusal finds its command and its way back.
    let rejections = client.apply(&batch).unwrap();
    assert!(rejections.iter().map(|rejection| rejection.index).eq(0..3001));
    for rejection in &rejections[1..] {
        let addr = servers[rejection.index - 1].addr;
        assert!(
            matches!(rejection.error, Error::DestinationExists(_, at) if at == addr),
            "{rejection:?}"
        );
    }
}

#[test]
fn a_missing_service_has_no_servers() {
    let mut client = fresh();
    assert_eq!(client.services().unwrap(), []);
    assert_eq!(client.destinations(&WEB).unwrap(), []);
}

#[test]
fn timeouts_are_set_and_zeros_leave_them() {
    let mut client = fresh();
    let kernels = Config {
        tcp_seconds: 900,
        tcp_fin_seconds: 120,
        udp_seconds: 300,
    };
    assert_eq!(client.config().unwrap(), kernels);
    client
        .set_config(Config {
            tcp_seconds: 1000,
            udp_seconds: 200,
            ..Config::default()
        })
        .unwrap();
    assert_eq!(
        run("ipvsadm", "-L --timeout").trim(),
        "Timeout (tcp tcpfin udp): 1000 120 200"
    );
    assert_eq!(
        client.config().unwrap(),
        Config {
            tcp_seconds: 1000,
            udp_seconds: 200,
            ..kernels
        }
    );
}

#[test]
fn the_version_is_told() {
    let info = fresh().info().unwrap();
    let (major, minor, patch) = info.version;
    let header = format!(
        "IP Virtual Server version {major}.{minor}.{patch} (size={})",
        info.connection_table_size
    );
    assert!(run("ipvsadm", "-Ln").starts_with(&header), "{header}");
}

#[test]
fn connections_are_counted() {
    let mut client = fresh();
    run("ip", "addr add 192.0.2.1/32 dev lo");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = Destination::masquerade(listener.local_addr().unwrap(), 1);
    let web = tcp("192.0.2.1:80");
    apply_all(
        &mut client,
        [
            Command::AddService(service(web, "rr")),
            Command::AddDestination(web, server),
        ],
    );

    let _connection = TcpStream::connect("192.0.2.1:80").unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    let entry = loop {
        let entry = client.destinations(&web).unwrap().remove(0);
        if entry.counters.connections > 0 {
            break entry;
        }
        assert!(Instant::now() < deadline, "{entry:?}");
        // The estimator collects every two seconds.
        std::thread::sleep(Duration::from_millis(100));
    };
    assert_eq!(
        (
            entry.active_connections,
            entry.inactive_connections,
            entry.persistent_connections
        ),
        (1, 0, 0)
    );
    assert_eq!(entry.counters.connections, 1);
    assert!(
        entry.counters.incoming_packets >= 2 && entry.counters.incoming_bytes >= 80,
        "{entry:?}"
    );
    assert!(
        entry.counters.outgoing_packets >= 1 && entry.counters.outgoing_bytes >= 40,
        "{entry:?}"
    );
    assert_eq!(client.services().unwrap()[0].counters, entry.counters);

    client.run(Command::Zero(Some(web))).unwrap();
    assert_eq!(client.destinations(&web).unwrap()[0].counters.connections, 0);
}

/// Runs itself again without the right to use IPVS, in both ways to lack it.
#[test]
fn without_the_right_it_says_which() {
    const WITHOUT: &str = "IPVS_TEST_WITHOUT_RIGHT";
    if std::env::var_os(WITHOUT).is_some() {
        let mut client = Client::open().unwrap();
        assert!(matches!(client.services().unwrap_err(), Error::Permission));
        assert!(matches!(
            client.run(Command::Flush).unwrap_err(),
            Error::Permission
        ));
        return;
    }
    fresh();
    for wrapper in [
        "setpriv --bounding-set -net_admin",
        "unshare --user --map-root-user --net",
    ] {
        let mut words = wrapper.split(' ');
        let output = Process::new(words.next().unwrap())
            .args(words)
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", "without_the_right_it_says_which"])
            .env(WITHOUT, "yes")
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            output.status.success() && text.contains("1 passed"),
            "{wrapper}: {text}"
        );
    }
}
