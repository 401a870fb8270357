//! Where our agent spends its instructions while it programs tables: callgrind, on the real kernel.

mod annotated;
mod slices;
mod words;

use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::{Args, ValueEnum};
use e2e::lab::process;
use lb_agent::table::Table;

use crate::inside::Options;
use crate::plan::Plan;
use crate::programming::contender::{Contender, Ours, settle_in};
use crate::programming::machine;
use crate::programming::table::Spread;
use crate::record::{Record, Records};
use crate::suite::{Section, Suite};
use annotated::Share;

/// The suite.
pub struct Profile;

/// The largest table.
const SERVERS: usize = 10_000;
/// The servers of a large Service.
const ENDPOINTS: usize = 1000;
/// So many functions are told.
const TOLD: usize = 12;
/// Whose instructions count: what [`Profiled`] wraps around ours.
const WRAPPER: &str = "*bench::profile::profiled*";

/// What is profiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Work {
    /// All servers, from nothing.
    Fill,
    /// One change after the other, in a full table.
    Changes,
    /// One slice after the other, of a large Service.
    Slices,
}

impl Work {
    const ALL: [Self; 3] = [Self::Fill, Self::Changes, Self::Slices];

    /// The name of the setting.
    fn name(self) -> &'static str {
        match self {
            Self::Fill => "from nothing",
            Self::Changes => "single changes",
            Self::Slices => "changed slices",
        }
    }

    /// The argument.
    fn argument(self) -> &'static str {
        match self {
            Self::Fill => "fill",
            Self::Changes => "changes",
            Self::Slices => "slices",
        }
    }
}

/// The figures: instructions of a function itself, and with all that it calls.
const SELF: &str = "itself";
const INCLUSIVE: &str = "with what it calls";
/// The figure of how many there were: thousands of instructions for each server or change.
const EACH: &str = "instructions for each";

/// Profiles in the machine. What was measured is kept if it fails.
pub(crate) fn inside(options: &Options) -> Result<()> {
    settle_in("/run/bench".as_ref())?;
    process::run(Command::new("ip").args(["link", "set", "lo", "up"]))?;
    options.measure(|plan, records| {
        for work in Work::ALL {
            process::run(Command::new("ipvsadm").arg("--clear"))?;
            profile(work, plan.pick(200, 20), records)?;
        }
        Ok(())
    })
}

fn profile(work: Work, changes: usize, records: &mut Records) -> Result<()> {
    let found = format!("{}.out", work.argument());
    process::run(
        Command::new("valgrind")
            .args(["--tool=callgrind", "--quiet"])
            .arg(format!("--callgrind-out-file={found}"))
            .arg(format!("--toggle-collect={WRAPPER}"))
            .arg(std::env::current_exe()?)
            .args([
                "inside",
                "profiled",
                work.argument(),
                "--changes",
                &changes.to_string(),
            ]),
    )?;
    for (figure, option) in [(SELF, "--inclusive=no"), (INCLUSIVE, "--inclusive=yes")] {
        let annotate = ["--threshold=100", "--auto=no", option, &found];
        let text = process::run(Command::new("callgrind_annotate").args(annotate))?;
        let read = annotated::read(&text);
        ensure!(read.total > 0, "callgrind saw none of our instructions");
        if figure == SELF {
            let count = if work == Work::Fill { SERVERS } else { changes };
            #[allow(
                clippy::cast_precision_loss,
                reason = "counts of instructions are far below 2^52"
            )]
            let each = read.total as f64 / count as f64 / 1e3;
            records
                .0
                .push(record(EACH, work, ("ours", 1.0), (each, "thousand")));
        }
        let is_told = |share: &&Share| figure == SELF || share.is_ours();
        for (rank, share) in (1..).zip(read.shares.iter().filter(is_told).take(TOLD)) {
            let who = (share.function.as_str(), f64::from(rank));
            records.0.push(record(figure, work, who, (share.percent, "%")));
        }
    }
    Ok(())
}

fn record(figure: &str, work: Work, (contender, x): (&str, f64), (value, unit): (f64, &str)) -> Record {
    Record {
        figure: figure.to_owned(),
        setting: work.name().to_owned(),
        contender: contender.to_owned(),
        x,
        round: 0,
        value,
        unit: unit.to_owned(),
    }
}

/// What is profiled, in a process of its own.
#[derive(Args)]
pub struct Profiled {
    /// What.
    work: Work,
    /// How many changes.
    #[arg(long)]
    changes: usize,
}

impl Profiled {
    /// Does it.
    pub fn run(&self) -> Result<()> {
        if self.work == Work::Slices {
            return self.follow_slices();
        }
        let mut ours = Ours::new();
        let (empty, mut table) = (Table::default(), Spread::One.table(SERVERS));
        if self.work == Work::Fill {
            return profiled(|| ours.lead(&empty, &table).map(drop));
        }
        ours.lead(&empty, &table)?;
        for change in 0..self.changes {
            let before = table.clone();
            Spread::One.weigh(&mut table, change * SERVERS / self.changes, 2);
            profiled(|| ours.lead(&before, &table).map(drop))?;
        }
        Ok(())
    }

    fn follow_slices(&self) -> Result<()> {
        let mut slices = slices::made_up(ENDPOINTS)?;
        let mut agent = slices::Agent::new(&slices)?;
        for _ in 0..self.changes {
            let (changed, _) = slices.replace_one();
            let text = serde_json::to_string(&changed)?;
            profiled(|| agent.change(&text))?;
        }
        Ok(())
    }
}

/// Its instructions count, and those of what it calls.
#[inline(never)]
fn profiled(work: impl FnOnce() -> Result<()>) -> Result<()> {
    work()
}

impl Suite for Profile {
    fn name(&self) -> &'static str {
        "profile"
    }

    fn is_quick(&self) -> bool {
        false
    }

    fn measure(&self, plan: Plan, records: &mut Records) -> Result<()> {
        machine::measure(self.name(), plan, Duration::from_mins(plan.pick(4, 2)), records)
    }

    fn section(&self, records: &Records) -> Result<Section> {
        Ok(words::section(records))
    }
}
