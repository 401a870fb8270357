//! The benchmarks: ours beside each rival in one run, in interleaved rounds, as raw data, pictures and one page.
//!
//! A [`suite::Suite`] measures into [`record::Record`]s, which are kept as CSV. Everything a reader sees is computed
//! from those files alone ([`page`]), so the page can be written again without measuring.

pub mod calm;
pub mod convergence;
pub mod disruption;
pub mod footprint;
pub mod inside;
pub mod latency;
pub mod machine;
pub mod nodes;
pub mod page;
pub mod path;
pub mod plan;
pub mod plot;
pub mod profile;
pub mod programming;
pub mod record;
pub mod row;
pub mod run;
pub mod scratch;
pub mod site;
mod slices;
pub mod spread;
pub mod stage;
pub mod steering;
pub mod suite;
pub mod suites;
pub mod throughput;
