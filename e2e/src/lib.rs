//! The lab cluster, and the tests that need one.

pub mod api_server;
pub mod cluster;
pub mod lab;
pub mod netns;
pub mod pki;
pub mod pod;
pub mod tools;
pub mod uml;
