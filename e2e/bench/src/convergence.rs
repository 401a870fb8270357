//! How long it takes from a change of an `EndpointSlice` until kernels balance by it.

mod measure;
pub(crate) mod told;
mod words;

use std::fmt::Write as _;

use anyhow::Result;
use e2e::cluster::in_namespace;

use crate::plan::Plan;
use crate::plot::{self, Axes, Line};
use crate::record::{OURS, Record, Records};
use crate::row::{Row, Target};
use crate::spread::quantile;
use crate::suite::{Section, Suite};

/// The suite.
pub struct Convergence;

const SIZES: [usize; 2] = [10, 1000];
/// Milliseconds that 99 of 100 changes may take.
const BOUND: f64 = 100.0;

/// An agent that follows the same changes as the kube-proxies, at the same time.
const BESIDE: &str = "ours, beside both";

const CONVERGENCE: &str = "from the change to the kernel";
const WRITTEN: &str = "until the API server has answered";
const AGENT: &str = "from hearing of it to the kernel";
const RESOLUTION: &str = "resolution";
/// Of the processors, by others, while a change was under way.
const TAKEN: &str = "taken by others meanwhile";
/// By our agent's threads, since the change before.
const WAITED: &str = "waiting for the node's processor";
const CLOCK: &str = "uncertainty of the clock";

fn setting(size: usize) -> String {
    format!("{size} endpoints")
}

impl Suite for Convergence {
    fn name(&self) -> &'static str {
        "convergence"
    }

    fn needs_lab(&self) -> bool {
        true
    }

    fn measure(&self, plan: Plan, records: &mut Records) -> Result<()> {
        in_namespace("convergence", |space| measure::measure(space, plan, records))
    }

    fn section(&self, records: &Records) -> Result<Section> {
        let mut section = Section {
            title: "Convergence: from a changed EndpointSlice to the kernel",
            text: introduction(),
            ..Section::default()
        };
        for setting in records.settings(CONVERGENCE) {
            let values = records.of(CONVERGENCE, setting);
            section.rows.extend(rows(setting, &values));
            let name = format!("convergence-{}", setting.replace(' ', "-"));
            section.pictures.push((name.clone(), picture(setting, &values)?));
            let _ = write!(
                section.text,
                "\n![{setting}]({name}.svg)\n\n{}",
                words::table(&values)
            );
            section.text += &words::split(setting, records);
            section.text += &words::waiting(setting, records);
            section.text += &words::between_looks(setting, records);
            section.text += &words::beside_others(setting, records);
        }
        section.text += &words::how_exact(records);
        section.text += &told::text(records);
        section.rows.extend(told::rows(records));
        Ok(section)
    }
}

fn introduction() -> String {
    format!(
        "One server of a Service is replaced by another, as when a pod is replaced: one slice, of at most 100 endpoints as \
         the controller of Kubernetes makes them, is written with one other address in it. Changes come every {} ms, as in \
         a rolling update, whether or not those before have arrived. The time of each runs from before its request to the \
         API server until the kernel has the new server, or one that is newer still, as seen from outside by another \
         program on the node. Two kube-proxies and an agent (*{BESIDE}*) follow the same changes at the same time, each on a \
         node of its own, in turns; the nodes' own kube-proxies are stopped meanwhile. By iptables kube-proxy waits a second \
         from one sync to the next; in ipvs mode a sync takes it seconds, since it starts dozens of programs. Either brings \
         all changes until then with the next sync. *{OURS}* is an agent with as many changes of a Service that \
         no kube-proxy follows, while the kube-proxies have nothing to do: all nodes, the API server and etcd share the \
         machine's processors.\n",
        measure::PACE.as_millis()
    )
}

fn rows(setting: &str, values: &Records) -> Vec<Row> {
    let what = format!("change of an EndpointSlice → kernel, {setting}");
    let rivals = values
        .contenders()
        .into_iter()
        .filter(|name| !name.starts_with(OURS));
    let beside = values.by(BESIDE);
    let mut rows: Vec<Row> = rivals
        .filter_map(|rival| Row::between(&what, &beside, &values.by(rival), None))
        .collect();
    let (ours, bound) = (worst(values, OURS), bound(values));
    rows.extend(Row::between(
        &format!("{what}, 99th percentile"),
        &ours,
        &bound,
        Some(Target::AtMost(1.0)),
    ));
    rows
}

/// The 99th percentile of a contender, as a value of its own.
fn worst(values: &Records, contender: &str) -> Records {
    let of = values.by(contender);
    let value = quantile(&of.values(), 0.99);
    let record = of.0.first().zip(value).map(|(record, value)| Record {
        round: 0,
        value,
        ..record.clone()
    });
    Records(record.into_iter().collect())
}

fn bound(values: &Records) -> Records {
    let record = values.0.first().map(|record| Record {
        round: 0,
        value: BOUND,
        contender: "the bound".to_owned(),
        ..record.clone()
    });
    Records(record.into_iter().collect())
}

/// Which part of the changes had reached the kernel after so many milliseconds.
#[allow(clippy::cast_precision_loss, reason = "a few hundred values")]
fn picture(setting: &str, values: &Records) -> Result<String> {
    let line = |contender: &str| {
        let mut times = values.by(contender).values();
        times.sort_by(f64::total_cmp);
        let count = times.len() as f64;
        let points = times
            .iter()
            .enumerate()
            .map(|(number, time)| (*time, (number + 1) as f64 / count));
        Line {
            name: contender.to_owned(),
            points: points.collect(),
        }
    };
    let axes = Axes {
        title: &format!("Changes that have reached the kernel, {setting}"),
        x: "milliseconds after the change",
        y: "share of all changes",
        x_by_factors: true,
        y_by_factors: false,
    };
    plot::lines(
        axes,
        &values.contenders().into_iter().map(line).collect::<Vec<_>>(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::tests::value;

    /// A value at 10 endpoints.
    pub(super) fn record(figure: &str, contender: &str, round: u32, milliseconds: f64) -> Record {
        Record {
            figure: figure.to_owned(),
            setting: setting(10),
            ..value(contender, 10.0, round, milliseconds)
        }
    }

    #[test]
    fn the_section_compares_and_splits() {
        let mut records = Records::default();
        for round in 0..10 {
            records.0.push(record(CONVERGENCE, OURS, round, 40.0));
            records.0.push(record(CONVERGENCE, BESIDE, round, 20.0));
            records
                .0
                .push(record(CONVERGENCE, "kube-proxy, ipvs", round, 80.0));
            records.0.push(record(WRITTEN, OURS, round, 5.0));
            records.0.push(record(RESOLUTION, OURS, round, 15.0));
            records
                .0
                .push(record(TAKEN, OURS, round, f64::from(round / 8) * 10.0));
        }
        records.0.push(record(AGENT, OURS, 0, 25.0));
        let section = Convergence.section(&records).unwrap();
        assert_eq!(section.rows.len(), 2);
        assert!((section.rows[0].ratio.median - 0.25).abs() < 1e-9);
        assert!((section.rows[1].ratio.median - 0.4).abs() < 1e-9);
        assert!(
            section.text.contains("the agent itself took 25.0 ms"),
            "{}",
            section.text
        );
        assert!(section.text.contains("the rest, 15.0 ms"), "{}", section.text);
        let between = "at most 25.0 ms; as they count it is 40.0 ms";
        assert!(section.text.contains(between), "{}", section.text);
        let calm = "while 2 of these 10 changes were under way. Of the rest 99 of 100 took at most 40.0 ms";
        assert!(section.text.contains(calm), "{}", section.text);
    }
}
