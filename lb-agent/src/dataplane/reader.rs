//! Reads what IPVS holds of ours.

use std::collections::BTreeSet;
use std::sync::Arc;

use ipvs::{Client, DestinationEntry, Error, ServiceEntry};

use super::Observed;
use crate::kernel;
use crate::plan::Spot;
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

    /// Just these services.
    pub(super) fn spots(&mut self, spots: &BTreeSet<Spot>) -> Result<(), Error> {
        self.timeouts()?;
        for spot in spots {
            let found = match spot {
                Spot::Listener(listener) => self.listener(*listener)?,
                Spot::Path(mark) => {
                    self.observed.table.paths.remove(mark);
                    self.client.service(&kernel::path_id(*mark))?
                }
            };
            if let Some(entry) = found {
                self.service(&entry)?;
            }
        }
        Ok(())
    }

    /// Forgets what was read of a listener before, and asks for its service.
    fn listener(&mut self, listener: Listener) -> Result<Option<ServiceEntry>, Error> {
        let table = &mut self.observed.table;
        table.unordered.remove(&listener);
        table.services.remove(&listener);
        self.observed.entries.remove(&listener);
        let found = self.client.service(&kernel::id(listener))?;
        if found.is_none() {
            self.ours.remove(&listener);
        }
        Ok(found)
    }

    fn timeouts(&mut self) -> Result<(), Error> {
        self.observed.table.timeouts = Some(kernel::timeouts(self.client.config()?));
        Ok(())
    }

    fn service(&mut self, entry: &ServiceEntry) -> Result<(), Error> {
        if let Some(mark) = kernel::path(entry) {
            let entries = self.client.destinations(&entry.service.id)?;
            self.observed.table.paths.insert(mark, kernel::path_to(&entries));
            return Ok(());
        }
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
        let mut entries = self.client.destinations(&kernel::id(listener))?;
        // The kernel puts new servers before the old ones.
        entries.reverse();
        let Observed {
            table, entries: all, ..
        } = &mut *self.observed;
        if !entries.is_sorted_by_key(|entry| entry.destination.addr) {
            table.unordered.insert(listener);
        }
        let server = |entry: &DestinationEntry| (entry.destination.addr, kernel::server(entry));
        let service = Service {
            scheduling,
            servers: entries.iter().map(server).collect(),
        };
        table.services.insert(listener, Arc::new(service));
        let entries = entries.into_iter().map(|entry| (entry.destination.addr, entry));
        all.insert(listener, Arc::new(entries.collect()));
        Ok(())
    }
}
