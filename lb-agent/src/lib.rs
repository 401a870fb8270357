//! The balancer in the pod: turns one `PortableLoadBalancer` into IPVS and iptables.
//!
//! Facts (the object, its Service, its slices) come into one loop, and only that loop touches the kernel:
//! [`desired`] says what the kernel should hold, [`plan`] what to change, [`dataplane`] does it and reads back.

pub mod converge;
pub mod dataplane;
pub mod desired;
pub mod drain;
pub mod endpoints;
pub mod iptables;
pub mod kernel;
pub mod plan;
pub mod table;
