//! The lab cluster, and the tests that need one.

pub mod pki;
pub mod pod;
pub mod tools;
pub mod uml;
