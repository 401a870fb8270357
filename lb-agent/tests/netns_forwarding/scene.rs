//! A client, a router, an agent with a server on its own link, and a server behind the router, as pods on two nodes.

use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::ops::Deref;
use std::process::Output;
use std::thread;
use std::time::Duration;

use nix::sys::socket::getsockopt;
use nix::sys::socket::sockopt::TcpMaxSeg;

use crate::common::agent::{Agent, command};
use crate::common::connection::{Connection, serve_tcp, serve_udp};
use crate::common::places::Places;
use crate::common::until;
use crate::knocking::connect;

/// The balancer's addresses.
pub(crate) const VIPS: [&str; 2] = ["10.98.7.1", "fd98::1"];
/// The client's.
pub(crate) const CLIENTS: [&str; 2] = ["192.168.9.9", "fd09::9"];
/// The agent's.
pub(crate) const AGENTS: [&str; 2] = ["10.244.1.2", "fd01::2"];
/// Those of another one.
pub(crate) const SECOND: [&str; 2] = ["10.244.1.3", "fd01::3"];
/// Those of the server on the agent's link.
pub(crate) const NEAR: [&str; 2] = ["10.244.1.4", "fd01::4"];
/// Those of the server behind the router.
pub(crate) const FAR: [&str; 2] = ["10.244.2.2", "fd02::2"];
/// What the body of a request or an answer has.
pub(crate) const BODY: usize = 1_000_000;

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

impl Scene {
    pub(crate) fn new() -> Self {
        let mut places = Places::new();
        for place in ["router", "client", "agent", "near", "far"] {
            places.add(place);
        }
        let scene = Self {
            agent: Agent::new(&places, "agent"),
            places,
        };
        scene.within("router", || {
            for name in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
                fs::write(format!("/proc/sys/net/{name}"), "1").expect("can be set");
            }
        });
        // The agent's node has a bridge, as flannel's have.
        scene.ip(
            "router",
            "link set lo up\nlink add br0 type bridge\nlink set br0 up\n\
             addr add 10.244.1.1/24 dev br0\naddr add fd01::1/64 dev br0 nodad\n",
        );
        for (place, addresses) in [
            ("client", CLIENTS),
            ("agent", AGENTS),
            ("near", NEAR),
            ("far", FAR),
        ] {
            join(&scene.places, place, addresses);
        }
        scene.ip(
            "router",
            "link set agent master br0\nlink set near master br0\n\
             addr add 192.168.9.1/24 dev client\naddr add fd09::1/64 dev client nodad\n\
             addr add 10.244.2.1/24 dev far\naddr add fd02::1/64 dev far nodad\n\
             route add 10.98.7.1 via 10.244.1.2\nroute add fd98::1 via fd01::2\n",
        );
        for server in ["near", "far"] {
            scene.start_server(server);
        }
        scene
    }

    /// A second agent on the link of the first.
    pub(crate) fn add_agent(&mut self) -> Agent {
        self.places.add("second");
        join(&self.places, "second", SECOND);
        self.ip("router", "link set second master br0\n");
        Agent::new(&self.places, "second")
    }

    /// A TCP server that tells its place and the client's address, and gives and takes a body.
    fn start_server(&self, place: &'static str) {
        let listener = self.within(place, || {
            let all: SocketAddr = "[::]:80".parse().expect("an address");
            TcpListener::bind(all).expect("free")
        });
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                thread::spawn(move || serve(stream, place));
            }
        });
    }

    /// A TCP server that greets and echoes, at port 81.
    pub(crate) fn start_echo(&self, place: &str) {
        let listener = self.within(place, || TcpListener::bind("[::]:81").expect("free"));
        serve_tcp(listener);
    }

    /// A client's connection to an echo.
    pub(crate) fn talk(&self, address: &str) -> std::io::Result<Connection> {
        let to = SocketAddr::new(address.parse().expect("an address"), 81);
        self.within("client", move || connect(to))
    }

    /// UDP servers that tell their place, at these addresses: one for all addresses would not answer from the one that
    /// was asked.
    pub(crate) fn start_udp(&self, place: &'static str, addresses: &[&str]) {
        for address in addresses {
            let at = SocketAddr::new(address.parse().expect("an address"), 80);
            let socket = self.within(place, move || UdpSocket::bind(at).expect("free"));
            serve_udp(socket, place.to_owned());
        }
    }

    /// Runs `lb-agent backend` at a server.
    pub(crate) fn backend(&self, place: &str, arguments: &str) -> Output {
        command(&self.name(place), &format!("backend {arguments}"))
    }

    pub(crate) fn prepare(&self, place: &str, arguments: &str) {
        let output = self.backend(place, arguments);
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }

    /// Writes an object with the addresses, for the servers at these addresses.
    pub(crate) fn write(&self, spec: &str, servers: &[[&str; 2]]) {
        self.agent
            .write(&object(&format!("scheduler: {{name: rr}}, {spec}"), servers));
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

    /// What IPVS holds, without the ways of questions.
    pub(crate) fn served(&self) -> Vec<String> {
        let mut saved = self.saved("agent");
        saved.retain(|line| {
            line.split(' ')
                .nth(2)
                .is_some_and(|mark| mark.starts_with("1073"))
        });
        saved
    }

    /// Waits until there are so many servers that take connections.
    pub(crate) fn until_served_by(&self, count: usize) {
        self.until("the servers have weight", |scene| {
            let taking = |line: &&String| line.starts_with("-a ") && !line.contains("-w 0");
            scene.served().iter().filter(taking).count() == count
        });
    }

    /// Asks who answers at an address, and sends and fetches a body.
    pub(crate) fn exchange(&self, address: &str) -> std::io::Result<Answer> {
        let to = SocketAddr::new(address.parse().expect("an address"), 80);
        self.within("client", move || exchange(to))
    }

    /// Who answers a datagram to an address.
    pub(crate) fn ask(&self, address: &str) -> Option<String> {
        let to: IpAddr = address.parse().expect("an address");
        self.within("client", move || {
            let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
            let socket = UdpSocket::bind(any).ok()?;
            socket.set_read_timeout(Some(Duration::from_secs(3))).ok()?;
            socket.connect((to, 80)).ok()?;
            socket.send(b"who?").ok()?;
            let mut buffer = [0; 16];
            let length = socket.recv(&mut buffer).ok()?;
            String::from_utf8(buffer[..length].to_vec()).ok()
        })
    }

    /// The largest packet between the agent's and the servers' pods, as each of flannel's backends has another. What
    /// was learnt about paths before is forgotten.
    pub(crate) fn set_mtu(&self, mtu: u32) {
        let mut router = String::new();
        for link in ["br0", "agent", "near", "far"] {
            let _ = writeln!(router, "link set {link} mtu {mtu}");
        }
        self.ip("router", &router);
        for place in ["agent", "near", "far"] {
            self.ip(place, &format!("link set eth0 mtu {mtu}\n"));
        }
        for place in self.names() {
            self.within(place, || {
                for name in ["ipv4/route/flush", "ipv6/route/flush"] {
                    fs::write(format!("/proc/sys/net/{name}"), "1").expect("can be set");
                }
            });
        }
    }

    /// Makes the router a node as kube-proxy leaves it, with a strict reverse path filter, for a server.
    pub(crate) fn act_as_node(&self, server: &'static str) {
        self.within("router", move || {
            for name in ["all", server] {
                let path = format!("/proc/sys/net/ipv4/conf/{name}/rp_filter");
                fs::write(path, "1").expect("can be set");
            }
        });
        for program in ["iptables", "ip6tables"] {
            self.at("router", &format!("{program} -N KUBE-FORWARD"));
            self.at("router", &format!("{program} -A FORWARD -j KUBE-FORWARD"));
            let invalid = "-m conntrack --ctstate INVALID";
            self.at("router", &format!("{program} -A KUBE-FORWARD {invalid} -j DROP"));
        }
    }

    /// How many questions to servers had no good answer.
    pub(crate) fn failures(&self) -> u64 {
        let metrics = self.agent.admin("/metrics");
        let counts = metrics
            .lines()
            .filter(|line| line.starts_with("portable_lb_agent_probe_failures_total"));
        counts
            .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
            .sum()
    }

    /// No host hears that its packets are too large.
    pub(crate) fn block_icmp(&self) {
        for place in self.names() {
            for chain in ["INPUT", "FORWARD"] {
                self.at(place, &format!("iptables -I {chain} -p icmp -j DROP"));
                let too_big = "-p icmpv6 --icmpv6-type packet-too-big";
                self.at(place, &format!("ip6tables -I {chain} {too_big} -j DROP"));
            }
        }
    }
}

/// Joins a place to the router, whose addresses end with 1.
fn join(places: &Places, place: &str, [v4, v6]: [&str; 2]) {
    let router = places.name("router");
    let net = v4.rsplit_once('.').expect("an address").0;
    let net_v6 = v6.split_once("::").expect("an address").0;
    places.ip(
        place,
        &format!(
            "link set lo up\nlink add eth0 type veth peer name {place} netns {router}\n\
             addr add {v4}/24 dev eth0\naddr add {v6}/64 dev eth0 nodad\n\
             link set eth0 up\nroute add default via {net}.1\nroute add default via {net_v6}::1\n"
        ),
    );
    places.ip("router", &format!("link set {place} up\n"));
}

/// An object with the addresses, for the servers at these addresses.
pub(crate) fn object(spec: &str, servers: &[[&str; 2]]) -> String {
    let endpoints = servers.iter().flatten().fold(String::new(), |mut text, server| {
        let _ = write!(text, "{{address: \"{server}\"}}, ");
        text
    });
    let [v4, v6] = VIPS;
    format!(
        "apiVersion: portablelb.io/v1alpha1\nkind: PortableLoadBalancer\nmetadata: {{name: web}}\n\
         spec: {{backends: {{type: Endpoints, endpoints: [{endpoints}]}}, \
         exposure: {{type: VirtualIP, virtualIP: {{addresses: [\"{v4}\", \"{v6}\"]}}}}, {spec}}}\n",
    )
}

/// Arguments of `lb-agent backend`, for both addresses.
pub(crate) fn half(arguments: &str) -> String {
    format!("{arguments} --vip {}", VIPS.join(","))
}

/// What a server said.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    /// Its place.
    pub(crate) server: String,
    /// The client's address as it sees it.
    pub(crate) peer: String,
    /// The largest segment that the client sends, with room for options.
    pub(crate) segment: u32,
    /// The bytes of the body that came.
    pub(crate) fetched: usize,
    /// Whether the body that was sent arrived.
    pub(crate) sent: bool,
}

fn exchange(to: SocketAddr) -> std::io::Result<Answer> {
    let stream = TcpStream::connect_timeout(&to, Duration::from_secs(3))?;
    stream.set_read_timeout(Some(Duration::from_secs(3)))?;
    stream.set_write_timeout(Some(Duration::from_secs(3)))?;
    let options = 12;
    let segment = getsockopt(&stream, TcpMaxSeg)? + options;
    let mut writer = stream.try_clone()?;
    let mut reader = BufReader::new(stream);
    let mut hello = String::new();
    reader.read_line(&mut hello)?;
    let (server, peer) = hello
        .trim()
        .split_once(' ')
        .ok_or(std::io::ErrorKind::InvalidData)?;
    let mut body = vec![0; BODY];
    reader.read_exact(&mut body)?;
    writer.write_all(&body)?;
    let mut thanks = String::new();
    reader.read_line(&mut thanks)?;
    Ok(Answer {
        server: server.to_owned(),
        peer: peer.to_owned(),
        segment,
        fetched: body.len(),
        sent: thanks == "thanks\n",
    })
}

fn serve(mut stream: TcpStream, place: &str) {
    let Ok(peer) = stream.peer_addr() else { return };
    let mut answer = format!("{place} {}\n", peer.ip().to_canonical()).into_bytes();
    answer.resize(answer.len() + BODY, b'x');
    let _ = stream.write_all(&answer);
    let mut body = vec![0; BODY];
    if stream.read_exact(&mut body).is_ok() {
        let _ = stream.write_all(b"thanks\n");
    }
}
