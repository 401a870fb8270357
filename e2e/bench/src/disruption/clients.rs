//! Clients that go on while something happens, and what it cost them.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Result;
use e2e::cluster::wait::NOTICE;
use e2e::cluster::{Steady, until};

use super::{GAP, LOST, MADE};
use crate::record::{Record, Records};

/// Between an answer and the next request.
pub(super) const INTERVAL: Duration = Duration::from_millis(150);

/// How a client connects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Anew for each request.
    Short,
    /// Once, until the server says that it closes the connection.
    KeepAlive,
}

impl Kind {
    pub(super) const ALL: [Self; 2] = [Self::Short, Self::KeepAlive];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Short => "new connections",
            Self::KeepAlive => "keep-alive",
        }
    }
}

/// One client.
pub(super) struct Client {
    /// Whose balancer it uses.
    contender: &'static str,
    kind: Kind,
    /// Its number among its like.
    number: u32,
    steady: Steady,
}

/// All clients of one round.
pub(super) struct Clients(Vec<Client>);

impl Clients {
    pub(super) fn new() -> Self {
        Self(Vec::new())
    }

    /// One of each kind.
    pub(super) fn start(&mut self, contender: &'static str, number: u32, address: SocketAddr) {
        for kind in Kind::ALL {
            let steady = match kind {
                Kind::Short => Steady::start(address, INTERVAL),
                Kind::KeepAlive => Steady::keep_alive(address, INTERVAL),
            };
            self.0.push(Client {
                contender,
                kind,
                number,
                steady,
            });
        }
    }

    /// Waits until each has been answered so many times more.
    pub(super) fn wait_answered(&self, times: usize) -> Result<()> {
        let before: Vec<usize> = self
            .0
            .iter()
            .map(|client| client.steady.tally().answered())
            .collect();
        until("all clients are answered", NOTICE, || {
            for (client, before) in self.0.iter().zip(&before) {
                let answered = client.steady.tally().answered() - before;
                anyhow::ensure!(answered >= times, "{} {answered} times", client.contender);
            }
            Ok(())
        })
    }

    /// Ends all of them. Each is one sample of what the event cost.
    #[allow(clippy::cast_precision_loss, reason = "thousands of requests at most")]
    pub(super) fn finish(self, event: &str, records: &mut Records) -> Result<()> {
        for client in self.0 {
            let tally = client.steady.finish()?;
            let values = [
                (GAP, tally.longest_gap.as_secs_f64() * 1000.0, "ms"),
                (LOST, tally.failures.len() as f64, "requests"),
                (MADE, (tally.answered() + tally.failures.len()) as f64, "requests"),
            ];
            for (figure, value, unit) in values {
                records.0.push(Record {
                    figure: figure.to_owned(),
                    setting: super::setting(event, client.kind),
                    contender: client.contender.to_owned(),
                    x: 0.0,
                    round: client.number,
                    value,
                    unit: unit.to_owned(),
                });
            }
        }
        Ok(())
    }
}
