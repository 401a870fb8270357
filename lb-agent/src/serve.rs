//! `serve`: puts the loop, its sources and its outlets together.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use kube::Client;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::agent::{Agent, Farewell, Inlets, Outlets, Settings};
use crate::cli::{self, ServeArgs};
use crate::facts::Fact;
use crate::follow::{Followed, Seen, follow};
use crate::health::monitor::Monitor;
use crate::http::{self, Refresh, Shared};
use crate::metrics::Metrics;
use crate::report::Identity;
use crate::steering::Steering;
use crate::sysctl::Needs;
use crate::trust::Trust;
use crate::{file, prepare, status};

/// Pause before the credentials are looked for again.
const PATIENCE: Duration = Duration::from_secs(5);

/// What the file's object says of it. A file that is wrong is told of when it is followed.
fn steering(path: &Path) -> Steering {
    let facts = file::read(path).unwrap_or_default();
    let object = facts.into_iter().find_map(|fact| match fact {
        Fact::Balancer(object) => Some(object),
        _ => None,
    });
    object.map_or(Steering::None, |object| object.spec.packet_steering.rps.into())
}

/// Serves until SIGTERM or SIGINT.
pub async fn run(arguments: ServeArgs) -> anyhow::Result<()> {
    let stop = stop_on_signals()?;
    let settings = settings(&arguments).await;
    if let Some(path) = &arguments.file {
        // No init container did it before. What it finds it logs.
        let _ = prepare::prepare(&Needs::of(settings.addresses.families()), steering(path));
    }
    let (outlets, shared, refreshes, status) = outlets();
    let (facts, learnt) = mpsc::channel(64);
    ask_servers(&outlets, facts.clone());
    let listener = http::listen(arguments.admin_port)
        .await
        .context("could not listen on the admin port")?;
    tokio::spawn(http::serve(listener, shared));
    match &arguments.file {
        Some(path) => drop(tokio::spawn(file::follow(path.clone(), facts))),
        None => drop(tokio::spawn(follow_kubernetes(
            followed(&arguments),
            facts,
            status,
        ))),
    }
    let inlets = Inlets {
        facts: learnt,
        refreshes,
        stop,
    };
    Agent::new(settings, outlets).run(inlets).await;
    Ok(())
}

/// Follows what the loop wants to know of servers. Each that is asked needs a socket, and the limit is often low.
fn ask_servers(outlets: &Outlets, facts: mpsc::Sender<Fact>) {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, most)| setrlimit(Resource::RLIMIT_NOFILE, most, most));
    if let Err(error) = raised {
        warn!(
            error = &error as &dyn std::error::Error,
            "the limit of open files stays"
        );
    }
    let monitor = Monitor {
        wanted: outlets.targets.subscribe(),
        facts,
        probes: outlets.metrics.probes.clone(),
    };
    tokio::spawn(monitor.run());
}

/// What the loop speaks into, and who listens.
fn outlets() -> (
    Outlets,
    Shared,
    mpsc::Receiver<Refresh>,
    watch::Receiver<crd::AgentStatus>,
) {
    let (status, wanted_status) = watch::channel(crd::AgentStatus::default());
    let (readiness, ready) = watch::channel(Err("no table yet".to_owned()));
    let (heartbeat, beats) = watch::channel(Instant::now());
    let (refresh, refreshes) = mpsc::channel(4);
    let metrics = Arc::new(Metrics::default());
    let shared = Shared {
        readiness: ready,
        heartbeat: beats,
        metrics: metrics.clone(),
        refresh,
    };
    (
        Outlets {
            status,
            readiness,
            heartbeat,
            targets: watch::Sender::default(),
            metrics,
        },
        shared,
        refreshes,
        wanted_status,
    )
}

async fn settings(arguments: &ServeArgs) -> Settings {
    let (trust, farewell) = if arguments.file.is_some() {
        (Trust::All, Farewell::AtOnce)
    } else {
        let grace = arguments.termination_grace_seconds.map(Duration::from_secs);
        let trust = Trust::Pods {
            namespace: arguments.namespace.clone(),
            networks: arguments.allowed_endpoint_cidrs.clone(),
        };
        (trust, Farewell::Linger(grace))
    };
    Settings {
        identity: Identity {
            pod: arguments.pod.clone(),
            node: arguments.node.clone(),
            pod_ip: arguments.pod_ips.first().map(|address| address.trim().to_owned()),
        },
        addresses: cli::addresses(&arguments.pod_ips).await,
        trust,
        resync: Duration::from_secs(arguments.resync_seconds.max(1)),
        farewell,
    }
}

fn followed(arguments: &ServeArgs) -> Followed {
    Followed {
        namespace: arguments.namespace.clone(),
        name: arguments.name.clone().unwrap_or_default(),
        uid: arguments.uid.clone(),
    }
}

/// Follows the object and writes its status. Without credentials it waits for some: what is in the kernel goes on.
async fn follow_kubernetes(
    followed: Followed,
    facts: mpsc::Sender<Fact>,
    wanted_status: watch::Receiver<crd::AgentStatus>,
) {
    let client = loop {
        match Client::try_default().await {
            Ok(client) => break client,
            Err(error) => {
                warn!(
                    error = &error as &dyn std::error::Error,
                    "no way to Kubernetes; trying again"
                );
                tokio::time::sleep(PATIENCE).await;
            }
        }
    };
    let (seen, last_seen) = watch::channel(Vec::new());
    let writer = status::write(client.clone(), followed.clone(), wanted_status, last_seen);
    tokio::join!(follow(client, followed, facts, Seen(seen)), writer);
}

fn stop_on_signals() -> anyhow::Result<CancellationToken> {
    let mut terminate = signal(SignalKind::terminate()).context("could not listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("could not listen for SIGINT")?;
    let stop = CancellationToken::new();
    let token = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => info!("SIGTERM"),
            _ = interrupt.recv() => info!("SIGINT"),
        }
        token.cancel();
    });
    Ok(stop)
}
