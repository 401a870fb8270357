//! A client, an agent and two servers, each in a network namespace of its own, on one bridge.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};

static SCENES: AtomicU32 = AtomicU32::new(0);
const PATIENCE: Duration = Duration::from_secs(40);

/// The agent's addresses.
pub(crate) const AGENT: &str = "10.1.0.1";
pub(crate) const AGENT_V6: &str = "fd00::1";

pub(crate) struct Scene {
    number: u32,
    file: PathBuf,
    log: PathBuf,
    agent: Option<Child>,
    /// Seconds between two looks of the agent at everything.
    pub(crate) resync: u32,
}

/// What the object in the agent's file says.
pub(crate) struct Object<'a> {
    pub(crate) spec: &'a str,
    /// Servers by the last number of their addresses.
    pub(crate) servers: &'a [u8],
}

impl Scene {
    pub(crate) fn new() -> Self {
        let number = SCENES.fetch_add(1, Ordering::Relaxed);
        let folder = PathBuf::from(format!("/run/scene-{number}"));
        fs::create_dir_all(&folder).expect("can be made");
        let scene = Self {
            number,
            file: folder.join("plb.yaml"),
            log: folder.join("log"),
            agent: None,
            resync: 60,
        };
        make_namespace(&scene.name("hub"));
        scene.ip("hub", "link add br0 type bridge\nlink set br0 up\n");
        for (place, octet) in [("agent", 1), ("client", 9), ("server2", 2), ("server3", 3)] {
            scene.join(place, octet);
        }
        for octet in [2, 3] {
            scene.listen(&format!("server{octet}"), 8080);
        }
        scene
    }

    pub(crate) fn name(&self, place: &str) -> String {
        format!("{place}-{}", self.number)
    }

    /// Many commands of `ip` at once: starting a program takes long in such a machine.
    fn ip(&self, place: &str, commands: &str) {
        let mut child = Command::new("ip")
            .args(["-n", &self.name(place), "-batch", "-"])
            .stdin(Stdio::piped())
            .spawn()
            .expect("can be run");
        child
            .stdin
            .take()
            .expect("is a pipe")
            .write_all(commands.as_bytes())
            .expect("it reads");
        assert!(child.wait().expect("it ends").success(), "{commands}");
    }

    fn join(&self, place: &str, octet: u8) {
        make_namespace(&self.name(place));
        let hub = self.name("hub");
        self.ip(
            place,
            &format!(
                "link add eth0 type veth peer name v{octet} netns {hub}\naddr add 10.1.0.{octet}/24 dev eth0\n\
                 addr add fd00::{octet}/64 dev eth0 nodad\nlink set eth0 up\nlink set lo up\n"
            ),
        );
        self.ip("hub", &format!("link set v{octet} master br0 up\n"));
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
        let octet = place.trim_start_matches("server").to_owned();
        thread::spawn(move || {
            for stream in tcp.incoming().flatten() {
                thread::spawn(move || serve(stream));
            }
        });
        thread::spawn(move || {
            let mut buffer = [0; 64];
            while let Ok((_, from)) = udp.recv_from(&mut buffer) {
                let _ = udp.send_to(octet.as_bytes(), from);
            }
        });
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

    /// The output of a program in the agent's namespace.
    pub(crate) fn agents(&self, command: &str) -> String {
        self.command("agent", command)
    }

    /// The output of a program in a place's namespace.
    pub(crate) fn command(&self, place: &str, command: &str) -> String {
        let mut words: Vec<&str> = command.split(' ').collect();
        let name = self.name(place);
        words.splice(0..0, ["netns", "exec", &name]);
        run("ip", &words)
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
        self.write_text(&text);
    }

    /// Writes the agent's file whole at once, as an editor does it.
    pub(crate) fn write_text(&self, text: &str) {
        let new = self.file.with_extension("new");
        fs::write(&new, text).expect("can be written");
        fs::rename(&new, &self.file).expect("can be renamed");
    }

    /// Starts the agent and waits until it attracts traffic.
    pub(crate) fn start(&mut self) {
        self.spawn();
        self.until("the agent is ready", |scene| {
            scene.admin("/readyz").starts_with("HTTP/1.1 200")
        });
    }

    pub(crate) fn spawn(&mut self) {
        let log = File::options()
            .create(true)
            .append(true)
            .open(&self.log)
            .expect("can be opened");
        let child = Command::new("ip")
            .args([
                "netns",
                "exec",
                &self.name("agent"),
                env!("CARGO_BIN_EXE_lb-agent"),
                "serve",
                "--file",
            ])
            .arg(&self.file)
            .args(["--resync-seconds", &self.resync.to_string()])
            .env("NO_COLOR", "1")
            .stderr(log)
            .spawn()
            .expect("can be run");
        self.agent = Some(child);
    }

    /// What another command of the agent prints.
    pub(crate) fn agent_command(&self, arguments: &str) -> String {
        let file = self.file.display().to_string();
        let arguments = arguments.replace("FILE", &file);
        self.agents(&format!("{} {arguments}", env!("CARGO_BIN_EXE_lb-agent")))
    }

    pub(crate) fn is_running(&self) -> bool {
        self.agent.is_some()
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
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Waits until a condition holds.
    pub(crate) fn until(&self, what: &str, condition: impl Fn(&Self) -> bool) {
        let end = Instant::now() + PATIENCE;
        while !condition(self) {
            assert!(
                Instant::now() < end,
                "not so in time: {what}\n{}\n{}",
                self.agents("ipvsadm -Ln"),
                self.log()
            );
            pause();
        }
    }

    /// The servers of the first service, with their weights.
    pub(crate) fn servers(&self) -> Vec<String> {
        let saved = self.agents("ipvsadm -Sn");
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

impl Drop for Scene {
    fn drop(&mut self) {
        self.stop("-KILL");
        if thread::panicking() {
            eprintln!("the agent's log:\n{}", self.log());
        }
        for place in ["agent", "client", "server2", "server3", "hub"] {
            let path = namespace(&self.name(place));
            let _ = umount2(&path, MntFlags::MNT_DETACH);
            let _ = fs::remove_file(path);
        }
    }
}

/// A connection of the client's through the agent.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: BufReader<TcpStream>,
    /// The server's number.
    pub(crate) server: u8,
    /// The client's address as the server sees it.
    pub(crate) peer: String,
}

impl Connection {
    pub(crate) fn over(stream: TcpStream) -> std::io::Result<Self> {
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        let mut connection = Connection {
            stream: BufReader::new(stream),
            server: 0,
            peer: String::new(),
        };
        let hello = connection.line()?;
        let (server, peer) = hello.split_once(' ').ok_or(std::io::ErrorKind::InvalidData)?;
        connection.server = server.parse().map_err(|_| std::io::ErrorKind::InvalidData)?;
        peer.clone_into(&mut connection.peer);
        Ok(connection)
    }

    fn line(&mut self) -> std::io::Result<String> {
        let mut line = String::new();
        self.stream.read_line(&mut line)?;
        if line.ends_with('\n') {
            Ok(line.trim().to_owned())
        } else {
            Err(std::io::ErrorKind::UnexpectedEof.into())
        }
    }

    /// Whether what is said comes back.
    pub(crate) fn echoes(&mut self) -> bool {
        let said = self.stream.get_mut().write_all(b"still there?\n");
        said.is_ok() && self.line().is_ok_and(|line| line == "still there?")
    }
}

fn serve(mut stream: TcpStream) {
    let (Ok(own), Ok(peer)) = (stream.local_addr(), stream.peer_addr()) else {
        return;
    };
    // Of fd00::21 it is 21 too: the tests' addresses are decimal in both families.
    let own = own.ip().to_canonical().to_string();
    let octet = own.rsplit(['.', ':']).next().unwrap_or_default();
    let _ = stream.write_all(format!("{octet} {}\n", peer.ip().to_canonical()).as_bytes());
    let Ok(copy) = stream.try_clone() else { return };
    for line in BufReader::new(copy).lines().map_while(Result::ok) {
        let _ = stream.write_all(format!("{line}\n").as_bytes());
    }
}

/// Between two looks at a condition.
#[expect(
    clippy::disallowed_methods,
    reason = "a test's thread, and nobody tells when the kernel changed"
)]
pub(crate) fn pause() {
    thread::sleep(Duration::from_millis(50));
}

pub(crate) fn namespace(name: &str) -> PathBuf {
    Path::new("/run/netns").join(name)
}

/// As `ip netns add` does it.
pub(crate) fn make_namespace(name: &str) {
    let path = namespace(name);
    fs::create_dir_all("/run/netns").expect("can be made");
    File::create(&path).expect("can be made");
    let work = thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET).expect("may be made");
        let source = Some("/proc/thread-self/ns/net");
        mount(source, &path, None::<&str>, MsFlags::MS_BIND, None::<&str>).expect("may be mounted");
    });
    work.join().expect("the namespace is made");
}

/// The answer to one datagram.
pub(crate) fn ask(socket: &UdpSocket) -> Option<u8> {
    socket.send(b"who?").ok()?;
    let mut buffer = [0; 8];
    let length = socket.recv(&mut buffer).ok()?;
    std::str::from_utf8(&buffer[..length]).ok()?.parse().ok()
}

/// A program's output; it must succeed.
pub(crate) fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .expect("can be run");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {stderr}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}
