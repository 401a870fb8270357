//! The chart's roles in a real API server: operator and agents can do their work, and little else.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use crd::names;
use e2e::api_server::{AGENTS, ApiServer, OPERATOR, RELEASE};
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectRulesReview, SelfSubjectRulesReviewSpec, SubjectAccessReview,
    SubjectAccessReviewSpec,
};
use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::api::{Api, ObjectMeta, PostParams};
use kube::{Client, Error};
use serde_json::{Value, json};

/// The groups of every `ServiceAccount`.
const GROUPS: [&str; 2] = ["system:serviceaccounts", "system:authenticated"];

/// One right: a verb and a resource, with names where it holds for these alone.
type Rights = BTreeSet<String>;

/// What a user may do in a namespace, beyond what every `ServiceAccount` may.
async fn rights(client: &Client, namespace: &str) -> Result<Rights> {
    let nobody = ApiServer::shared()
        .client_as("system:serviceaccount:default:nobody", &GROUPS)
        .await?;
    let common = all_rights(&nobody, namespace).await?;
    Ok(all_rights(client, namespace)
        .await?
        .difference(&common)
        .cloned()
        .collect())
}

async fn all_rights(client: &Client, namespace: &str) -> Result<Rights> {
    let review = SelfSubjectRulesReview {
        spec: SelfSubjectRulesReviewSpec {
            namespace: Some(namespace.to_owned()),
        },
        ..SelfSubjectRulesReview::default()
    };
    let review = Api::all(client.clone())
        .create(&PostParams::default(), &review)
        .await?;
    let status = review.status.context("the review has an answer")?;
    assert!(!status.incomplete, "{status:?}");
    let mut rights = Rights::new();
    for rule in status.resource_rules {
        let names = rule
            .resource_names
            .map(|names| format!(" {}", names.join(",")))
            .unwrap_or_default();
        for group in rule.api_groups.unwrap_or_default() {
            for resource in rule.resources.iter().flatten() {
                rights.extend(
                    rule.verbs
                        .iter()
                        .map(|verb| format!("{verb} {resource}.{group}{names}")),
                );
            }
        }
    }
    Ok(rights)
}

/// `verbs resource` for each verb.
fn each(rules: &[(&str, &str)]) -> Rights {
    let all = |(verbs, resource): &(&str, &str)| -> Vec<String> {
        verbs
            .split(' ')
            .map(|verb| format!("{verb} {resource}"))
            .collect()
    };
    rules.iter().flat_map(all).collect()
}

/// A binding as the operator makes one for a balancer's agents.
fn binding(namespace: &str, role: &str) -> Result<RoleBinding> {
    Ok(serde_json::from_value(json!({
        "metadata": {"name": names::role_binding("web"), "namespace": namespace},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
        "subjects": [{
            "kind": "ServiceAccount", "name": names::service_account(namespace), "namespace": AGENTS,
        }],
    }))?)
}

#[tokio::test]
async fn an_agent_reads_its_namespace_and_no_other() -> Result<()> {
    let server = ApiServer::with_chart();
    let admin = server.client().await?;
    let namespace = server.namespace(&admin).await?;
    let other = server.namespace(&admin).await?;
    let bindings: Api<RoleBinding> = Api::namespaced(admin, &namespace);
    bindings
        .create(&PostParams::default(), &binding(&namespace, names::NAME)?)
        .await?;
    let user = format!(
        "system:serviceaccount:{AGENTS}:{}",
        names::service_account(&namespace)
    );
    let agent = server.client_as(&user, &GROUPS).await?;
    let expected = each(&[
        ("get list watch", "portableloadbalancers.portablelb.io"),
        ("patch", "portableloadbalancers/status.portablelb.io"),
        ("get list watch", "services."),
        ("get list watch", "endpointslices.discovery.k8s.io"),
    ]);
    assert_eq!(rights(&agent, &namespace).await?, expected);
    for elsewhere in [other.as_str(), AGENTS, RELEASE, "kube-system"] {
        assert_eq!(rights(&agent, elsewhere).await?, Rights::new(), "{elsewhere}");
    }
    Ok(())
}

/// In every namespace.
const OPERATOR_RULES: [(&str, &str); 7] = [
    ("get list watch", "portableloadbalancers.portablelb.io"),
    ("patch", "portableloadbalancers/status.portablelb.io"),
    ("list watch", "services."),
    ("list watch", "nodes."),
    (
        "list watch create patch delete",
        "rolebindings.rbac.authorization.k8s.io",
    ),
    ("bind", "clusterroles.rbac.authorization.k8s.io portable-lb-agent"),
    ("create patch", "events.events.k8s.io"),
];

#[tokio::test]
async fn the_operator_writes_children_in_the_agents_namespace_alone() -> Result<()> {
    let server = ApiServer::with_chart();
    let namespace = server.namespace(&server.client().await?).await?;
    let operator = server.client_as(OPERATOR, &GROUPS).await?;
    let everywhere = each(&OPERATOR_RULES);
    for elsewhere in [namespace.as_str(), RELEASE, "kube-system"] {
        assert_eq!(rights(&operator, elsewhere).await?, everywhere, "{elsewhere}");
    }
    let children = each(&[
        ("list watch create patch delete", "replicasets.apps"),
        ("get list watch patch delete", "pods."),
        ("create patch delete", "services."),
        ("list watch create patch delete", "serviceaccounts."),
        ("list watch create patch delete", "poddisruptionbudgets.policy"),
    ]);
    let expected: Rights = everywhere.union(&children).cloned().collect();
    assert_eq!(rights(&operator, AGENTS).await?, expected);
    Ok(())
}

#[tokio::test]
async fn the_operator_binds_the_agents_role_and_no_other() -> Result<()> {
    let server = ApiServer::with_chart();
    let namespace = server.namespace(&server.client().await?).await?;
    let operator = server.client_as(OPERATOR, &GROUPS).await?;
    let bindings: Api<RoleBinding> = Api::namespaced(operator, &namespace);
    let try_only = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    // Without controllers `edit` and `view` themselves are empty.
    for role in [
        "cluster-admin",
        "system:aggregate-to-edit",
        "system:aggregate-to-view",
        "system:node",
    ] {
        let error = bindings
            .create(&try_only, &binding(&namespace, role)?)
            .await
            .expect_err("refused");
        assert!(
            matches!(&error, Error::Api(status) if status.code == 403),
            "{role}: {error}"
        );
    }
    bindings
        .create(&PostParams::default(), &binding(&namespace, names::NAME)?)
        .await?;
    Ok(())
}

/// Whether somebody with the chart's role in the namespace may do it.
async fn may(client: &Client, namespace: &str, verb: &str, resource: &str) -> Result<bool> {
    let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
    let attributes = ResourceAttributes {
        group: Some("portablelb.io".to_owned()),
        namespace: Some(namespace.to_owned()),
        resource: Some(resource.to_owned()),
        subresource: Some(subresource.to_owned()),
        verb: Some(verb.to_owned()),
        ..ResourceAttributes::default()
    };
    let review = SubjectAccessReview {
        metadata: ObjectMeta::default(),
        spec: SubjectAccessReviewSpec {
            user: Some("jane".to_owned()),
            resource_attributes: Some(attributes),
            ..SubjectAccessReviewSpec::default()
        },
        status: None,
    };
    let review = Api::all(client.clone())
        .create(&PostParams::default(), &review)
        .await?;
    Ok(review.status.context("the review has an answer")?.allowed)
}

#[tokio::test]
async fn users_write_balancers_but_never_their_status() -> Result<()> {
    let server = ApiServer::with_chart();
    let admin = server.client().await?;
    // The roles of the chart, which Kubernetes adds to its own of the same name by their labels.
    for (role, writes) in [("view", false), ("edit", true)] {
        let namespace = server.namespace(&admin).await?;
        for (part, held) in [("view", true), ("edit", writes)] {
            if held {
                let role = format!("portable-lb-{part}");
                server.kubectl(&[
                    "create",
                    "rolebinding",
                    part,
                    "--clusterrole",
                    &role,
                    "--user=jane",
                    "-n",
                    &namespace,
                ])?;
            }
        }
        assert!(
            may(&admin, &namespace, "get", "portableloadbalancers").await?,
            "{role}"
        );
        for verb in ["create", "update", "patch", "delete"] {
            assert_eq!(
                may(&admin, &namespace, verb, "portableloadbalancers").await?,
                writes,
                "{role} {verb}"
            );
            assert!(
                !may(&admin, &namespace, verb, "portableloadbalancers/status").await?,
                "{role} {verb}"
            );
        }
    }
    Ok(())
}

#[tokio::test]
async fn the_charts_roles_are_added_to_kubernetes_own() -> Result<()> {
    let server = ApiServer::with_chart();
    for (role, wanted) in [
        ("portable-lb-view", "view edit admin"),
        ("portable-lb-edit", "edit admin"),
    ] {
        let found = server.kubectl(&["get", "clusterrole", role, "-o", "json"])?.out;
        let labels = serde_json::from_str::<Value>(&found)?["metadata"]["labels"].take();
        for name in ["view", "edit", "admin"] {
            let label = &labels[format!("rbac.authorization.k8s.io/aggregate-to-{name}")];
            assert_eq!(label == "true", wanted.contains(name), "{role} {name}");
        }
    }
    Ok(())
}
