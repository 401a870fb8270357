//! The kernel's IPVS over generic netlink: services, destinations, batches and typed errors.
//!
//! It knows nothing of load balancers or Kubernetes. The kernel part is described by `include/uapi/linux/ip_vs.h`
//! and `net/netfilter/ipvs/ip_vs_ctl.c` of Linux.
//!
//! - [`Service`] and [`Destination`] are what one wants; [`ServiceEntry`] and [`DestinationEntry`] what the kernel has.
//! - [`Command`] is one change as data, [`Batch`] many of them in order.
//! - [`Client`] is the one door to the kernel: blocking, and each of its calls comes back within a bounded time.
//!
//! ```no_run
//! use ipvs::{Batch, Client, Command, Destination, Family, Service, ServiceFlags, ServiceId};
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let id = ServiceId::Mark { family: Family::V4, mark: 0x4000_0050.try_into()? };
//! let service =
//!     Service { id, scheduler: "wlc".parse()?, flags: ServiceFlags::empty(), persistence: None };
//! let server = Destination::masquerade("10.244.1.5:8080".parse()?, 1);
//!
//! let mut client = Client::open()?;
//! let batch: Batch =
//!     [Command::AddService(service), Command::AddDestination(id, server)].into_iter().collect();
//! for rejection in client.apply(&batch)? {
//!     eprintln!("{}: {}", batch.commands()[rejection.index], rejection.error);
//! }
//! for entry in client.services()? {
//!     println!("{}: {} servers", entry.service.id, client.destinations(&entry.service.id)?.len());
//! }
//! # Ok(())
//! # }
//! ```

mod attribute;
mod batch;
mod client;
mod config;
mod decode;
mod destination;
mod encode;
mod error;
mod flags;
#[cfg(test)]
mod golden;
mod ipvsadm;
mod message;
#[cfg(test)]
mod properties;
mod service;
mod socket;

pub use batch::{Batch, Command};
pub use client::Client;
pub use config::{Config, Info};
pub use destination::{Destination, DestinationEntry, Forwarding, TunnelFlags, TunnelKind};
pub use error::{Error, Rejection};
pub use service::{
    Counters, Family, InvalidScheduler, Persistence, Protocol, Scheduler, Service, ServiceEntry,
    ServiceFlags, ServiceId,
};
