//! What agents take on a node, beside kube-proxies with the same servers.
#![allow(clippy::disallowed_methods, reason = "a rest is measured by resting")]

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use e2e::cluster::command::kubectl;
use e2e::cluster::{Space, in_namespace};

use super::calls::{Call, Calls};
use super::{AGENT, CALLS, LOAD, Measured, WRITES, note};
use crate::convergence::told::Told;
use crate::plan::Plan;
use crate::record::{OURS, Records};
use crate::stage::fleet::{self, Audience, Fleet, balancer};
use crate::stage::node::{Eyes, NODES};
use crate::stage::rival;
use crate::stage::wire::{Kernel, Request, Usage, Who};

const RIVALS: [Kernel; 2] = [Kernel::Iptables, Kernel::Ipvs];
/// A kube-proxy with more servers would be busy for minutes with its first rules.
const MOST_OF_RIVALS: usize = 1000;
/// Changes a second under load.
const PER_SECOND: u32 = 100;
/// From one to the next.
const PACE: Duration = Duration::from_millis(1000 / PER_SECOND as u64);
/// After a start, until a rest begins.
const SETTLE: Duration = Duration::from_secs(5);

/// Everything that is measured of agents.
pub(super) fn measure(plan: Plan, records: &mut Records) -> Result<()> {
    in_namespace("footprint", |space| {
        let mut eyes = [
            Eyes::open(NODES[0])?,
            Eyes::open(NODES[1])?,
            Eyes::open(NODES[2])?,
        ];
        for eyes in &mut eyes {
            eyes.ask(&Request::SuspendProxy)?;
        }
        for size in plan.pick(&[10, 1000, 10_000][..], &[10]) {
            let mut scene = Scene::make(space, &mut eyes, *size)?;
            scene
                .measure(plan, records)
                .with_context(|| format!("{size} endpoints"))?;
            scene.end()?;
        }
        Ok(())
    })
}

/// Who took what until before, and until after.
type Taken = (&'static str, Usage, Usage);

/// One agent and, up to a size, two kube-proxies.
struct Scene<'a, 'b> {
    space: &'a Space<'b>,
    eyes: &'a mut [Eyes; 3],
    size: usize,
    ours: Fleet,
    theirs: Option<Fleet>,
    agent: Who,
}

impl<'a, 'b> Scene<'a, 'b> {
    fn make(space: &'a Space<'b>, eyes: &'a mut [Eyes; 3], size: usize) -> Result<Self> {
        let ours = Fleet::create(space, "ours", size, Audience::Ours)?;
        space.apply(&balancer(&ours.name, &eyes[0].node))?;
        let mut theirs = None;
        if size <= MOST_OF_RIVALS {
            theirs = Some(Fleet::create(space, "theirs", size, Audience::KubeProxy)?);
            for (eyes, kernel) in eyes[1..].iter_mut().zip(RIVALS) {
                rival::start(space, eyes, kernel)?;
            }
        }
        let agent = space.wait_serving("ours", &format!("{size}/{size}"))?.remove(0);
        let mut scene = Self {
            space,
            eyes,
            size,
            ours,
            theirs,
            agent: Who::Pod(agent.pod),
        };
        scene.wait_for_rivals()?;
        std::thread::sleep(SETTLE);
        Ok(scene)
    }

    /// Until their kernels hold all servers, of which a new one is the last.
    fn wait_for_rivals(&mut self) -> Result<()> {
        let Some(theirs) = &mut self.theirs else {
            return Ok(());
        };
        // With a first sync all servers come at once, in any order; only one that comes later is the newest.
        for kernel in RIVALS {
            Told::first(self.space, kernel)?;
        }
        theirs.replace(self.space, (1, PACE), |servers| {
            let mut rivals = self.eyes[1..].iter_mut().zip(RIVALS);
            rivals.try_for_each(|(eyes, kernel)| eyes.watch(kernel.mode(), servers.watched(kernel, PACE)))
        })?;
        self.eyes[1..]
            .iter_mut()
            .try_for_each(|eyes| eyes.seen().map(drop))
    }

    fn measure(&mut self, plan: Plan, records: &mut Records) -> Result<()> {
        let calls = Calls::parse(&kubectl("get --raw /metrics")?);
        let (rest, usages) = self.during(|_| {
            std::thread::sleep(Duration::from_secs(plan.pick(12, 4)));
            Ok(())
        })?;
        let now = Calls::parse(&kubectl("get --raw /metrics")?);
        for (contender, before, after) in usages {
            note(
                records,
                &self.point(contender),
                &Measured::at_rest(before, after, rest),
            );
        }
        let a_minute = 60.0 / rest.as_secs_f64();
        let count = |wanted: fn(&Call) -> bool| now.since(&calls, wanted) * a_minute;
        super::push(
            records,
            &self.point(OURS),
            CALLS,
            (count(is_of_agents), "calls/min"),
        );
        super::push(
            records,
            &self.point(OURS),
            WRITES,
            (count(is_write_of_agents), "calls/min"),
        );
        self.load(plan.pick(10, 4), records)
    }

    /// Ours, then theirs: each alone.
    fn load(&mut self, seconds: u32, records: &mut Records) -> Result<()> {
        for of_ours in [true, false] {
            let mut rate = 0.0;
            let (took, usages) = self.during(|scene| {
                let fleet = if of_ours {
                    Some(&mut scene.ours)
                } else {
                    scene.theirs.as_mut()
                };
                if let Some(fleet) = fleet {
                    let changes = (PER_SECOND * seconds, PACE);
                    rate = fleet::rate(&fleet.replace(scene.space, changes, |_| Ok(()))?);
                }
                Ok(())
            })?;
            for (contender, before, after) in usages {
                if (contender == OURS) == of_ours && rate > 0.0 {
                    note(
                        records,
                        &self.point(contender),
                        &Measured::under_load(before, after, took),
                    );
                    super::push(records, &self.point(contender), LOAD, (rate, "changes/s"));
                }
            }
        }
        Ok(())
    }

    fn point<'c>(&self, contender: &'c str) -> super::Point<'c> {
        super::Point {
            setting: AGENT,
            contender,
            x: self.size,
        }
    }

    /// What each has taken before and after, and how long it took.
    fn during(&mut self, work: impl FnOnce(&mut Self) -> Result<()>) -> Result<(Duration, Vec<Taken>)> {
        let (before, begin) = (self.usages()?, Instant::now());
        work(self)?;
        let took = begin.elapsed();
        let after = self.usages()?;
        let pair = |((name, before), (_, after))| (name, before, after);
        Ok((took, before.into_iter().zip(after).map(pair).collect()))
    }

    fn usages(&mut self) -> Result<Vec<(&'static str, Usage)>> {
        let mut usages = vec![(OURS, self.eyes[0].usage(&self.agent)?)];
        if self.theirs.is_some() {
            for (eyes, kernel) in self.eyes[1..].iter_mut().zip(RIVALS) {
                usages.push((kernel.rival(), eyes.usage(&Who::Rival)?));
            }
        }
        Ok(usages)
    }

    fn end(self) -> Result<()> {
        if self.theirs.is_some() {
            for (eyes, kernel) in self.eyes[1..].iter_mut().zip(RIVALS) {
                rival::end(self.space, eyes, kernel)?;
            }
        }
        self.space
            .kubectl("delete plb,services,endpointslices --all --wait=true")
            .map(drop)
    }
}

/// Balancers are read and written by the agent and the operator alone. Of the others, it is agents who want one
/// namespace's: controllers and kube-proxies want all.
fn is_of_agents(call: &Call) -> bool {
    let in_one = ["services", "endpointslices"].contains(&call.resource.as_str()) && call.scope != "cluster";
    call.resource == "portableloadbalancers" || in_one
}

fn is_write_of_agents(call: &Call) -> bool {
    is_of_agents(call) && call.is_write()
}
