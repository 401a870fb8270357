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
            (Some(ServerCounts { panicking, .. }), Ok(())) if *panicking > 0 => {
                (State::False, all_servers_fail(*panicking))
            }
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
        let panicking = self.servers.map_or(0, |servers| servers.panicking);
        match &self.trouble {
            _ if state != State::True => (State::True, finding),
            Some(trouble) => (State::True, trouble.clone()),
            None if panicking > 0 => (State::True, all_servers_fail(panicking)),
            None => (
                State::False,
                Finding::new(reason::AS_WANTED, "all agents serve alike"),
            ),
        }
    }

    /// Accepted, with an address, and served by at least one agent. Backends are not asked for: an application scaled
    /// to zero on purpose must not hold up whoever waits for its balancer.
    fn ready(&self) -> (State, Finding) {
        // Not accepted is the reason of this one too.
        let (_, programmed) = self.programmed();
        match &self.addresses {
            _ if self.accepted.is_err() || self.programmed == 0 => (State::False, programmed),
            Err(finding) => (State::False, finding.clone()),
            Ok(addresses) => {
                let message = format!("{} and serve at {addresses}", programmed.message);
                (State::True, Finding::new(condition::READY, message))
            }
        }
    }
}

fn all_servers_fail(panicking: i32) -> Finding {
    let message = format!(
        "all servers of a port fail their health check, so they stay, {panicking} in all: status.backends tells why each \
         fails; where they serve nevertheless, healthCheck asks for the wrong thing, or a network policy drops the agents' \
         questions"
    );
    Finding::new(reason::ALL_SERVERS_FAIL, message)
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
                panicking: 0,
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

    /// Asserts the states where all is well but for one change.
    fn check(case: &str, expected: &str, change: impl Fn(&mut View)) {
        let mut view = good();
        change(&mut view);
        assert_eq!(states(&view), expected, "{case}");
    }

    fn unhealthy(total: i32) -> ServerCounts {
        ServerCounts {
            total,
            ..ServerCounts::default()
        }
    }

    /// The letters are in the order of [`condition::ALL`].
    #[test]
    fn the_truth_table() {
        let pending = || Err(finding(reason::ADDRESS_PENDING));
        let missing = || Err(finding(reason::SERVICE_NOT_FOUND));
        let blocked = || Some(finding(reason::KERNEL_MODULE_MISSING));
        check("all is well", "TTTTTFT", |_| ());
        check("just made", "TTFF??F", |it| {
            (it.programmed, it.servers, it.addresses) = (0, None, pending());
        });
        check("no endpoints", "TTTTFFT", |it| it.servers = Some(unhealthy(0)));
        check("no healthy server", "TTTTFFT", |it| {
            it.servers = Some(unhealthy(3));
        });
        check("all servers fail", "TTTTFTT", |it| {
            it.servers = Some(ServerCounts {
                panicking: 3,
                ..unhealthy(3)
            });
        });
        check("all servers of one port fail", "TTTTTTT", |it| {
            it.servers = it.servers.map(|servers| ServerCounts {
                healthy: 2,
                panicking: 1,
                ..servers
            });
        });
        check("one agent of two", "TTTFTTT", |it| {
            (it.programmed, it.blocker) = (1, blocked());
        });
        check("no agent", "TTTFT?F", |it| {
            (it.programmed, it.blocker) = (0, blocked());
        });
        check("no address", "TTFTTFF", |it| it.addresses = pending());
        check("no Service", "TFTTFFT", |it| {
            (it.refs, it.servers) = (missing(), Some(unhealthy(0)));
        });
        check("one port of two missing", "TFTTTFT", |it| it.refs = missing());
        check("a bad edit", "FTTFT?F", |it| {
            (it.programmed, it.accepted) = (0, Err(finding(reason::INVALID_SPEC)));
        });
        check("tables differ", "TTTTTTT", |it| {
            it.trouble = Some(finding(reason::TABLES_DIFFER));
        });
        check("a warning", "TTTTTFT", |it| {
            it.accepted = Ok(Some(finding("Warning")));
        });
        check("more agents than wanted", "TTTTTFT", |it| it.programmed = 3);
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
