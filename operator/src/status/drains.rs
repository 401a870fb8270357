//! What agents tell of servers that they drained, gathered into few Events: a rollout of many pods must not flood.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::runtime::events::EventType;

use crd::condition::reason;
use crd::{AgentStatus, DrainCounts, DrainOutcome, DrainedServer, PortableLoadBalancer};

/// The least time between two tellings of one balancer.
const PAUSE: Duration = Duration::from_secs(30);
/// Ways in which a drain ends.
const OUTCOMES: [DrainOutcome; 3] = [DrainOutcome::Finished, DrainOutcome::Cut, DrainOutcome::Moved];
/// So many servers are named in an Event.
const NAMED: usize = 4;

/// What is known of the drains of one balancer.
#[derive(Clone, Debug, Default)]
pub(super) struct Drains {
    /// What the agents tell now, and was taken.
    taken: BTreeSet<(String, DrainedServer)>,
    /// What was not told yet.
    untold: Vec<DrainedServer>,
    /// How many drains each agent counted.
    counts: BTreeMap<String, DrainCounts>,
    /// How many of them were not told yet. An agent names only the last, and all agents drain the same servers.
    uncounted: BTreeMap<String, DrainCounts>,
    told: Option<Instant>,
}

/// An Event to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Note {
    /// Normal, or a warning.
    pub(crate) type_: EventType,
    /// One word.
    pub(crate) reason: &'static str,
    /// For people.
    pub(crate) text: String,
}

impl Drains {
    /// Takes what agents tell. What ended before `start`, when this process began, is old: it may have been told.
    pub(super) fn take(&mut self, lb: &PortableLoadBalancer, start: &Time) {
        let agents = || lb.status.iter().flat_map(|status| &status.agents);
        for agent in agents() {
            self.count(agent);
        }
        let now: BTreeSet<(String, DrainedServer)> = agents()
            .flat_map(|agent| agent.drains.iter().map(|it| (agent.name.clone(), it.clone())))
            .collect();
        let new = now
            .difference(&self.taken)
            .filter(|(_, it)| it.end_time >= *start);
        self.untold.extend(new.map(|(_, it)| it.clone()));
        self.taken = now;
    }

    /// Counts what an agent drained since it was last heard. One that counts less than before has begun anew.
    fn count(&mut self, agent: &AgentStatus) {
        let Some(mut now) = agent.drained else { return };
        let Some(mut before) = self.counts.insert(agent.name.clone(), now) else {
            return;
        };
        if OUTCOMES.into_iter().any(|it| now.of(it) < before.of(it)) {
            before = DrainCounts::default();
        }
        let uncounted = self.uncounted.entry(agent.name.clone()).or_default();
        for outcome in OUTCOMES {
            *uncounted.of(outcome) += *now.of(outcome) - *before.of(outcome);
        }
    }

    /// The most that an agent counted of an outcome.
    fn most(&mut self, outcome: DrainOutcome) -> usize {
        let counts = self.uncounted.values_mut().map(|counts| *counts.of(outcome));
        usize::try_from(counts.max().unwrap_or_default()).unwrap_or_default()
    }

    /// What to tell now, if it is time to. The first is told at once, what follows it is gathered.
    pub(super) fn due(&mut self, lb: &PortableLoadBalancer, now: Instant) -> Vec<Note> {
        if self.untold.is_empty() || self.wait(now).is_some() {
            return Vec::new();
        }
        self.told = Some(now);
        let untold = std::mem::take(&mut self.untold);
        let mut of = |outcome| Told {
            servers: connections(untold.iter().filter(|it| it.outcome == outcome)),
            count: self.most(outcome),
        };
        let (ended, moved) = (of(DrainOutcome::Finished), of(DrainOutcome::Moved));
        let cut = cut_short(&of(DrainOutcome::Cut), lb.spec.drain_timeout_seconds);
        self.uncounted.clear();
        [finished(&ended, &moved), cut].into_iter().flatten().collect()
    }

    /// How long something still has to wait for being told.
    pub(super) fn wait(&self, now: Instant) -> Option<Duration> {
        let since = now.saturating_duration_since(self.told?);
        (!self.untold.is_empty() && since < PAUSE).then(|| PAUSE.saturating_sub(since))
    }
}

/// Servers whose drains ended alike.
struct Told<'a> {
    /// Those that are named, with their connections.
    servers: BTreeMap<&'a str, i64>,
    /// How many there were.
    count: usize,
}

fn finished(ended: &Told<'_>, moved: &Told<'_>) -> Option<Note> {
    let mut texts = Vec::new();
    if !ended.servers.is_empty() {
        let text = format!("removed when their connections had ended: {}", ended.names());
        texts.push(text);
    }
    if !moved.servers.is_empty() {
        texts.push(format!("UDP flows moved away from {}", moved.names()));
    }
    (!texts.is_empty()).then(|| Note {
        type_: EventType::Normal,
        reason: reason::DRAIN_FINISHED,
        text: texts.join("; "),
    })
}

fn cut_short(cut: &Told<'_>, seconds: i32) -> Option<Note> {
    let sum: i64 = cut.servers.values().sum();
    let at_least = if cut.count > cut.servers.len() {
        "at least "
    } else {
        ""
    };
    let text = format!(
        "connections cut after {seconds} s: {at_least}{sum}, at {}; raise spec.drainTimeoutSeconds if clients need longer",
        cut.names()
    );
    (!cut.servers.is_empty()).then_some(Note {
        type_: EventType::Warning,
        reason: reason::DRAIN_CUT,
        text,
    })
}

/// Connections by server: several agents tell of the same ones.
fn connections<'a>(drains: impl Iterator<Item = &'a DrainedServer>) -> BTreeMap<&'a str, i64> {
    let mut servers = BTreeMap::new();
    for drain in drains {
        *servers.entry(drain.server.as_str()).or_default() += i64::from(drain.connections);
    }
    servers
}

impl Told<'_> {
    fn names(&self) -> String {
        let first: Vec<&str> = self.servers.keys().take(NAMED).copied().collect();
        match self.servers.len().max(self.count).saturating_sub(first.len()) {
            0 => first.join(", "),
            more => format!("{} and {more} more", first.join(", ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::jiff::Timestamp;
    use serde_json::json;

    fn time(second: i64) -> Time {
        Time(Timestamp::from_second(second).expect("a valid time"))
    }

    fn drained(octet: u8, outcome: DrainOutcome, second: i64) -> DrainedServer {
        let connections = if outcome == DrainOutcome::Finished { 0 } else { 2 };
        DrainedServer {
            server: format!("10.0.0.{octet}:8080/TCP"),
            outcome,
            connections,
            end_time: time(second),
        }
    }

    fn lb(agents: &[(&str, &[DrainedServer])]) -> PortableLoadBalancer {
        let entry = |(name, drains): &(&str, &[DrainedServer])| json!({"name": name, "drains": drains});
        serde_json::from_value(json!({
            "apiVersion": "portablelb.io/v1alpha1", "kind": "PortableLoadBalancer",
            "metadata": {"namespace": "shop", "name": "web"},
            "spec": {"backends": {"service": {"name": "web"}}, "ports": [{"name": "http", "port": 80}]},
            "status": {"agents": agents.iter().map(entry).collect::<Vec<_>>()},
        }))
        .expect("valid")
    }

    struct Scene(Drains, Instant);

    impl Scene {
        fn new() -> Self {
            Self(Drains::default(), Instant::now())
        }

        fn after(&mut self, seconds: u64, lb: &PortableLoadBalancer) -> Vec<String> {
            self.0.take(lb, &time(100));
            let notes = self.0.due(lb, self.1 + Duration::from_secs(seconds));
            let line = |note: Note| format!("{:?} {} {}", note.type_, note.reason, note.text);
            notes.into_iter().map(line).collect()
        }
    }

    #[test]
    fn what_was_cut_is_a_warning_that_says_what_to_do() {
        let drains = [drained(1, DrainOutcome::Cut, 101)];
        let lb = lb(&[("a", &drains), ("b", &drains)]);
        let told = Scene::new().after(0, &lb);
        assert_eq!(
            told,
            [
                "Warning DrainCut connections cut after 30 s: 4, at 10.0.0.1:8080/TCP; \
              raise spec.drainTimeoutSeconds if clients need longer"
            ]
        );
    }

    #[test]
    fn what_ended_well_is_told_once_for_all_agents() {
        let drains = [
            drained(1, DrainOutcome::Finished, 101),
            drained(2, DrainOutcome::Moved, 101),
        ];
        let lb = lb(&[("a", &drains), ("b", &drains[..1])]);
        let mut scene = Scene::new();
        assert_eq!(
            scene.after(0, &lb),
            [
                "Normal DrainFinished removed when their connections had ended: 10.0.0.1:8080/TCP; \
              UDP flows moved away from 10.0.0.2:8080/TCP"
            ]
        );
        assert!(scene.after(60, &lb).is_empty());
    }

    #[test]
    fn a_rollout_of_many_pods_makes_few_events() {
        let mut scene = Scene::new();
        let mut told = Vec::new();
        for second in 0..60 {
            let drains = [drained(second, DrainOutcome::Finished, 101 + i64::from(second))];
            told.extend(scene.after(u64::from(second), &lb(&[("a", &drains)])));
        }
        assert_eq!(told.len(), 2);
        assert!(told[1].ends_with("and 26 more"), "{told:?}");
        assert_eq!(
            scene.0.wait(scene.1 + Duration::from_secs(50)),
            Some(Duration::from_secs(10))
        );
    }

    /// What an agent tells that drained so many servers, each cut at 2 connections, of which it names the last 8.
    fn busy(from: u8, count: u8) -> PortableLoadBalancer {
        let drains: Vec<_> = (from..from + count)
            .map(|octet| drained(octet, DrainOutcome::Cut, 101))
            .collect();
        let last = &drains[drains.len().saturating_sub(8)..];
        let mut lb = lb(&[("a", last), ("b", last)]);
        for agent in lb.status.iter_mut().flat_map(|status| &mut status.agents) {
            let cut = i32::from(from + count);
            agent.drained = Some(DrainCounts {
                cut,
                ..DrainCounts::default()
            });
        }
        lb
    }

    #[test]
    fn those_that_an_agent_has_no_room_to_name_are_counted() {
        let mut scene = Scene::new();
        scene.after(0, &busy(0, 1));
        let told = scene.after(40, &busy(1, 20));
        let text = "connections cut after 30 s: at least 32, at 10.0.0.13:8080/TCP";
        assert!(
            told[0].contains(text) && told[0].contains("and 16 more;"),
            "{told:?}"
        );
        // An agent that began anew counts from 0.
        let told = scene.after(80, &busy(0, 10));
        assert!(told[0].contains("and 6 more;"), "{told:?}");
        let told = scene.after(120, &busy(10, 4));
        assert!(
            told[0].contains(": 16, at") && !told[0].contains("more"),
            "{told:?}"
        );
    }

    #[test]
    fn what_ended_before_this_process_began_is_old() {
        let drains = [drained(1, DrainOutcome::Cut, 99)];
        assert!(Scene::new().after(0, &lb(&[("a", &drains)])).is_empty());
    }
}
