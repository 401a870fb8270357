//! The API of the Portable Load Balancer: types, defaults and validation rules.

pub mod condition;
pub mod load_balancer;
pub mod names;
pub mod schema;
pub mod status;
pub mod target;
pub mod validate;

pub use load_balancer::*;
pub use status::*;
