//! The API of the Portable Load Balancer: types, defaults and validation rules.

mod load_balancer;
mod status;

pub use load_balancer::*;
pub use status::*;
