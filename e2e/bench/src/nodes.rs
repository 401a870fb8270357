//! Throughput in the real cluster: balancers on one node, web pods on the others, the load outside.

use anyhow::{Context, Result};
use e2e::cluster::in_namespace;
use e2e::lab::cluster::Backend;

use crate::calm::calmly;
use crate::plan::Plan;
use crate::record::{Record, Records};
use crate::suite::{Section, Suite};
use network::Network;
use rival::Rival;
use stage::{Contender, Stage};

pub mod network;
pub mod pods;
pub mod processor;
pub mod rival;
pub mod stage;
pub mod story;
pub mod wrk;

/// Answers a second.
const THROUGHPUT: &str = "throughput";
/// Processor time of the balancers' node for one answer.
const BALANCER: &str = "balancer-node";
/// Processor time of the web servers' nodes for one answer.
const SERVERS: &str = "server-nodes";
/// Processor time of wrk for one answer.
const LOAD: &str = "load";
/// How many requests a second one web pod answers.
const LIMIT: &str = "pod-limit";
/// Requests that failed in one run.
const FAILED: &str = "failed";

/// The backend that is measured with every number of web pods.
const MAIN: Backend = Backend::Vxlan;
/// The number of web pods that every backend is measured with.
const COMMON: usize = 8;
/// What each web pod may answer, of what the rules could do with all of them: as many pods fill a balancer.
const SHARE: f64 = 4.0;

/// Throughput over the number of web pods, on each of flannel's backends.
pub struct AcrossNodes;

impl Suite for AcrossNodes {
    fn name(&self) -> &'static str {
        "across-nodes"
    }

    fn needs_lab(&self) -> bool {
        true
    }

    fn is_quick(&self) -> bool {
        false
    }

    fn measure(&self, plan: Plan, records: &mut Records) -> Result<()> {
        in_namespace("nodes", |space| {
            let mut network = Network::read()?;
            network.change(MAIN)?;
            let mut stage = Stage::set(space, sizes(MAIN, plan))?;
            limit(&mut stage, records)?;
            for backend in plan.pick(&[MAIN, Backend::HostGw, Backend::Udp][..], &[MAIN]) {
                network.change(*backend)?;
                for size in sizes(*backend, plan) {
                    stage.direct(*size)?;
                    stage.check()?;
                    measure_all(&stage, backend.name(), plan, records)?;
                }
            }
            Ok(())
        })
    }

    fn section(&self, records: &Records) -> Result<Section> {
        story::section(records)
    }
}

fn sizes(backend: Backend, plan: Plan) -> &'static [usize] {
    match (backend, plan) {
        // The common one comes last: what follows on the other backends needs no change then.
        (MAIN, Plan::Full | Plan::Long(_)) => &[1, 4, COMMON],
        _ => &[COMMON],
    }
}

/// Gives every web pod its share of what the rules of one contender can do with all of them.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a rate of requests"
)]
fn limit(stage: &mut Stage<'_>, records: &mut Records) -> Result<()> {
    stage.serve(None)?;
    stage.direct(COMMON)?;
    stage.check()?;
    let dnat = stage
        .contenders()?
        .into_iter()
        .find(|one| one.name == Rival::Dnat.name());
    let address = dnat.context("no rules")?.address;
    wrk::run(address, 1)?;
    let limit = ((calmly(|| wrk::run(address, SECONDS))?.requests / SHARE) as u32).max(50);
    stage.serve(Some(limit))?;
    records.0.push(Record {
        figure: LIMIT.to_owned(),
        setting: MAIN.name().to_owned(),
        contender: "pod".to_owned(),
        x: 1.0,
        round: 0,
        value: f64::from(limit),
        unit: "requests/s".to_owned(),
    });
    Ok(())
}

#[derive(Clone, Copy)]
struct Place {
    setting: &'static str,
    servers: usize,
    round: u32,
}

/// Loads one contender after the other, in rounds: who comes first and who follows whom changes with each.
fn measure_all(stage: &Stage<'_>, setting: &'static str, plan: Plan, records: &mut Records) -> Result<()> {
    for round in 0..rounds(stage.servers(), plan) {
        let mut contenders = stage.contenders()?;
        contenders.retain(|contender| contender.is_due(round));
        // The first run after a change pays for it, so it does not count.
        if let Some(last) = contenders.last().filter(|_| round == 0) {
            wrk::run(last.address, 1)?;
        }
        let turn = round as usize * 3 % contenders.len();
        contenders.rotate_left(turn);
        if round % 2 == 1 {
            contenders.reverse();
        }
        let place = Place {
            setting,
            servers: stage.servers(),
            round,
        };
        for contender in contenders {
            measure_one(stage, contender, place, records)?;
        }
    }
    Ok(())
}

/// More where backends and rivals are compared than where the picture only needs a point.
fn rounds(servers: usize, plan: Plan) -> u32 {
    plan.pick(if servers == COMMON { 12 } else { 6 }, 1)
}

/// Seconds of load for one value: rounds are many and short, as those of latency are.
const SECONDS: u32 = 1;

fn measure_one(stage: &Stage<'_>, contender: Contender, place: Place, records: &mut Records) -> Result<()> {
    let (outcome, used) = calmly(|| {
        let before = stage.meter.read()?;
        let outcome = wrk::run(contender.address, SECONDS)?;
        Ok((outcome, stage.meter.read()?.since(before)))
    })?;
    let mut values = vec![
        (THROUGHPUT, outcome.requests, "requests/s"),
        (FAILED, outcome.errors, "requests"),
    ];
    if outcome.requests > 0.0 {
        let answered = outcome.requests * f64::from(SECONDS);
        let each = |seconds: f64| seconds * 1e6 / answered;
        values.push((BALANCER, each(used.balancer), "µs"));
        values.push((SERVERS, each(used.servers), "µs"));
        values.push((LOAD, each(used.load), "µs"));
    }
    let Place {
        setting,
        servers,
        round,
    } = place;
    let name = contender.name;
    println!(
        "{setting}, {servers} pods, round {round}: {name} {:.0} requests/s",
        outcome.requests
    );
    #[allow(clippy::cast_precision_loss, reason = "a handful of pods")]
    let x = place.servers as f64;
    records
        .0
        .extend(values.into_iter().map(|(figure, value, unit)| Record {
            figure: figure.to_owned(),
            setting: place.setting.to_owned(),
            contender: contender.name.to_owned(),
            x,
            round: place.round,
            value,
            unit: unit.to_owned(),
        }));
    Ok(())
}
