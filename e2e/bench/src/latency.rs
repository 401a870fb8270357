//! How long a request takes while a constant number of them comes each second, however slow answers are.

use std::time::Duration;

use anyhow::Result;

use crate::calm::calmly;
use crate::plan::Plan;
use crate::record::{Record, Records};
use crate::site::contender::Contender;
use crate::site::{Form, Site};
use crate::suite::{Section, Suite};
use crate::throughput::most;

pub mod load;
pub mod schedule;
mod section;

use self::load::Load;

/// The suite.
pub struct Latency;

/// What is measured: x is a percentile, the value the time that it took at most.
const FIGURE: &str = "latency";
/// Requests a second that came.
const RATE: &str = "rate";
const PODS: usize = 8;
/// Many short rounds, not few long ones: whatever else the machine does for a moment spoils the late times of a round,
/// not of the median round, and values of one round are taken close to each other.
const LASTING: Duration = Duration::from_millis(500);
/// All answers of one contender in one round, as these percentiles.
const PERCENTILES: [f64; 16] = [
    1.0, 5.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 80.0, 90.0, 95.0, 97.5, 99.0, 99.5, 99.9,
];

/// A load that contenders are to bear.
struct Level {
    setting: &'static str,
    /// Of what iptables DNAT can do in this run.
    share: f64,
    /// Who can bear it.
    contenders: &'static [Contender],
}

const KERNELS: [Contender; 6] = [
    Contender::Ours,
    Contender::OursDr,
    Contender::Ipvsadm,
    Contender::IpvsadmMark,
    Contender::Keepalived,
    Contender::Dnat,
];

const ALL: [Contender; 9] = [
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

/// Proxies can't bear the high one: their times would grow as long as it lasts.
const LEVELS: [Level; 2] = [
    Level {
        setting: "60-percent",
        share: 0.6,
        contenders: &KERNELS,
    },
    Level {
        setting: "20-percent",
        share: 0.2,
        contenders: &ALL,
    },
];

impl Suite for Latency {
    fn name(&self) -> &'static str {
        "latency"
    }

    fn measure(&self, plan: Plan, records: &mut Records) -> Result<()> {
        let mut site = Site::build(Form::Machines, &ALL, PODS)?;
        site.serve(None)?;
        site.balance(PODS)?;
        let most = most(&site)?;
        for round in 0..plan.pick(16, 2) {
            for level in &LEVELS {
                let load = Load {
                    connections: 32,
                    lasting: LASTING,
                    rate: most * level.share,
                };
                one_round(&site, level, (round, load), records)?;
            }
        }
        Ok(())
    }

    fn section(&self, records: &Records) -> Result<Section> {
        section::of(records)
    }
}

fn one_round(site: &Site, level: &Level, (round, load): (u32, Load), records: &mut Records) -> Result<()> {
    let order = site.order(round);
    for contender in order.into_iter().filter(|one| level.contenders.contains(one)) {
        let times = calmly(|| load::run(site, contender, load))?;
        let record = |figure: &str, x: f64, value: f64, unit: &str| Record {
            figure: figure.to_owned(),
            setting: level.setting.to_owned(),
            contender: contender.name().to_owned(),
            x,
            round,
            value,
            unit: unit.to_owned(),
        };
        for percentile in PERCENTILES {
            let value = milliseconds(times.value_at_percentile(percentile));
            records.0.push(record(FIGURE, percentile, value, "ms"));
        }
        records.0.push(record(RATE, 0.0, load.rate, "requests/s"));
        let [median, late] = [50.0, 99.0].map(|part| milliseconds(times.value_at_percentile(part)));
        println!(
            "  {:>16} at {:>6.0} requests/s: median {median:>7.2} ms, p99 {late:>7.2} ms",
            contender.name(),
            load.rate
        );
    }
    Ok(())
}

#[allow(clippy::cast_precision_loss, reason = "microseconds of a run")]
fn milliseconds(micros: u64) -> f64 {
    micros as f64 / 1000.0
}
