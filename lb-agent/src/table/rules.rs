//! The rules of one family: which packets get which mark, who may connect, and how often.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

use crd::Protocol;
use ipnetwork::IpNetwork;

use super::{Listener, Mark};

/// Packets that get a mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct MarkRule {
    /// Their protocol.
    pub protocol: Protocol,
    /// The first port that they may go to.
    pub first: u16,
    /// The last.
    pub last: u16,
    /// The address that they must go to, if only one.
    pub destination: Option<IpAddr>,
    /// The mark.
    pub mark: Mark,
}

/// The rules of one family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Which packets get marks.
    pub marks: BTreeSet<MarkRule>,
    /// Whether marked packets are masqueraded, so that answers come back through here.
    pub masquerades: bool,
    /// The balancer's addresses that no server of NAT has. What goes there may be of a client whose server answers
    /// directly, before the mode changes or after: it is not masqueraded, and may be INVALID here.
    pub virtual_addresses: BTreeSet<IpAddr>,
    /// Who may connect; `None` is everybody.
    pub sources: Option<BTreeSet<IpNetwork>>,
    /// New connections a second; `None` is no limit.
    pub rate: Option<u32>,
    /// New connections a second from one source; `None` is no limit.
    pub source_rate: Option<u32>,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            marks: BTreeSet::new(),
            masquerades: true,
            virtual_addresses: BTreeSet::new(),
            sources: None,
            rate: None,
            source_rate: None,
        }
    }
}

impl Rules {
    /// Rules that mark what goes to these ports, wherever, and do no more.
    #[must_use]
    pub fn marking(listeners: impl IntoIterator<Item = Listener>) -> Self {
        let rule = |listener: Listener| MarkRule {
            protocol: listener.protocol,
            first: listener.port,
            last: listener.port,
            destination: None,
            mark: listener.mark(),
        };
        Self {
            marks: listeners.into_iter().map(rule).collect(),
            ..Self::default()
        }
    }

    /// The marks that are given.
    pub fn given(&self) -> impl Iterator<Item = Mark> {
        self.marks.iter().map(|rule| rule.mark)
    }
}

impl fmt::Display for MarkRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(destination) = self.destination {
            write!(f, "{destination} ")?;
        }
        write!(f, "{}", self.first)?;
        if self.last != self.first {
            write!(f, "-{}", self.last)?;
        }
        write!(f, "/{} {}", self.protocol, self.mark)
    }
}

impl fmt::Display for Rules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let marks: Vec<String> = self.marks.iter().map(ToString::to_string).collect();
        write!(f, "marks [{}]", marks.join(", "))?;
        if !self.masquerades {
            f.write_str(" without masquerading")?;
        }
        if let Some(sources) = &self.sources {
            let sources: Vec<String> = sources.iter().map(ToString::to_string).collect();
            write!(f, " from [{}]", sources.join(", "))?;
        }
        if let Some(rate) = self.rate {
            write!(f, " {rate}/s")?;
        }
        match self.source_rate {
            Some(rate) => write!(f, " {rate}/s a source"),
            None => Ok(()),
        }
    }
}
