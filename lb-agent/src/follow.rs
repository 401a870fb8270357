//! Watches the object, its Service and its slices, and sends what it learns as facts. It never gives up, and what it
//! can't read it leaves as it was.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crd::PortableLoadBalancer;
use futures::stream::{self, BoxStream, StreamExt};
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::core::DeserializeGuard;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Config, Event, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tracing::{info, warn};

use crate::endpoints::Slice;
use crate::facts::Fact;

/// A watch lasts this long, then goes on where it was: so long may a dead connection be taken for a quiet one.
const WATCH_SECONDS: u32 = 60;
/// Pause after the n-th failure in a row, in seconds.
const PAUSES: [u64; 4] = [1, 2, 4, 8];

/// All objects that match, whenever one of them changes.
type Snapshots<K> = BoxStream<'static, Vec<Arc<K>>>;
type Guarded = DeserializeGuard<PortableLoadBalancer>;

/// Which object is followed.
#[derive(Clone, Debug)]
pub struct Followed {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its UID: an object of the same name made later is another agent's. Empty: any.
    pub uid: String,
}

/// Watches until nobody wants the facts any more. Copies of the object go to `seen` too, for the status.
pub async fn follow(client: Client, followed: Followed, facts: mpsc::Sender<Fact>, seen: Seen) {
    let namespace = followed.namespace.clone();
    let named = Config::default().fields(&format!("metadata.name={}", followed.name));
    let mut objects: Snapshots<Guarded> =
        snapshots(Api::<Guarded>::namespaced(client.clone(), &namespace), named);
    let mut service = Following::nothing();
    let mut last = None;
    loop {
        let learnt = tokio::select! {
            Some(found) = objects.next() => {
                let Some(object) = found.first().filter(|object| followed.is(object)) else { continue };
                seen.see(object);
                // Its status changes often, and means nothing here but for the networks.
                let news = (object.meta().generation, networks(object));
                if last.as_ref() == Some(&news) {
                    continue;
                }
                last = Some(news);
                service.turn_to(object, &client, &namespace);
                balancer(object)
            }
            Some(found) = service.services.next() => {
                let ports = found.first().map(|it| it.spec.clone().unwrap_or_default().ports.unwrap_or_default());
                Fact::Service(service.name.clone(), ports)
            }
            Some(found) = service.slices.next() => Fact::Slices(service.name.clone(), found, Instant::now()),
            () = facts.closed() => return,
        };
        if facts.send(learnt).await.is_err() {
            return;
        }
    }
}

impl Followed {
    fn is(&self, object: &Guarded) -> bool {
        self.uid.is_empty() || object.meta().uid.as_ref() == Some(&self.uid)
    }
}

/// Where the newest status of the object is left.
#[derive(Clone, Debug)]
pub struct Seen(pub tokio::sync::watch::Sender<Vec<crd::AgentStatus>>);

impl Seen {
    fn see(&self, object: &Guarded) {
        if let Ok(object) = &object.0 {
            let agents = object.status.as_ref().map(|status| status.agents.clone());
            self.0.send_replace(agents.unwrap_or_default());
        }
    }
}

/// The networks that servers by address have to be in.
fn networks(object: &Guarded) -> Option<Vec<String>> {
    object.0.as_ref().ok()?.status.as_ref()?.endpoint_networks.clone()
}

fn balancer(object: &Arc<Guarded>) -> Fact {
    match &object.0 {
        Ok(balancer) => Fact::Balancer(Box::new(balancer.clone())),
        Err(invalid) => {
            let message = invalid.error.chars().take(400).collect();
            Fact::Unreadable {
                generation: invalid.metadata.generation,
                message,
            }
        }
    }
}

/// The Service that the object names, and its slices.
struct Following {
    name: String,
    services: Snapshots<Service>,
    slices: Snapshots<Slice>,
}

impl Following {
    fn nothing() -> Self {
        Self {
            name: String::new(),
            services: stream::pending().boxed(),
            slices: stream::pending().boxed(),
        }
    }

    fn turn_to(&mut self, object: &Guarded, client: &Client, namespace: &str) {
        let Ok(object) = &object.0 else { return };
        let Some(service) = &object.spec.backends.service else {
            return;
        };
        if service.name == self.name {
            return;
        }
        info!(service = service.name, "following a Service");
        let named = Config::default().fields(&format!("metadata.name={}", service.name));
        let labelled = Config::default().labels(&format!("kubernetes.io/service-name={}", service.name));
        *self = Self {
            name: service.name.clone(),
            services: snapshots(Api::<Service>::namespaced(client.clone(), namespace), named),
            slices: snapshots(
                Api::<EndpointSlice>::namespaced(client.clone(), namespace),
                labelled,
            ),
        };
    }
}

/// What is kept of all objects that match, after each change. Failures are told and tried again.
fn snapshots<K, T>(api: Api<K>, config: Config) -> Snapshots<T>
where
    K: Resource + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
    T: From<K> + Send + Sync + 'static,
{
    let events = watcher(api, config.timeout(WATCH_SECONDS)).backoff(Patience::default());
    let mut store = Store::default();
    events
        .filter_map(move |event| futures::future::ready(store.take(event)))
        .boxed()
}

/// What is kept of each object, by name.
struct Store<T> {
    kept: BTreeMap<String, Arc<T>>,
    /// The list that is being read.
    listed: BTreeMap<String, Arc<T>>,
}

impl<T> Default for Store<T> {
    fn default() -> Self {
        Self {
            kept: BTreeMap::new(),
            listed: BTreeMap::new(),
        }
    }
}

impl<T> Store<T> {
    /// What is kept of all, when it may have changed.
    fn take<K: ResourceExt + Into<T>>(
        &mut self,
        event: Result<Event<K>, watcher::Error>,
    ) -> Option<Vec<Arc<T>>> {
        match event {
            Ok(Event::Init) => self.listed.clear(),
            Ok(Event::InitApply(object)) => {
                let (name, kept) = slim(object);
                self.listed.insert(name, kept);
            }
            Ok(Event::InitDone) => {
                self.kept = std::mem::take(&mut self.listed);
                return Some(self.snapshot());
            }
            Ok(Event::Apply(object)) => {
                let (name, kept) = slim(object);
                self.kept.insert(name, kept);
                return Some(self.snapshot());
            }
            Ok(Event::Delete(object)) => {
                self.kept.remove(&object.name_any());
                return Some(self.snapshot());
            }
            Err(error) => warn!(
                error = &error as &dyn std::error::Error,
                "watch failed; trying again"
            ),
        }
        None
    }

    fn snapshot(&self) -> Vec<Arc<T>> {
        self.kept.values().cloned().collect()
    }
}

/// Most of an object's text is who wrote which field.
fn slim<K: ResourceExt + Into<T>, T>(mut object: K) -> (String, Arc<T>) {
    object.managed_fields_mut().clear();
    (object.name_any(), Arc::new(object.into()))
}

/// Pauses that grow to a few seconds only: one agent's watches are no burden, and changes wait meanwhile.
#[derive(Default)]
struct Patience(usize);

impl Iterator for Patience {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let seconds = PAUSES[self.0.min(PAUSES.len() - 1)];
        self.0 += 1;
        Some(Duration::from_secs(seconds))
    }
}

impl kube::runtime::utils::Backoff for Patience {
    fn reset(&mut self) {
        self.0 = 0;
    }
}
