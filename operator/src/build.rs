//! What the cluster should hold of one balancer: pure, from its spec and the administrator's settings.

mod agent;
mod budget;
mod rbac;
mod service;
mod volumes;

use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::{Service, ServiceAccount};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::rbac::v1::RoleBinding;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta, OwnerReference};
use kube::{Resource, ResourceExt};
use std::collections::BTreeMap;

use crate::config::Agents;
use crate::fingerprint;
use crd::{ExposureType, PortableLoadBalancer, names};

pub(crate) use agent::{SERVE, TEMPLATE};

/// All children of a balancer. What is absent is not wanted, and is removed if it is there.
#[derive(Clone, Debug)]
pub struct Children {
    /// The agents' account, shared by all balancers of the namespace.
    pub service_account: ServiceAccount,
    /// Lets that account follow the balancer.
    pub role_binding: RoleBinding,
    /// The agents.
    pub agents: ReplicaSet,
    /// The Service in front of them.
    pub service: Option<Service>,
    /// How many of them may be disturbed at once.
    pub budget: Option<PodDisruptionBudget>,
}

/// Builds them, each with the fingerprint by which `apply` knows it again.
#[must_use]
pub fn build(lb: &PortableLoadBalancer, settings: &Agents) -> Children {
    let wanted = Wanted { lb, settings };
    let mut children = Children {
        service_account: rbac::service_account(&wanted),
        role_binding: rbac::role_binding(&wanted),
        agents: agent::replica_set(&wanted),
        service: (lb.spec.exposure.type_ == ExposureType::Service).then(|| service::service(&wanted)),
        budget: (lb.spec.redundancy.replicas > 1).then(|| budget::budget(&wanted)),
    };
    fingerprint::stamp(&mut children.service_account);
    fingerprint::stamp(&mut children.role_binding);
    fingerprint::stamp(&mut children.agents);
    children.service.as_mut().map(fingerprint::stamp);
    children.budget.as_mut().map(fingerprint::stamp);
    children
}

/// What a child is built from.
struct Wanted<'a> {
    lb: &'a PortableLoadBalancer,
    settings: &'a Agents,
}

impl Wanted<'_> {
    fn namespace(&self) -> String {
        self.lb.namespace().unwrap_or_default()
    }

    /// Labels that tell what is ours.
    fn common_labels() -> BTreeMap<String, String> {
        BTreeMap::from([
            (names::NAME_LABEL.to_owned(), names::NAME.to_owned()),
            (names::MANAGED_BY_LABEL.to_owned(), names::MANAGED_BY.to_owned()),
        ])
    }

    /// Labels that tell whose it is, too.
    fn labels(&self) -> BTreeMap<String, String> {
        let mut labels = Self::common_labels();
        labels.insert(names::UID_LABEL.to_owned(), self.lb.uid().unwrap_or_default());
        labels.insert(names::NAMESPACE_LABEL.to_owned(), self.namespace());
        labels.insert(names::PLB_NAME_LABEL.to_owned(), self.lb.name_any());
        labels
    }

    /// Selects the agents of this balancer. The UID alone would do; the name makes it plain.
    fn selector(&self) -> BTreeMap<String, String> {
        BTreeMap::from([
            (names::NAME_LABEL.to_owned(), names::NAME.to_owned()),
            (names::UID_LABEL.to_owned(), self.lb.uid().unwrap_or_default()),
        ])
    }

    fn label_selector(&self) -> LabelSelector {
        LabelSelector {
            match_labels: Some(self.selector()),
            ..LabelSelector::default()
        }
    }

    /// Metadata of a child in the agents' namespace.
    fn metadata(&self) -> ObjectMeta {
        ObjectMeta {
            name: Some(names::child_name(&self.namespace(), &self.lb.name_any())),
            namespace: Some(self.settings.namespace.clone()),
            labels: Some(self.labels()),
            ..ObjectMeta::default()
        }
    }

    /// Without `blockOwnerDeletion`, which would need rights on the balancer's finalizers on some clusters.
    fn owner(&self) -> Option<Vec<OwnerReference>> {
        self.lb.owner_ref(&()).map(|owner| vec![owner])
    }
}

#[cfg(test)]
mod tests;
