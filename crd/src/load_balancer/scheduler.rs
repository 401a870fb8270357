//! How a server is chosen.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::validate;

/// The IPVS scheduler.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.flags) || self.flags.size() == 0 || self.name in ['sh', 'mh']")
        .message(validate::FLAGS_OF_HASHES)
        .reason(Reason::FieldValueForbidden)
        .field_path(".flags")
)]
pub struct Scheduler {
    /// Name of the kernel's scheduler. rr: in turn; wrr: in turn, by weight; lc: fewest connections; wlc: fewest
    /// connections by weight; sed: shortest expected delay; nq: an idle server, else as sed; sh: hash of the client's
    /// address; mh: the same by Maglev's table, which changes little when servers do; fo: the first by weight; ovf: the
    /// first by weight until it has more connections than it weighs, then the next, and when all have, connections are
    /// refused, so it needs backends of type Endpoints, whose weights say how many; twos: the less loaded of two random ones; lblc, lblcr, dh: by the destination's
    /// address, which is one, so one server gets everything. Defaults to wlc.
    #[serde(default)]
    pub name: SchedulerName,
    /// Flags of sh and mh. Port: hash the client's port too. Fallback: take another server where the hashed one
    /// takes no new connections; mh always does.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 2))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub flags: Vec<SchedulerFlag>,
}

impl Scheduler {
    /// Whether the client's port is hashed too.
    #[must_use]
    pub fn hashes_port(&self) -> bool {
        self.flags.contains(&SchedulerFlag::Port)
    }

    /// Whether another server is taken where the hashed one takes no new connections.
    #[must_use]
    pub fn falls_back(&self) -> bool {
        self.name == SchedulerName::Mh || self.flags.contains(&SchedulerFlag::Fallback)
    }
}

/// The kernel's schedulers.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs, reason = "the field's documentation tells them all")]
pub enum SchedulerName {
    Rr,
    Wrr,
    Lc,
    #[default]
    Wlc,
    Lblc,
    Lblcr,
    Dh,
    Sh,
    Sed,
    Nq,
    Fo,
    Ovf,
    Mh,
    Twos,
}

impl SchedulerName {
    /// The kernel's name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rr => "rr",
            Self::Wrr => "wrr",
            Self::Lc => "lc",
            Self::Wlc => "wlc",
            Self::Lblc => "lblc",
            Self::Lblcr => "lblcr",
            Self::Dh => "dh",
            Self::Sh => "sh",
            Self::Sed => "sed",
            Self::Nq => "nq",
            Self::Fo => "fo",
            Self::Ovf => "ovf",
            Self::Mh => "mh",
            Self::Twos => "twos",
        }
    }

    /// Whether it chooses by the destination's address, so that one server gets all of a balancer's connections.
    #[must_use]
    pub fn uses_one_server(self) -> bool {
        matches!(self, Self::Dh | Self::Lblc | Self::Lblcr)
    }
}

impl std::fmt::Display for SchedulerName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Flags of the hashing schedulers.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum SchedulerFlag {
    /// Hash the client's port too.
    Port,
    /// Choose another server where the hashed one has weight 0.
    Fallback,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_name_is_the_word_in_the_object() {
        for word in "rr wrr lc wlc lblc lblcr dh sh sed nq fo ovf mh twos".split(' ') {
            let name: SchedulerName = serde_json::from_value(word.into()).expect("a scheduler");
            assert_eq!(name.as_str(), word);
        }
    }

    #[test]
    fn mh_always_falls_back() {
        let mut scheduler = Scheduler {
            name: SchedulerName::Mh,
            flags: Vec::new(),
        };
        assert!(scheduler.falls_back());
        scheduler.name = SchedulerName::Sh;
        assert!(!scheduler.falls_back());
    }
}
