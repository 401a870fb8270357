//! Changes one after the other, each seen by kernels on different nodes.
#![allow(clippy::disallowed_methods, reason = "changes keep a distance")]

use std::time::Duration;

use anyhow::{Context, Result};
use e2e::cluster::{Agent, Space};

use super::{AGENT, CLOCK, CONVERGENCE, RESOLUTION, WRITTEN, setting};
use crate::plan::Plan;
use crate::record::{OURS, Record, Records};
use crate::stage::fleet::{Audience, Change, Fleet, balancer};
use crate::stage::node::{Eyes, NODES, milliseconds};
use crate::stage::rival;
use crate::stage::wire::{Kernel, Request, Sight};

/// On the nodes behind that of ours. Each block turns the nodes by one.
const RIVALS: [Kernel; 2] = [Kernel::Iptables, Kernel::Ipvs];
/// kube-proxy's own pause after each of its syncs, and a little more.
const REST: Duration = Duration::from_millis(1150);
/// Between two changes of ours.
const PAUSE: Duration = Duration::from_millis(150);
/// Changes before those that count: programs are read from the disk, and connections made.
const WARM_UP: u32 = 2;

/// How many changes each sees in a block. Those of kube-proxy take long, in ipvs mode seconds, since it starts dozens of
/// programs for each.
#[derive(Clone, Copy)]
struct Counts {
    ours: u32,
    iptables: u32,
    ipvs: u32,
}

/// Everything that is measured.
pub(super) fn measure(space: &Space<'_>, plan: Plan, records: &mut Records) -> Result<()> {
    let (full, quick) = (
        Counts {
            ours: 67,
            iptables: 14,
            ipvs: 6,
        },
        Counts {
            ours: 20,
            iptables: 6,
            ipvs: 3,
        },
    );
    for block in 0..plan.pick(3, 1) {
        let at = |place: usize| Eyes::open(NODES[(usize::try_from(block)? + place) % NODES.len()]);
        let mut eyes = [at(0)?, at(1)?, at(2)?];
        for eyes in &mut eyes {
            eyes.ask(&Request::SuspendProxy)?;
        }
        for size in super::SIZES {
            println!("block {block}: {size} endpoints");
            let mut scene = Scene::make(space, &mut eyes, size)?;
            scene
                .run(block, plan.pick(full, quick), records)
                .with_context(|| format!("{size} endpoints, block {block}"))?;
            scene.end()?;
        }
    }
    Ok(())
}

/// All contenders, ready for changes.
struct Scene<'a, 'b> {
    space: &'a Space<'b>,
    eyes: &'a mut [Eyes; 3],
    size: usize,
    ours: Fleet,
    theirs: Fleet,
    agent: Agent,
    /// How many of the kube-proxies still take part.
    rivals: usize,
}

impl<'a, 'b> Scene<'a, 'b> {
    fn make(space: &'a Space<'b>, eyes: &'a mut [Eyes; 3], size: usize) -> Result<Self> {
        for (eyes, kernel) in eyes[1..].iter_mut().zip(RIVALS) {
            rival::start(space, eyes, kernel)?;
        }
        let ours = Fleet::create(space, "ours", size, Audience::Ours)?;
        let theirs = Fleet::create(space, "theirs", size, Audience::KubeProxy)?;
        space.apply(&balancer(&ours.name, &eyes[0].node))?;
        let agent = space
            .wait_serving(&ours.name, &format!("{size}/{size}"))?
            .remove(0);
        let mut scene = Self {
            space,
            eyes,
            size,
            ours,
            theirs,
            agent,
            rivals: RIVALS.len(),
        };
        for _ in 0..WARM_UP {
            scene.change_theirs()?;
            scene.change_ours()?;
            scene.rest()?;
        }
        Ok(scene)
    }

    fn run(&mut self, block: u32, counts: Counts, records: &mut Records) -> Result<()> {
        let first = block * counts.ours;
        for place in 0..self.eyes.len() {
            let (uncertainty, ahead) = self.eyes[place].compare_clocks()?;
            let node = &self.eyes[place].node;
            records.0.push(self.record(node, block, (CLOCK, uncertainty)));
            println!("{node}: its clock is {ahead:.3} ms ahead, give or take {uncertainty:.3}");
        }
        let before = latency(&self.agent.metrics()?);
        for number in 0..counts.ours {
            if number == counts.ipvs {
                self.rivals = 1;
                self.eyes[2].ask(&Request::EndRival)?;
            }
            if number < counts.iptables {
                self.theirs(first + number, records)?;
            }
            self.ours(first + number, records)?;
        }
        if let Some(own) = mean(before, latency(&self.agent.metrics()?)) {
            records.0.push(self.record(OURS, block, (AGENT, own)));
        }
        Ok(())
    }

    fn theirs(&mut self, round: u32, records: &mut Records) -> Result<()> {
        let (change, sights) = self.change_theirs()?;
        for (kernel, sight) in RIVALS.iter().zip(sights) {
            records
                .0
                .extend(self.note(kernel.rival(), round, (change, sight)));
        }
        self.rest()
    }

    /// Ours comes when the kube-proxies have nothing more to do.
    fn ours(&mut self, round: u32, records: &mut Records) -> Result<()> {
        let (change, sight) = self.change_ours()?;
        records.0.extend(self.note(OURS, round, (change, sight)));
        let written = milliseconds_between(change.begun, change.written);
        records.0.push(self.record(OURS, round, (WRITTEN, written)));
        std::thread::sleep(PAUSE);
        Ok(())
    }

    /// Both kube-proxies have work to do after their kernels have the server. Then one of them pauses.
    fn rest(&mut self) -> Result<()> {
        let mut rivals = self.eyes[1..].iter_mut().take(self.rivals);
        rivals.try_for_each(Eyes::wait_for_rest)?;
        std::thread::sleep(REST);
        Ok(())
    }

    fn change_theirs(&mut self) -> Result<(Change, Vec<Sight>)> {
        let rivals = &mut self.eyes[1..=self.rivals];
        let change = self.theirs.change_watched(self.space, |server| {
            let mut each = rivals.iter_mut().zip(RIVALS);
            each.try_for_each(|(eyes, kernel)| eyes.watch(kernel.mode(), kernel, server))
        })?;
        let sights: Result<_> = rivals.iter_mut().map(Eyes::seen).collect();
        Ok((change, sights?))
    }

    fn change_ours(&mut self) -> Result<(Change, Sight)> {
        let change = self.ours.change_watched(self.space, |server| {
            self.eyes[0].watch(&self.agent.pod, Kernel::Ipvs, server)
        })?;
        Ok((change, self.eyes[0].seen()?))
    }

    fn end(self) -> Result<()> {
        for (eyes, kernel) in self.eyes[1..].iter_mut().zip(RIVALS) {
            rival::end(self.space, eyes, kernel)?;
        }
        let all = "delete plb,services,endpointslices --all --wait=true";
        self.space.kubectl(all).map(drop)
    }

    fn note(&self, contender: &str, round: u32, (change, sight): (Change, Sight)) -> [Record; 2] {
        [
            (CONVERGENCE, milliseconds_between(change.begun, sight.at)),
            (RESOLUTION, milliseconds_between(sight.not_before, sight.at)),
        ]
        .map(|value| self.record(contender, round, value))
    }

    /// A value of a figure.
    #[allow(clippy::cast_precision_loss, reason = "a thousand at most")]
    fn record(&self, contender: &str, round: u32, (figure, value): (&str, f64)) -> Record {
        Record {
            figure: figure.to_owned(),
            setting: setting(self.size),
            contender: contender.to_owned(),
            x: self.size as f64,
            round,
            value,
            unit: "ms".to_owned(),
        }
    }
}

fn milliseconds_between(begin: u64, end: u64) -> f64 {
    let signed = |time| i64::try_from(time).unwrap_or_default();
    milliseconds(signed(end) - signed(begin))
}

/// Sum and count of what the agent measures by itself: from hearing of a change to the kernel.
fn latency(metrics: &str) -> Option<(f64, f64)> {
    let value = |suffix: &str| {
        let name = format!("portable_lb_agent_programming_latency_seconds_{suffix} ");
        metrics
            .lines()
            .find_map(|line| line.strip_prefix(&name)?.trim().parse().ok())
    };
    Some((value("sum")?, value("count")?))
}

fn mean(before: Option<(f64, f64)>, after: Option<(f64, f64)>) -> Option<f64> {
    let ((sum, count), (all, of)) = (before?, after?);
    (of > count).then(|| (all - sum) / (of - count) * 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_agents_own_share_is_what_came_between() {
        let text = |sum, count| {
            latency(&format!(
                "portable_lb_agent_programming_latency_seconds_sum {sum}\n\
                 portable_lb_agent_programming_latency_seconds_count {count}\n"
            ))
        };
        assert_eq!(mean(text(1.0, 10), text(1.5, 20)), Some(50.0));
        assert_eq!(mean(text(1.0, 10), text(1.0, 10)), None);
        assert_eq!(mean(None, text(1.0, 10)), None);
    }
}
