//! Reads what IPVS holds of ours.

use std::collections::{BTreeMap, BTreeSet};

use ipvs::{Client, Error, ServiceEntry};

use super::Observed;
use crate::kernel;
use crate::table::{Listener, Scheduling, Service};

/// Reads into what was observed before, or into nothing.
pub(super) struct Reader<'a> {
    pub(super) client: &'a mut Client,
    /// Listeners at addresses that are ours.
    pub(super) ours: &'a mut BTreeSet<Listener>,
    pub(super) observed: &'a mut Observed,
}

impl Reader<'_> {
    /// All services.
    pub(super) fn services(&mut self) -> Result<(), Error> {
        self.timeouts()?;
        for entry in self.client.services()? {
            self.service(&entry)?;
        }
        let found = &self.observed.table.services;
        self.ours.retain(|listener| found.contains_key(listener));
        Ok(())
    }

    /// The services of just these listeners.
    pub(super) fn listeners(&mut self, listeners: &BTreeSet<Listener>) -> Result<(), Error> {
        self.timeouts()?;
        for listener in listeners {
            self.observed.table.unordered.remove(listener);
            let before = self.observed.table.services.remove(listener);
            for at in before.iter().flat_map(|service| service.servers.keys()) {
                self.observed.servers.remove(&(*listener, *at));
            }
            match self.client.service(&kernel::id(*listener))? {
                Some(entry) => self.service(&entry)?,
                None => drop(self.ours.remove(listener)),
            }
        }
        Ok(())
    }

    fn timeouts(&mut self) -> Result<(), Error> {
        self.observed.table.timeouts = Some(kernel::timeouts(self.client.config()?));
        Ok(())
    }

    fn service(&mut self, entry: &ServiceEntry) -> Result<(), Error> {
        let disowned = || kernel::disowned(entry).filter(|(listener, _)| self.ours.contains(listener));
        let Some((listener, scheduling)) = kernel::listener(entry).or_else(disowned) else {
            return Ok(());
        };
        if listener.address.is_some() {
            self.ours.insert(listener);
        }
        self.servers(listener, scheduling)
    }

    fn servers(&mut self, listener: Listener, scheduling: Scheduling) -> Result<(), Error> {
        let table = &mut self.observed.table;
        let mut servers = BTreeMap::new();
        // The kernel puts new servers before the old ones.
        let mut before = None;
        for entry in self.client.destinations(&kernel::id(listener))? {
            let at = entry.destination.addr;
            if before.is_some_and(|before| before < at) {
                table.unordered.insert(listener);
            }
            before = Some(at);
            servers.insert(at, kernel::server(&entry));
            self.observed.servers.insert((listener, at), entry);
        }
        table.services.insert(listener, Service { scheduling, servers });
        Ok(())
    }
}
