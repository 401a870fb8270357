//! The only door to the kernel: reads what it holds and applies steps. Blocking.

mod acknowledged;
mod reader;
mod rules;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use crd::Protocol;
use ipvs::{Batch, DestinationEntry};
use tracing::{debug, warn};

use crate::drain::ActiveConnections;
use crate::iptables::{Printed, command};
use crate::kernel;
use crate::plan::{Spot, Step};
use crate::table::{Blocks, Family, Listener, Rules, Table};
use reader::Reader;
use rules::Held;
pub use rules::remove_rules;

/// Why the kernel could not be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// IPVS can't be reached.
    #[error("could not open IPVS")]
    Open(#[source] Box<ipvs::Error>),
    /// Its tables can't be read.
    #[error("could not read the IPVS tables")]
    Read(#[source] Box<ipvs::Error>),
    /// It refused a step.
    #[error("could not {step}")]
    Step {
        /// The step.
        step: String,
        /// Why. It carries the command, and so is large.
        #[source]
        source: Box<ipvs::Error>,
    },
    /// It could not be told of steps.
    #[error("could not send steps to IPVS")]
    Apply(#[source] Box<ipvs::Error>),
    /// The rules of a family can't be read or changed.
    #[error("could not set the {family} rules")]
    Rules {
        /// The family.
        family: Family,
        /// Why.
        #[source]
        source: command::Error,
    },
    /// The balancer's addresses can't be taken.
    #[error("could not take the balancer's addresses")]
    Address(#[source] crate::link::Error),
    /// No variant of iptables works.
    #[error("neither variant of iptables works for {family}: nft: {nft}; legacy: {legacy}")]
    NoIptables {
        /// The family.
        family: Family,
        /// What nft said.
        nft: String,
        /// What legacy said.
        legacy: String,
    },
    /// The kernel took a step and does not show it.
    #[error("the kernel took all steps, and still one is to do: {0}")]
    NotTaken(String),
    /// Our own work on it ended in a panic.
    #[error("the work on the kernel broke off")]
    Panicked(#[source] tokio::task::JoinError),
}

/// What is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// What is due: services that were changed, or of which a drain may end. All else is taken to be as we left it.
    Draining,
    /// IPVS; rules are taken to be as we left them.
    Servers,
    /// Rules too.
    All,
}

/// Connections and counters of the servers of a service.
pub type Entries = Blocks<SocketAddr, DestinationEntry>;

/// What the kernel holds.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// The table.
    pub table: Table,
    /// Connections and counters of the servers of each service.
    pub entries: Blocks<Listener, Arc<Entries>>,
    /// Whether there are rules of ours, be they as wanted or not.
    pub has_rules: bool,
    /// Computed when it is first asked for.
    pub(crate) hash: OnceLock<String>,
}

impl Observed {
    /// The hash of what all agents of a balancer share, computed once.
    #[must_use]
    pub fn hash(&self) -> &str {
        self.hash.get_or_init(|| self.table.serving().hash())
    }

    /// Numbers of connections in use of these servers. To the kernel no UDP flow is ever active.
    #[must_use]
    pub fn active(&self, servers: impl IntoIterator<Item = (Listener, SocketAddr)>) -> ActiveConnections {
        let in_use = |listener: &Listener, entry: &DestinationEntry| match listener.protocol {
            Protocol::UDP => entry.inactive_connections,
            Protocol::TCP | Protocol::SCTP => entry.active_connections,
        };
        let keys = servers.into_iter();
        let entry = |(listener, at): &(Listener, SocketAddr)| self.entries.get(listener)?.get(at);
        keys.filter_map(|key| Some((key, in_use(&key.0, entry(&key)?))))
            .collect()
    }

    /// Connections and counters of each server.
    pub fn servers(&self) -> impl Iterator<Item = (Listener, SocketAddr, &DestinationEntry)> {
        self.entries.iter().flat_map(|(listener, entries)| {
            let entries = entries.iter();
            entries.map(|(at, entry)| (*listener, *at, entry))
        })
    }
}

/// The kernel of this network namespace.
pub struct Dataplane {
    ipvs: Option<ipvs::Client>,
    rules: BTreeMap<Family, Held>,
    has_read_rules: bool,
    /// Listeners at addresses that are ours. Whoever else sets such a service takes the sign off it.
    ours: BTreeSet<Listener>,
}

impl Dataplane {
    /// For these families. Nothing is opened or read yet.
    #[must_use]
    pub fn new(families: &BTreeSet<Family>) -> Self {
        let rules = families.iter().map(|family| (*family, Held::default())).collect();
        Self {
            ipvs: None,
            rules,
            has_read_rules: false,
            ours: BTreeSet::new(),
        }
    }

    /// Reads what the kernel holds of ours, and shares what is as `wanted`. Rules can only be compared: with those we
    /// left, and with those wanted.
    pub fn read(&mut self, depth: Depth, wanted: &Table) -> Result<Observed, Error> {
        let mut observed = Observed::default();
        let result = self.reader(&mut observed)?.services();
        self.keep_client_if_sound(result)
            .map_err(|error| Error::Read(Box::new(error)))?;
        if depth == Depth::All || !self.has_read_rules {
            for (family, held) in &mut self.rules {
                rules::read(*family, held)?;
            }
            self.has_read_rules = true;
        }
        observed.table.share(wanted);
        self.compare_rules(&mut observed, &wanted.rules);
        Ok(observed)
    }

    /// Reads what the kernel holds of these services; the rest is taken to be as it was observed before.
    pub fn read_again(
        &mut self,
        spots: &BTreeSet<Spot>,
        mut observed: Observed,
        wanted: &Table,
    ) -> Result<Observed, Error> {
        observed.hash = OnceLock::new();
        let result = self.reader(&mut observed)?.spots(spots);
        self.keep_client_if_sound(result)
            .map_err(|error| Error::Read(Box::new(error)))?;
        observed.table.share(wanted);
        observed.table.rules.clear();
        self.compare_rules(&mut observed, &wanted.rules);
        Ok(observed)
    }

    /// What the kernel holds after it acknowledged these steps; it shares what is as `wanted`. Only its rules were read.
    #[must_use]
    pub fn acknowledged(&mut self, steps: &[Step], mut observed: Observed, wanted: &Table) -> Observed {
        for step in steps {
            observed.take(step);
            match step {
                Step::AddService(at, _) if at.address.is_some() => drop(self.ours.insert(*at)),
                Step::RemoveService(at) => drop(self.ours.remove(at)),
                _ => {}
            }
        }
        let changed: BTreeSet<Spot> = steps.iter().filter_map(Step::spot).collect();
        for spot in changed {
            if let Spot::Listener(listener) = spot {
                observed.table.share_at(listener, wanted);
            }
        }
        if steps.iter().any(Step::is_rules) {
            observed.table.rules.clear();
            self.compare_rules(&mut observed, &wanted.rules);
        }
        observed
    }

    fn compare_rules(&self, observed: &mut Observed, wanted: &BTreeMap<Family, Rules>) {
        observed.has_rules = self.rules.values().any(|held| !held.printed.is_empty());
        for (family, held) in &self.rules {
            if let Some(rules) = held.rules(*family, wanted.get(family)) {
                observed.table.rules.insert(*family, rules);
            }
        }
    }

    /// Our rules as they were printed when they were last read.
    #[must_use]
    pub fn printed(&self) -> BTreeMap<Family, Printed> {
        let families = self.rules.iter();
        families
            .map(|(family, held)| (*family, held.printed.clone()))
            .collect()
    }

    /// Applies steps in order. One that fails stops no other, but nothing old is removed when something new failed.
    pub fn apply(&mut self, steps: &[Step]) -> Result<(), Error> {
        let is_removal = |step: &Step| {
            matches!(
                step,
                Step::RemoveServer(..) | Step::RemoveService(..) | Step::Reorder(..)
            )
        };
        // What comes after the rules is about what they no longer lead to.
        let rules_end = steps
            .iter()
            .rposition(Step::is_rules)
            .map_or(steps.len(), |last| last + 1);
        let (until_rules, after) = steps.split_at(rules_end);
        let (mut old, new): (Vec<&Step>, Vec<&Step>) = until_rules.iter().partition(|step| is_removal(step));
        old.extend(after);
        let (rules, new): (Vec<&Step>, Vec<&Step>) = new.into_iter().partition(|step| step.is_rules());
        let made = self.apply_ipvs(&new);
        let mut first_error = made.err();
        for step in rules {
            if let Err(error) = self.apply_rules(step) {
                first_error.get_or_insert(error);
            }
        }
        match first_error {
            Some(error) => Err(error),
            None => self.apply_ipvs(&old),
        }
    }

    /// The kernel's own facts about IPVS.
    pub fn info(&mut self) -> Result<ipvs::Info, Error> {
        let result = self.client()?.info();
        self.keep_client_if_sound(result)
            .map_err(|error| Error::Read(Box::new(error)))
    }

    fn reader<'a>(&'a mut self, observed: &'a mut Observed) -> Result<Reader<'a>, Error> {
        self.client()?;
        let client = self.ipvs.as_mut().ok_or_else(missing)?;
        let ours = &mut self.ours;
        Ok(Reader {
            client,
            ours,
            observed,
        })
    }

    fn client(&mut self) -> Result<&mut ipvs::Client, Error> {
        if self.ipvs.is_none() {
            self.ipvs = Some(ipvs::Client::open().map_err(|error| Error::Open(Box::new(error)))?);
        }
        self.ipvs.as_mut().ok_or_else(missing)
    }

    /// After any failure the next call opens a new socket: what else was on the old one is not known.
    fn keep_client_if_sound<T>(&mut self, result: Result<T, ipvs::Error>) -> Result<T, ipvs::Error> {
        if result.is_err() {
            self.ipvs = None;
        }
        result
    }

    fn apply_ipvs(&mut self, steps: &[&Step]) -> Result<(), Error> {
        let mut batch = Batch::new();
        let mut reasons: Vec<&Step> = Vec::new();
        for step in steps {
            debug!(%step, "step");
            match kernel::commands(step) {
                Ok(commands) => {
                    reasons.extend(commands.iter().map(|_| step));
                    batch.extend(commands);
                }
                // Names come from a fixed list, all of which are short enough.
                Err(error) => warn!(error = &error as &dyn std::error::Error, "scheduler refused"),
            }
        }
        if batch.is_empty() {
            return Ok(());
        }
        let result = self.client()?.apply(&batch);
        let rejections = self
            .keep_client_if_sound(result)
            .map_err(|error| Error::Apply(Box::new(error)))?;
        let mut first = None;
        for rejection in rejections {
            let step = reasons
                .get(rejection.index)
                .map(ToString::to_string)
                .unwrap_or_default();
            warn!(
                error = &rejection.error as &dyn std::error::Error,
                step, "step refused"
            );
            first.get_or_insert(Error::Step {
                step,
                source: Box::new(rejection.error),
            });
        }
        first.map_or(Ok(()), Err)
    }

    fn apply_rules(&mut self, step: &Step) -> Result<(), Error> {
        debug!(%step, "step");
        match step {
            Step::SetRules(family, rules) => {
                rules::set(*family, self.rules.entry(*family).or_default(), rules)
            }
            Step::RemoveRules(family) => remove_rules(*family),
            _ => Ok(()),
        }
    }
}

fn missing() -> Error {
    Error::Open(Box::new(ipvs::Error::FamilyMissing))
}
