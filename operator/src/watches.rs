//! What the operator follows: one watch a kind, each with a store, and whose balancer each object concerns.

use futures::channel::mpsc::UnboundedSender;
use futures::{FutureExt, Stream, StreamExt, TryStreamExt, future};
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::{Container, Node, NodeStatus, Pod, PodSpec, Service, ServiceAccount};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::runtime::reflector::{self, ObjectRef, Store, store::Writer};
use kube::runtime::watcher::{self, Event, watcher};
use kube::runtime::{Controller, WatchStreamExt};
use kube::{Api, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use std::fmt::Debug;
use std::hash::{DefaultHasher, Hash, Hasher};

use crate::controller::{Context, Guarded};
use crate::packed::{Packed, packing};
use crate::status::network::flannel_backend;
use crd::names;

/// What the cluster holds, as the watches last saw it.
pub struct Stores {
    /// Agents, in their namespace.
    pub replica_sets: Store<Packed<ReplicaSet>>,
    /// Agents' pods, in their namespace.
    pub pods: Store<Packed<Pod>>,
    /// All Services: those of users, and those in front of agents.
    pub services: Store<Packed<Service>>,
    /// Agents' disruption budgets, in their namespace.
    pub budgets: Store<Packed<PodDisruptionBudget>>,
    /// Agents' accounts, in their namespace.
    pub service_accounts: Store<Packed<ServiceAccount>>,
    /// Agents' rights, in the balancers' namespaces.
    pub role_bindings: Store<Packed<RoleBinding>>,
    /// All nodes.
    pub nodes: Store<Node>,
}

/// The other ends of [`Stores`]: watches write there, and tests.
pub struct Writers {
    /// See [`Stores::replica_sets`].
    pub replica_sets: Writer<Packed<ReplicaSet>>,
    /// See [`Stores::pods`].
    pub pods: Writer<Packed<Pod>>,
    /// See [`Stores::services`].
    pub services: Writer<Packed<Service>>,
    /// See [`Stores::budgets`].
    pub budgets: Writer<Packed<PodDisruptionBudget>>,
    /// See [`Stores::service_accounts`].
    pub service_accounts: Writer<Packed<ServiceAccount>>,
    /// See [`Stores::role_bindings`].
    pub role_bindings: Writer<Packed<RoleBinding>>,
    /// See [`Stores::nodes`].
    pub nodes: Writer<Node>,
}

impl Stores {
    /// Empty stores and the way to fill them.
    #[must_use]
    pub fn new() -> (Self, Writers) {
        let (replica_sets, replica_sets_writer) = reflector::store();
        let (pods, pods_writer) = reflector::store();
        let (services, services_writer) = reflector::store();
        let (budgets, budgets_writer) = reflector::store();
        let (service_accounts, service_accounts_writer) = reflector::store();
        let (role_bindings, role_bindings_writer) = reflector::store();
        let (nodes, nodes_writer) = reflector::store();
        let stores = Self {
            replica_sets,
            pods,
            services,
            budgets,
            service_accounts,
            role_bindings,
            nodes,
        };
        let writers = Writers {
            replica_sets: replica_sets_writer,
            pods: pods_writer,
            services: services_writer,
            budgets: budgets_writer,
            service_accounts: service_accounts_writer,
            role_bindings: role_bindings_writer,
            nodes: nodes_writer,
        };
        (stores, writers)
    }

    /// A kind that has not been read yet.
    pub(crate) fn unready(&self) -> Option<&'static str> {
        let ready = [
            ("replicasets", self.replica_sets.wait_until_ready().now_or_never()),
            ("pods", self.pods.wait_until_ready().now_or_never()),
            ("services", self.services.wait_until_ready().now_or_never()),
            (
                "poddisruptionbudgets",
                self.budgets.wait_until_ready().now_or_never(),
            ),
            (
                "serviceaccounts",
                self.service_accounts.wait_until_ready().now_or_never(),
            ),
            (
                "rolebindings",
                self.role_bindings.wait_until_ready().now_or_never(),
            ),
            ("nodes", self.nodes.wait_until_ready().now_or_never()),
        ];
        ready
            .into_iter()
            .find(|(_, ready)| !matches!(ready, Some(Ok(()))))
            .map(|(kind, _)| kind)
    }
}

/// So many objects are read at a time: what the API server tells of one takes much memory until it is slimmed.
pub(crate) const PAGE: u32 = 25;

/// All of a kind.
pub(crate) fn all() -> watcher::Config {
    watcher::Config::default().page_size(PAGE)
}

/// Only what we made.
pub(crate) fn ours() -> String {
    format!("{}={}", names::MANAGED_BY_LABEL, names::MANAGED_BY)
}

/// Where kubectl keeps the whole object once more.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// What is kept of a kind.
pub(crate) trait Followed {
    /// Drops what nobody here looks at.
    fn slim(&mut self) {}
}

impl Followed for Guarded {}
impl Followed for ReplicaSet {}
impl Followed for Service {}
impl Followed for PodDisruptionBudget {}
impl Followed for ServiceAccount {}
impl Followed for RoleBinding {}

/// Nodes are looked at whenever a balancer is, so they stay structs. Most of a node is the images that it holds.
impl Followed for Node {
    fn slim(&mut self) {
        self.spec = None;
        if let Some(status) = &mut self.status {
            *status = NodeStatus {
                addresses: status.addresses.take(),
                conditions: status.conditions.take(),
                ..NodeStatus::default()
            };
        }
    }
}

/// There are more pods than of any other kind, and most of a pod is its spec, of which only place and images matter here.
impl Followed for Pod {
    fn slim(&mut self) {
        let Some(spec) = &mut self.spec else { return };
        let images = |containers: &[Container]| -> Vec<Container> {
            let image = |container: &Container| Container {
                name: container.name.clone(),
                image: container.image.clone(),
                ..Container::default()
            };
            containers.iter().map(image).collect()
        };
        *spec = PodSpec {
            node_name: spec.node_name.take(),
            containers: images(&spec.containers),
            init_containers: spec.init_containers.as_deref().map(images),
            ..PodSpec::default()
        };
    }
}

/// A watch that fills a store. It tells `relisted` when a whole list was read, since objects deleted while the watch
/// was broken make no event. Errors, which the watcher logs, end here and are tried again: passed on, they would slow
/// all other watches down.
pub(crate) fn observe<K>(
    api: Api<K>,
    config: watcher::Config,
    mut keep: impl FnMut(&Event<K>) + Send,
    relisted: UnboundedSender<()>,
) -> impl Stream<Item = Result<K, watcher::Error>> + Send
where
    K: Followed + Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    watcher(api, config)
        .modify(|object| {
            object.meta_mut().managed_fields = None;
            if let Some(annotations) = &mut object.meta_mut().annotations {
                annotations.remove(LAST_APPLIED);
            }
            object.slim();
        })
        .default_backoff()
        .inspect_ok(move |event| {
            keep(event);
            if matches!(event, Event::InitDone) {
                // Nobody listens any more only while the program ends.
                let _ = relisted.unbounded_send(());
            }
        })
        .touched_objects()
        .filter_map(|object| future::ready(object.ok().map(Ok)))
}

/// What fills a store with objects as they are.
pub(crate) fn reflecting<K>(mut writer: Writer<K>) -> impl FnMut(&Event<K>) + Send
where
    K: Resource<DynamicType = ()> + Clone + Send + Sync + 'static,
{
    move |event| writer.apply_watcher_event(event)
}

/// Adds all watches but that of the balancers.
pub(crate) fn attach(
    controller: Controller<Guarded>,
    context: &Context,
    writers: Writers,
    relisted: &UnboundedSender<()>,
) -> Controller<Guarded> {
    let client = &context.client;
    let agents = context.config.agents.namespace.clone();
    let ours = || all().labels(&ours());
    let (of_services, of_accounts, of_nodes) = (controller.store(), controller.store(), controller.store());
    let told = || relisted.clone();
    let replica_sets = Api::namespaced(client.clone(), &agents);
    let replica_sets = observe(replica_sets, ours(), packing(writers.replica_sets), told());
    let pods = Api::namespaced(client.clone(), &agents);
    let pods = observe(pods, ours(), packing(writers.pods), told());
    let budgets = Api::namespaced(client.clone(), &agents);
    let budgets = observe(budgets, ours(), packing(writers.budgets), told());
    let accounts = Api::namespaced(client.clone(), &agents);
    let accounts = observe(accounts, ours(), packing(writers.service_accounts), told());
    let bindings = Api::all(client.clone());
    let bindings = observe(bindings, ours(), packing(writers.role_bindings), told());
    let services = Api::all(client.clone());
    let services = observe(services, all(), packing(writers.services), told());
    let nodes = observe(Api::all(client.clone()), all(), reflecting(writers.nodes), told())
        .predicate_filter(|node: &Node| Some(node_facts(node)), <_>::default());
    controller
        .watches_stream(replica_sets, |it| labelled(&it))
        .watches_stream(pods, |it| labelled(&it))
        .watches_stream(budgets, |it| labelled(&it))
        .watches_stream(bindings, |it| labelled(&it))
        .watches_stream(accounts, move |it| {
            in_namespace(&of_accounts, it.labels().get(names::NAMESPACE_LABEL))
        })
        .watches_stream(services, move |it| {
            concerned_by_service(&of_services, &it, &agents)
        })
        .watches_stream(nodes, move |_| select(&of_nodes, |_| true))
}

/// The balancer that the labels of a child name.
fn labelled<K: ResourceExt>(child: &K) -> Option<ObjectRef<Guarded>> {
    let namespace = child.labels().get(names::NAMESPACE_LABEL)?;
    let name = child.labels().get(names::PLB_NAME_LABEL)?;
    Some(ObjectRef::new(name).within(namespace))
}

fn in_namespace(balancers: &Store<Guarded>, namespace: Option<&String>) -> Vec<ObjectRef<Guarded>> {
    let Some(namespace) = namespace else {
        return Vec::new();
    };
    select(balancers, |lb| lb.meta().namespace.as_ref() == Some(namespace))
}

/// A Service is ours, or the backend of balancers in its own namespace, or none of our business.
fn concerned_by_service(
    balancers: &Store<Guarded>,
    service: &Service,
    agents: &str,
) -> Vec<ObjectRef<Guarded>> {
    let namespace = service.namespace();
    let mut concerned = select(balancers, |lb| {
        let backend =
            lb.0.as_ref()
                .ok()
                .and_then(|lb| lb.spec.backends.service.as_ref());
        lb.meta().namespace == namespace && backend.map(|it| &it.name) == service.metadata.name.as_ref()
    });
    if namespace.as_deref() == Some(agents) {
        concerned.extend(labelled(service));
    }
    concerned
}

fn select(balancers: &Store<Guarded>, wanted: impl Fn(&Guarded) -> bool) -> Vec<ObjectRef<Guarded>> {
    let found = balancers.state_filter(wanted);
    found.iter().map(|lb| ObjectRef::from_obj(lb.as_ref())).collect()
}

/// What of a node matters to balancers; the rest of a node changes all the time.
fn node_facts(node: &Node) -> u64 {
    let mut hasher = DefaultHasher::new();
    flannel_backend(node).hash(&mut hasher);
    for address in node
        .status
        .iter()
        .flat_map(|status| status.addresses.iter().flatten())
    {
        (&address.type_, &address.address).hash(&mut hasher);
    }
    node.meta().deletion_timestamp.is_some().hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crd::PortableLoadBalancer;
    use kube::core::DeserializeGuard;
    use serde_json::json;

    fn balancers(of: &[(&str, &str, &str)]) -> Store<Guarded> {
        let (store, mut writer) = reflector::store();
        for (namespace, name, service) in of {
            let lb: PortableLoadBalancer = serde_json::from_value(json!({
                "apiVersion": "portablelb.io/v1alpha1", "kind": "PortableLoadBalancer",
                "metadata": {"namespace": namespace, "name": name},
                "spec": {"backends": {"type": "Service", "service": {"name": service}},
                         "ports": [{"name": "http", "port": 80}]},
            }))
            .expect("valid");
            writer.apply_watcher_event(&Event::Apply(DeserializeGuard(Ok(lb))));
        }
        store
    }

    fn service(namespace: &str, name: &str) -> Service {
        serde_json::from_value(json!({"metadata": {"namespace": namespace, "name": name}})).expect("valid")
    }

    #[test]
    fn a_service_concerns_the_balancers_of_its_namespace_that_name_it() {
        let store = balancers(&[("a", "one", "web"), ("a", "two", "other"), ("b", "three", "web")]);
        let concerned = concerned_by_service(&store, &service("a", "web"), "agents");
        assert_eq!(concerned, [ObjectRef::new("one").within("a")]);
    }

    #[test]
    fn of_a_pod_place_and_images_stay() {
        let mut pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "agent"},
            "spec": {
                "nodeName": "node1", "volumes": [{"name": "run"}],
                "containers": [{"name": "serve", "image": "agent:1", "env": [{"name": "A", "value": "b"}]}],
            },
        }))
        .expect("valid");
        pod.slim();
        let kept = json!({"nodeName": "node1", "containers": [{"name": "serve", "image": "agent:1"}]});
        assert_eq!(serde_json::to_value(pod.spec).expect("valid"), kept);
    }

    #[test]
    fn of_a_node_addresses_and_conditions_stay() {
        let kept = json!({
            "addresses": [{"type": "InternalIP", "address": "192.0.2.1"}],
            "conditions": [{"type": "Ready", "status": "True"}],
        });
        let mut told = kept.clone();
        told["images"] = json!([{"names": ["web:1"], "sizeBytes": 1}]);
        let mut node: Node = serde_json::from_value(json!({
            "metadata": {"name": "node1"}, "spec": {"podCIDR": "10.244.1.0/24"}, "status": told,
        }))
        .expect("valid");
        let facts = node_facts(&node);
        node.slim();
        assert_eq!(serde_json::to_value(&node.status).expect("valid"), kept);
        assert_eq!(node_facts(&node), facts);
    }

    #[test]
    fn labels_count_only_in_the_agents_namespace() {
        let store = balancers(&[("a", "one", "web")]);
        let mut forged = service("b", "x");
        forged
            .labels_mut()
            .insert(names::NAMESPACE_LABEL.into(), "a".into());
        forged
            .labels_mut()
            .insert(names::PLB_NAME_LABEL.into(), "one".into());
        assert_eq!(concerned_by_service(&store, &forged, "agents"), []);
        forged.metadata.namespace = Some("agents".into());
        assert_eq!(
            concerned_by_service(&store, &forged, "agents"),
            [ObjectRef::new("one").within("a")]
        );
    }
}
