//! Finds agents whose tables stay behind those of the others. During an ordinary change tables differ too, for as long as
//! agents take to write their entries; but then none of them keeps the table that it had.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::truth::Finding;
use crd::condition::reason;

/// Agents write their entries some seconds apart: tables that differ for less long are merely on their way.
const SETTLE: Duration = Duration::from_secs(15);

/// The hashes of the agents' tables, by agent.
pub(super) type Hashes = BTreeMap<String, String>;

/// Since when tables differ, and what they were then.
#[derive(Clone, Debug, Default)]
pub(super) struct Differ(Option<(Instant, Hashes)>);

impl Differ {
    /// Looks at the tables as they are now. Names the agents that differ and have not moved for too long.
    pub(super) fn look(&mut self, now: &Hashes, time: Instant) -> Vec<String> {
        if now.values().collect::<BTreeSet<_>>().len() < 2 {
            self.0 = None;
            return Vec::new();
        }
        let (since, before) = self.0.get_or_insert_with(|| (time, now.clone()));
        if time.saturating_duration_since(*since) < SETTLE {
            return Vec::new();
        }
        let stuck = now.iter().filter(|(name, hash)| before.get(*name) == Some(*hash));
        let stuck: Vec<String> = stuck.map(|(name, _)| name.clone()).collect();
        if stuck.is_empty() {
            // All have moved: it is about another change now.
            self.0 = Some((time, now.clone()));
        }
        stuck
    }

    /// When to look again.
    pub(super) fn wait(&self, time: Instant) -> Option<Duration> {
        let (since, _) = self.0.as_ref()?;
        let left = SETTLE.checked_sub(time.saturating_duration_since(*since))?;
        (!left.is_zero()).then_some(left)
    }
}

/// What to tell of these agents.
pub(super) fn finding(stuck: &[String]) -> Option<Finding> {
    let message = format!(
        "agents hold different tables for the same generation, and those of {} do not change: their logs tell why, the \
         counts in status.agents which of them lags behind; deleting that pod makes it anew",
        stuck.join(", ")
    );
    (!stuck.is_empty()).then(|| Finding::new(reason::TABLES_DIFFER, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Scene(Differ, Instant);

    impl Scene {
        fn new() -> Self {
            Self(Differ::default(), Instant::now())
        }

        fn after(&mut self, seconds: u64, tables: [&str; 2]) -> Vec<String> {
            let now = ["a", "b"].into_iter().zip(tables);
            let now = now
                .map(|(name, hash)| (name.to_owned(), hash.to_owned()))
                .collect();
            self.0.look(&now, self.1 + Duration::from_secs(seconds))
        }
    }

    #[test]
    fn an_agent_that_stays_behind_is_named() {
        let mut scene = Scene::new();
        assert!(scene.after(0, ["x", "y"]).is_empty());
        assert!(scene.after(10, ["z", "y"]).is_empty());
        assert_eq!(scene.after(15, ["z", "y"]), ["b"]);
        assert_eq!(scene.after(40, ["x", "y"]), ["a", "b"]);
        assert!(scene.after(41, ["y", "y"]).is_empty());
        assert!(scene.after(42, ["x", "y"]).is_empty());
    }

    #[test]
    fn a_long_rollout_is_no_disagreement() {
        let mut scene = Scene::new();
        for second in 0..100 {
            let (one, other) = (second / 4, (second + 2) / 4);
            assert!(
                scene
                    .after(second, [&one.to_string(), &other.to_string()])
                    .is_empty()
            );
        }
    }

    #[test]
    fn somebody_looks_again_when_it_is_time() {
        let mut scene = Scene::new();
        scene.after(0, ["x", "y"]);
        assert_eq!(
            scene.0.wait(scene.1 + Duration::from_secs(5)),
            Some(Duration::from_secs(10))
        );
        scene.after(20, ["x", "y"]);
        assert_eq!(scene.0.wait(scene.1 + Duration::from_secs(20)), None);
        scene.after(21, ["x", "x"]);
        assert_eq!(scene.0.wait(scene.1 + Duration::from_secs(21)), None);
    }

    #[test]
    fn the_finding_names_them() {
        assert_eq!(finding(&[]), None);
        let finding = finding(&["plb-web-1".to_owned()]).expect("told");
        assert_eq!(finding.reason, reason::TABLES_DIFFER);
        assert!(finding.message.contains("plb-web-1"), "{}", finding.message);
    }
}
