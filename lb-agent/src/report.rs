//! What the agent says of itself in the object's status. Pure.

mod servers;

use std::error::Error as _;
use std::fmt::Write as _;

use crd::condition::reason;
use crd::{AgentRole, AgentStatus, DrainCounts, DrainedServer};

use crate::dataplane::{Error, Observed};
use crate::facts::{Refusal, Wanted};
use crate::finding::{Finding, Severity};
use servers::{count, exceptions};

/// The longest message in a status.
const MESSAGE: usize = 1024;

/// Who the agent is.
#[derive(Clone, Debug, Default)]
pub struct Identity {
    /// Its pod's name.
    pub pod: String,
    /// The node it runs on.
    pub node: Option<String>,
    /// Its first address.
    pub pod_ip: Option<String>,
}

/// Why the kernel does not hold what it should.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// One word.
    pub reason: &'static str,
    /// What is wrong and what to do.
    pub message: String,
}

impl From<&Error> for Trouble {
    fn from(error: &Error) -> Self {
        let of_ipvs = |error: &ipvs::Error| match error {
            ipvs::Error::FamilyMissing | ipvs::Error::SchedulerUnavailable(_) => {
                reason::KERNEL_MODULE_MISSING
            }
            _ => reason::PROGRAMMING_FAILED,
        };
        let reason = match error {
            Error::Open(source) | Error::Step { source, .. } => of_ipvs(source),
            Error::NoIptables { .. } => reason::IPTABLES_UNAVAILABLE,
            _ => reason::PROGRAMMING_FAILED,
        };
        let mut message = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            let _ = write!(message, ": {cause}");
            source = cause.source();
        }
        Self { reason, message }
    }
}

/// All that a status is made of.
#[derive(Clone, Debug, Default)]
pub struct Situation<'a> {
    /// Who the agent is.
    pub identity: Identity,
    /// MTU of its interface.
    pub mtu: Option<u32>,
    /// What is wanted.
    pub wanted: Option<&'a Wanted>,
    /// Why the newest object is not served.
    pub refusal: Option<&'a Refusal>,
    /// The generation that the kernel holds.
    pub programmed: Option<i64>,
    /// What the kernel holds.
    pub observed: Option<&'a Observed>,
    /// What is not as it should be.
    pub findings: &'a [Finding],
    /// Why the kernel does not hold what it should.
    pub trouble: Option<&'a Trouble>,
    /// Whether it attracts traffic.
    pub role: Option<AgentRole>,
    /// The servers that drained last.
    pub drains: &'a [DrainedServer],
    /// How many drained.
    pub drained: Option<DrainCounts>,
}

/// The agent's entry in the object's status.
#[must_use]
pub fn agent_status(situation: &Situation<'_>) -> AgentStatus {
    let (reason, message) = explain(situation);
    let programmed = situation.programmed.and(situation.observed);
    AgentStatus {
        name: situation.identity.pod.clone(),
        node: situation.identity.node.clone(),
        pod_ip: situation.identity.pod_ip.clone(),
        role: situation.role,
        observed_generation: situation.programmed,
        table_hash: programmed.map(|observed| table_hash(situation, observed)),
        mtu: situation.mtu.and_then(|mtu| i32::try_from(mtu).ok()),
        servers: situation.wanted.map(|wanted| count(wanted, situation.observed)),
        exceptions: situation
            .wanted
            .map(|wanted| exceptions(wanted, situation.observed))
            .unwrap_or_default(),
        drains: situation.drains.to_vec(),
        drained: situation.drained,
        reason: reason.map(str::to_owned),
        message,
    }
}

/// Of what takes new connections. While servers warm up the kernel holds other weights than are wanted in the end.
fn table_hash(situation: &Situation<'_>, observed: &Observed) -> String {
    let warming = situation.wanted.filter(|wanted| {
        let is_held = situation.programmed == Some(wanted.generation) && situation.trouble.is_none();
        is_held && !wanted.warm_up.is_zero()
    });
    match warming {
        Some(wanted) => wanted.desired.table.serving().hash(),
        None => observed.hash().to_owned(),
    }
}

/// What keeps it from serving this generation, or else what could be better.
fn explain(situation: &Situation<'_>) -> (Option<&'static str>, Option<String>) {
    let findings = situation.findings;
    let blocking = findings
        .iter()
        .find(|finding| finding.severity == Severity::Blocking);
    let (reason, message) = match (situation.trouble, blocking, situation.refusal) {
        (Some(trouble), None, _) => (Some(trouble.reason), trouble.message.clone()),
        (Some(trouble), _, _) if trouble.reason == reason::KERNEL_MODULE_MISSING => {
            (Some(trouble.reason), trouble.message.clone())
        }
        (_, Some(finding), _) => (Some(finding.reason()), finding.to_string()),
        (None, None, Some(refusal)) => {
            let message = format!("{}; the previous configuration keeps serving", refusal.message);
            (Some(reason::INVALID_SPEC), message)
        }
        (None, None, None) => {
            let message = findings.first().map(ToString::to_string);
            let message = message.or_else(|| situation.wanted.and_then(off_link));
            (findings.first().map(Finding::reason), message.unwrap_or_default())
        }
    };
    if message.is_empty() {
        return (reason, None);
    }
    let node = situation.identity.node.as_deref().unwrap_or("this machine");
    let message = match reason {
        Some(reason::INVALID_SPEC) => message,
        _ => format!("node {node}: {message}"),
    };
    (reason, Some(message.chars().take(MESSAGE).collect()))
}

/// Why DR does not reach a server.
fn off_link(wanted: &Wanted) -> Option<String> {
    let (server, gateway) = wanted.desired.off_link.iter().next()?;
    Some(format!(
        "DR reaches only servers on the agent's own link, and {server} is behind the gateway {gateway}: set forwarding.type to \
         TUN or NAT, or run the agent beside its servers"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prepare::missing_module;
    use crate::table::fixture::{http, table};

    fn identity() -> Identity {
        Identity {
            pod: "plb-web-1".into(),
            node: Some("node1".into()),
            pod_ip: None,
        }
    }

    #[test]
    fn a_missing_module_is_named_with_its_node_and_its_remedy() {
        let error = Error::Open(Box::new(ipvs::Error::FamilyMissing));
        let findings = [missing_module("x")];
        let trouble = Trouble::from(&error);
        let status = agent_status(&Situation {
            identity: identity(),
            findings: &findings,
            trouble: Some(&trouble),
            ..Situation::default()
        });
        assert_eq!(status.reason.as_deref(), Some("KernelModuleMissing"));
        let message = status.message.expect("told");
        assert!(
            message.starts_with("node node1: ") && message.contains("modprobe ip_vs"),
            "{message}"
        );
    }

    #[test]
    fn a_missing_scheduler_is_a_missing_module() {
        let source = Box::new(ipvs::Error::SchedulerUnavailable("twos".parse().expect("a name")));
        let trouble = Trouble::from(&Error::Step {
            step: "add service".into(),
            source,
        });
        assert_eq!(trouble.reason, "KernelModuleMissing");
        assert!(trouble.message.contains("ip_vs_twos"), "{}", trouble.message);
    }

    #[test]
    fn a_refused_object_is_told_while_the_last_one_serves() {
        let refusal = Refusal {
            generation: Some(3),
            message: "spec.ports: wrong".into(),
        };
        let status = agent_status(&Situation {
            identity: identity(),
            refusal: Some(&refusal),
            programmed: Some(2),
            ..Situation::default()
        });
        assert_eq!(status.reason.as_deref(), Some("InvalidSpec"));
        assert_eq!(status.observed_generation, Some(2));
    }

    #[test]
    fn what_only_degrades_is_told_too() {
        let finding = Finding {
            severity: Severity::Degrading,
            ..missing_module("x")
        };
        let status = agent_status(&Situation {
            findings: &[finding],
            ..Situation::default()
        });
        assert_eq!(status.reason.as_deref(), Some(reason::KERNEL_MODULE_MISSING));
        assert!(status.message.is_some());
    }

    #[test]
    fn the_hash_is_of_what_takes_connections() {
        let observed = Observed {
            table: table(http(), &[(1, 1), (2, 0)]),
            ..Observed::default()
        };
        let status = agent_status(&Situation {
            observed: Some(&observed),
            programmed: Some(2),
            ..Situation::default()
        });
        assert_eq!(
            (status.observed_generation, status.reason, status.message),
            (Some(2), None, None)
        );
        assert_eq!(status.table_hash, Some(table(http(), &[(1, 1)]).hash()));
    }

    #[test]
    fn a_message_is_bounded() {
        let trouble = Trouble {
            reason: reason::PROGRAMMING_FAILED,
            message: "x".repeat(5000),
        };
        let status = agent_status(&Situation {
            trouble: Some(&trouble),
            ..Situation::default()
        });
        assert_eq!(status.message.map(|it| it.len()), Some(MESSAGE));
    }
}
