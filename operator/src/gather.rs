//! Reads, from the stores, all that matters to one balancer.

use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::{Node, Pod, Service, ServiceAccount};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Resource, ResourceExt};
use serde::{Serialize, de::DeserializeOwned};
use std::sync::Arc;

use crate::packed::Packed;
use crate::watches::Stores;
use crd::{PortableLoadBalancer, names};

/// What there is of a balancer, and around it.
#[derive(Default)]
pub struct Observed {
    /// The agents.
    pub agents: Option<Arc<ReplicaSet>>,
    /// Their pods, by name.
    pub pods: Vec<Arc<Pod>>,
    /// The Service in front of them.
    pub service: Option<Arc<Service>>,
    /// Their disruption budget.
    pub budget: Option<Arc<PodDisruptionBudget>>,
    /// Their account.
    pub service_account: Option<Arc<ServiceAccount>>,
    /// Their rights.
    pub role_binding: Option<Arc<RoleBinding>>,
    /// The Service whose endpoints are balanced over.
    pub backend: Option<Arc<Service>>,
    /// All nodes, by name.
    pub nodes: Vec<Arc<Node>>,
}

/// Reads them. `agents` is the agents' namespace.
#[must_use]
pub fn gather(stores: &Stores, lb: &PortableLoadBalancer, agents: &str) -> Observed {
    let namespace = lb.namespace().unwrap_or_default();
    let child = names::child_name(&namespace, &lb.name_any());
    let account = names::service_account(&namespace);
    let binding = names::role_binding(&lb.name_any());
    let uid = lb.meta().uid.as_deref();
    let backend = lb.spec.backends.service.as_ref();
    let pods = stores.pods.state_filter(|pod| pod.belongs_to(uid));
    Observed {
        agents: find(&stores.replica_sets, &child, agents),
        pods: by_name(pods.iter().filter_map(|pod| pod.unpack()).collect()),
        service: find(&stores.services, &child, agents),
        budget: find(&stores.budgets, &child, agents),
        service_account: find(&stores.service_accounts, &account, agents),
        role_binding: find(&stores.role_bindings, &binding, &namespace),
        backend: backend.and_then(|it| find(&stores.services, &it.name, &namespace)),
        nodes: by_name(stores.nodes.state()),
    }
}

fn find<K>(store: &Store<Packed<K>>, name: &str, namespace: &str) -> Option<Arc<K>>
where
    K: Resource<DynamicType = ()> + Serialize + DeserializeOwned + Clone,
{
    store.get(&ObjectRef::new(name).within(namespace))?.unpack()
}

fn by_name<K: ResourceExt>(mut objects: Vec<Arc<K>>) -> Vec<Arc<K>> {
    objects.sort_by_key(|object| object.name_any());
    objects
}
