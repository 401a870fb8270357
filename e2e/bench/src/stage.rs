//! What the suites in the lab's cluster share: eyes on its nodes, Services of made-up servers, and kube-proxies to
//! measure beside ours.
//!
//! Eyes ([`eyes`]) are this same program, started in a node. They see the node's kernel and processes at no cost but
//! their own, and undo what they did there as soon as whoever started them is gone.

pub mod eyes;
pub mod fleet;
mod newest;
pub mod node;
pub mod rival;
pub mod slices;
pub mod watch;
pub mod wire;
