//! The control loop: whose turn it is, and the steps of one reconcile.

use futures::channel::mpsc;
use futures::{StreamExt, future};
use kube::core::DeserializeGuard;
use kube::runtime::controller::{self, Action, Controller};
use kube::runtime::reflector::{self, Store, store::Writer};
use kube::runtime::watcher;
use kube::{Api, Client, Resource};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::apply::{self, apply};
use crate::build::build;
use crate::causes::causes;
use crate::config::Config;
use crate::events;
use crate::gather::gather;
use crate::metrics::Metrics;
use crate::rollout;
use crate::status;
use crate::sweep;
use crate::watches::{Stores, Writers, all, attach, observe, reflecting};
use crd::PortableLoadBalancer;

/// A balancer, or the reason why an object is none. A malformed one must not break the watch for the others.
pub type Guarded = DeserializeGuard<PortableLoadBalancer>;

/// At most so many balancers are worked on at once.
const CONCURRENCY: u16 = 8;
/// Changes come in swarms; the first status must come within a second all the same.
const DEBOUNCE: Duration = Duration::from_millis(50);
/// A safety net: the watches tell of every change.
const RESYNC: Duration = Duration::from_mins(10);
const RETRY: Duration = Duration::from_secs(5);
/// How long work under way may take once the program should end; the pod has 30 seconds.
const FAREWELL: Duration = Duration::from_secs(10);
/// How soon to look again at start, while not every kind was read once: what is missing then is merely unknown.
const UNREAD: Duration = Duration::from_millis(100);

/// What all reconciles share.
pub struct Context {
    /// The way to the API server.
    pub client: Client,
    /// The administrator's settings.
    pub config: Config,
    /// What the cluster holds.
    pub stores: Stores,
    /// What is counted.
    pub metrics: Metrics,
    balancers: Store<Guarded>,
    pub(crate) teller: events::Teller,
    pub(crate) memory: status::Memory,
    pub(crate) slots: rollout::Slots,
    pub(crate) sweep: Notify,
}

/// What [`run`] fills the stores through.
pub struct Streams {
    /// The ends of all stores but the balancers'.
    pub writers: Writers,
    /// The end of the balancers' store.
    pub balancers: Writer<Guarded>,
}

/// Which step of a reconcile failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A child could not be written.
    #[error("could not bring the children in line")]
    Apply(#[source] apply::Error),
    /// The status could not be written.
    #[error("could not report")]
    Report(#[source] status::Error),
    /// A pod could not be brought up to date.
    #[error("could not roll out")]
    Rollout(#[source] rollout::Error),
}

impl Error {
    /// The step, a word of a fixed set.
    fn step(&self) -> &'static str {
        match self {
            Self::Apply(_) => "apply",
            Self::Report(_) => "report",
            Self::Rollout(_) => "rollout",
        }
    }
}

impl Context {
    /// Everything at its start, and the way to fill the stores.
    #[must_use]
    pub fn new(client: Client, config: Config) -> (Arc<Self>, Streams) {
        let (stores, writers) = Stores::new();
        let (balancers, balancers_writer) = reflector::store();
        let context = Self {
            teller: events::Teller::new(client.clone()),
            client,
            config,
            stores,
            metrics: Metrics::default(),
            balancers,
            memory: status::Memory::default(),
            slots: rollout::Slots::default(),
            sweep: Notify::new(),
        };
        let streams = Streams {
            writers,
            balancers: balancers_writer,
        };
        (Arc::new(context), streams)
    }

    /// A kind that was not read yet; without it nothing can be decided.
    pub(crate) fn unready(&self) -> Option<&'static str> {
        use futures::FutureExt;
        match self.balancers.wait_until_ready().now_or_never() {
            Some(Ok(())) => self.stores.unready(),
            _ => Some("portableloadbalancers"),
        }
    }

    fn is_ours(&self, lb: &PortableLoadBalancer) -> bool {
        lb.spec.class_name == self.config.class_name
    }
}

/// Ends `stop` when the process is asked to end.
pub async fn stop_on_signal(stop: CancellationToken) {
    let (Ok(mut terminate), Ok(mut interrupt)) =
        (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        tracing::error!("no signal handlers: only SIGKILL ends this process");
        return;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    stop.cancel();
}

/// Reconciles all balancers of our class until told to stop.
pub async fn run(context: Arc<Context>, streams: Streams, stop: CancellationToken) {
    let (relisted, relists) = mpsc::unbounded();
    let balancers = Api::<Guarded>::all(context.client.clone());
    let balancers = observe(balancers, all(), reflecting(streams.balancers), relisted.clone());
    let controller = Controller::for_stream(balancers, context.balancers.clone());
    let sweeper = context.clone();
    let controller = attach(controller, &context, streams.writers, &relisted)
        .reconcile_all_on(relists.inspect(move |()| sweeper.sweep.notify_one()))
        .with_config(
            controller::Config::default()
                .debounce(DEBOUNCE)
                .concurrency(CONCURRENCY),
        )
        .graceful_shutdown_on(stop.clone().cancelled_owned())
        .run(reconcile, retry, context.clone())
        .for_each(|result| {
            note(&context, &result);
            future::ready(())
        });
    let work = future::join(controller, sweep::run(context.clone(), stop.clone()));
    tokio::select! {
        _ = work => {}
        () = farewell(stop) => tracing::warn!("work under way did not end in time; ending without it"),
    }
}

/// The end of the time that work under way has once the program should end. It may be lost: the next start does it again.
async fn farewell(stop: CancellationToken) {
    stop.cancelled().await;
    tokio::time::sleep(FAREWELL).await;
}

/// Brings the cluster in line with one balancer.
pub async fn reconcile(lb: Arc<Guarded>, context: Arc<Context>) -> Result<Action, Error> {
    // Nobody waits here: of those who wait for a store to be read kube-runtime wakes one (its `DelayedInit` has a single
    // waker), and the others would hang, with their balancers. While the program ends nothing is read at all.
    if context.stores.unready().is_some() {
        return Ok(Action::requeue(UNREAD));
    }
    let lb = match &lb.0 {
        Ok(lb) if context.is_ours(lb) && lb.meta().deletion_timestamp.is_none() => lb,
        Ok(_) => return Ok(Action::await_change()),
        Err(invalid) => return tell_malformed(&context, invalid).await,
    };
    let began = Instant::now();
    context.metrics.reconciles.inc();
    let action = Box::pin(bring_in_line(lb, &context)).await;
    context.metrics.took(began.elapsed());
    action
}

async fn bring_in_line(lb: &PortableLoadBalancer, context: &Context) -> Result<Action, Error> {
    let settings = &context.config.agents;
    let observed = gather(&context.stores, lb, &settings.namespace);
    let accepted = status::accept(lb, settings);
    let mut applied = Ok(());
    let children = build(lb, settings);
    let template = children
        .agents
        .spec
        .as_ref()
        .and_then(|spec| spec.template.clone());
    if accepted.is_ok() {
        applied = apply(&context.client, &observed, children).await;
    }
    let facts = status::Facts {
        lb,
        observed: &observed,
        settings,
        refused: applied.as_ref().err(),
    };
    let again = status::report(context, &facts).await.map_err(Error::Report)?;
    applied.map_err(Error::Apply)?;
    let rolling = match template.filter(|_| accepted.is_ok()) {
        Some(template) => rollout::advance(context, lb, &observed.pods, &template).await,
        None => Ok(None),
    };
    let next = [again, rolling.map_err(Error::Rollout)?]
        .into_iter()
        .flatten()
        .min();
    Ok(Action::requeue(next.unwrap_or(RESYNC)))
}

async fn tell_malformed(
    context: &Context,
    invalid: &kube::core::error_boundary::InvalidObject,
) -> Result<Action, Error> {
    let told = status::malformed::report(context, invalid).await;
    told.map(|()| Action::await_change()).map_err(Error::Report)
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "the controller wants this signature"
)]
fn retry(_: Arc<Guarded>, error: &Error, context: Arc<Context>) -> Action {
    context.metrics.failed(error.step());
    Action::requeue(RETRY)
}

type Outcome = Result<(reflector::ObjectRef<Guarded>, Action), controller::Error<Error, watcher::Error>>;

/// Logs failures, and sees deletions: what is in no store any more has its children swept.
fn note(context: &Context, outcome: &Outcome) {
    let ours = |lb: &Guarded| lb.0.as_ref().is_ok_and(|lb| context.is_ours(lb));
    let count = context.balancers.state_filter(ours).len();
    context
        .metrics
        .objects
        .set(i64::try_from(count).unwrap_or(i64::MAX));
    match outcome {
        Ok((lb, _)) => tracing::debug!(%lb, "reconciled"),
        Err(controller::Error::ObjectNotFound(lb)) => {
            tracing::debug!(%lb, "gone");
            context
                .memory
                .forget(lb.namespace.as_deref().unwrap_or_default(), &lb.name);
            context.sweep.notify_one();
        }
        Err(controller::Error::ReconcilerFailed(error, lb)) => {
            tracing::warn!(%lb, error = causes(error), "reconcile failed");
        }
        Err(error) => tracing::warn!(error = causes(error), "control loop"),
    }
}
