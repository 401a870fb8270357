//! Changes one after the other, each seen by kernels on different nodes.
#![allow(clippy::disallowed_methods, reason = "changes keep a distance")]

use std::time::Duration;

use anyhow::{Context, Result};
use e2e::cluster::{Agent, Space};

use super::told::{CHANGE, FILL, Told};
use super::{AGENT, BESIDE, CLOCK, CONVERGENCE, RESOLUTION, TAKEN, WAITED, WRITTEN, setting};
use crate::calm::{Theft, calmly};
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
/// From one change to the next.
pub(super) const PACE: Duration = Duration::from_millis(300);
/// Between two looks at an agent's kernel.
pub(super) const LOOK: Duration = Duration::from_millis(5);
/// Between two looks at a kernel that takes seconds.
pub(super) const RARE_LOOK: Duration = Duration::from_millis(20);

/// Everything that is measured.
pub(super) fn measure(space: &Space<'_>, plan: Plan, records: &mut Records) -> Result<()> {
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
                .run(block, plan.pick(67, 10), records)
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
    alone: Agent,
    beside: Agent,
    /// How long each took for all servers, if it tells.
    fills: Vec<(&'static str, Option<f64>)>,
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
        let node = &eyes[0].node;
        let agent = |fleet: &Fleet| {
            space.apply(&balancer(&fleet.name, node))?;
            let mut agents = space.wait_serving(&fleet.name, &format!("{size}/{size}"))?;
            agents.pop().context("a balancer without an agent")
        };
        let (alone, beside) = (agent(&ours)?, agent(&theirs)?);
        fills.push((OURS, Told::ours(&alone)?.mean_since(Told::default())));
        let mut scene = Self {
            space,
            eyes,
            size,
            ours,
            theirs,
            alone,
            beside,
            fills,
        };
        // The first change does not count: programs are read from the disk, and connections made.
        scene.change_theirs(1)?;
        scene.rest()?;
        scene.change_ours(1)?;
        Ok(scene)
    }

    fn run(&mut self, block: u32, count: u32, records: &mut Records) -> Result<()> {
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
        let first = block * count;
        let before = self.syncs()?;
        let (changes, sights) = self.change_theirs(count)?;
        self.rest()?;
        for ((kernel, before), after) in RIVALS.iter().zip(before).zip(self.syncs()?) {
            let mean = after.mean_since(before);
            let mean = mean.map(|mean| self.record(kernel.rival(), block, (CHANGE, mean)));
            records.0.extend(mean);
        }
        let contenders = [BESIDE].into_iter().chain(RIVALS.map(Kernel::rival));
        for (contender, sights) in contenders.zip(sights) {
            records
                .0
                .extend(self.times(contender, first, &arrivals(&changes, &sights)));
        }
        self.run_alone(block, count, records)
    }

    /// The same number of changes for our agent alone.
    fn run_alone(&mut self, block: u32, count: u32, records: &mut Records) -> Result<()> {
        let first = block * count;
        let ((changes, sights), own, thefts) = calmly(|| {
            let before = Told::ours(&self.alone)?;
            let theft = Theft::watch();
            let seen = self.change_ours(count)?;
            let thefts = theft.end();
            Ok((seen, Told::ours(&self.alone)?.mean_since(before), thefts))
        })?;
        if let Some(own) = own {
            records.0.push(self.record(OURS, block, (AGENT, own)));
            records.0.push(self.record(OURS, block, (CHANGE, own)));
        }
        let arrived = arrivals(&changes, &sights);
        records.0.extend(self.times(OURS, first, &arrived));
        for (round, (change, sight)) in (first..).zip(&arrived) {
            let taken = thefts.between(change.begun, sight.at);
            records.0.push(self.record(OURS, round, (TAKEN, taken)));
        }
        for (round, pair) in (first + 1..).zip(arrived.windows(2)) {
            let waited = milliseconds_between(pair[0].1.waited, pair[1].1.waited);
            records.0.push(self.record(OURS, round, (WAITED, waited)));
        }
        for (round, change) in (first..).zip(&changes) {
            let written = milliseconds_between(change.begun, change.written);
            records.0.push(self.record(OURS, round, (WRITTEN, written)));
        }
        Ok(())
    }

    /// What the kube-proxies tell of their syncs.
    fn syncs(&self) -> Result<Vec<Told>> {
        let each = RIVALS.iter().map(|kernel| Told::theirs(self.space, *kernel));
        each.collect()
    }

    /// Both kube-proxies have work to do after their kernels have the server. Then one of them pauses.
    fn rest(&mut self) -> Result<()> {
        self.eyes[1..].iter_mut().try_for_each(Eyes::wait_for_rest)?;
        std::thread::sleep(REST);
        Ok(())
    }

    /// Changes that our agent and both kube-proxies follow, and what was seen at each.
    fn change_theirs(&mut self, count: u32) -> Result<(Vec<Change>, Vec<Vec<Sight>>)> {
        let (eyes, beside) = (&mut self.eyes, &self.beside.pod);
        let changes = self.theirs.replace(self.space, (count, PACE), |servers| {
            let [ours, rivals @ ..] = &mut **eyes;
            ours.watch(beside, servers.watched(Kernel::Ipvs, LOOK))?;
            let mut each = rivals.iter_mut().zip(RIVALS);
            each.try_for_each(|(eyes, kernel)| eyes.watch(kernel.mode(), servers.watched(kernel, RARE_LOOK)))
        })?;
        let sights: Result<_> = self.eyes.iter_mut().map(Eyes::seen).collect();
        Ok((changes, sights?))
    }

    /// Changes that only an agent of ours follows.
    fn change_ours(&mut self, count: u32) -> Result<(Vec<Change>, Vec<Sight>)> {
        let (eyes, alone) = (&mut self.eyes[0], &self.alone.pod);
        let changes = self.ours.replace(self.space, (count, PACE), |servers| {
            eyes.watch(alone, servers.watched(Kernel::Ipvs, LOOK))
        })?;
        Ok((changes, self.eyes[0].seen()?))
    }

    fn end(self) -> Result<()> {
        for (eyes, kernel) in self.eyes[1..].iter_mut().zip(RIVALS) {
            rival::end(self.space, eyes, kernel)?;
        }
        let all = "delete plb,services,endpointslices --all --wait=true";
        self.space.kubectl(all).map(drop)
    }

    /// How long changes took, and how exactly that is known.
    fn times(&self, contender: &str, first: u32, arrivals: &[(Change, Sight)]) -> Vec<Record> {
        let of = |(round, (change, sight)): (u32, &(Change, Sight))| {
            [
                (CONVERGENCE, milliseconds_between(change.begun, sight.at)),
                (RESOLUTION, milliseconds_between(sight.not_before, sight.at)),
            ]
            .map(|value| self.record(contender, round, value))
        };
        (first..).zip(arrivals).flat_map(of).collect()
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

/// When the changes had arrived: a kernel that holds a newer server has also taken the changes before it, even if it
/// never held their servers.
fn arrivals(changes: &[Change], sights: &[Sight]) -> Vec<(Change, Sight)> {
    let arrival = |change: &Change| {
        let sight = sights.iter().find(|sight| sight.server >= change.server)?;
        Some((*change, *sight))
    };
    changes.iter().filter_map(arrival).collect()
}

fn milliseconds_between(begin: u64, end: u64) -> f64 {
    let signed = |time| i64::try_from(time).unwrap_or_default();
    milliseconds(signed(end) - signed(begin))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, SocketAddrV4};

    #[test]
    fn a_newer_server_brings_the_changes_before_it() {
        let server = |last| SocketAddrV4::new(Ipv4Addr::new(10, 200, 0, last), 8080);
        let change = |last, begun| Change {
            server: server(last),
            begun,
            written: begun,
        };
        let sight = |last, at| Sight {
            server: server(last),
            at,
            not_before: 0,
            waited: 0,
        };
        let changes = [change(1, 10), change(2, 20), change(3, 30)];
        let times: Vec<(u64, u64)> = arrivals(&changes, &[sight(1, 15), sight(3, 100)])
            .iter()
            .map(|(change, sight)| (change.begun, sight.at))
            .collect();
        assert_eq!(times, [(10, 15), (20, 100), (30, 100)]);
    }
}
