//! The balancer in the pod: turns one `PortableLoadBalancer` into IPVS and iptables.
//!
//! Facts (the object, its Service, its slices) come into one loop, and only that loop touches the kernel:
//! [`desired`] says what the kernel should hold, [`plan`] what to change, [`dataplane`] does it and reads back.

pub mod addresses;
pub mod agent;
mod along;
pub mod backend;
pub mod cli;
pub mod converge;
pub mod dataplane;
pub mod desired;
pub mod diff;
pub mod drain;
pub mod drift;
pub mod endpoints;
pub mod facts;
pub mod file;
pub mod finding;
pub mod follow;
pub mod health;
pub mod http;
pub mod iptables;
pub mod kernel;
pub mod link;
pub mod metrics;
pub mod plan;
pub mod prepare;
pub mod pressure;
pub mod report;
pub mod serve;
pub mod status;
pub mod steering;
pub mod sysctl;
pub mod table;
pub mod trust;
pub mod warm_up;
pub mod ways;
