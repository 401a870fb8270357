//! The kernel of a fresh network namespace, written by our data plane and read by others.

use std::thread;

use lb_agent::dataplane::{Dataplane, Depth};
use lb_agent::plan::{Step, plan};
use lb_agent::table::{Family, Table};
use nix::sched::{CloneFlags, unshare};

use crate::common::run;

pub(crate) struct Kernel {
    pub(crate) dataplane: Dataplane,
}

/// Does something in a network namespace of its own, with rules of these families.
pub(crate) fn in_namespace(families: &[Family], work: impl FnOnce(Kernel) + Send + 'static) {
    let dataplane = Dataplane::new(&families.iter().copied().collect());
    let inside = move || {
        unshare(CloneFlags::CLONE_NEWNET).expect("root may");
        run("ip", &["link", "set", "lo", "up"]);
        work(Kernel { dataplane });
    };
    // The test's own thread keeps its namespace.
    let done = thread::spawn(inside).join();
    if let Err(panic) = done {
        std::panic::resume_unwind(panic);
    }
}

impl Kernel {
    /// What it holds; rules as far as they are those of `wanted`.
    pub(crate) fn read(&mut self, wanted: &Table) -> Table {
        let observed = self.dataplane.read(Depth::All, wanted);
        observed.expect("can be read").table
    }

    /// The steps from what it holds to `wanted`.
    pub(crate) fn plan(&mut self, wanted: &Table) -> Vec<Step> {
        plan(&self.read(wanted), wanted)
    }

    pub(crate) fn apply(&mut self, steps: &[Step]) {
        self.dataplane.apply(steps).expect("the kernel takes all steps");
    }

    /// Leads it to `wanted`.
    pub(crate) fn go(&mut self, wanted: &Table) {
        let steps = self.plan(wanted);
        self.apply(&steps);
    }
}

/// What `ipvsadm` prints of a table, sorted.
pub(crate) fn saved() -> Vec<String> {
    let mut lines: Vec<String> = run("ipvsadm", &["-Sn"])
        .lines()
        .map(|line| line.trim().to_owned())
        .collect();
    lines.sort();
    lines
}
