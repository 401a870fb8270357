//! The two kinds of writes to a status.

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client, Resource, ResourceExt};
use serde::Serialize;
use serde_json::json;
use std::collections::BTreeSet;

use super::{Error, Facts};
use crate::controller::Context;
use crd::{PortableLoadBalancer, PortableLoadBalancerStatus, names};

/// Writes the operator's part.
pub(super) async fn status(
    client: &Client,
    lb: &PortableLoadBalancer,
    status: &PortableLoadBalancerStatus,
) -> kube::Result<()> {
    let namespace = lb.namespace().unwrap_or_default();
    let api = Api::<PortableLoadBalancer>::namespaced(client.clone(), &namespace);
    let body = body(&lb.metadata, Some(status));
    let params = PatchParams::apply(names::OPERATOR_MANAGER).force();
    api.patch_status(&lb.name_any(), &params, &Patch::Apply(&body))
        .await
        .map(drop)
}

/// What a status patch says. The UID makes it fail for another balancer of the same name.
pub(super) fn body(of: &ObjectMeta, status: Option<impl Serialize>) -> serde_json::Value {
    let mut body = json!({
        "apiVersion": PortableLoadBalancer::api_version(&()),
        "kind": PortableLoadBalancer::kind(&()),
        "metadata": {"name": of.name, "uid": of.uid},
    });
    if let Some(status) = status {
        body["status"] = json!(status);
    }
    body
}

/// An agent owns its entry as the field manager of its pod's name. Once the pod is gone, an empty apply in its name
/// takes the entry away. The store may not know a young pod yet, so the API server is asked first.
pub(super) async fn forget_vanished(context: &Context, facts: &Facts<'_>) -> Result<(), Error> {
    let Facts { lb, observed, .. } = facts;
    let known: BTreeSet<String> = observed.pods.iter().map(|pod| pod.name_any()).collect();
    let pods = Api::<Pod>::namespaced(context.client.clone(), &context.config.agents.namespace);
    let namespace = lb.namespace().unwrap_or_default();
    let balancers = Api::<PortableLoadBalancer>::namespaced(context.client.clone(), &namespace);
    for entry in lb.status.iter().flat_map(|status| &status.agents) {
        let name = &entry.name;
        let failed = |error| Error::Forget(name.clone(), error);
        if known.contains(name) || pods.get_metadata_opt(name).await.map_err(failed)?.is_some() {
            continue;
        }
        let body = body(&lb.metadata, None::<()>);
        let params = PatchParams::apply(name).force();
        balancers
            .patch_status(&lb.name_any(), &params, &Patch::Apply(&body))
            .await
            .map_err(failed)?;
    }
    Ok(())
}
