//! Makes agents of `PortableLoadBalancer` objects and reports on them.
//!
//! A reconcile is gather → build → apply → report. Only `gather`'s stores, `apply`, `rollout`, `sweep` and the
//! writing half of `status` know a cluster; `build` and everything below `status` are pure.

pub mod apply;
pub mod build;
mod causes;
pub mod config;
pub mod controller;
mod events;
mod fingerprint;
pub mod gather;
pub mod http;
mod metrics;
pub mod packed;
mod rollout;
pub mod smoke;
pub mod status;
pub mod sweep;
pub mod watches;

pub use config::Config;
pub use controller::{Context, Error, Guarded, reconcile, run};
pub use metrics::Metrics;
