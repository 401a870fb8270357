//! Writes children: server-side apply of what differs from the stores, and removal of what is wanted no more.

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::{Service, ServiceAccount};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::{Api, Client, Resource, ResourceExt};
use serde::{Serialize, de::DeserializeOwned};
use std::fmt::Debug;
use std::sync::Arc;

use crate::build::Children;
use crate::fingerprint;
use crate::gather::Observed;
use crd::names;

/// Which child could not be written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server refused to make or change it.
    #[error("could not apply {kind} {name}")]
    Apply {
        /// Its kind.
        kind: String,
        /// Its name.
        name: String,
        /// What the API server said.
        source: kube::Error,
    },
    /// The API server refused to delete it.
    #[error("could not delete {kind} {name}")]
    Delete {
        /// Its kind.
        kind: String,
        /// Its name.
        name: String,
        /// What the API server said.
        source: kube::Error,
    },
}

/// Brings the children in line. Nothing is written where the stores already show what is wanted.
///
/// The agents come last: their pods need the account, and they should find their rights.
pub async fn apply(client: &Client, observed: &Observed, children: Children) -> Result<(), Error> {
    let Children {
        service_account,
        role_binding,
        agents,
        service,
        budget,
    } = children;
    let uid = agents.labels().get(names::UID_LABEL).cloned().unwrap_or_default();
    let writer = Writer { client, uid: &uid };
    writer
        .ensure::<ServiceAccount>(observed.service_account.as_ref(), service_account)
        .await?;
    // A RoleBinding can't be pointed at another role.
    let binding = observed.role_binding.as_ref();
    if let Some(live) = binding.filter(|live| live.role_ref != role_binding.role_ref) {
        delete(client, live.as_ref()).await?;
    }
    writer.ensure::<RoleBinding>(binding, role_binding).await?;
    writer
        .settle::<Service>(observed.service.as_ref(), service)
        .await?;
    writer
        .settle::<PodDisruptionBudget>(observed.budget.as_ref(), budget)
        .await?;
    writer
        .ensure::<ReplicaSet>(observed.agents.as_ref(), agents)
        .await
}

struct Writer<'a> {
    client: &'a Client,
    /// The balancer's UID.
    uid: &'a str,
}

impl Writer<'_> {
    /// Makes it as wanted, or away if it isn't wanted.
    async fn settle<K: Child>(&self, live: Option<&Arc<K>>, wanted: Option<K>) -> Result<(), Error> {
        match (live, wanted) {
            (live, Some(wanted)) => self.ensure(live, wanted).await,
            (Some(live), None) if !is_going(live.as_ref()) => delete(self.client, live.as_ref()).await,
            (_, None) => Ok(()),
        }
    }

    async fn ensure<K: Child>(&self, live: Option<&Arc<K>>, wanted: K) -> Result<(), Error> {
        if let Some(live) = live {
            if is_going(live.as_ref()) {
                // Its deletion makes an event, and then it is made again.
                return Ok(());
            }
            if self.is_anothers(live.as_ref()) {
                delete(self.client, live.as_ref()).await?;
            } else if fingerprint::unchanged(live.as_ref(), &wanted) {
                return Ok(());
            }
        }
        let (kind, name) = describe(&wanted);
        let api = Api::<K>::namespaced(self.client.clone(), &wanted.namespace().unwrap_or_default());
        tracing::info!(%kind, %name, "applying");
        let params = PatchParams::apply(names::OPERATOR_MANAGER).force();
        match api
            .patch(&wanted.name_any(), &params, &Patch::Apply(&wanted))
            .await
        {
            Ok(_) => Ok(()),
            Err(source) => Err(Error::Apply { kind, name, source }),
        }
    }

    /// Made for a balancer of the same name that is gone: its pods must not be adopted.
    fn is_anothers<K: Resource>(&self, live: &K) -> bool {
        live.labels()
            .get(names::UID_LABEL)
            .is_some_and(|uid| uid != self.uid)
    }
}

/// Kinds of children: all typed, all in a namespace.
pub(crate) trait Child:
    Resource<DynamicType = (), Scope = NamespaceResourceScope> + Serialize + DeserializeOwned + Clone + Debug
{
}

impl<K> Child for K where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Serialize
        + DeserializeOwned
        + Clone
        + Debug
{
}

/// Deletes exactly this object, not a later one of the same name. That it is gone already is fine.
pub(crate) async fn delete<K>(client: &Client, live: &K) -> Result<(), Error>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + DeserializeOwned + Clone + Debug,
{
    let (kind, name) = describe(live);
    let api = Api::<K>::namespaced(client.clone(), &live.namespace().unwrap_or_default());
    let params = DeleteParams::background().preconditions(Preconditions {
        uid: live.uid(),
        resource_version: None,
    });
    tracing::info!(%kind, %name, "deleting");
    match api.delete(&live.name_any(), &params).await {
        Ok(_) => Ok(()),
        // 409: another object has the name by now.
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
        Err(source) => Err(Error::Delete { kind, name, source }),
    }
}

fn is_going<K: Resource>(live: &K) -> bool {
    live.meta().deletion_timestamp.is_some()
}

fn describe<K: Resource<DynamicType = ()>>(object: &K) -> (String, String) {
    (K::kind(&()).into_owned(), object.name_any())
}
