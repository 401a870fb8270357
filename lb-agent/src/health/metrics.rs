//! What is measured of the questions to servers.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use super::probe::Failure;
use super::{Target, Targets};
use crate::metrics::{ReasonLabel, ServerLabels};
use crate::table::Listener;

/// The last answer of a server, or that there was none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// How long it took.
    pub took: Duration,
    /// Whether it was a good one.
    pub is_good: bool,
}

/// What is measured of the questions to servers.
#[derive(Debug, Default)]
pub struct Probes {
    asked: Counter,
    failures: Family<ReasonLabel, Counter>,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    samples: BTreeMap<Target, Sample>,
    targets: Arc<Targets>,
    panicking: BTreeSet<Listener>,
}

impl Probes {
    /// Makes the series known.
    pub fn register(probes: &Arc<Self>, registry: &mut Registry) {
        registry.register("probes", "Questions to servers that ended", probes.asked.clone());
        let help = "Questions to servers without a good answer, by reason; Local is this machine's fault";
        registry.register("probe_failures", help, probes.failures.clone());
        registry.register_collector(Box::new(Series(probes.clone())));
    }

    /// A question ended.
    pub fn asked(&self, answer: &Result<(), Failure>) {
        self.asked.inc();
        let reason = match answer {
            Ok(()) => return,
            Err(Failure::Server(reason)) => reason.group(),
            Err(Failure::Local(_)) => "Local",
        };
        self.failures.get_or_create(&ReasonLabel { reason }).inc();
    }

    /// A server answered, or did not.
    pub fn sampled(&self, target: &Target, sample: Sample) {
        self.held().samples.insert(target.clone(), sample);
    }

    /// A server is no longer asked.
    pub fn forget(&self, target: &Target) {
        self.held().samples.remove(target);
    }

    /// Whom the loop wants asked, and at which listeners all fail. Gives those of which that is new.
    pub fn wanted(&self, targets: Arc<Targets>, panicking: &BTreeSet<Listener>) -> Vec<Listener> {
        let mut held = self.held();
        held.targets = targets;
        let new = panicking.difference(&held.panicking).copied().collect();
        held.panicking.clone_from(panicking);
        new
    }

    fn held(&self) -> std::sync::MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Series that are read when they are asked for.
#[derive(Debug)]
struct Series(Arc<Probes>);

impl Collector for Series {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let held = self.0.held();
        let help = "Listeners of which all servers fail their check, so that all stay";
        let panicking = ConstGauge::new(i64::try_from(held.panicking.len()).unwrap_or(i64::MAX));
        panicking.encode(encoder.encode_descriptor(
            "panicking_listeners",
            help,
            None,
            panicking.metric_type(),
        )?)?;
        let samples = || {
            let servers = held.targets.iter();
            servers.filter_map(|(key, targets)| {
                let samples = targets.iter().filter_map(|target| held.samples.get(target));
                // Of several, the worst.
                Some((*key, *samples.min_by_key(|it| (it.is_good, Reverse(it.took)))?))
            })
        };
        let help = "Whether the server's last answer to its health check was good";
        each(&mut encoder, ("server_probe_success", help), samples(), |it| {
            f64::from(u8::from(it.is_good))
        })?;
        let help = "How long the last health check of the server took";
        each(
            &mut encoder,
            ("server_probe_duration_seconds", help),
            samples(),
            |it| it.took.as_secs_f64(),
        )
    }
}

fn each(
    encoder: &mut DescriptorEncoder<'_>,
    (name, help): (&str, &str),
    samples: impl Iterator<Item = ((Listener, SocketAddr), Sample)>,
    read: impl Fn(Sample) -> f64,
) -> fmt::Result {
    let kind = ConstGauge::new(0.0).metric_type();
    let mut encoder = encoder.encode_descriptor(name, help, None, kind)?;
    for ((listener, server), sample) in samples {
        let labels = ServerLabels::of(listener, server);
        ConstGauge::new(read(sample)).encode(encoder.encode_family(&labels)?)?;
    }
    Ok(())
}
