//! What the kernel holds after it acknowledged steps: nothing is read for it.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use ipvs::{Counters, Destination, DestinationEntry};

use super::Observed;
use crate::kernel;
use crate::plan::Step;
use crate::table::{Listener, Server, Service};

impl Observed {
    /// Does to it what the kernel did. Rules are not its matter: they are compared as they are printed.
    pub(super) fn take(&mut self, step: &Step) {
        self.hash = OnceLock::new();
        let table = &mut self.table;
        match step {
            Step::SetTimeouts(timeouts) => table.timeouts = Some(*timeouts),
            Step::AddService(at, scheduling) => {
                let service = Service {
                    scheduling: scheduling.clone(),
                    servers: [].into(),
                };
                table.services.insert(*at, Arc::new(service));
            }
            Step::SetService(at, scheduling) => {
                if let Some(service) = table.services.get_mut(at) {
                    Arc::make_mut(service).scheduling = scheduling.clone();
                }
            }
            Step::AddServer(listener, at, server) | Step::SetServer(listener, at, server) => {
                self.set_server(*listener, *at, *server);
            }
            Step::RemoveServer(listener, at) => {
                if let Some(service) = table.services.get_mut(listener) {
                    Arc::make_mut(service).servers.remove(at);
                }
                if let Some(entries) = self.entries.get_mut(listener) {
                    Arc::make_mut(entries).remove(at);
                }
            }
            Step::RemoveService(at) => {
                table.services.remove(at);
                self.entries.remove(at);
                table.unordered.remove(at);
            }
            Step::Reorder(at, _) => drop(table.unordered.remove(at)),
            Step::AddPath(mark, path) => drop(table.paths.insert(*mark, *path)),
            Step::RemovePath(mark) => drop(table.paths.remove(mark)),
            Step::SetRules(..) | Step::RemoveRules(..) => {}
        }
    }

    fn set_server(&mut self, listener: Listener, at: SocketAddr, server: Server) {
        let table = &mut self.table;
        let Some(service) = table.services.get_mut(&listener) else {
            return;
        };
        let last = service.servers.last().copied();
        let is_new = Arc::make_mut(service).servers.insert(at, server).is_none();
        if is_new && last > Some(at) {
            table.unordered.insert(listener);
        }
        let destination = kernel::destination(at, server);
        let entries = Arc::make_mut(self.entries.get_or_insert_with(listener, Arc::default));
        match entries.get_mut(&at) {
            Some(entry) => entry.destination = destination,
            None => drop(entries.insert(at, fresh(destination))),
        }
    }
}

/// A server that was added just now.
fn fresh(destination: Destination) -> DestinationEntry {
    DestinationEntry {
        destination,
        active_connections: 0,
        inactive_connections: 0,
        persistent_connections: 0,
        counters: Counters::default(),
    }
}
