//! Brings running agents up to date, one pod at a time: a new image is patched into the pod, so that its network
//! namespace with the IPVS table and all connections stays; for other changes the pod is made anew. Agents that attract
//! no traffic go first.

use k8s_openapi::api::core::v1::{Container, ContainerStatus, Pod, PodTemplateSpec};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::api::{Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::json;
use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::apply::{self, delete};
use crate::build::{SERVE, TEMPLATE};
use crate::controller::Context;
use crate::status::pods::is_ready;
use crd::condition::reason;
use crd::{AgentRole, AgentStatus, PortableLoadBalancer, names};

/// Annotation of a patched pod: the container that the new one takes the place of. Until that one is gone, `Ready`
/// speaks of the old.
const REPLACED: &str = "portablelb.io/replaced-container";
/// So many balancers change at once, so that a bad image shows before it is everywhere.
const SLOTS: usize = 4;
/// A balancer that takes longer doesn't hold up the others.
const SLOT_TIME: Duration = Duration::from_mins(2);
/// So old is a pod that may be tried anew.
const OLD: SignedDuration = SignedDuration::from_secs(30);
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// Which pod could not be changed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The image could not be patched.
    #[error("could not patch the image of pod {0}")]
    Patch(String, #[source] kube::Error),
    /// The pod could not be deleted.
    #[error("could not replace a pod")]
    Replace(#[source] apply::Error),
}

/// The balancers that change now, by UID, and since when.
#[derive(Default)]
pub(crate) struct Slots(Mutex<HashMap<String, Instant>>);

impl Slots {
    fn take(&self, uid: &str) -> bool {
        let mut slots = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        slots.retain(|_, since| since.elapsed() < SLOT_TIME);
        let free = slots.contains_key(uid) || slots.len() < SLOTS;
        if free {
            slots.entry(uid.to_owned()).or_insert_with(Instant::now);
        }
        free
    }

    fn release(&self, uid: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(uid);
    }
}

/// What to do next with a balancer's pods.
#[derive(Debug, PartialEq)]
enum Next {
    /// All are as they should be.
    Done,
    /// One of them isn't back yet; it makes an event when it is.
    Wait,
    /// Patch the image of this one.
    Patch(String),
    /// Delete this one; the `ReplicaSet` makes it anew.
    Replace(String),
}

/// Does the next step, if it is time for one. Tells when to look again, if no event will.
pub(crate) async fn advance(
    context: &Context,
    lb: &PortableLoadBalancer,
    pods: &[Arc<Pod>],
    template: &PodTemplateSpec,
) -> Result<Option<Duration>, Error> {
    let uid = lb.uid().unwrap_or_default();
    let find = |name: &str| pods.iter().find(|pod| pod.name_any() == name);
    let wish = Wish::of(lb);
    let next = plan(pods, template, &wish);
    match &next {
        Next::Done => context.slots.release(&uid),
        // Growing old makes no event.
        Next::Wait => return Ok((!wish.unfit.is_empty()).then_some(LOOK_AGAIN)),
        Next::Patch(_) | Next::Replace(_) if !context.slots.take(&uid) => return Ok(Some(LOOK_AGAIN)),
        Next::Patch(name) => {
            if let Some(pod) = find(name) {
                patch(context, pod, template).await?;
            }
        }
        Next::Replace(name) => {
            if let Some(pod) = find(name) {
                delete(&context.client, pod.as_ref())
                    .await
                    .map_err(Error::Replace)?;
            }
        }
    }
    Ok(None)
}

async fn patch(context: &Context, pod: &Pod, template: &PodTemplateSpec) -> Result<(), Error> {
    let image = template
        .spec
        .as_ref()
        .and_then(|spec| serve(&spec.containers)?.image.clone());
    let replaced = status(pod).and_then(|status| status.container_id.clone());
    let body = json!({
        "metadata": {"annotations": {REPLACED: replaced.unwrap_or_default()}},
        "spec": {"containers": [{"name": SERVE, "image": image}]},
    });
    let name = pod.name_any();
    let pods = Api::<Pod>::namespaced(context.client.clone(), &context.config.agents.namespace);
    tracing::info!(pod = name, ?image, "patching the image");
    let params = PatchParams {
        field_manager: Some(names::OPERATOR_MANAGER.to_owned()),
        ..PatchParams::default()
    };
    let patched = pods.patch(&name, &params, &Patch::Strategic(body)).await;
    patched.map(drop).map_err(|error| Error::Patch(name, error))
}

/// What matters besides the pods.
#[derive(Default)]
struct Wish {
    /// How many there should be.
    replicas: usize,
    /// The names of those that attract traffic.
    active: BTreeSet<String>,
    /// The names of those whose network namespace `prepare` could not make fit.
    unfit: BTreeSet<String>,
}

impl Wish {
    fn of(lb: &PortableLoadBalancer) -> Self {
        let entries = || lb.status.iter().flat_map(|status| &status.agents);
        let names =
            |wanted: fn(&&AgentStatus) -> bool| entries().filter(wanted).map(|it| it.name.clone()).collect();
        Self {
            replicas: usize::try_from(lb.spec.redundancy.replicas).unwrap_or_default(),
            active: names(|entry| entry.role == Some(AgentRole::Active)),
            unfit: names(|entry| entry.reason.as_deref() == Some(reason::PREPARED_TOO_EARLY)),
        }
    }
}

/// Pods that serve nothing are brought up to date at once, all others only while the rest serve.
fn plan(pods: &[Arc<Pod>], template: &PodTemplateSpec, wish: &Wish) -> Next {
    let pods: Vec<&Pod> = pods.iter().map(AsRef::as_ref).filter(|pod| lives(pod)).collect();
    let mut outdated: Vec<(&Pod, Next)> = pods
        .iter()
        .filter_map(|pod| Some((*pod, step(pod, template).or_else(|| again(pod, wish))?)))
        .collect();
    // Idle ones first, then backups, else in the order of names.
    outdated.sort_by_key(|(pod, _)| (serves(pod), wish.active.contains(&pod.name_any())));
    let settled = pods.len() >= wish.replicas && pods.iter().all(|pod| serves(pod));
    match outdated.into_iter().next() {
        Some((pod, next)) if settled || !serves(pod) => next,
        None if settled => Next::Done,
        _ => Next::Wait,
    }
}

fn step(pod: &Pod, template: &PodTemplateSpec) -> Option<Next> {
    let wanted = template
        .metadata
        .as_ref()
        .and_then(|it| it.annotations.as_ref()?.get(TEMPLATE));
    if pod.annotations().get(TEMPLATE) != wanted {
        return Some(Next::Replace(pod.name_any()));
    }
    let wanted = template
        .spec
        .as_ref()
        .and_then(|spec| serve(&spec.containers)?.image.as_ref());
    let image = pod
        .spec
        .as_ref()
        .and_then(|spec| serve(&spec.containers)?.image.as_ref());
    (image != wanted).then(|| Next::Patch(pod.name_any()))
}

/// A module that came after `prepare` had run brings sysctls that only another `prepare` can set. Should that not help
/// either, it is tried no more often than pods grow old.
fn again(pod: &Pod, wish: &Wish) -> Option<Next> {
    let made = pod.metadata.creation_timestamp.as_ref()?.0;
    let age = Timestamp::now().duration_since(made);
    let is_hopeless = !serves(pod) && wish.unfit.contains(&pod.name_any());
    (is_hopeless && age > OLD).then(|| Next::Replace(pod.name_any()))
}

fn lives(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    pod.metadata.deletion_timestamp.is_none() && !matches!(phase, Some("Failed" | "Succeeded"))
}

/// Ready, and this by the container that it should have.
fn serves(pod: &Pod) -> bool {
    let container = status(pod).and_then(|status| status.container_id.as_ref());
    is_ready(pod)
        && pod
            .annotations()
            .get(REPLACED)
            .is_none_or(|replaced| Some(replaced) != container)
}

fn serve(containers: &[Container]) -> Option<&Container> {
    containers.iter().find(|container| container.name == SERVE)
}

fn status(pod: &Pod) -> Option<&ContainerStatus> {
    let statuses = pod.status.as_ref()?.container_statuses.as_ref()?;
    statuses.iter().find(|status| status.name == SERVE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    fn template(print: &str, image: &str) -> PodTemplateSpec {
        serde_json::from_value(json!({
            "metadata": {"annotations": {TEMPLATE: print}},
            "spec": {"containers": [{"name": SERVE, "image": image}]},
        }))
        .expect("valid")
    }

    fn pod(name: &str, ready: &str, print: &str, image: &str) -> Arc<Pod> {
        let pod = json!({
            "metadata": {"name": name, "annotations": {TEMPLATE: print}},
            "spec": {"containers": [{"name": SERVE, "image": image}]},
            "status": {
                "phase": "Running",
                "conditions": [{"type": "Ready", "status": ready}],
                "containerStatuses": [{"name": SERVE, "containerID": "c1", "image": image, "imageID": "", "ready": true, "restartCount": 0}],
            },
        });
        Arc::new(serde_json::from_value(pod).expect("valid"))
    }

    fn wish(replicas: usize) -> Wish {
        Wish {
            replicas,
            ..Wish::default()
        }
    }

    #[test]
    fn up_to_date_pods_are_left_alone() {
        let pods = [pod("a", "True", "1", "x"), pod("b", "True", "1", "x")];
        assert_eq!(plan(&pods, &template("1", "x"), &wish(2)), Next::Done);
    }

    #[test]
    fn a_new_image_is_patched_one_pod_at_a_time() {
        let pods = [pod("a", "True", "1", "x"), pod("b", "True", "1", "x")];
        assert_eq!(
            plan(&pods, &template("1", "y"), &wish(2)),
            Next::Patch("a".into())
        );
        let pods = [pod("a", "False", "1", "y"), pod("b", "True", "1", "x")];
        assert_eq!(plan(&pods, &template("1", "y"), &wish(2)), Next::Wait);
        let pods = [pod("a", "True", "1", "y"), pod("b", "True", "1", "x")];
        assert_eq!(
            plan(&pods, &template("1", "y"), &wish(2)),
            Next::Patch("b".into())
        );
    }

    #[test]
    fn backups_go_before_the_one_that_attracts_traffic() {
        let pods = [pod("a", "True", "1", "x"), pod("b", "True", "1", "x")];
        let wish = Wish {
            active: BTreeSet::from(["a".to_owned()]),
            ..wish(2)
        };
        assert_eq!(plan(&pods, &template("1", "y"), &wish), Next::Patch("b".into()));
        assert_eq!(plan(&pods, &template("2", "x"), &wish), Next::Replace("b".into()));
        let pods = [pod("a", "False", "1", "x"), pod("b", "True", "1", "x")];
        assert_eq!(plan(&pods, &template("1", "y"), &wish), Next::Patch("a".into()));
    }

    #[test]
    fn ready_counts_only_of_the_new_container() {
        let mut patched = Arc::unwrap_or_clone(pod("a", "True", "1", "y"));
        patched.annotations_mut().insert(REPLACED.into(), "c1".into());
        let pods = [Arc::new(patched.clone()), pod("b", "True", "1", "x")];
        assert_eq!(plan(&pods, &template("1", "y"), &wish(2)), Next::Wait);
        patched.annotations_mut().insert(REPLACED.into(), "c0".into());
        let pods = [Arc::new(patched), pod("b", "True", "1", "x")];
        assert_eq!(
            plan(&pods, &template("1", "y"), &wish(2)),
            Next::Patch("b".into())
        );
    }

    #[test]
    fn another_template_makes_pods_anew_while_the_others_serve() {
        let pods = [pod("a", "True", "1", "x"), pod("b", "True", "1", "x")];
        assert_eq!(
            plan(&pods, &template("2", "x"), &wish(2)),
            Next::Replace("a".into())
        );
        let pods = [pod("b", "True", "1", "x")];
        assert_eq!(plan(&pods, &template("2", "x"), &wish(2)), Next::Wait);
    }

    #[test]
    fn a_pod_that_serves_nothing_goes_first_and_at_once() {
        let pods = [pod("a", "True", "1", "x"), pod("b", "False", "1", "x")];
        assert_eq!(
            plan(&pods, &template("2", "x"), &wish(3)),
            Next::Replace("b".into())
        );
    }

    #[test]
    fn a_pod_that_could_not_be_prepared_is_tried_anew_once_it_is_old() {
        let made = |minutes| {
            let mut pod = Arc::unwrap_or_clone(pod("a", "False", "1", "x"));
            let then = Timestamp::now() - SignedDuration::from_mins(minutes);
            pod.metadata.creation_timestamp = Some(Time(then));
            [Arc::new(pod)]
        };
        let unfit = Wish {
            unfit: BTreeSet::from(["a".to_owned()]),
            ..wish(1)
        };
        assert_eq!(plan(&made(0), &template("1", "x"), &unfit), Next::Wait);
        assert_eq!(
            plan(&made(3), &template("1", "x"), &unfit),
            Next::Replace("a".into())
        );
        assert_eq!(plan(&made(3), &template("1", "x"), &wish(1)), Next::Wait);
    }

    #[test]
    fn slots_are_few_and_given_back() {
        let slots = Slots::default();
        for uid in ["a", "b", "c", "d", "a"] {
            assert!(slots.take(uid));
        }
        assert!(!slots.take("e"));
        slots.release("b");
        assert!(slots.take("e"));
    }
}
