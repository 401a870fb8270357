//! A node of the lab, looked at through eyes.
#![allow(clippy::disallowed_methods, reason = "threads that pause, and no runtime")]

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use e2e::lab::cluster::Node;
use e2e::lab::machine;
use e2e::lab::paths::Paths;
use e2e::lab::queue::Request as Order;

use super::watch::now;
use super::wire::{Answer, PORT, Request, Sight, Usage, Watched, Who};

/// All nodes of the lab.
pub const NODES: [&str; 3] = ["node1", "node2", "node3"];

/// How long eyes may take to open, and to answer: longer than they watch.
const PATIENCE: Duration = Duration::from_secs(90);
const PAUSE: Duration = Duration::from_millis(100);
/// How the program's copies are called.
const PROGRAM: &str = "eyes-";
/// So many times a clock is compared; the comparison that took least time counts.
const COMPARISONS: usize = 20;

/// Eyes in one node.
pub struct Eyes {
    /// The node's name.
    pub node: String,
    stream: BufReader<TcpStream>,
    /// By how much the node's clock is ahead of ours, in nanoseconds.
    ahead: i64,
    program: PathBuf,
}

impl Drop for Eyes {
    fn drop(&mut self) {
        // The eyes close by themselves when the connection ends. The machine has read the program long ago.
        let _ = fs::remove_file(&self.program);
    }
}

impl Eyes {
    /// Starts this program in a node and connects to it. The calling thread is in the lab's network.
    pub fn open(name: &str) -> Result<Self> {
        let node: Node = name.parse()?;
        let paths = Paths::new(e2e::cluster::root().join("target/lab").canonicalize()?);
        // A new name each time: machines remember what was in a file that they have read.
        let program = paths.node(node).join(format!("{PROGRAM}{}", now()));
        remove_old(&paths.node(node))?;
        // By this path it is found even if a build has replaced it meanwhile.
        fs::copy("/proc/self/exe", &program)?;
        let address = SocketAddr::from((node.address(), PORT));
        let log = paths.logs().join(format!("{name}-eyes.log"));
        // Only there the kernel lets a thread come before all others, as one that watches does.
        let command = format!(
            "echo 0 >/sys/fs/cgroup/cgroup.procs && setsid {} eyes {address} >{} 2>&1 </dev/null &",
            program.display(),
            log.display()
        );
        let order = Order::Run(["sh", "-c", &command].map(str::to_owned).to_vec());
        machine::queue(&paths, node).call(&order, PATIENCE)?;
        let stream =
            connect(address).with_context(|| format!("the eyes in {name}; see {}", log.display()))?;
        let mut eyes = Self {
            node: name.to_owned(),
            stream: BufReader::new(stream),
            ahead: 0,
            program,
        };
        eyes.compare_clocks()?;
        Ok(eyes)
    }

    fn send(&mut self, request: &Request) -> Result<()> {
        let mut line = serde_json::to_string(request)?;
        line.push('\n');
        Ok(self.stream.get_mut().write_all(line.as_bytes())?)
    }

    fn receive(&mut self) -> Result<Answer> {
        let mut line = String::new();
        self.stream.read_line(&mut line)?;
        match serde_json::from_str(&line).with_context(|| format!("the eyes in {} closed", self.node))? {
            Answer::Failed(why) => bail!("{}: {why}", self.node),
            answer => Ok(answer),
        }
    }

    /// Asks for something that is done when it is answered.
    pub fn ask(&mut self, request: &Request) -> Result<Answer> {
        self.send(request)?;
        self.receive()
    }

    /// Finds out by how much the node's clock is ahead. Returns the uncertainty in milliseconds, and that.
    pub fn compare_clocks(&mut self) -> Result<(f64, f64)> {
        let mut best = i64::MAX;
        for _ in 0..COMPARISONS {
            let before = now();
            let Answer::Time(there) = self.ask(&Request::Time)? else {
                bail!("the eyes in {} do not know the time", self.node);
            };
            let took = signed(now()) - signed(before);
            if took < best {
                best = took;
                self.ahead = signed(there) - (signed(before) + took / 2);
            }
        }
        Ok((milliseconds(best / 2), milliseconds(self.ahead)))
    }

    /// Begins to watch the kernel of a pod.
    pub fn watch(&mut self, pod: &str, watch: Watched) -> Result<()> {
        let pod = pod.to_owned();
        self.ask(&Request::Watch { pod, watch }).map(drop)
    }

    /// What was seen by our own clock, when the last of the watched servers is there.
    pub fn seen(&mut self) -> Result<Vec<Sight>> {
        let mut sights = Vec::new();
        loop {
            match self.receive()? {
                Answer::Seen(sight) => sights.push(Sight {
                    at: sight.at.saturating_add_signed(-self.ahead),
                    not_before: sight.not_before.saturating_add_signed(-self.ahead),
                    ..sight
                }),
                Answer::Done => return Ok(sights),
                other => bail!("the kernel in {} does not hold the server: {other:?}", self.node),
            }
        }
    }

    /// Waits until the kube-proxy that runs here has done what it had to do.
    pub fn wait_for_rest(&mut self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while !matches!(self.ask(&Request::Rests)?, Answer::Yes) {
            if Instant::now() > deadline {
                bail!("kube-proxy in {} never rests", self.node);
            }
        }
        Ok(())
    }

    /// What a process takes.
    pub fn usage(&mut self, who: &Who) -> Result<Usage> {
        match self.ask(&Request::Usage(who.clone()))? {
            Answer::Usage(usage) => Ok(usage),
            other => bail!("{other:?}"),
        }
    }
}

/// What a suite that was killed has left.
fn remove_old(folder: &Path) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(PROGRAM) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

fn connect(address: SocketAddr) -> Result<TcpStream> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match TcpStream::connect_timeout(&address, PATIENCE) {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                return Ok(stream);
            }
            Err(error) if Instant::now() > deadline => return Err(error.into()),
            Err(_) => thread::sleep(PAUSE),
        }
    }
}

fn signed(nanoseconds: u64) -> i64 {
    i64::try_from(nanoseconds).unwrap_or_default()
}

/// For values that a person reads.
#[allow(clippy::cast_precision_loss, reason = "measured times are short")]
#[must_use]
pub fn milliseconds(nanoseconds: i64) -> f64 {
    nanoseconds as f64 / 1e6
}
