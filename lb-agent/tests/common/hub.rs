//! A client, an agent and two servers, each in a network namespace of its own, on one bridge.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::ops::Deref;
use std::time::Duration;

use super::agent::Agent;
use super::connection::{Connection, serve_tcp, serve_udp};
use super::places::Places;
use super::until;

/// The agent's addresses.
pub(crate) const AGENT: &str = "10.1.0.1";
pub(crate) const AGENT_V6: &str = "fd00::1";

pub(crate) struct Scene {
    places: Places,
    pub(crate) agent: Agent,
}

impl Deref for Scene {
    type Target = Places;

    fn deref(&self) -> &Places {
        &self.places
    }
}

/// What the object in the agent's file says.
pub(crate) struct Object<'a> {
    pub(crate) spec: &'a str,
    /// Servers by the last number of their addresses.
    pub(crate) servers: &'a [u8],
}

impl Scene {
    pub(crate) fn new() -> Self {
        let mut places = Places::new();
        places.add("hub");
        places.ip("hub", "link add br0 type bridge\nlink set br0 up\n");
        for (place, octet) in [("agent", 1), ("client", 9), ("server2", 2), ("server3", 3)] {
            places.add(place);
            join(&places, place, octet);
        }
        let scene = Self {
            agent: Agent::new(&places, "agent"),
            places,
        };
        for place in ["server2", "server3"] {
            scene.listen(place, 8080);
        }
        scene
    }

    /// A TCP and UDP server that tells its address's last number and the client's address, and then echoes.
    pub(crate) fn listen(&self, place: &str, port: u16) {
        let (tcp, udp) = self.within(place, move || {
            let all = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
            (
                TcpListener::bind(all).expect("free"),
                UdpSocket::bind(all).expect("free"),
            )
        });
        serve_tcp(tcp);
        serve_udp(udp, place.trim_start_matches("server").to_owned());
    }

    /// Gives a place more addresses, by their last numbers.
    pub(crate) fn add_addresses(&self, place: &str, octets: impl IntoIterator<Item = u8>) {
        let commands: Vec<String> = octets
            .into_iter()
            .map(|octet| {
                format!("addr add 10.1.0.{octet}/24 dev eth0\naddr add fd00::{octet}/64 dev eth0 nodad\n")
            })
            .collect();
        self.ip(place, &commands.concat());
    }

    pub(crate) fn write(&self, object: &Object<'_>) {
        let endpoints = |addresses: &dyn Fn(u8) -> String| {
            object.servers.iter().fold(String::new(), |mut text, octet| {
                let _ = write!(text, "{{addresses: [\"{}\"]}}, ", addresses(*octet));
                text
            })
        };
        let slice = |family: &str, addresses: &dyn Fn(u8) -> String| {
            format!(
                "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: {family}}}\n\
                 addressType: {family}\nports: [{{name: http, port: 8080}}, {{name: udp, port: 8080, protocol: UDP}}]\n\
                 endpoints: [{}]\n",
                endpoints(addresses)
            )
        };
        let text = format!(
            "apiVersion: portablelb.io/v1alpha1\nkind: PortableLoadBalancer\nmetadata: {{name: web}}\n\
             spec: {{{}{}}}\n{}{}",
            if object.spec.contains("backends:") {
                ""
            } else {
                "backends: {service: {name: web}}, "
            },
            object.spec,
            slice("IPv4", &|octet| format!("10.1.0.{octet}")),
            slice("IPv6", &|octet| format!("fd00::{octet}")),
        );
        self.agent.write(&text);
    }

    /// Starts the agent and waits until it attracts traffic.
    pub(crate) fn start(&mut self) {
        self.agent.spawn();
        self.until("the agent is ready", |scene| scene.agent.is_ready());
    }

    /// Waits until a condition holds.
    pub(crate) fn until(&self, what: &str, condition: impl Fn(&Self) -> bool) {
        let found = || format!("{}\n{}", self.at("agent", "ipvsadm -Ln"), self.agent.log());
        until(what, || condition(self), found);
    }

    /// The servers of the first service, with their weights.
    pub(crate) fn servers(&self) -> Vec<String> {
        let saved = self.at("agent", "ipvsadm -Sn");
        let weight = |line: &str| line.split_once("-w ").map(|(_, weight)| weight.trim().to_owned());
        let server = |line: &str| {
            line.split_once("-r ")
                .map(|(_, rest)| rest.split(' ').next().map(str::to_owned))
        };
        let mut servers: Vec<String> = saved
            .lines()
            .filter_map(|line| Some(format!("{} {}", server(line)??, weight(line)?)))
            .collect();
        servers.sort();
        servers
    }

    pub(crate) fn connect(&self, address: &str, port: u16) -> std::io::Result<Connection> {
        self.connect_from("client", (address, port), Duration::from_secs(5))
    }

    /// A connection that some place makes to an address.
    pub(crate) fn connect_from(
        &self,
        place: &str,
        (address, port): (&str, u16),
        patience: Duration,
    ) -> std::io::Result<Connection> {
        let address: IpAddr = address.parse().expect("an address");
        let stream = self.within(place, move || {
            TcpStream::connect_timeout(&SocketAddr::new(address, port), patience)
        })?;
        Connection::over(stream)
    }

    /// The server that a connection from this port of the client's comes to; it ends by a reset, so that the port is free again.
    pub(crate) fn connect_by_port(&self, address: &str, port: u16, from: u16) -> std::io::Result<u8> {
        let address: SocketAddr = SocketAddr::new(address.parse().expect("an address"), port);
        let stream = self.within("client", move || -> std::io::Result<TcpStream> {
            let socket =
                socket2::Socket::new(socket2::Domain::for_address(address), socket2::Type::STREAM, None)?;
            socket.set_reuse_address(true)?;
            socket.set_linger(Some(Duration::ZERO))?;
            socket.bind(&SocketAddr::from(([0, 0, 0, 0], from)).into())?;
            socket.connect_timeout(&address.into(), Duration::from_secs(5))?;
            Ok(socket.into())
        })?;
        Connection::over(stream).map(|connection| connection.server)
    }

    /// Whether two connections in a row come to two servers.
    pub(crate) fn shares_evenly(&self, port: u16) -> bool {
        let servers: Vec<Option<u8>> = (0..2)
            .map(|_| self.connect(AGENT, port).ok().map(|it| it.server))
            .collect();
        servers[0].is_some() && servers[1].is_some() && servers[0] != servers[1]
    }

    /// The numbers of servers that so many connections come to, each closed before the next.
    pub(crate) fn served_by(&self, port: u16, count: usize) -> Vec<u8> {
        let server = |_| self.connect(AGENT, port).expect("a server answers").server;
        (0..count).map(server).collect()
    }

    /// How many of so many connections come to each server: 2 and 3.
    pub(crate) fn shares(&self, port: u16, count: usize) -> (usize, usize) {
        let servers = self.served_by(port, count).into_iter();
        let (second, third): (Vec<u8>, Vec<u8>) = servers.partition(|server| *server == 2);
        (second.len(), third.len())
    }

    /// A socket of the client's that sends to a port of the agent.
    pub(crate) fn udp(&self, port: u16) -> UdpSocket {
        self.within("client", move || {
            let socket = UdpSocket::bind("0.0.0.0:0").expect("free");
            socket.connect((AGENT, port)).expect("an address");
            socket
                .set_read_timeout(Some(Duration::from_millis(500)))
                .expect("a time");
            socket
        })
    }
}

fn join(places: &Places, place: &str, octet: u8) {
    let hub = places.name("hub");
    places.ip(
        place,
        &format!(
            "link add eth0 type veth peer name v{octet} netns {hub}\naddr add 10.1.0.{octet}/24 dev eth0\n\
             addr add fd00::{octet}/64 dev eth0 nodad\nlink set eth0 up\nlink set lo up\n"
        ),
    );
    places.ip("hub", &format!("link set v{octet} master br0 up\n"));
}
