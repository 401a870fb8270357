//! Changes one after the other, each seen by kernels on different nodes.
#![allow(clippy::disallowed_methods, reason = "changes keep a distance")]

use std::time::Duration;

use anyhow::{Context, Result};
use e2e::cluster::{Agent, Space};

use super::told::{CHANGE, FILL, Told};
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
const WARM_UP: u32 = 1;

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
            iptables: 8,
            ipvs: 3,
        },
        Counts {
            ours: 10,
            iptables: 2,
            ipvs: 1,
        },
    );
    for block in 0..plan.pick(3, 1) {
        let at = |place: usize| Eyes::open(NODES[(usize::try_from(block)? + place) % NODES.len()]);
        let mut eyes = [at(0)?, at(1)?, at(2)?];
        for eyes in &mut eyes {
            eyes.ask(&Request::SuspendProxy)?;
        }
        for &size in plan.pick(&super::SIZES[..], &super::SIZES[..1]) {
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
    /// How long each took for all servers, if it tells.
    fills: Vec<(&'static str, Option<f64>)>,
    /// How many of the kube-proxies still take part.
    rivals: usize,
}

impl<'a, 'b> Scene<'a, 'b> {
    fn make(space: &'a Space<'b>, eyes: &'a mut [Eyes; 3], size: usize) -> Result<Self> {
        let ours = Fleet::create(space, "ours", size, Audience::Ours)?;
        let theirs = Fleet::create(space, "theirs", size, Audience::KubeProxy)?;
        let mut fills = Vec::new();
        for (eyes, kernel) in eyes[1..].iter_mut().zip(RIVALS) {
            rival::start(space, eyes, kernel)?;
            let first = Told::first(space, kernel)?;
            fills.push((kernel.rival(), first.mean_since(Told::default())));
        }
        space.apply(&balancer(&ours.name, &eyes[0].node))?;
        let agent = space
            .wait_serving(&ours.name, &format!("{size}/{size}"))?
            .remove(0);
        fills.push((OURS, Told::ours(&agent)?.mean_since(Told::default())));
        let mut scene = Self {
            space,
            eyes,
            size,
            ours,
            theirs,
            agent,
            fills,
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
        for (contender, fill) in self.fills.clone() {
            let fill = fill.map(|fill| self.record(contender, block, (FILL, fill)));
            records.0.extend(fill);
        }
        let before = Told::ours(&self.agent)?;
        let theirs = self.syncs()?;
        for number in 0..counts.ours {
            if number == counts.ipvs {
                self.note_syncs(block, (&theirs, 1), records)?;
                self.rivals = 1;
                self.eyes[2].ask(&Request::EndRival)?;
            }
            if number == counts.iptables {
                self.note_syncs(block, (&theirs, 0), records)?;
            }
            if number < counts.iptables {
                self.theirs(first + number, records)?;
            }
            self.ours(first + number, records)?;
        }
        if let Some(own) = Told::ours(&self.agent)?.mean_since(before) {
            records.0.push(self.record(OURS, block, (AGENT, own)));
            records.0.push(self.record(OURS, block, (CHANGE, own)));
        }
        Ok(())
    }

    /// What the kube-proxies that take part tell of their syncs.
    fn syncs(&self) -> Result<Vec<Told>> {
        let taking_part = RIVALS.iter().take(self.rivals);
        taking_part
            .map(|kernel| Told::theirs(self.space, *kernel))
            .collect()
    }

    /// What the syncs of one of them took since an earlier look.
    fn note_syncs(&self, block: u32, (before, place): (&[Told], usize), records: &mut Records) -> Result<()> {
        let kernel = RIVALS[place];
        let mean = Told::theirs(self.space, kernel)?.mean_since(before[place]);
        let rival = kernel.rival();
        records
            .0
            .extend(mean.map(|mean| self.record(rival, block, (CHANGE, mean))));
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
