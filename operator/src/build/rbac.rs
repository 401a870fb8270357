//! The agents' account, and what it may do in one user namespace.

use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::api::rbac::v1::{RoleBinding, RoleRef, Subject};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt;

use super::Wanted;
use crd::names;

/// One a user namespace, so that an agent can't follow the balancers of another.
pub(super) fn service_account(wanted: &Wanted<'_>) -> ServiceAccount {
    let mut labels = Wanted::common_labels();
    labels.insert(names::NAMESPACE_LABEL.to_owned(), wanted.namespace());
    ServiceAccount {
        metadata: ObjectMeta {
            name: Some(names::service_account(&wanted.namespace())),
            namespace: Some(wanted.settings.namespace.clone()),
            labels: Some(labels),
            ..ObjectMeta::default()
        },
        automount_service_account_token: Some(false),
        ..ServiceAccount::default()
    }
}

/// In the balancer's namespace, and owned by the balancer: it goes with it.
pub(super) fn role_binding(wanted: &Wanted<'_>) -> RoleBinding {
    RoleBinding {
        metadata: ObjectMeta {
            name: Some(names::role_binding(&wanted.lb.name_any())),
            namespace: Some(wanted.namespace()),
            labels: Some(wanted.labels()),
            owner_references: wanted.owner(),
            ..ObjectMeta::default()
        },
        role_ref: RoleRef {
            api_group: "rbac.authorization.k8s.io".to_owned(),
            kind: "ClusterRole".to_owned(),
            name: wanted.settings.cluster_role.clone(),
        },
        subjects: Some(vec![Subject {
            kind: "ServiceAccount".to_owned(),
            name: names::service_account(&wanted.namespace()),
            namespace: Some(wanted.settings.namespace.clone()),
            ..Subject::default()
        }]),
    }
}
