//! What agents and the operator take: memory, time on processors, threads, descriptors, calls of the API server.

mod agents;
mod calls;
mod operator;
mod tell;

use anyhow::Result;

use crate::plan::Plan;
use crate::record::{Record, Records};
use crate::stage::wire::Usage;
use crate::suite::{Section, Suite};
use std::time::Duration;

/// The suite.
pub struct Footprint;

/// Settings.
const AGENT: &str = "agent";
const OPERATOR: &str = "operator";
const IMAGE: &str = "image";

/// The operator that began among all balancers.
const RESTARTED: &str = "ours, started anew";

/// Figures.
const MEMORY: &str = "resident memory";
const ANONYMOUS: &str = "memory of no file";
const THREADS: &str = "threads";
const DESCRIPTORS: &str = "file descriptors";
const REST: &str = "processor at rest";
const BUSY: &str = "processor under load";
const LOAD: &str = "load";
const CALLS: &str = "calls at rest";
const WRITES: &str = "writes at rest";
const SIZE: &str = "size of the image";

impl Suite for Footprint {
    fn name(&self) -> &'static str {
        "footprint"
    }

    fn needs_lab(&self) -> bool {
        true
    }

    fn is_quick(&self) -> bool {
        false
    }

    fn measure(&self, plan: Plan, records: &mut Records) -> Result<()> {
        operator::images(records)?;
        operator::measure(plan, records)?;
        agents::measure(plan, records)
    }

    fn section(&self, records: &Records) -> Result<Section> {
        tell::section(records)
    }
}

/// Where values belong.
struct Point<'a> {
    setting: &'a str,
    contender: &'a str,
    x: usize,
}

/// What a process took in a while.
struct Measured {
    usage: Usage,
    figure: &'static str,
    /// Of one processor, in percent.
    share: f64,
}

impl Measured {
    fn at_rest(before: Usage, after: Usage, took: Duration) -> Self {
        Self::during(REST, (before, after), took)
    }

    fn under_load(before: Usage, after: Usage, took: Duration) -> Self {
        Self::during(BUSY, (before, after), took)
    }

    fn during(figure: &'static str, (before, after): (Usage, Usage), took: Duration) -> Self {
        let busy = Duration::from_millis(after.busy.saturating_sub(before.busy));
        Self {
            usage: after,
            figure,
            share: busy.as_secs_f64() / took.as_secs_f64() * 100.0,
        }
    }
}

/// Notes all of it; what does not depend on load only at rest.
#[allow(clippy::cast_precision_loss, reason = "no process takes so much")]
fn note(records: &mut Records, point: &Point<'_>, measured: &Measured) {
    push(
        records,
        point,
        measured.figure,
        (measured.share, "% of a processor"),
    );
    if measured.figure == REST {
        let usage = measured.usage;
        push(records, point, MEMORY, (usage.resident as f64 / 1024.0, "MiB"));
        push(
            records,
            point,
            ANONYMOUS,
            (usage.anonymous as f64 / 1024.0, "MiB"),
        );
        push(records, point, THREADS, (usage.threads as f64, "threads"));
        push(
            records,
            point,
            DESCRIPTORS,
            (usage.descriptors as f64, "descriptors"),
        );
    }
}

/// A value with its unit.
#[allow(clippy::cast_precision_loss, reason = "sizes are small")]
fn push(records: &mut Records, point: &Point<'_>, figure: &str, (value, unit): (f64, &str)) {
    records.0.push(Record {
        figure: figure.to_owned(),
        setting: point.setting.to_owned(),
        contender: point.contender.to_owned(),
        x: point.x as f64,
        round: 0,
        value,
        unit: unit.to_owned(),
    });
}
