//! How drains ended, for the log and the status.

use std::collections::BTreeMap;

use crd::{DRAINS_MAX, DrainCounts, DrainOutcome, DrainedServer};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use tracing::{info, warn};

use super::{Ended, Outcome};

/// The drains that ended last, the newest at the end, and how many there were.
#[derive(Debug, Default)]
pub struct History {
    newest: Vec<DrainedServer>,
    counts: Option<DrainCounts>,
}

impl History {
    /// Takes in what ended now. A server behind several listeners is told once, and who came back not at all.
    pub fn note(&mut self, ended: &[Ended], now: Timestamp) {
        // Objects know whole seconds: with others the entry would never read as it was written.
        let end_time = Time(Timestamp::from_second(now.as_second()).unwrap_or(now));
        let mut servers: BTreeMap<String, (DrainOutcome, u32)> = BTreeMap::new();
        for drain in ended {
            let (server, outcome, connections) = (drain.name(), drain.outcome, drain.connections);
            if outcome == Outcome::Cut {
                warn!(server, connections, "the drain time is over; connections are cut");
            } else {
                info!(server, ?outcome, connections, "drained");
            }
            let outcome = match outcome {
                Outcome::Finished => DrainOutcome::Finished,
                Outcome::Cut => DrainOutcome::Cut,
                Outcome::Moved => DrainOutcome::Moved,
                Outcome::Returned => continue,
            };
            let told = servers.entry(server).or_insert((outcome, 0));
            if told.0 == DrainOutcome::Finished {
                told.0 = outcome;
            }
            told.1 = told.1.saturating_add(connections);
        }
        for (server, (outcome, connections)) in servers {
            let count = self.counts.get_or_insert_default().of(outcome);
            *count = count.saturating_add(1);
            self.newest.push(DrainedServer {
                server,
                outcome,
                connections: i32::try_from(connections).unwrap_or(i32::MAX),
                end_time: end_time.clone(),
            });
        }
        let old = self.newest.len().saturating_sub(DRAINS_MAX);
        self.newest.drain(..old);
    }

    /// What the status tells.
    #[must_use]
    pub fn newest(&self) -> &[DrainedServer] {
        &self.newest
    }

    /// How many drains ended, if any.
    #[must_use]
    pub fn counts(&self) -> Option<DrainCounts> {
        self.counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::{Family, Listener};
    use crd::Protocol;

    fn ended(octet: u8, port: u16, outcome: Outcome, connections: u32) -> Ended {
        Ended {
            listener: Listener::marked(Family::V4, Protocol::TCP, port),
            server: ([10, 0, 0, octet], 8080).into(),
            outcome,
            connections,
        }
    }

    fn told(history: &History) -> Vec<(String, DrainOutcome, i32)> {
        let line = |it: &DrainedServer| (it.server.clone(), it.outcome, it.connections);
        history.newest().iter().map(line).collect()
    }

    #[test]
    fn a_server_behind_two_listeners_is_told_once() {
        let mut history = History::default();
        let both = [ended(1, 80, Outcome::Finished, 0), ended(1, 81, Outcome::Cut, 3)];
        history.note(&both, Timestamp::UNIX_EPOCH);
        assert_eq!(
            told(&history),
            [("10.0.0.1:8080/TCP".to_owned(), DrainOutcome::Cut, 3)]
        );
    }

    #[test]
    fn who_came_back_is_not_told() {
        let mut history = History::default();
        history.note(&[ended(1, 80, Outcome::Returned, 2)], Timestamp::UNIX_EPOCH);
        assert!(history.newest().is_empty());
    }

    #[test]
    fn only_the_newest_are_kept() {
        let mut history = History::default();
        for octet in 1..=20 {
            history.note(&[ended(octet, 80, Outcome::Finished, 0)], Timestamp::UNIX_EPOCH);
        }
        let told = told(&history);
        assert_eq!(told.len(), DRAINS_MAX);
        assert_eq!(history.counts().expect("counted").finished, 20);
        assert_eq!(told[DRAINS_MAX - 1].0, "10.0.0.20:8080/TCP");
    }
}
