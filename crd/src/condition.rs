//! The conditions of a balancer: their names, their reasons, and how one is set.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// The spec is valid and of a class that somebody serves.
pub const ACCEPTED: &str = "Accepted";
/// The Service and its ports exist.
pub const RESOLVED_REFS: &str = "ResolvedRefs";
/// There is an address that clients can connect to.
pub const ADDRESS_ASSIGNED: &str = "AddressAssigned";
/// All wanted agents hold this generation in their kernels.
pub const PROGRAMMED: &str = "Programmed";
/// At least one server takes new connections.
pub const BACKENDS_AVAILABLE: &str = "BackendsAvailable";
/// The balancer serves, but with fewer agents than wanted, or worse than it should.
pub const DEGRADED: &str = "Degraded";
/// The balancer serves this generation.
pub const READY: &str = "Ready";

/// All of them, in the order in which they build on each other.
pub const ALL: [&str; 7] = [
    ACCEPTED,
    RESOLVED_REFS,
    ADDRESS_ASSIGNED,
    PROGRAMMED,
    BACKENDS_AVAILABLE,
    DEGRADED,
    READY,
];

/// Reasons, the words for programs. Where a condition is as it should be, its reason is its own name.
pub mod reason {
    /// Nothing is known yet.
    pub const PENDING: &str = "Pending";
    /// The spec asks for something impossible.
    pub const INVALID_SPEC: &str = "InvalidSpec";
    /// The Service named in the spec does not exist.
    pub const SERVICE_NOT_FOUND: &str = "ServiceNotFound";
    /// The Service has no port of the wanted name.
    pub const PORT_NOT_FOUND: &str = "PortNotFound";
    /// The exposure gave no address yet.
    pub const ADDRESS_PENDING: &str = "AddressPending";
    /// No server takes new connections.
    pub const NO_BACKENDS: &str = "NoBackends";
    /// All servers of a port fail their health check, and all of them stay.
    pub const ALL_SERVERS_FAIL: &str = "AllServersFail";
    /// Fewer agents serve this generation than are wanted.
    pub const AGENTS_MISSING: &str = "AgentsMissing";
    /// No node takes an agent's pod.
    pub const UNSCHEDULABLE: &str = "Unschedulable";
    /// A node can't get the agent's image.
    pub const IMAGE_PULL_FAILED: &str = "ImagePullFailed";
    /// The API server refused one of the balancer's children.
    pub const CHILD_REFUSED: &str = "ChildRefused";
    /// An agent's container ends again and again.
    pub const AGENT_CRASHING: &str = "AgentCrashing";
    /// A scheduler that sends all of one address to one server.
    pub const SCHEDULER_USES_ONE_SERVER: &str = "SchedulerUsesOneServer";
    /// Agents hold different tables for the same generation.
    pub const TABLES_DIFFER: &str = "TablesDiffer";
    /// Of an Event: servers were removed after their connections had ended.
    pub const DRAIN_FINISHED: &str = "DrainFinished";
    /// Of an Event: servers were removed while they had connections.
    pub const DRAIN_CUT: &str = "DrainCut";
    /// Nothing is wrong: the reason of `Degraded` when false.
    pub const AS_WANTED: &str = "AsWanted";
    /// A node's kernel lacks a module.
    pub const KERNEL_MODULE_MISSING: &str = "KernelModuleMissing";
    /// A node refused a sysctl.
    pub const SYSCTL_REFUSED: &str = "SysctlRefused";
    /// Something that connections need is nearly full.
    pub const NEARLY_FULL: &str = "NearlyFull";
    /// Neither of the iptables variants works on a node.
    pub const IPTABLES_UNAVAILABLE: &str = "IptablesUnavailable";
    /// A node's kernel refused the table.
    pub const PROGRAMMING_FAILED: &str = "ProgrammingFailed";
}

/// What a condition says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It is so.
    True,
    /// It is not so.
    False,
    /// Nobody knows yet.
    Unknown,
}

impl State {
    /// The word in the object.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

impl From<bool> for State {
    fn from(is_so: bool) -> Self {
        if is_so { Self::True } else { Self::False }
    }
}

/// One condition as it was observed now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observed {
    /// One of [`ALL`].
    pub type_: &'static str,
    /// Whether it is so.
    pub state: State,
    /// One `CamelCase` word, see [`reason`].
    pub reason: String,
    /// What is wrong and what to do, for people.
    pub message: String,
}

/// Puts a condition into the list. Its transition time stays while its state does.
pub fn set(conditions: &mut Vec<Condition>, observed: Observed, generation: Option<i64>, now: &Time) {
    let known = conditions
        .iter_mut()
        .find(|condition| condition.type_ == observed.type_);
    let status = observed.state.as_str();
    let since = match &known {
        Some(known) if known.status == status => known.last_transition_time.clone(),
        _ => now.clone(),
    };
    let new = Condition {
        type_: observed.type_.to_owned(),
        status: status.to_owned(),
        reason: observed.reason,
        message: observed.message,
        observed_generation: generation,
        last_transition_time: since,
    };
    match known {
        Some(known) => *known = new,
        None => conditions.push(new),
    }
}

/// The condition of that name.
#[must_use]
pub fn find<'a>(conditions: &'a [Condition], type_: &str) -> Option<&'a Condition> {
    conditions.iter().find(|condition| condition.type_ == type_)
}

/// Whether the condition of that name is there and true.
#[must_use]
pub fn is_true(conditions: &[Condition], type_: &str) -> bool {
    find(conditions, type_).is_some_and(|condition| condition.status == State::True.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::jiff::Timestamp;

    fn time(second: i64) -> Time {
        Time(Timestamp::from_second(second).expect("a valid time"))
    }

    fn ready(state: State, message: &str) -> Observed {
        Observed {
            type_: READY,
            state,
            reason: READY.into(),
            message: message.into(),
        }
    }

    #[test]
    fn the_transition_time_stays_while_the_state_does() {
        let mut conditions = Vec::new();
        set(&mut conditions, ready(State::True, "one"), Some(1), &time(1));
        set(&mut conditions, ready(State::True, "two"), Some(2), &time(2));
        let now = find(&conditions, READY).expect("set before");
        assert_eq!(now.last_transition_time, time(1));
        assert_eq!((now.message.as_str(), now.observed_generation), ("two", Some(2)));
    }

    #[test]
    fn the_transition_time_moves_with_the_state() {
        let mut conditions = Vec::new();
        set(&mut conditions, ready(State::True, ""), None, &time(1));
        set(&mut conditions, ready(State::False, ""), None, &time(2));
        assert_eq!(conditions.len(), 1);
        assert_eq!(conditions[0].last_transition_time, time(2));
        assert!(!is_true(&conditions, READY));
    }

    #[test]
    fn other_conditions_stay_as_they_are() {
        let mut conditions = Vec::new();
        set(&mut conditions, ready(State::True, ""), None, &time(1));
        let accepted = Observed {
            type_: ACCEPTED,
            ..ready(State::Unknown, "")
        };
        set(&mut conditions, accepted, None, &time(2));
        assert!(is_true(&conditions, READY));
        assert!(!is_true(&conditions, ACCEPTED));
    }
}
