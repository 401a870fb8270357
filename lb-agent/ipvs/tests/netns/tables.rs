//! What goes into the kernel's tables is what comes out of them.
use ipvs::{Batch, Command, Destination, Error, Persistence, Service, ServiceFlags};

use crate::samples::{servers, services};
use crate::{WEB, apply_all, fresh, nat, run, saved, service, tcp};

/// All that `ipvsadm` can show of the table, sorted: what it saves lacks thresholds and tunnels.
fn shown() -> Vec<String> {
    let mut lines = saved();
    for what in ["-Ln --thresholds", "-Ln --tun-info"] {
        lines.extend(run("ipvsadm", what).lines().map(str::to_owned));
    }
    lines.sort();
    lines
}

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
    assert!(run("ipvsadm", "-Ln --thresholds").contains("9          0"));
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
