//! What agents tell of servers that they drained, gathered into few Events: a rollout of many pods must not flood.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::runtime::events::EventType;

use crd::condition::reason;
use crd::{DrainOutcome, DrainedServer, PortableLoadBalancer};

/// The least time between two tellings of one balancer.
const PAUSE: Duration = Duration::from_secs(30);
/// So many servers are named in an Event.
const NAMED: usize = 4;

/// What is known of the drains of one balancer.
#[derive(Clone, Debug, Default)]
pub(super) struct Drains {
    /// What the agents tell now, and was taken.
    taken: BTreeSet<(String, DrainedServer)>,
    /// What was not told yet.
    untold: Vec<DrainedServer>,
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
        let agents = lb.status.iter().flat_map(|status| &status.agents);
        let now: BTreeSet<(String, DrainedServer)> = agents
            .flat_map(|agent| agent.drains.iter().map(|it| (agent.name.clone(), it.clone())))
            .collect();
        let new = now
            .difference(&self.taken)
            .filter(|(_, it)| it.end_time >= *start);
        self.untold.extend(new.map(|(_, it)| it.clone()));
        self.taken = now;
    }

    /// What to tell now, if it is time to. The first is told at once, what follows it is gathered.
    pub(super) fn due(&mut self, lb: &PortableLoadBalancer, now: Instant) -> Vec<Note> {
        if self.untold.is_empty() || self.wait(now).is_some() {
            return Vec::new();
        }
        self.told = Some(now);
        let untold = std::mem::take(&mut self.untold);
        let is_cut = |it: &DrainedServer| it.outcome == DrainOutcome::Cut;
        let (cut, well): (Vec<_>, Vec<_>) = untold.into_iter().partition(is_cut);
        let cut = cut_short(&cut, lb.spec.drain_timeout_seconds);
        [finished(&well), cut].into_iter().flatten().collect()
    }

    /// How long something still has to wait for being told.
    pub(super) fn wait(&self, now: Instant) -> Option<Duration> {
        let since = now.saturating_duration_since(self.told?);
        (!self.untold.is_empty() && since < PAUSE).then(|| PAUSE.saturating_sub(since))
    }
}

fn finished(drains: &[DrainedServer]) -> Option<Note> {
    let of = |outcome| drains.iter().filter(move |it| it.outcome == outcome);
    let ended = connections(of(DrainOutcome::Finished));
    let moved = connections(of(DrainOutcome::Moved));
    let mut texts = Vec::new();
    if !ended.is_empty() {
        texts.push(format!(
            "removed when their connections had ended: {}",
            names(&ended)
        ));
    }
    if !moved.is_empty() {
        texts.push(format!("UDP flows moved away from {}", names(&moved)));
    }
    (!texts.is_empty()).then(|| Note {
        type_: EventType::Normal,
        reason: reason::DRAIN_FINISHED,
        text: texts.join("; "),
    })
}

fn cut_short(drains: &[DrainedServer], seconds: i32) -> Option<Note> {
    let servers = connections(drains.iter());
    let sum: i64 = servers.values().sum();
    let text = format!(
        "connections cut after {seconds} s: {sum}, at {}; raise spec.drainTimeoutSeconds if clients need longer",
        names(&servers)
    );
    (!servers.is_empty()).then_some(Note {
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

fn names(servers: &BTreeMap<&str, i64>) -> String {
    let first: Vec<&str> = servers.keys().take(NAMED).copied().collect();
    match servers.len().saturating_sub(NAMED) {
        0 => first.join(", "),
        more => format!("{} and {more} more", first.join(", ")),
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

    #[test]
    fn what_ended_before_this_process_began_is_old() {
        let drains = [drained(1, DrainOutcome::Cut, 99)];
        assert!(Scene::new().after(0, &lb(&[("a", &drains)])).is_empty());
    }
}
