//! What the kernel refuses, and that it is told by its right name.
use std::net::SocketAddr;
use std::process::Command as Process;

use ipvs::{Batch, Client, Command, Config, Destination, Error, Family, Persistence, Service};

use crate::{WEB, apply_all, fresh, mark, nat, saved, service};

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

/// The kernel takes the service, the server or the timeouts for invalid.
fn assert_invalid(client: &mut Client, commands: impl IntoIterator<Item = Command>) {
    for command in commands {
        let text = command.to_string();
        let error = client.run(command).unwrap_err();
        assert!(matches!(error, Error::Invalid(..)), "{text}: {error:?}");
    }
}

#[test]
fn settings_out_of_range_are_invalid() {
    let mut client = fresh();
    let web6 = service(mark(Family::V6, 80), "rr");
    client.run(Command::AddService(web6.clone())).unwrap();
    let with_prefix = |prefix_length| Service {
        persistence: Some(Persistence {
            timeout_seconds: 60,
            prefix_length,
        }),
        ..web6.clone()
    };
    let timeouts = Config {
        tcp_seconds: u32::MAX,
        ..Config::default()
    };
    assert_invalid(
        &mut client,
        [
            Command::SetService(with_prefix(0)),
            Command::SetService(with_prefix(129)),
            Command::SetConfig(timeouts),
        ],
    );
}

#[test]
fn servers_out_of_range_are_invalid() {
    let mut client = fresh();
    let web6 = mark(Family::V6, 80);
    apply_all(
        &mut client,
        [
            Command::AddService(service(WEB, "rr")),
            Command::AddService(service(web6, "rr")),
        ],
    );
    let upside_down = Destination {
        upper_threshold: 1,
        lower_threshold: 2,
        ..nat("10.0.0.1:80", 1)
    };
    assert_invalid(
        &mut client,
        [
            Command::AddDestination(WEB, nat("224.0.0.1:80", 1)),
            Command::AddDestination(web6, nat("[ff02::1]:80", 1)),
            Command::AddDestination(WEB, nat("[2001:db8::2]:80", 1)),
            Command::AddDestination(WEB, nat("10.0.0.1:80", u32::MAX)),
            Command::AddDestination(WEB, upside_down),
        ],
    );
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
    let told: Vec<_> = rejections
        .iter()
        .map(|rejection| (rejection.index, rejection.error.to_string()))
        .collect();
    let web = "service IPv4 mark 0x40000050";
    assert_eq!(
        told,
        [
            (
                2,
                format!("server 10.0.0.1:80 of {web} exists already; set it instead of adding it")
            ),
            (
                4,
                format!("server 10.0.0.3:80 of {web} does not exist; add it first")
            ),
            (
                6,
                "service IPv4 mark 0x63 does not exist; add it first".to_owned()
            ),
        ]
    );
    assert_eq!(saved().len(), 4, "the service and three servers");
    let servers = client.destinations(&WEB).unwrap();
    assert!(
        servers.iter().all(|entry| entry.destination.weight == 1),
        "{servers:?}"
    );
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
            .args(["--exact", "errors::without_the_right_it_says_which"])
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
