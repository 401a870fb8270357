//! The truth table: from what was observed to the conditions. Pure, and all in one place.

use crd::ServerCounts;
use crd::condition::{self, Observed, State, reason};

/// Why something is not as it should be, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// One `CamelCase` word.
    pub reason: String,
    /// For people.
    pub message: String,
}

impl Finding {
    /// A finding of these words.
    pub fn new(reason: &str, message: impl Into<String>) -> Self {
        Self {
            reason: reason.to_owned(),
            message: message.into(),
        }
    }
}

/// All that the conditions depend on.
#[derive(Clone, Debug)]
pub struct View {
    /// The generation of the spec.
    pub generation: i64,
    /// How many agents the spec wants.
    pub wanted: usize,
    /// How many hold this generation and are ready.
    pub programmed: usize,
    /// Whether the spec can be served; with a warning where it can, but hardly should.
    pub accepted: Result<Option<Finding>, Finding>,
    /// Whether the Service and its ports are there.
    pub refs: Result<(), Finding>,
    /// The addresses in words.
    pub addresses: Result<String, Finding>,
    /// What keeps agents from serving this generation.
    pub blocker: Option<Finding>,
    /// What is wrong although all agents serve.
    pub trouble: Option<Finding>,
    /// Servers as the agents see them.
    pub servers: Option<ServerCounts>,
}

impl View {
    /// All conditions, in the order of [`condition::ALL`].
    #[must_use]
    pub fn conditions(&self) -> Vec<Observed> {
        let words = [
            self.accepted(),
            self.resolved_refs(),
            self.address_assigned(),
            self.programmed(),
            self.backends_available(),
            self.degraded(),
            self.ready(),
        ];
        let name = |(type_, (state, finding)): (&'static str, (State, Finding))| Observed {
            type_,
            state,
            reason: finding.reason,
            message: finding.message,
        };
        condition::ALL.into_iter().zip(words).map(name).collect()
    }

    fn accepted(&self) -> (State, Finding) {
        match &self.accepted {
            Ok(None) => (
                State::True,
                Finding::new(condition::ACCEPTED, "the spec is valid"),
            ),
            Ok(Some(warning)) => (State::True, warning.clone()),
            Err(finding) => (State::False, finding.clone()),
        }
    }

    fn resolved_refs(&self) -> (State, Finding) {
        match &self.refs {
            Ok(()) => (
                State::True,
                Finding::new(condition::RESOLVED_REFS, "the Service and its ports exist"),
            ),
            Err(finding) => (State::False, finding.clone()),
        }
    }

    fn address_assigned(&self) -> (State, Finding) {
        match &self.addresses {
            Ok(addresses) => (
                State::True,
                Finding::new(
                    condition::ADDRESS_ASSIGNED,
                    format!("clients connect to {addresses}"),
                ),
            ),
            Err(finding) => (State::False, finding.clone()),
        }
    }

    fn programmed(&self) -> (State, Finding) {
        let Self {
            generation,
            wanted,
            programmed,
            ..
        } = self;
        if let Err(finding) = &self.accepted {
            return (State::False, finding.clone());
        }
        let count = format!(
            "{} of {wanted} agents hold generation {generation}",
            programmed.min(wanted)
        );
        if programmed >= wanted {
            return (State::True, Finding::new(condition::PROGRAMMED, count));
        }
        let finding = match &self.blocker {
            Some(blocker) => Finding::new(&blocker.reason, format!("{count}: {}", blocker.message)),
            None => Finding::new(reason::AGENTS_MISSING, count),
        };
        (State::False, finding)
    }

    fn backends_available(&self) -> (State, Finding) {
        match (&self.servers, &self.refs) {
            (Some(ServerCounts { healthy, total, .. }), _) if *healthy > 0 => {
                let message = format!("{healthy} of {total} servers take new connections");
                (State::True, Finding::new(condition::BACKENDS_AVAILABLE, message))
            }
            (_, Err(finding)) => (State::False, finding.clone()),
            (Some(ServerCounts { total: 0, .. }), Ok(())) => {
                let message =
                    "the Service has no endpoints: are its pods there, and does its selector match them?";
                (State::False, Finding::new(reason::NO_BACKENDS, message))
            }
            (Some(ServerCounts { total, .. }), Ok(())) => {
                let message =
                    format!("none of {total} servers takes new connections: are the Service's pods ready?");
                (State::False, Finding::new(reason::NO_BACKENDS, message))
            }
            (None, Ok(())) => (
                State::Unknown,
                Finding::new(reason::PENDING, "no agent has told of its servers yet"),
            ),
        }
    }

    fn degraded(&self) -> (State, Finding) {
        let (state, finding) = self.programmed();
        if self.programmed == 0 || self.accepted.is_err() {
            let message = format!("no agent serves generation {} yet", self.generation);
            return (State::Unknown, Finding::new(reason::PENDING, message));
        }
        match &self.trouble {
            _ if state != State::True => (State::True, finding),
            Some(trouble) => (State::True, trouble.clone()),
            None => (
                State::False,
                Finding::new(reason::AS_WANTED, "all agents serve alike"),
            ),
        }
    }

    /// Accepted, with an address, and served by at least one agent. Backends are not asked for: an application scaled
    /// to zero on purpose must not hold up whoever waits for its balancer.
    fn ready(&self) -> (State, Finding) {
        let (_, programmed) = self.programmed();
        match (&self.accepted, &self.addresses) {
            (Err(finding), _) => (State::False, finding.clone()),
            (Ok(_), _) if self.programmed == 0 => (State::False, programmed),
            (Ok(_), Err(finding)) => (State::False, finding.clone()),
            (Ok(_), Ok(addresses)) => {
                let message = format!("{} at {addresses}", programmed.message);
                (State::True, Finding::new(condition::READY, message))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> View {
        View {
            generation: 3,
            wanted: 2,
            programmed: 2,
            accepted: Ok(None),
            refs: Ok(()),
            addresses: Ok("10.96.0.7".into()),
            blocker: None,
            trouble: None,
            servers: Some(ServerCounts {
                total: 3,
                healthy: 3,
                draining: 0,
            }),
        }
    }

    fn finding(reason: &str) -> Finding {
        Finding::new(reason, "because")
    }

    /// States in the order of `condition::ALL`: T, F or ?.
    fn states(view: &View) -> String {
        let letter = |observed: &Observed| match observed.state {
            State::True => 'T',
            State::False => 'F',
            State::Unknown => '?',
        };
        view.conditions().iter().map(letter).collect()
    }

    fn reason_of(view: &View, type_: &str) -> String {
        let found = view.conditions().into_iter().find(|it| it.type_ == type_);
        found.expect("all conditions are there").reason
    }

    #[test]
    fn the_truth_table() {
        let none = Some(ServerCounts::default());
        let idle = Some(ServerCounts {
            total: 3,
            healthy: 0,
            draining: 0,
        });
        let blocked = Some(finding(reason::KERNEL_MODULE_MISSING));
        // In the order Accepted ResolvedRefs AddressAssigned Programmed BackendsAvailable Degraded Ready.
        let table = [
            ("all is well", "TTTTTFT", good()),
            (
                "just made",
                "TTFF??F",
                View {
                    programmed: 0,
                    servers: None,
                    addresses: Err(finding(reason::ADDRESS_PENDING)),
                    ..good()
                },
            ),
            (
                "no endpoints",
                "TTTTFFT",
                View {
                    servers: none,
                    ..good()
                },
            ),
            (
                "no healthy server",
                "TTTTFFT",
                View {
                    servers: idle,
                    ..good()
                },
            ),
            (
                "one agent of two",
                "TTTFTTT",
                View {
                    programmed: 1,
                    blocker: blocked.clone(),
                    ..good()
                },
            ),
            (
                "no agent",
                "TTTFT?F",
                View {
                    programmed: 0,
                    blocker: blocked,
                    ..good()
                },
            ),
            (
                "no address",
                "TTFTTFF",
                View {
                    addresses: Err(finding(reason::ADDRESS_PENDING)),
                    ..good()
                },
            ),
            (
                "no Service",
                "TFTTFFT",
                View {
                    refs: Err(finding(reason::SERVICE_NOT_FOUND)),
                    servers: none,
                    ..good()
                },
            ),
            (
                "one port of two not found",
                "TFTTTFT",
                View {
                    refs: Err(finding(reason::PORT_NOT_FOUND)),
                    ..good()
                },
            ),
            (
                "a bad edit",
                "FTTFT?F",
                View {
                    programmed: 0,
                    accepted: Err(finding(reason::INVALID_SPEC)),
                    ..good()
                },
            ),
            (
                "tables differ",
                "TTTTTTT",
                View {
                    trouble: Some(finding(reason::TABLES_DIFFER)),
                    ..good()
                },
            ),
            (
                "a warning",
                "TTTTTFT",
                View {
                    accepted: Ok(Some(finding("SchedulerUsesOneServer"))),
                    ..good()
                },
            ),
            (
                "more agents than wanted",
                "TTTTTFT",
                View {
                    programmed: 3,
                    ..good()
                },
            ),
        ];
        for (case, expected, view) in table {
            assert_eq!(states(&view), expected, "{case}");
        }
    }

    #[test]
    fn what_blocks_the_agents_is_the_reason() {
        let view = View {
            programmed: 0,
            blocker: Some(finding(reason::KERNEL_MODULE_MISSING)),
            ..good()
        };
        for type_ in [condition::PROGRAMMED, condition::READY] {
            assert_eq!(reason_of(&view, type_), reason::KERNEL_MODULE_MISSING);
        }
        let view = View {
            programmed: 1,
            ..view
        };
        assert_eq!(
            reason_of(&view, condition::DEGRADED),
            reason::KERNEL_MODULE_MISSING
        );
        assert_eq!(reason_of(&view, condition::READY), condition::READY);
    }

    #[test]
    fn a_missing_service_is_the_reason_of_missing_backends() {
        let view = View {
            refs: Err(finding(reason::SERVICE_NOT_FOUND)),
            servers: None,
            ..good()
        };
        assert_eq!(
            reason_of(&view, condition::BACKENDS_AVAILABLE),
            reason::SERVICE_NOT_FOUND
        );
    }

    #[test]
    fn every_condition_has_a_reason_and_a_message() {
        for observed in good().conditions() {
            assert!(
                !observed.reason.is_empty() && !observed.message.is_empty(),
                "{}",
                observed.type_
            );
        }
    }
}
