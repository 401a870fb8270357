//! Packet steering (RPS): what it gives when packets would all be handled by one of several processors.
//!
//! The machine's own kernel may lack IPVS, and User Mode Linux has one processor. So IPVS is measured in an emulated
//! machine with two, and iptables DNAT, by the same path through bridge, cables and connection tracking, on the
//! machine's own kernel.

mod emulated;
mod measure;

use std::fmt::Write as _;

use anyhow::Result;

use crate::plan::Plan;
use crate::record::Records;
use crate::row::Row;
use crate::site::contender::Contender;
use crate::spread::Spread;
use crate::suite::{Section, Suite};
pub(crate) use emulated::inside;
use measure::Packets;

/// The suite.
pub struct Steering;

const FIGURE: &str = "steering";
const MACHINE: &str = "machine";
const EMULATED: &str = "emulated machine";

/// Where it was measured, and who balanced.
const SETTINGS: [(&str, &str); 2] = [
    (MACHINE, "iptables DNAT on this machine's own kernel"),
    (EMULATED, "our agent's IPVS, emulated machine"),
];

impl Suite for Steering {
    fn name(&self) -> &'static str {
        "steering"
    }

    fn measure(&self, plan: Plan, records: &mut Records) -> Result<()> {
        measure::measure(MACHINE, Contender::Dnat, (plan, plan.pick(6, 2)), records)?;
        emulated::measure(plan, records)
    }

    fn section(&self, records: &Records) -> Result<Section> {
        Ok(section(records))
    }
}

fn section(records: &Records) -> Section {
    let mut text = HOW.to_owned();
    let mut rows = Vec::new();
    for (setting, what) in SETTINGS {
        let values = records.of(FIGURE, setting);
        let (spread, whole) = (
            values.by(Packets::Spread.name()),
            values.by(Packets::Where.name()),
        );
        match (values.xs().first(), Spread::of_ratios(&spread, &whole)) {
            (Some(processors), Some(ratio)) => {
                let words = match ratio.median {
                    median if median > 1.0 => "spreading gave more",
                    _ => "spreading gave nothing",
                };
                let _ = writeln!(text, "- {what}: {words}: {ratio} × on {processors} processors.");
            }
            _ => {
                let _ = writeln!(text, "- {what}: nothing was measured.");
            }
        }
        let row = format!("{what}, packets spread (ours) or not (theirs)");
        rows.extend(Row::between(&row, &spread, &whole, None));
    }
    text.push_str(LIMITS);
    Section {
        title: "Packet steering",
        rows,
        text,
        pictures: Vec::new(),
    }
}

const HOW: &str = "`lb-agent prepare` spreads what comes in on the pod's interface over all processors (RPS), because a \
virtual interface has one queue, whose packets are otherwise handled where their sender runs. Measured twice: with \
iptables DNAT on this machine's own kernel, which may lack IPVS, and with our agent in a machine of two processors that \
QEMU emulates, with Debian's kernel. wrk and 4 web pods are kept on all processors but the last, and a balancer in a \
network namespace gets their packets with `rps_cpus` 0 and with all processors.\n\n";

const LIMITS: &str = "\nNot measured: RSS, since there is no network card. An emulated processor is many times slower than a \
real one, and two of them are two threads of this machine, so only the ratio counts.";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_measured_is_said() {
        let section = section(&Records::default());
        assert_eq!(section.text.matches("nothing was measured").count(), 2);
        assert!(section.rows.is_empty());
    }
}
