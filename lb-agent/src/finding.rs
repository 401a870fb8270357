//! What is not as the agent needs it, and what to do about it.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What kind of thing is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Kind {
    /// A kernel module is missing.
    Module,
    /// A sysctl has another value.
    Sysctl,
    /// Packets are not spread over the CPUs.
    PacketSteering,
    /// Something is nearly full.
    Pressure,
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Severity {
    /// Nothing can be served.
    Blocking,
    /// Something is served worse than it could be.
    Degrading,
}

/// One thing that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Finding {
    /// How bad it is; the worst sort first.
    pub severity: Severity,
    /// What kind of thing it is.
    pub kind: Kind,
    /// Its name: of a module, a sysctl, a file.
    pub name: String,
    /// What it should be.
    pub wanted: String,
    /// What it is.
    pub got: String,
    /// What to do.
    pub remedy: String,
}

impl Finding {
    /// The word for it in the agent's status.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self.kind {
            Kind::Module => crd::condition::reason::KERNEL_MODULE_MISSING,
            Kind::Sysctl | Kind::PacketSteering => crd::condition::reason::SYSCTL_REFUSED,
            Kind::Pressure => crd::condition::reason::NEARLY_FULL,
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            name,
            wanted,
            got,
            remedy,
            ..
        } = self;
        match self.kind {
            Kind::Module => write!(f, "kernel module {name} is {got}: {remedy}"),
            Kind::Sysctl => write!(f, "sysctl {name} is {got}, not {wanted}: {remedy}"),
            Kind::Pressure => write!(f, "{name} is {got}: {remedy}"),
            Kind::PacketSteering => write!(f, "{name} is {got}, not {wanted}: {remedy}"),
        }
    }
}
