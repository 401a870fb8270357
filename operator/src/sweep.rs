//! Removes what was made for balancers that are no more. It needs no finalizer, so it can never hang one.

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::{Pod, Service, ServiceAccount};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::{DeleteParams, ListParams, PartialObjectMeta, Preconditions};
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use std::collections::BTreeSet;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

use crate::Context;
use crate::causes::causes;
use crate::watches::ours;
use crd::{PortableLoadBalancer, names};

const PERIOD: Duration = Duration::from_mins(10);
/// Deletions come in swarms; one sweep serves them all.
const PAUSE: Duration = Duration::from_millis(300);

/// Why a sweep ended early. What it did not reach stays until the next.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No certain list: nothing is deleted on a guess.
    #[error("could not list {0}")]
    List(&'static str, #[source] kube::Error),
    /// The API server gave a part of the balancers only.
    #[error("the list of balancers is not whole")]
    Partial,
    /// The API server refused to delete a child.
    #[error("could not delete {0}")]
    Delete(String, #[source] kube::Error),
}

/// Sweeps at start, when asked through the context, and now and then.
pub(crate) async fn run(context: Arc<Context>, stop: CancellationToken) {
    loop {
        match sweep(&context.client, &context.config.agents.namespace).await {
            Ok(0) => {}
            Ok(deleted) => {
                context.metrics.swept.inc_by(deleted);
                tracing::info!(deleted, "swept children without a balancer");
            }
            Err(error) => {
                context.metrics.failed("sweep");
                tracing::warn!(error = causes(&error), "sweep failed");
            }
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(PERIOD) => {}
            () = context.sweep.notified() => tokio::time::sleep(PAUSE).await,
        }
    }
}

/// Deletes all in the agents' namespace that carries our label and belongs to no living balancer of any class.
/// Tells how many objects it deleted.
///
/// The children are listed before the balancers: whatever has a child then existed before the balancers were read, so
/// a balancer that the second list lacks is gone for certain, and never merely too young to be in it.
pub async fn sweep(client: &Client, agents: &str) -> Result<u64, Error> {
    let replica_sets = list::<ReplicaSet>(client, agents, "replicasets").await?;
    let services = list::<Service>(client, agents, "services").await?;
    let budgets = list::<PodDisruptionBudget>(client, agents, "poddisruptionbudgets").await?;
    let pods = list::<Pod>(client, agents, "pods").await?;
    let accounts = list::<ServiceAccount>(client, agents, "serviceaccounts").await?;
    let living = Living::read(client).await?;
    let mut deleted = 0;
    // Before their pods, or they would make new ones.
    deleted += delete_all(client, replica_sets, |child| !living.owns(child)).await?;
    deleted += delete_all(client, services, |child| !living.owns(child)).await?;
    deleted += delete_all(client, budgets, |child| !living.owns(child)).await?;
    deleted += delete_all(client, pods, |child| !living.owns(child)).await?;
    deleted += delete_all(client, accounts, |child| !living.uses(child)).await?;
    Ok(deleted)
}

/// The balancers that there are.
struct Living {
    uids: BTreeSet<String>,
    namespaces: BTreeSet<String>,
}

impl Living {
    /// Reads metadata only, so that a malformed balancer counts too. An error is an error, and never an empty list.
    async fn read(client: &Client) -> Result<Self, Error> {
        let api = Api::<PortableLoadBalancer>::all(client.clone());
        let list = api.list_metadata(&ListParams::default()).await;
        let list = list.map_err(|error| Error::List("portableloadbalancers", error))?;
        let rest = list.metadata.continue_.as_deref().unwrap_or_default();
        let version = list.metadata.resource_version.as_deref().unwrap_or_default();
        if !rest.is_empty() || version.is_empty() {
            return Err(Error::Partial);
        }
        Ok(Self {
            uids: list.iter().filter_map(ResourceExt::uid).collect(),
            namespaces: list.iter().filter_map(ResourceExt::namespace).collect(),
        })
    }

    /// Whether a living balancer owns the child. One without a label of ours is not ours to judge.
    fn owns<K: ResourceExt>(&self, child: &K) -> bool {
        let uid = child.labels().get(names::UID_LABEL);
        uid.is_none_or(|uid| self.uids.contains(uid))
    }

    /// Whether a namespace that the account is for has any balancer.
    fn uses<K: ResourceExt>(&self, account: &K) -> bool {
        let namespace = account.labels().get(names::NAMESPACE_LABEL);
        namespace.is_none_or(|namespace| self.namespaces.contains(namespace))
    }
}

async fn list<K>(
    client: &Client,
    agents: &str,
    kind: &'static str,
) -> Result<Vec<PartialObjectMeta<K>>, Error>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + DeserializeOwned + Clone + Debug,
{
    let api = Api::<K>::namespaced(client.clone(), agents);
    let list = api.list_metadata(&ListParams::default().labels(&ours())).await;
    Ok(list.map_err(|error| Error::List(kind, error))?.items)
}

async fn delete_all<K>(
    client: &Client,
    children: Vec<PartialObjectMeta<K>>,
    orphaned: impl Fn(&PartialObjectMeta<K>) -> bool,
) -> Result<u64, Error>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + DeserializeOwned + Clone + Debug,
{
    let mut deleted = 0;
    for child in children.iter().filter(|child| orphaned(child)) {
        if child.metadata.deletion_timestamp.is_some() {
            continue;
        }
        let name = child.name_any();
        let api = Api::<K>::namespaced(client.clone(), &child.namespace().unwrap_or_default());
        let params = DeleteParams::background().preconditions(Preconditions {
            uid: child.uid(),
            resource_version: None,
        });
        match api.delete(&name, &params).await {
            Ok(_) => deleted += 1,
            // 409: another object has the name by now.
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {}
            Err(error) => return Err(Error::Delete(format!("{} {name}", K::kind(&())), error)),
        }
    }
    Ok(deleted)
}
