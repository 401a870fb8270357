//! Requests a second over the number of web pods: the papers' main figure.

use anyhow::{Context as _, Result};

use crate::calm::calmly;
use crate::plan::Plan;
use crate::record::{Record, Records};
use crate::site::contender::Contender;
use crate::site::{Form, Site};
use crate::spread::quantile;
use crate::suite::{Section, Suite};

mod connections;
pub mod one_kernel;
mod section;
pub mod wrk;

use self::wrk::Load;

/// The suite.
pub struct Throughput;

/// What is measured.
const FIGURE: &str = "throughput";
/// Questions that were not answered well.
const ERRORS: &str = "errors";
/// Processor time that the balancer's machine takes for a request.
const COST: &str = "cost";
/// So much a pod is allowed to answer.
const LIMIT: &str = "pod-limit";
/// The balancer's kernel is its own, and the only one that is short of time.
const OWN: &str = "own-kernel";
/// Client, balancer and pods share a kernel.
const ONE: &str = "one-kernel";
/// As many pods as the busiest balancer has pods' worth of requests.
const PODS_WORTH: f64 = 4.0;
/// Of a contender's part of a round: rounds are many and short, as those of latency are.
const SECONDS: u32 = 1;

const OWN_KERNEL: [Contender; 9] = [
    Contender::Ours,
    Contender::OursDr,
    Contender::Ipvsadm,
    Contender::IpvsadmMark,
    Contender::Keepalived,
    Contender::Dnat,
    Contender::NginxStream,
    Contender::NginxHttp,
    Contender::Haproxy,
];

impl Suite for Throughput {
    fn name(&self) -> &'static str {
        "throughput"
    }

    fn measure(&self, plan: Plan, records: &mut Records) -> Result<()> {
        own_kernel(plan, records)?;
        connections::measure(plan, records)?;
        one_kernel::measure(plan, records)
    }

    fn section(&self, records: &Records) -> Result<Section> {
        section::of(records)
    }
}

fn own_kernel(plan: Plan, records: &mut Records) -> Result<()> {
    let xs: &[usize] = plan.pick(&[1, 4, 16], &[8]);
    let load = Load {
        connections: 64,
        seconds: SECONDS,
        is_fresh: false,
    };
    let mut site = Site::build(Form::Machines, &OWN_KERNEL, xs.last().copied().unwrap_or(1))?;
    site.serve(None)?;
    site.balance(xs[0])?;
    let limit = limit(most(&site)?);
    records.0.push(Record {
        figure: LIMIT.to_owned(),
        setting: OWN.to_owned(),
        contender: "pod".to_owned(),
        x: 1.0,
        round: 0,
        value: f64::from(limit),
        unit: "requests/s".to_owned(),
    });
    site.serve(Some(limit))?;
    for &pods in xs {
        println!("{OWN}: {pods} pods");
        // Where the balancer is the bottleneck.
        let is_full = Some(&pods) == xs.last();
        site.balance(pods)?;
        rounds(
            &site,
            plan.pick(if is_full { 24 } else { 3 }, 1),
            Scene {
                setting: OWN,
                servers: pods,
                load,
                rarely: if is_full { 3 } else { 1 },
            },
            records,
        )?;
    }
    Ok(())
}

/// Requests a second that iptables DNAT can pass: what loads are measured by.
pub(crate) fn most(site: &Site) -> Result<f64> {
    let load = Load {
        connections: 64,
        seconds: SECONDS,
        is_fresh: false,
    };
    let one = |_| Ok(calmly(|| wrk::run(site, Contender::Dnat, load))?.requests);
    let values = (0..5).map(one).collect::<Result<Vec<f64>>>()?;
    quantile(&values, 0.5).context("nothing was measured")
}

/// What one pod may answer.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a rate of requests"
)]
fn limit(most: f64) -> u32 {
    ((most / PODS_WORTH) as u32).max(100)
}

/// What rounds are of.
#[derive(Clone, Copy)]
struct Scene {
    setting: &'static str,
    servers: usize,
    load: Load,
    /// In one of so many rounds all are loaded, otherwise those that are close to each other.
    rarely: u32,
}

impl Scene {
    fn is_due(self, contender: Contender, round: u32) -> bool {
        round.is_multiple_of(self.rarely) || contender.is_close()
    }
}

/// Loads all contenders in turns.
fn rounds(site: &Site, rounds: u32, scene: Scene, records: &mut Records) -> Result<()> {
    for round in 0..rounds {
        let record = |contender: &str, figure: &str, (value, unit): (f64, &str)| Record {
            figure: figure.to_owned(),
            setting: scene.setting.to_owned(),
            contender: contender.to_owned(),
            x: f64::from(u32::try_from(scene.servers).unwrap_or_default()),
            round,
            value,
            unit: unit.to_owned(),
        };
        let due = |contender: &Contender| scene.is_due(*contender, round);
        for contender in site.order(round).into_iter().filter(due) {
            let (answered, used) = calmly(|| {
                let before = site.processor_time(contender);
                let answered = wrk::run(site, contender, scene.load)?;
                Ok((answered, site.processor_time(contender).zip(before)))
            })?;
            let mut push = |figure, value| records.0.push(record(contender.name(), figure, value));
            push(FIGURE, (answered.requests, "requests/s"));
            push(ERRORS, (answered.errors, "requests"));
            if let Some((after, before)) = used {
                let micros = after.saturating_sub(before).as_secs_f64() * 1e6 / answered.count.max(1.0);
                push(COST, (micros, "µs/request"));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_pods_can_do_what_a_balancer_can() {
        assert_eq!((limit(4001.0), limit(0.0)), (1000, 100));
    }
}
