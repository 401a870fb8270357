//! Where the time of a balanced packet goes: the balancers' kernels, sampled while they are loaded.

mod part;
mod perf;
mod symbols;
mod words;

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, Result};

use crate::calm::calmly;
use crate::plan::Plan;
use crate::record::{Record, Records};
use crate::scratch::Folder;
use crate::site::contender::Contender;
use crate::site::{Form, Site};
use crate::suite::{Section, Suite};
use crate::throughput::wrk::{self, Load};
use part::Part;
use symbols::Symbols;

/// The suite.
pub struct PacketPath;

/// Time that a part of the kernel takes for a request.
const PART: &str = "part";
/// Time that one function takes for a request, in the mean of all rounds.
const FUNCTION: &str = "function";
/// Time that all takes for a request.
const COST: &str = "cost";
/// The setting of [`COST`].
const ALL: &str = "all";
/// Those who balance by their kernel alone. Ours comes first.
const CONTENDERS: [Contender; 4] = [
    Contender::Ours,
    Contender::IpvsadmMark,
    Contender::Ipvsadm,
    Contender::Dnat,
];
const PODS: usize = 8;
const LOAD: Load = Load {
    connections: 64,
    seconds: 2,
    is_fresh: false,
};
/// So many functions of each are kept.
const KEPT: usize = 60;

impl Suite for PacketPath {
    fn name(&self) -> &'static str {
        "packet-path"
    }

    fn is_quick(&self) -> bool {
        false
    }

    fn measure(&self, plan: Plan, records: &mut Records) -> Result<()> {
        let mut site = Site::build(Form::Machines, &CONTENDERS, PODS)?;
        site.serve(None)?;
        site.balance(PODS)?;
        let folder = Folder::create("samples")?;
        let mut kernels = Vec::new();
        for of in CONTENDERS {
            kernels.push(Kernel {
                of,
                symbols: Symbols::read(&site.symbols(of)?),
                functions: BTreeMap::new(),
            });
        }
        let rounds = plan.pick(5, 1);
        for round in 0..rounds {
            for contender in site.order(round) {
                let mut known = kernels.iter_mut().filter(|kernel| kernel.of == contender);
                let kernel = known.next().context("no symbols")?;
                kernel.measure((&site, round), folder.path(), records)?;
            }
        }
        for kernel in kernels {
            records.0.extend(kernel.longest(rounds));
        }
        Ok(())
    }

    fn section(&self, records: &Records) -> Result<Section> {
        Ok(words::section(records))
    }
}

/// The kernel of one of them.
struct Kernel {
    of: Contender,
    symbols: Symbols,
    /// Time that each function took for a request, in the sum of all rounds.
    functions: BTreeMap<String, f64>,
}

impl Kernel {
    /// Loads it, and tells what its processor time went to. A share of all samples is one of that time.
    #[allow(clippy::cast_precision_loss, reason = "some thousands of samples")]
    fn measure(&mut self, (site, round): (&Site, u32), folder: &Path, records: &mut Records) -> Result<()> {
        let machine = || site.processor_time(self.of).context("not in a machine");
        let (samples, answered, used) = calmly(|| {
            let before = machine()?;
            let load = || wrk::run(site, self.of, LOAD);
            let (samples, answered) = perf::sample(&site.processes(self.of), folder, load)?;
            Ok((samples, answered, machine()?.saturating_sub(before)))
        })?;
        let cost = used.as_secs_f64() * 1e6 / answered.count.max(1.0);
        let each = cost / samples.len().max(1) as f64;
        let mut parts: BTreeMap<Part, f64> = Part::ALL.map(|part| (part, 0.0)).into();
        for address in samples {
            let (part, function) = self.symbols.at(address);
            *parts.entry(part).or_default() += each;
            if let Some(function) = function {
                *self.functions.entry(function.to_owned()).or_default() += each;
            }
        }
        records.0.push(self.record((COST, ALL), round, cost));
        let parts = parts.iter().map(|(part, time)| (part.name(), *time));
        let parts = parts.map(|(part, time)| self.record((PART, part), round, time));
        records.0.extend(parts);
        Ok(())
    }

    /// The functions that took longest, in the mean of so many rounds.
    fn longest(&self, rounds: u32) -> Vec<Record> {
        let mut functions: Vec<(&String, &f64)> = self.functions.iter().collect();
        functions.sort_by(|(_, one), (_, other)| other.total_cmp(one));
        let mean = |(name, time): (&String, &f64)| self.record((FUNCTION, name), 0, time / f64::from(rounds));
        functions.into_iter().take(KEPT).map(mean).collect()
    }

    fn record(&self, (figure, setting): (&str, &str), round: u32, value: f64) -> Record {
        Record {
            figure: figure.to_owned(),
            setting: setting.to_owned(),
            contender: self.of.name().to_owned(),
            x: 0.0,
            round,
            value,
            unit: "µs/request".to_owned(),
        }
    }
}
