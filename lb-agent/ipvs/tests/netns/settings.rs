//! Timeouts, facts and counters.
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use ipvs::{Client, Command, Config, Destination, DestinationEntry, ServiceId};

use crate::{apply_all, fresh, run, service, tcp};

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

/// The service's server, as soon as the estimator, which works every two seconds, has counted something.
fn counted(client: &mut Client, service: &ServiceId) -> DestinationEntry {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let entry = client.destinations(service).unwrap().remove(0);
        if entry.counters.connections > 0 {
            return entry;
        }
        assert!(Instant::now() < deadline, "{entry:?}");
        std::thread::park_timeout(Duration::from_millis(100));
    }
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
    let entry = counted(&mut client, &web);
    assert_eq!((entry.active_connections, entry.inactive_connections), (1, 0));
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
