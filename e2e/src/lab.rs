//! The lab: a real Kubernetes cluster of User Mode Linux machines in a network namespace of its own.
//!
//! What should run is written down as files ([`service`]), and a supervisor on the host, and one in each machine, sees
//! that it does ([`supervisor`]). So every command here only writes what it wants and waits until it is so, and `up`
//! after any accident is the same as `up`.

pub mod certificates;
pub mod cli;
pub mod cluster;
pub mod control_plane;
pub mod demo;
pub mod down;
pub mod flannel;
pub mod guest;
pub mod kubectl;
pub mod machine;
pub mod network;
pub mod node;
pub mod paths;
pub mod process;
pub mod progress;
pub mod queue;
pub mod service;
pub mod session;
pub mod status;
pub mod supervisor;
pub mod up;
