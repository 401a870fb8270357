//! Whether servers may take new connections, by asking them.
//!
//! [`check`] reads the spec, [`probe`] asks once, [`tally`] makes a verdict of several answers, [`monitor`] does so for
//! all servers and tells the loop, and [`Health`] is what the loop knows of it. What servers send is untrusted: it is
//! read up to a bound, and parsed by functions that never panic ([`http`], [`dns`], [`grpc`]).

pub mod check;
pub mod dns;
pub mod grpc;
pub mod http;
pub mod metrics;
pub mod monitor;
pub mod probe;
pub mod reason;
pub mod select;
pub mod tally;
pub mod tls;

pub use check::{Check, Checks};
pub use reason::Reason;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::sync::Arc;

use crate::table::Listener;

/// Whom to ask what, and by which way. Equal targets are asked once.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Target {
    /// The server, with the port that is asked.
    pub server: SocketAddr,
    /// What is connected to: the server itself, or an address that leads to it.
    pub to: SocketAddr,
    /// The firewall mark of what is sent.
    pub mark: Option<NonZeroU32>,
    /// The own address that is asked from, where the kernel should not choose.
    pub source: Option<IpAddr>,
    /// What is asked.
    pub check: Arc<Check>,
    /// An agent before this one had put it out: it begins as one that fails.
    pub is_doubted: bool,
}

impl Target {
    /// The way that it is asked by, if it has to be proven.
    fn way(&self) -> Option<Way> {
        (self.mark.is_some() || self.is_doubted).then_some((self.mark, self.to))
    }

    /// A server that is asked at its own address.
    #[must_use]
    pub fn direct(server: SocketAddr, check: Arc<Check>) -> Self {
        let mut server = server;
        if let Some(port) = check.port {
            server.set_port(port);
        }
        Self {
            server,
            to: server,
            mark: None,
            source: None,
            check,
            is_doubted: false,
        }
    }
}

/// Whom to ask for each server of a listener. A listener for several ports may have several checks.
pub type Targets = BTreeMap<(Listener, SocketAddr), Vec<Target>>;

/// A verdict that is new: why the target fails, or that it does no longer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Whom it is about.
    pub target: Target,
    /// Why it fails; `None`: it may take new connections.
    pub failure: Option<Reason>,
}

/// A mark, if it is a way of its own to a server, and where it was asked.
type Way = (Option<NonZeroU32>, SocketAddr);

/// All verdicts. Who is not proven to fail may take new connections, but for those that an agent before this one had
/// put out, and those that are asked by a way of their own: of that way it must be proven once that it leads there.
#[derive(Clone, Debug, Default)]
pub struct Health {
    failing: BTreeMap<Target, Reason>,
    proven: BTreeSet<Way>,
}

impl Health {
    /// Takes a verdict in.
    pub fn take(&mut self, change: Change) {
        if let Some(reason) = change.failure {
            self.failing.insert(change.target, reason);
        } else {
            self.failing.remove(&change.target);
            self.proven.extend(change.target.way());
        }
    }

    /// Why the target must take no new connections, if so.
    #[must_use]
    pub fn failure(&self, target: &Target) -> Option<Reason> {
        let doubt = (target.is_doubted && !self.is_proven(target)).then_some(Reason::Unproven);
        self.found(target).or(doubt)
    }

    /// What answers, or their want, told of the target.
    #[must_use]
    pub fn found(&self, target: &Target) -> Option<Reason> {
        self.failing.get(target).copied()
    }

    /// Whether the target has answered well, or does not have to.
    #[must_use]
    pub fn is_proven(&self, target: &Target) -> bool {
        target.way().is_none_or(|way| self.proven.contains(&way))
    }

    /// Why it is not known that the target's way leads there, if so.
    #[must_use]
    pub fn doubt(&self, target: &Target) -> Option<Reason> {
        let is_doubt = target.mark.is_some() && !self.is_proven(target);
        is_doubt.then(|| self.found(target).unwrap_or(Reason::Unproven))
    }

    /// Forgets those that are asked no more.
    pub fn retain(&mut self, asked: &Targets) {
        if !self.failing.is_empty() {
            let asked: BTreeSet<&Target> = asked.values().flatten().collect();
            self.failing.retain(|target, _| asked.contains(target));
        }
        if !self.proven.is_empty() {
            let ways: BTreeSet<Way> = asked.values().flatten().filter_map(Target::way).collect();
            self.proven.retain(|way| ways.contains(way));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::fixture::{at, http};
    use crd::PortableLoadBalancerSpec;

    fn target(is_doubted: bool) -> Target {
        let text =
            "{backends: {service: {name: web}}, ports: [{name: http, port: 80}], healthCheck: {type: TCP}}";
        let spec: PortableLoadBalancerSpec = serde_yaml::from_str(text).expect("a spec");
        let check = Checks::new(&spec).of(0).expect("a check").clone();
        Target {
            is_doubted,
            ..Target::direct(at(1), check)
        }
    }

    fn heard(health: &mut Health, target: &Target, failure: Option<Reason>) -> Option<Reason> {
        health.take(Change {
            target: target.clone(),
            failure,
        });
        health.failure(target)
    }

    #[test]
    fn who_was_put_out_fails_until_it_answers_well() {
        let (mut health, doubted) = (Health::default(), target(true));
        assert_eq!(health.failure(&target(false)), None);
        assert_eq!(health.failure(&doubted), Some(Reason::Unproven));
        assert_eq!(
            heard(&mut health, &doubted, Some(Reason::Timeout)),
            Some(Reason::Timeout)
        );
        assert!(!health.is_proven(&doubted));
        assert_eq!(heard(&mut health, &doubted, None), None);
        assert!(health.is_proven(&doubted));
    }

    #[test]
    fn who_is_asked_no_more_is_forgotten() {
        let (mut health, plain, doubted) = (Health::default(), target(false), target(true));
        heard(&mut health, &plain, Some(Reason::Timeout));
        heard(&mut health, &doubted, None);
        health.retain(&Targets::from([(
            (http(), at(1)),
            vec![plain.clone(), doubted.clone()],
        )]));
        assert_eq!(health.failure(&plain), Some(Reason::Timeout));
        assert!(health.is_proven(&doubted));
        health.retain(&Targets::new());
        assert_eq!(health.failure(&plain), None);
        assert_eq!(health.failure(&doubted), Some(Reason::Unproven));
    }
}
