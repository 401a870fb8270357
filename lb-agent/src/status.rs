//! Writes the agent's own entry of the object's status: on change, not too often, until it is there.

use std::time::Duration;

use crd::{AgentStatus, PortableLoadBalancer};
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::sleep;
use tracing::{debug, warn};

use crate::follow::Followed;

/// The least time between two writes: a thousand agents share one API server.
const INTERVAL: Duration = Duration::from_secs(5);
/// The longest pause after failures in a row.
const PATIENCE: Duration = Duration::from_secs(30);

/// Writes whenever `wanted` differs from what the object was last seen with. Ends with its senders.
pub async fn write(
    client: Client,
    followed: Followed,
    mut wanted: watch::Receiver<AgentStatus>,
    mut seen: watch::Receiver<Vec<AgentStatus>>,
) {
    let api: Api<PortableLoadBalancer> = Api::namespaced(client, &followed.namespace);
    let mut failures = 0;
    loop {
        let entry = wanted.borrow_and_update().clone();
        let is_there = seen.borrow_and_update().contains(&entry);
        if !is_there && says_something(&entry) {
            match apply(&api, &followed, &entry).await {
                Ok(()) => {
                    debug!("status written");
                    failures = 0;
                    // Meanwhile the watch brings the object as it is with this entry.
                    sleep(INTERVAL).await;
                }
                Err(error) => {
                    warn!(
                        error = &error as &dyn std::error::Error,
                        "status not written; trying again"
                    );
                    failures += 1;
                    sleep(pause(failures)).await;
                    continue;
                }
            }
        }
        tokio::select! {
            changed = wanted.changed() => if changed.is_err() { return },
            changed = seen.changed() => if changed.is_err() { return },
        }
    }
}

async fn apply(
    api: &Api<PortableLoadBalancer>,
    followed: &Followed,
    entry: &AgentStatus,
) -> kube::Result<()> {
    // One manager a pod: the API server removes what a manager no longer names.
    let parameters = PatchParams::apply(&entry.name).force();
    api.patch_status(&followed.name, &parameters, &Patch::Apply(patch(followed, entry)))
        .await
        .map(drop)
}

/// What says nothing yet would only put off what follows it.
fn says_something(entry: &AgentStatus) -> bool {
    entry.observed_generation.is_some() || entry.reason.is_some()
}

/// With the UID, so that a status is never written into another object of the same name.
fn patch(followed: &Followed, entry: &AgentStatus) -> Value {
    let mut patch = json!({
        "apiVersion": "portablelb.io/v1alpha1",
        "kind": "PortableLoadBalancer",
        "metadata": {"name": followed.name},
        "status": {"agents": [entry]},
    });
    if !followed.uid.is_empty() {
        patch["metadata"]["uid"] = followed.uid.clone().into();
    }
    patch
}

fn pause(failures: u32) -> Duration {
    PATIENCE.min(Duration::from_secs(1 << failures.saturating_sub(1).min(5)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_patch_names_nothing_but_the_agents_own_entry() {
        let followed = Followed {
            namespace: "shop".into(),
            name: "web".into(),
            uid: "u1".into(),
        };
        let entry = AgentStatus {
            name: "plb-web-1".into(),
            ..AgentStatus::default()
        };
        let expected = json!({
            "apiVersion": "portablelb.io/v1alpha1",
            "kind": "PortableLoadBalancer",
            "metadata": {"name": "web", "uid": "u1"},
            "status": {"agents": [{"name": "plb-web-1"}]},
        });
        assert_eq!(patch(&followed, &entry), expected);
    }

    #[test]
    fn pauses_grow_to_a_limit() {
        let seconds: Vec<u64> = [1, 2, 3, 6, 100].map(|failures| pause(failures).as_secs()).into();
        assert_eq!(seconds, [1, 2, 4, 30, 30]);
    }
}
