//! The API of the Portable Load Balancer: types, defaults and validation rules.

pub mod load_balancer;
pub mod status;

pub use load_balancer::*;
pub use status::*;
