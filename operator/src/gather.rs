//! Reads, from the stores, all that matters to one balancer.

use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::{Node, Pod, Service, ServiceAccount};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::runtime::reflector::ObjectRef;
use kube::{Resource, ResourceExt};
use std::sync::Arc;

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
    let uid = lb.uid();
    let backend = lb.spec.backends.service.as_ref();
    Observed {
        agents: stores.replica_sets.get(&within(&child, agents)),
        pods: by_name(
            stores
                .pods
                .state_filter(|pod| pod.labels().get(names::UID_LABEL) == uid.as_ref()),
        ),
        service: stores.services.get(&within(&child, agents)),
        budget: stores.budgets.get(&within(&child, agents)),
        service_account: stores.service_accounts.get(&within(&account, agents)),
        role_binding: stores.role_bindings.get(&within(&binding, &namespace)),
        backend: backend.and_then(|it| stores.services.get(&within(&it.name, &namespace))),
        nodes: by_name(stores.nodes.state()),
    }
}

fn within<K: Resource<DynamicType = ()>>(name: &str, namespace: &str) -> ObjectRef<K> {
    ObjectRef::new(name).within(namespace)
}

fn by_name<K: ResourceExt>(mut objects: Vec<Arc<K>>) -> Vec<Arc<K>> {
    objects.sort_by_key(|object| object.name_any());
    objects
}
