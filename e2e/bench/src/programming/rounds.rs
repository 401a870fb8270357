//! The rounds, in the machine: each contender programs the same tables in turn.

use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use e2e::lab::process;
use lb_agent::table::Table;
use nix::sched::{CloneFlags, unshare};

use super::contender::{Calls, Contender, Keepalived, Messages, Ours, Restore, settle_in};
use super::eyes;
use super::serve::ServeFile;
use super::table::Spread;
use crate::plan::Plan;
use crate::record::{OURS, Record, Records};

/// So many servers change at once, in the largest table.
pub(super) const AT_ONCE: usize = 1_000;
/// So many calls of `ipvsadm` are measured.
const CALLS: usize = 40;

/// Figures: programming from nothing; one change of each kind; many changes at once; `ipvsadm` called for one change.
pub(super) const FILL: &str = "from nothing";
pub(super) const WEIGHT: &str = "set a weight";
pub(super) const ADD: &str = "add a server";
pub(super) const REMOVE: &str = "remove a server";
pub(super) const AT_ONCE_FIGURE: &str = "changes at once";
pub(super) const CALL: &str = "a call";
/// The same by the whole agent: from the moment that its file is replaced.
pub(super) const FILE_FILL: &str = "file, from nothing";
pub(super) const FILE_ADD: &str = "file, add a server";

#[derive(Clone, Copy, PartialEq, Eq)]
enum Who {
    Ours,
    Messages,
    Restore,
    Keepalived,
}

/// One table that is programmed.
#[derive(Clone, Copy)]
struct Scene {
    spread: Spread,
    servers: usize,
    round: u32,
    repeats: u32,
    /// Whether many changes are made at once too.
    is_largest: bool,
}

/// Numbers of servers. A quick run leaves out what takes `ipvsadm` and keepalived long.
fn sizes(plan: Plan) -> &'static [usize] {
    plan.pick(&[10, 100, 1_000, 10_000], &[10, 1_000])
}

/// Measures everything, and keeps at `path` what was measured so far.
pub(super) fn measure(plan: Plan, path: &Path) -> Result<()> {
    settle_in(Path::new("/run/bench"))?;
    let mut records = Records::default();
    let (rounds, repeats) = plan.pick((5, 4), (1, 3));
    let scene = |(spread, servers): (Spread, usize), round, repeats| Scene {
        spread,
        servers,
        round,
        repeats,
        is_largest: sizes(plan).last() == Some(&servers),
    };
    for round in 0..rounds {
        for spread in Spread::ALL {
            for &servers in sizes(plan) {
                let scene = scene((spread, servers), round, repeats);
                let mut contenders = [Who::Ours, Who::Messages, Who::Restore, Who::Keepalived];
                contenders.rotate_left(round as usize % 4);
                for who in contenders {
                    let found = in_namespace(move || scene.play(who));
                    let what = || format!("{} servers, {}", servers, spread.name());
                    records.0.extend(found.with_context(what)?);
                    records.write(path)?;
                }
            }
        }
        for &servers in sizes(plan) {
            let scene = scene((Spread::One, servers), round, plan.pick(2, 1));
            let found = in_namespace(move || scene.serve());
            records
                .0
                .extend(found.with_context(|| format!("serve --file, {servers} servers"))?);
            records.write(path)?;
        }
    }
    Ok(())
}

/// Does something in a network namespace of its own: servers that were there before slow the kernel down.
fn in_namespace<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let inside = move || {
        unshare(CloneFlags::CLONE_NEWNET)?;
        // Without it IPVS takes no server.
        process::run(Command::new("ip").args(["link", "set", "lo", "up"]))?;
        work()
    };
    let done = thread::spawn(inside).join();
    // The kernel takes it apart in the background.
    thread::sleep(Duration::from_millis(100));
    done.map_err(|_| anyhow!("a contender broke off"))?
}

impl Scene {
    fn play(self, who: Who) -> Result<Vec<Record>> {
        let mut records = Vec::new();
        match who {
            Who::Ours => self.changes(&mut Ours::new(), &mut records)?,
            Who::Messages => self.changes(&mut Messages::new()?, &mut records)?,
            Who::Keepalived => self.changes(&mut Keepalived::start()?, &mut records)?,
            Who::Restore => {
                let last = self.changes(&mut Restore, &mut records)?;
                self.calls(&last, &mut records)?;
                return Ok(records);
            }
        };
        Ok(records)
    }

    /// The whole agent: from its file to the kernel.
    fn serve(self) -> Result<Vec<Record>> {
        let mut records = Vec::new();
        let mut agent = ServeFile::start()?;
        let mut servers = self.servers;
        let took = agent.serve(servers)?;
        records.push(self.record(FILE_FILL, OURS, took));
        for repeat in 0..self.repeats {
            servers += 1;
            let took = agent.serve(servers)?;
            records.push(self.at(repeat).record(FILE_ADD, OURS, took));
        }
        Ok(records)
    }

    /// From nothing, then one change after the other, then many at once; the table at the end.
    fn changes(self, contender: &mut dyn Contender, records: &mut Vec<Record>) -> Result<Table> {
        let Self { spread, servers, .. } = self;
        let mut stage = Stage {
            scene: self,
            table: Table::default(),
            contender,
            records,
        };
        stage.go(FILL, 0, &|table| *table = spread.table(servers))?;
        eyes::check(&stage.table)?;
        for repeat in 0..self.repeats {
            let some = servers * (repeat as usize + 1) / (self.repeats as usize + 1);
            stage.go(WEIGHT, repeat, &|table| spread.weigh(table, some, 2))?;
            stage.go(ADD, repeat, &|table| spread.add(table, servers))?;
            stage.go(REMOVE, repeat, &|table| spread.remove(table, servers))?;
        }
        eyes::check(&stage.table)?;
        if self.is_largest {
            stage.go(AT_ONCE_FIGURE, 0, &|table| {
                (0..AT_ONCE).for_each(|number| spread.weigh(table, number * servers / AT_ONCE, 3));
            })?;
            eyes::check(&stage.table)?;
        }
        Ok(stage.table)
    }

    /// One call of `ipvsadm` after the other: the mean time of one.
    fn calls(self, table: &Table, records: &mut Vec<Record>) -> Result<()> {
        let mut wanted = table.clone();
        let count = CALLS.min(self.servers);
        (0..count).for_each(|number| self.spread.weigh(&mut wanted, number, 9));
        let took = Calls.lead(table, &wanted)?;
        let each = took / u32::try_from(count)?;
        // Numbered as what was programmed from nothing in the same round, so that they are compared.
        records.push(self.at(0).record(CALL, Calls.name(), each));
        eyes::check(&wanted)
    }

    /// A repeat, whose values have a round of their own.
    fn at(self, repeat: u32) -> Self {
        let round = self.round * self.repeats + repeat;
        Self { round, ..self }
    }

    #[allow(clippy::cast_precision_loss, reason = "sizes are small")]
    fn record(self, figure: &str, contender: &str, took: Duration) -> Record {
        Record {
            figure: figure.to_owned(),
            setting: self.spread.name().to_owned(),
            contender: contender.to_owned(),
            x: self.servers as f64,
            round: self.round,
            value: took.as_secs_f64() * 1e3,
            unit: "ms".to_owned(),
        }
    }
}

/// A contender at work.
struct Stage<'a> {
    scene: Scene,
    table: Table,
    contender: &'a mut dyn Contender,
    records: &'a mut Vec<Record>,
}

impl Stage<'_> {
    fn go(&mut self, figure: &str, repeat: u32, change: &dyn Fn(&mut Table)) -> Result<()> {
        let mut wanted = self.table.clone();
        change(&mut wanted);
        let (name, scene) = (self.contender.name(), self.scene);
        let took = self.contender.lead(&self.table, &wanted);
        let took = took.with_context(|| format!("{name}: {figure}"))?;
        self.records.push(scene.at(repeat).record(figure, name, took));
        self.table = wanted;
        Ok(())
    }
}
