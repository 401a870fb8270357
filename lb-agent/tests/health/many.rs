//! The monitor with many servers: nothing is left behind, and nobody waits for another.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crd::Protocol;
use lb_agent::facts::Fact;
use lb_agent::health::metrics::Probes;
use lb_agent::health::monitor::Monitor;
use lb_agent::health::probe::{Failure, probe};
use lb_agent::health::{Change, Health, Reason, Target, Targets};
use lb_agent::table::{Family, Listener};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::{check, servers};

const SERVERS: u32 = 1000;
const EVERY_SECOND: &str = "{type: HTTP, intervalSeconds: 1, timeoutSeconds: 1, rise: 2, fall: 2}";

/// Web servers on all addresses of this machine, that differ by address.
#[derive(Clone, Default)]
struct Farm {
    hung: Arc<Mutex<BTreeSet<IpAddr>>>,
    busy: Arc<Mutex<BTreeSet<IpAddr>>>,
    served: Arc<AtomicUsize>,
}

impl Farm {
    async fn start(&self) -> u16 {
        let listener = TcpListener::bind("0.0.0.0:0").await.expect("a free port");
        let port = listener.local_addr().expect("it is bound").port();
        let farm = self.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(farm.clone().serve(stream));
            }
        });
        port
    }

    async fn serve(self, mut stream: tokio::net::TcpStream) {
        let address = stream.local_addr().expect("it is connected").ip();
        let is_in = |set: &Mutex<BTreeSet<IpAddr>>| set.lock().expect("no panic").contains(&address);
        self.served.fetch_add(1, Ordering::Relaxed);
        let mut request = [0; 1024];
        let _ = stream.read(&mut request).await;
        if !is_in(&self.hung) {
            let status = if is_in(&self.busy) { 503 } else { 200 };
            let _ = stream
                .write_all(format!("HTTP/1.1 {status} X\r\n\r\n").as_bytes())
                .await;
        }
        // The other side hangs up.
        while stream.read(&mut request).await.is_ok_and(|length| length > 0) {}
    }
}

fn address(index: u32) -> IpAddr {
    Ipv4Addr::from_bits(Ipv4Addr::new(127, 1, 0, 1).to_bits() + index).into()
}

fn wanted(addresses: impl IntoIterator<Item = SocketAddr>, yaml: &str) -> Arc<Targets> {
    let check = check(yaml, Protocol::TCP);
    let listener = Listener::marked(Family::V4, Protocol::TCP, 80);
    let target = |at| ((listener, at), vec![Target::direct(at, check.clone())]);
    Arc::new(addresses.into_iter().map(target).collect())
}

/// A monitor at work, and what it told.
struct Scene {
    wanted: watch::Sender<Arc<Targets>>,
    facts: mpsc::Receiver<Fact>,
    health: Health,
    told: BTreeMap<SocketAddr, Option<Reason>>,
    monitor: JoinHandle<()>,
}

impl Scene {
    fn new() -> Self {
        let (wanted, asked) = watch::channel(Arc::default());
        let (sender, facts) = mpsc::channel(4);
        let monitor = Monitor {
            wanted: asked,
            facts: sender,
            probes: Arc::new(Probes::default()),
        };
        Self {
            wanted,
            facts,
            health: Health::default(),
            told: BTreeMap::new(),
            monitor: tokio::spawn(monitor.run()),
        }
    }

    fn take(&mut self, fact: Fact) {
        let Fact::Health(changes) = fact else {
            panic!("what else?")
        };
        for change in changes {
            self.told.insert(change.target.server, change.failure);
            self.health.take(change);
        }
    }

    /// Hears what is told until a condition holds, at most for so long.
    async fn until(&mut self, seconds: u64, what: &str, condition: impl Fn(&Self) -> bool) -> Duration {
        let since = Instant::now();
        let look = Duration::from_millis(20);
        while !condition(self) {
            assert!(
                since.elapsed() < Duration::from_secs(seconds),
                "not in time: {what}"
            );
            if let Ok(Some(fact)) = timeout(look, self.facts.recv()).await {
                self.take(fact);
            }
        }
        since.elapsed()
    }

    /// What was learnt of those that are asked no more the loop forgets by itself.
    fn assert_forgotten(&mut self, targets: &Targets) {
        self.health.retain(&Targets::new());
        let mut targets = targets.values().flatten();
        assert!(targets.all(|it| self.health.failure(it).is_none()));
    }

    fn failing(&self) -> BTreeSet<IpAddr> {
        let failing = self.told.iter().filter(|(_, failure)| failure.is_some());
        failing.map(|(at, _)| at.ip()).collect()
    }
}

fn open_files() -> usize {
    std::fs::read_dir("/proc/self/fd").expect("Linux").count()
}

fn tasks() -> usize {
    Handle::current().metrics().num_alive_tasks()
}

#[tokio::test]
async fn a_thousand_servers_leave_nothing_behind_and_wait_for_nobody() {
    let farm = Farm::default();
    let port = farm.start().await;
    let hung: BTreeSet<IpAddr> = (0..100).map(address).collect();
    farm.hung.lock().expect("no panic").clone_from(&hung);
    let mut scene = Scene::new();
    let before = (open_files(), tasks());
    let servers = (0..SERVERS).map(|index| SocketAddr::new(address(index), port));
    let targets = wanted(servers, EVERY_SECOND);
    scene.wanted.send_replace(targets.clone());
    scene
        .until(20, "the hung ones fail", |scene| scene.failing() == hung)
        .await;
    assert!(scene.told.values().all(|it| *it == Some(Reason::Timeout)));

    let busy: BTreeSet<IpAddr> = (500..600).map(address).collect();
    farm.busy.lock().expect("no panic").clone_from(&busy);
    let took = scene
        .until(10, "the busy ones fail", |scene| {
            scene.failing().is_superset(&busy)
        })
        .await;
    // Two questions, a second and a tenth apart at most, and the next one has to come first.
    assert!(took < Duration::from_secs(4), "{took:?}");
    farm.busy.lock().expect("no panic").clear();
    scene
        .until(10, "they pass again", |scene| scene.failing() == hung)
        .await;

    println!(
        "with {SERVERS} servers, 100 hung: {} open files, {} tasks; verdict after {took:?}",
        open_files(),
        tasks()
    );
    scene.wanted.send_replace(Arc::default());
    scene
        .until(5, "all is closed", |_| (open_files(), tasks()) <= before)
        .await;
    scene.assert_forgotten(&targets);
}

#[tokio::test]
async fn who_is_no_longer_wanted_is_left_at_once() {
    let (closed, mut is_closed) = mpsc::channel(1);
    let (opened, mut is_open) = mpsc::channel(1);
    let server = servers::tcp(move |mut stream| {
        let (opened, closed) = (opened.clone(), closed.clone());
        async move {
            let mut request = [0; 1024];
            let _ = stream.read(&mut request).await;
            let _ = opened.send(()).await;
            let _ = stream.read(&mut request).await;
            let _ = closed.send(()).await;
        }
    });
    let scene = Scene::new();
    let patient = "{type: HTTP, intervalSeconds: 60, timeoutSeconds: 60}";
    scene.wanted.send_replace(wanted([server], patient));
    is_open.recv().await.expect("it is asked");
    scene.wanted.send_replace(Arc::default());
    let end = timeout(Duration::from_secs(2), is_closed.recv()).await;
    assert_eq!(end, Ok(Some(())));
    drop(scene.wanted);
    let end = timeout(Duration::from_secs(2), scene.monitor).await;
    assert!(
        end.is_ok_and(|end| end.is_ok()),
        "the monitor ends with its sender"
    );
}

#[tokio::test]
async fn a_server_of_two_listeners_is_asked_once() {
    let farm = Farm::default();
    let at = SocketAddr::new(address(0), farm.start().await);
    let mut targets = (*wanted([at], "{type: HTTP, intervalSeconds: 60, timeoutSeconds: 1}")).clone();
    let other = Listener::marked(Family::V4, Protocol::TCP, 81);
    let same = targets.values().next().expect("one").clone();
    targets.insert((other, at), same);
    let mut scene = Scene::new();
    scene.wanted.send_replace(Arc::new(targets));
    scene
        .until(5, "it is asked", |_| farm.served.load(Ordering::Relaxed) > 0)
        .await;
    // A second question would have come at the same time.
    let _ = timeout(Duration::from_millis(300), scene.facts.recv()).await;
    assert_eq!(farm.served.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn what_this_machine_can_not_do_says_nothing_of_the_server() {
    let farm = Farm::default();
    let at = SocketAddr::new(address(0), farm.start().await);
    let check = check(EVERY_SECOND, Protocol::TCP);
    let foreign = Target {
        source: Some([192, 0, 2, 1].into()),
        ..Target::direct(at, check.clone())
    };
    assert!(matches!(probe(&foreign).await, Err(Failure::Local(_))));
    let own = Target {
        source: Some([127, 0, 0, 9].into()),
        ..Target::direct(at, check)
    };
    assert!(probe(&own).await.is_ok());
    let mut health = Health::default();
    health.take(Change {
        target: own.clone(),
        failure: Some(Reason::Timeout),
    });
    assert_eq!(
        (health.failure(&own), health.failure(&foreign)),
        (Some(Reason::Timeout), None)
    );
}
