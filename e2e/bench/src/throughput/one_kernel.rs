//! Client, balancers and pods in one machine: the papers' order with the means of one kernel.

use std::time::Duration;

use anyhow::{Context as _, Result};

use super::wrk::Load;
use super::{ONE, SECONDS, Scene, rounds};
use crate::plan::Plan;
use crate::record::Records;
use crate::scratch::Folder;
use crate::site::contender::Contender;
use crate::site::place::{Machine, Place as _};
use crate::site::{Form, Site};

const PODS: usize = 4;
const LONGEST: Duration = Duration::from_mins(5);
const CONTENDERS: [Contender; 10] = [
    Contender::Ours,
    Contender::OursDr,
    Contender::OursTun,
    Contender::Ipvsadm,
    Contender::IpvsadmMark,
    Contender::Keepalived,
    Contender::Dnat,
    Contender::NginxStream,
    Contender::NginxHttp,
    Contender::Haproxy,
];

/// Measures in the machine.
pub(crate) fn inside(plan: Plan, records: &mut Records) -> Result<()> {
    let mut site = Site::build(Form::Namespaces, &CONTENDERS, PODS)?;
    site.serve(None)?;
    site.balance(PODS)?;
    let load = Load {
        connections: 32,
        seconds: SECONDS,
        is_fresh: false,
    };
    let scene = Scene {
        setting: ONE,
        servers: PODS,
        load,
        rarely: 1,
    };
    rounds(&site, plan.pick(10, 1), scene, records)
}

/// Boots the machine, measures in it, and takes over its values.
pub(super) fn measure(plan: Plan, records: &mut Records) -> Result<()> {
    println!("{ONE}");
    let folder = Folder::create("one-kernel")?;
    let values = folder.path().join("records.csv");
    let script = folder.path().join("measure.sh");
    std::fs::write(
        &script,
        format!(
            "exec {} inside one-kernel --records {} {}\n",
            std::env::current_exe()?.display(),
            values.display(),
            plan.pick("", "--quick")
        ),
    )?;
    let mut machine = Machine::alone(folder.path(), LONGEST)?;
    machine.wait()?;
    let done = machine.run(&script);
    if values.exists() {
        records.0.extend(Records::read(&values)?.0);
    }
    done.context("in the machine")
}
