//! Packet steering (RPS): what it gives when packets would all be handled by one of several processors.
//!
//! The kernel with IPVS has one processor a machine, so this is measured on the machine's own kernel, with the same
//! path through bridge, cables and connection tracking, and iptables DNAT where IPVS would be.

use std::fmt::Write as _;
use std::process::Command;
use std::thread::available_parallelism;

use anyhow::{Context as _, Result, ensure};

use crate::plan::Plan;
use crate::record::{Record, Records};
use crate::row::Row;
use crate::site::contender::Contender;
use crate::site::{Form, Site};
use crate::spread::Spread;
use crate::suite::{Section, Suite};
use crate::throughput::wrk;

/// The suite.
pub struct Steering;

const FIGURE: &str = "steering";
const SETTING: &str = "machine";
const PODS: usize = 4;

/// Whether packets are spread.
#[derive(Clone, Copy, Debug)]
enum Packets {
    Spread,
    Where,
}

impl Packets {
    const ALL: [Self; 2] = [Self::Spread, Self::Where];

    fn name(self) -> &'static str {
        match self {
            Self::Spread => "rps-all",
            Self::Where => "rps-off",
        }
    }

    /// The mask of processors.
    fn mask(self, processors: usize) -> String {
        match self {
            // The kernel wants groups of 32 bits.
            Self::Spread => format!("{:x}", (1_u64 << processors.min(32)) - 1),
            Self::Where => "0".to_owned(),
        }
    }
}

impl Suite for Steering {
    fn name(&self) -> &'static str {
        "steering"
    }

    fn measure(&self, plan: Plan, records: &mut Records) -> Result<()> {
        let processors = available_parallelism()?.get();
        if processors < 2 {
            println!("one processor: nothing to spread over");
            return Ok(());
        }
        let mut site = Site::build(Form::Namespaces, &[Contender::Dnat], PODS)?;
        site.serve(None)?;
        site.balance(PODS)?;
        let load = wrk::Load {
            connections: 64,
            seconds: plan.pick(2, 1),
        };
        for round in 0..plan.pick(9, 2) {
            let mut order = Packets::ALL;
            order.rotate_left(usize::from(round % 2 == 1));
            for packets in order {
                steer(&packets.mask(processors))?;
                println!("{}", packets.name());
                let answered = wrk::run(&site, Contender::Dnat, load)?;
                records.0.push(Record {
                    figure: FIGURE.to_owned(),
                    setting: SETTING.to_owned(),
                    contender: packets.name().to_owned(),
                    x: f64::from(u32::try_from(processors)?),
                    round,
                    value: answered.requests,
                    unit: "requests/s".to_owned(),
                });
            }
        }
        Ok(())
    }

    fn section(&self, records: &Records) -> Result<Section> {
        Ok(section(records))
    }
}

/// Sets where packets are handled that come to the balancer.
fn steer(mask: &str) -> Result<()> {
    // `ip netns exec` mounts the namespace's own /sys, which alone shows its interfaces.
    let path = "/sys/class/net/eth0/queues/rx-0/rps_cpus";
    let set = format!("echo {mask} >{path} && cat {path}");
    let output = Command::new("ip")
        .args(["netns", "exec", "plb-bench-lb0", "sh", "-c", &set])
        .output()
        .context("could not run ip")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "could not set {path}: {said}");
    let number = |text: &str| u64::from_str_radix(&text.trim().replace(',', ""), 16);
    let got = String::from_utf8_lossy(&output.stdout);
    ensure!(
        number(&got)? == number(mask)?,
        "{path} is {got} instead of {mask}"
    );
    Ok(())
}

fn section(records: &Records) -> Section {
    let values = records.of(FIGURE, SETTING);
    let (spread, whole) = (
        values.by(Packets::Spread.name()),
        values.by(Packets::Where.name()),
    );
    let what = "iptables DNAT, packets spread (ours) or not (theirs)";
    let mut text = HOW.to_owned();
    match (values.xs().first(), Spread::of_ratios(&spread, &whole)) {
        (Some(processors), Some(ratio)) => {
            let words = match ratio.median {
                median if median > 1.0 => "Spreading gave more",
                _ => "Spreading gave nothing",
            };
            let _ = write!(text, "{words}: {ratio} × on {processors} processors.\n\n");
        }
        _ => text.push_str("Nothing was measured: this needs two processors.\n\n"),
    }
    text.push_str(LIMITS);
    Section {
        title: "Packet steering",
        rows: Row::between(what, &spread, &whole, None).into_iter().collect(),
        text,
        pictures: Vec::new(),
    }
}

const HOW: &str = "`lb-agent prepare` spreads what comes in on the pod's interface over all processors (RPS), because a \
virtual interface has one queue, whose packets are otherwise handled where their sender runs. Measured on this machine's \
own kernel: wrk and 4 web pods are kept on all processors but the last, and a balancer in a network namespace (iptables \
DNAT) gets their packets with `rps_cpus` 0 and with all processors.\n\n";

const LIMITS: &str = "Not measured: IPVS on several processors, since the kernel here that has it emulates one; and RSS, \
since there is no network card. The path up to the balancing itself (cable, receive queue, connection tracking, \
masquerade) is the same for IPVS; what IPVS adds is not shown.";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_have_a_bit_for_each_processor() {
        assert_eq!(
            (Packets::Spread.mask(2), Packets::Where.mask(2)),
            ("3".into(), "0".into())
        );
        assert_eq!(Packets::Spread.mask(64), "ffffffff");
    }

    #[test]
    fn what_was_not_measured_is_said() {
        let section = section(&Records::default());
        assert!(section.text.contains("Nothing was measured") && section.rows.is_empty());
    }
}
