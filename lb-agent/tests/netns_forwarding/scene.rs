//! A client, a router, an agent with a server on its own link, and a server behind the router, as pods on two nodes.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::mount::{MntFlags, umount2};
use nix::sched::{CloneFlags, setns};

use crate::place::{make_namespace, namespace, pause, run};

static SCENES: AtomicU32 = AtomicU32::new(0);
const PATIENCE: Duration = Duration::from_secs(40);
const PROGRAM: &str = env!("CARGO_BIN_EXE_lb-agent");

/// The balancer's addresses.
pub(crate) const VIPS: [&str; 2] = ["10.98.7.1", "fd98::1"];
/// The client's.
pub(crate) const CLIENTS: [&str; 2] = ["192.168.9.9", "fd09::9"];
/// The agent's.
pub(crate) const AGENTS: [&str; 2] = ["10.244.1.2", "fd01::2"];
/// Those of the server on the agent's link.
pub(crate) const NEAR: [&str; 2] = ["10.244.1.4", "fd01::4"];
/// Those of the server behind the router.
pub(crate) const FAR: [&str; 2] = ["10.244.2.2", "fd02::2"];
/// What the body of a request or an answer has.
pub(crate) const BODY: usize = 1_000_000;

const PLACES: [&str; 5] = ["router", "client", "agent", "near", "far"];

pub(crate) struct Scene {
    number: u32,
    folder: PathBuf,
    agent: Option<Child>,
}

impl Scene {
    pub(crate) fn new() -> Self {
        let number = SCENES.fetch_add(1, Ordering::Relaxed);
        let folder = PathBuf::from(format!("/run/forwarding-{number}"));
        fs::create_dir_all(&folder).expect("can be made");
        let scene = Self {
            number,
            folder,
            agent: None,
        };
        for place in PLACES {
            make_namespace(&scene.name(place));
        }
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
        scene.join("client", "192.168.9", 9, "fd09");
        scene.join("agent", "10.244.1", 2, "fd01");
        scene.join("near", "10.244.1", 4, "fd01");
        scene.join("far", "10.244.2", 2, "fd02");
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

    fn name(&self, place: &str) -> String {
        format!("{place}-f{}", self.number)
    }

    /// Many commands of `ip` at once: starting a program takes long in such a machine.
    pub(crate) fn ip(&self, place: &str, commands: &str) {
        let mut child = Command::new("ip")
            .args(["-n", &self.name(place), "-batch", "-"])
            .stdin(Stdio::piped())
            .spawn()
            .expect("can be run");
        let mut stdin = child.stdin.take().expect("is a pipe");
        stdin.write_all(commands.as_bytes()).expect("it reads");
        drop(stdin);
        assert!(child.wait().expect("it ends").success(), "{commands}");
    }

    fn join(&self, place: &str, net: &str, octet: u8, net_v6: &str) {
        let router = self.name("router");
        self.ip(
            place,
            &format!(
                "link set lo up\nlink add eth0 type veth peer name {place} netns {router}\n\
                 addr add {net}.{octet}/24 dev eth0\naddr add {net_v6}::{octet}/64 dev eth0 nodad\n\
                 link set eth0 up\nroute add default via {net}.1\nroute add default via {net_v6}::1\n"
            ),
        );
        self.ip("router", &format!("link set {place} up\n"));
    }

    /// A TCP and UDP server that tells its place and the client's address, and takes and gives bodies.
    fn start_server(&self, place: &'static str) {
        let (tcp, udp) = self.within(place, || {
            let all: SocketAddr = "[::]:80".parse().expect("an address");
            (
                TcpListener::bind(all).expect("free"),
                UdpSocket::bind(all).expect("free"),
            )
        });
        thread::spawn(move || {
            for stream in tcp.incoming().flatten() {
                thread::spawn(move || serve(stream, place));
            }
        });
        thread::spawn(move || {
            let mut buffer = [0; 64];
            while let Ok((_, from)) = udp.recv_from(&mut buffer) {
                let _ = udp.send_to(place.as_bytes(), from);
            }
        });
    }

    /// Runs a job in a place's network namespace.
    pub(crate) fn within<T: Send + 'static>(
        &self,
        place: &str,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> T {
        let path = namespace(&self.name(place));
        let work = thread::spawn(move || {
            setns(File::open(path).expect("was made"), CloneFlags::CLONE_NEWNET).expect("may enter");
            job()
        });
        work.join().expect("the job passes")
    }

    /// The output of a program at a place.
    pub(crate) fn at(&self, place: &str, command: &str) -> String {
        let mut words: Vec<&str> = command.split(' ').collect();
        let name = self.name(place);
        words.splice(0..0, ["netns", "exec", &name]);
        run("ip", &words)
    }

    /// Runs `lb-agent backend` at a server, for both addresses.
    pub(crate) fn backend(&self, place: &str, arguments: &str) -> Output {
        Command::new("ip")
            .args(["netns", "exec", &self.name(place), PROGRAM, "backend"])
            .args(arguments.split(' '))
            .args(["--vip", &VIPS.join(",")])
            .env("NO_COLOR", "1")
            .output()
            .expect("can be run")
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
        let endpoints = servers.iter().flatten().fold(String::new(), |mut text, server| {
            let _ = write!(text, "{{address: \"{server}\"}}, ");
            text
        });
        let [v4, v6] = VIPS;
        let text = format!(
            "apiVersion: portablelb.io/v1alpha1\nkind: PortableLoadBalancer\nmetadata: {{name: web}}\n\
             spec: {{backends: {{type: Endpoints, endpoints: [{endpoints}]}}, scheduler: {{name: rr}}, \
             exposure: {{type: VirtualIP, virtualIP: {{addresses: [\"{v4}\", \"{v6}\"]}}}}, {spec}}}\n",
        );
        // Whole at once, as an editor does it.
        let new = self.folder.join("new");
        fs::write(&new, text).expect("can be written");
        fs::rename(&new, self.file()).expect("can be renamed");
    }

    fn file(&self) -> PathBuf {
        self.folder.join("plb.yaml")
    }

    /// Starts the agent and waits until it attracts traffic.
    pub(crate) fn start(&mut self) {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.folder.join("log"));
        let child = Command::new("ip")
            .args(["netns", "exec", &self.name("agent"), PROGRAM, "serve", "--file"])
            .arg(self.file())
            .env("NO_COLOR", "1")
            .stderr(log.expect("can be opened"))
            .spawn()
            .expect("can be run");
        self.agent = Some(child);
        self.until("the agent is ready", |scene| {
            scene.admin("/readyz").starts_with("HTTP/1.1 200")
        });
    }

    /// Ends the agent with a signal, and waits for it.
    pub(crate) fn stop(&mut self, signal: &str) {
        if let Some(mut agent) = self.agent.take() {
            // `ip netns exec` becomes the program it runs.
            run("kill", &[signal, &agent.id().to_string()]);
            agent.wait().expect("can be waited for");
        }
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    /// Waits until a condition holds.
    pub(crate) fn until(&self, what: &str, condition: impl Fn(&Self) -> bool) {
        let end = Instant::now() + PATIENCE;
        while !condition(self) {
            assert!(
                Instant::now() < end,
                "not so in time: {what}\n{}\n{}",
                self.at("agent", "ipvsadm -Ln"),
                self.log()
            );
            pause();
        }
    }

    /// What IPVS holds, without the ways of questions.
    pub(crate) fn served(&self) -> Vec<String> {
        let saved = self.at("agent", "ipvsadm -Sn");
        let is_served = |line: &&str| {
            line.split(' ')
                .nth(2)
                .is_some_and(|mark| mark.starts_with("1073"))
        };
        let lines = saved.lines().map(str::trim).filter(is_served);
        let mut lines: Vec<String> = lines.map(str::to_owned).collect();
        lines.sort();
        lines
    }

    /// Waits until there are so many servers that take connections.
    pub(crate) fn until_served_by(&self, count: usize) {
        self.until("the servers have weight", |scene| {
            let taking = |line: &&String| line.starts_with("-a ") && !line.contains("-w 0");
            scene.served().iter().filter(taking).count() == count
        });
    }

    /// Asks the agent's own server.
    pub(crate) fn admin(&self, path: &str) -> String {
        let request = format!("GET {path} HTTP/1.1\r\nHost: agent\r\nConnection: close\r\n\r\n");
        self.within("agent", move || {
            let mut answer = String::new();
            if let Ok(mut stream) = TcpStream::connect(("127.0.0.1", 9913)) {
                let _ = stream.write_all(request.as_bytes());
                let _ = stream.read_to_string(&mut answer);
            }
            answer
        })
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
            socket.set_read_timeout(Some(Duration::from_millis(500))).ok()?;
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
        let router: String = ["br0", "agent", "near", "far"]
            .iter()
            .map(|link| format!("link set {link} mtu {mtu}\n"))
            .collect();
        self.ip("router", &router);
        for place in ["agent", "near", "far"] {
            self.ip(place, &format!("link set eth0 mtu {mtu}\n"));
        }
        for place in PLACES {
            self.within(place, || {
                for name in ["ipv4/route/flush", "ipv6/route/flush"] {
                    fs::write(format!("/proc/sys/net/{name}"), "1").expect("can be set");
                }
            });
        }
    }

    /// No host hears that its packets are too large.
    pub(crate) fn block_icmp(&self) {
        for place in PLACES {
            for chain in ["INPUT", "FORWARD"] {
                self.at(place, &format!("iptables -I {chain} -p icmp -j DROP"));
                let too_big = "-p icmpv6 --icmpv6-type packet-too-big";
                self.at(place, &format!("ip6tables -I {chain} {too_big} -j DROP"));
            }
        }
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        self.stop("-KILL");
        if thread::panicking() {
            eprintln!("the agent's log:\n{}", self.log());
        }
        for place in PLACES {
            let path = namespace(&self.name(place));
            let _ = umount2(&path, MntFlags::MNT_DETACH);
            let _ = fs::remove_file(path);
        }
    }
}

/// What a server said.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    /// Its place.
    pub(crate) server: String,
    /// The client's address as it sees it.
    pub(crate) peer: String,
    /// The bytes of the body that came.
    pub(crate) fetched: usize,
    /// Whether the body that was sent arrived.
    pub(crate) sent: bool,
}

fn exchange(to: SocketAddr) -> std::io::Result<Answer> {
    let stream = TcpStream::connect_timeout(&to, Duration::from_secs(3))?;
    stream.set_read_timeout(Some(Duration::from_secs(3)))?;
    stream.set_write_timeout(Some(Duration::from_secs(3)))?;
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
