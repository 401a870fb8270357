//! Removes what was made for balancers that are no more. It needs no finalizer, so it can never hang one.

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::{Pod, Service, ServiceAccount};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::{DeleteParams, ListParams, ObjectMeta, Preconditions};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use std::collections::BTreeSet;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

use crate::Context;
use crate::causes::causes;
use crate::watches::{PAGE, ours};
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
    /// The API server gave a part only.
    #[error("the list of {0} is not whole")]
    Partial(&'static str),
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
    let place = Place { client, agents };
    let replica_sets = place.list::<ReplicaSet>("replicasets", names::UID_LABEL).await?;
    let services = place.list::<Service>("services", names::UID_LABEL).await?;
    let budgets = place
        .list::<PodDisruptionBudget>("poddisruptionbudgets", names::UID_LABEL)
        .await?;
    let pods = place.list::<Pod>("pods", names::UID_LABEL).await?;
    let accounts = place
        .list::<ServiceAccount>("serviceaccounts", names::NAMESPACE_LABEL)
        .await?;
    let living = Living::read(client).await?;
    let mut deleted = 0;
    // Before their pods, or they would make new ones.
    deleted += place.delete_all::<ReplicaSet>(replica_sets, &living.uids).await?;
    deleted += place.delete_all::<Service>(services, &living.uids).await?;
    deleted += place
        .delete_all::<PodDisruptionBudget>(budgets, &living.uids)
        .await?;
    deleted += place.delete_all::<Pod>(pods, &living.uids).await?;
    deleted += place
        .delete_all::<ServiceAccount>(accounts, &living.namespaces)
        .await?;
    Ok(deleted)
}

/// The balancers that there are.
#[derive(Default)]
struct Living {
    uids: BTreeSet<String>,
    namespaces: BTreeSet<String>,
}

impl Living {
    /// Reads metadata only, so that a malformed balancer counts too. An error is an error, and never an empty list.
    async fn read(client: &Client) -> Result<Self, Error> {
        let api = Api::<PortableLoadBalancer>::all(client.clone());
        let mut living = Self::default();
        pages(&api, "portableloadbalancers", ListParams::default(), |meta| {
            living.uids.extend(meta.uid);
            living.namespaces.extend(meta.namespace);
        })
        .await?;
        Ok(living)
    }
}

/// Reads the metadata of all objects, some at a time: those of thousands at once would take more memory than all else
/// here.
async fn pages<K>(
    api: &Api<K>,
    kind: &'static str,
    mut params: ListParams,
    mut take: impl FnMut(ObjectMeta),
) -> Result<(), Error>
where
    K: Resource<DynamicType = ()> + DeserializeOwned + Clone + Debug,
{
    params.limit = Some(PAGE);
    loop {
        let list = api.list_metadata(&params).await;
        let list = list.map_err(|error| Error::List(kind, error))?;
        let next = list.metadata.continue_.filter(|token| !token.is_empty());
        let version = list.metadata.resource_version.unwrap_or_default();
        if version.is_empty() || next.is_some() && next == params.continue_token {
            return Err(Error::Partial(kind));
        }
        for object in list.items {
            take(object.metadata);
        }
        params.continue_token = next;
        if params.continue_token.is_none() {
            return Ok(());
        }
    }
}

/// What a sweep looks at of a child.
struct Found {
    name: String,
    uid: Option<String>,
    /// A balancer's UID, or a namespace, that it was made for.
    of: String,
}

/// The agents' namespace.
struct Place<'a> {
    client: &'a Client,
    agents: &'a str,
}

impl Place<'_> {
    fn api<K>(&self) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), self.agents)
    }

    /// Finds children by the label that tells what they were made for. One without it is not ours to judge.
    async fn list<K>(&self, kind: &'static str, label: &str) -> Result<Vec<Found>, Error>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + DeserializeOwned + Clone + Debug,
    {
        let mut all = Vec::new();
        pages(
            &self.api::<K>(),
            kind,
            ListParams::default().labels(&ours()),
            |meta| {
                let of = meta.labels.unwrap_or_default().remove(label);
                let is_going = meta.deletion_timestamp.is_some();
                if let (Some(name), Some(of), false) = (meta.name, of, is_going) {
                    let uid = meta.uid;
                    all.push(Found { name, uid, of });
                }
            },
        )
        .await?;
        Ok(all)
    }

    /// Deletes those that were made for what lives no more.
    async fn delete_all<K>(&self, children: Vec<Found>, living: &BTreeSet<String>) -> Result<u64, Error>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + DeserializeOwned + Clone + Debug,
    {
        let mut deleted = 0;
        for Found { name, uid, .. } in children.into_iter().filter(|it| !living.contains(&it.of)) {
            let params = DeleteParams::background().preconditions(Preconditions {
                uid,
                resource_version: None,
            });
            match self.api::<K>().delete(&name, &params).await {
                Ok(_) => deleted += 1,
                // 409: another object has the name by now.
                Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {}
                Err(error) => return Err(Error::Delete(format!("{} {name}", K::kind(&())), error)),
            }
        }
        Ok(deleted)
    }
}
