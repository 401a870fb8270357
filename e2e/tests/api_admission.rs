//! The chart's admission policies in a real API server: a captured agent or operator can do no more than its own work.
//!
//! What is refused is only tried (dry run), again and again until it is: policies take effect a moment after they are made.

use anyhow::{Context, Result, bail};
use crd::{PortableLoadBalancer, names};
use e2e::api_server::{AGENTS, ApiServer, OPERATOR};
use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::api::{Api, DeleteParams, Patch, PatchParams};
use kube::{Client, Error};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(30);

/// A namespace with a balancer, as its user and the operator would make them.
async fn balancer(server: &ApiServer, name: &str) -> Result<String> {
    let namespace = server.namespace(&server.client().await?).await?;
    let account = names::service_account(&namespace);
    let objects = json!({"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "portablelb.io/v1alpha1", "kind": "PortableLoadBalancer",
         "metadata": {"name": name, "namespace": namespace},
         "spec": {"backends": {"service": {"name": "web"}}, "ports": [{"name": "http", "port": 80}]}},
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": account, "namespace": AGENTS}},
        binding(&namespace, &names::role_binding(name)),
    ]});
    server.kubectl_with(&["apply", "-f", "-"], &objects.to_string())?;
    let status = json!({"status": {"observedGeneration": 1}}).to_string();
    let patch = [
        "patch",
        "plb",
        name,
        "-n",
        &namespace,
        "--subresource=status",
        "--type=merge",
        "-p",
        &status,
    ];
    server.kubectl(&patch)?;
    Ok(namespace)
}

fn binding(namespace: &str, name: &str) -> Value {
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
        "metadata": {"name": name, "namespace": namespace},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": names::NAME},
        "subjects": [{"kind": "ServiceAccount", "name": names::service_account(namespace), "namespace": AGENTS}],
    })
}

/// The pod of an agent, and a client with its token.
async fn agent(server: &ApiServer, namespace: &str, lb: &str, suffix: &str) -> Result<(String, Client)> {
    let account = names::service_account(namespace);
    let pod = format!("{}-{suffix}", names::child_name(namespace, lb));
    let object = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": pod, "namespace": AGENTS},
        "spec": {"serviceAccountName": account, "containers": [{"name": "serve", "image": "none"}]},
    });
    server.kubectl_with(&["apply", "-f", "-"], &object.to_string())?;
    let bound = ["--bound-object-kind=Pod", "--bound-object-name", &pod];
    let token = server.kubectl(&[&["create", "token", "-n", AGENTS, &account], &bound[..]].concat())?;
    Ok((pod, server.client_with(token.out.trim()).await?))
}

/// Who writes to which balancer.
struct Writer<'a> {
    client: &'a Client,
    namespace: &'a str,
    lb: &'a str,
}

impl Writer<'_> {
    async fn apply(&self, manager: &str, status: &Value, dry_run: bool) -> Result<Value, Error> {
        let api = Api::<PortableLoadBalancer>::namespaced(self.client.clone(), self.namespace);
        let patch =
            json!({"apiVersion": "portablelb.io/v1alpha1", "kind": "PortableLoadBalancer", "status": status});
        let params = PatchParams {
            dry_run,
            ..PatchParams::apply(manager).force()
        };
        let lb = api.patch_status(self.lb, &params, &Patch::Apply(patch)).await?;
        Ok(json!(lb.status))
    }

    async fn write(&self, manager: &str, status: Value) -> Result<Value> {
        Ok(self.apply(manager, &status, false).await?)
    }

    async fn refusal(&self, manager: &str, status: Value) -> Result<String> {
        refusal(async || self.apply(manager, &status, true).await.map(drop)).await
    }
}

/// What a policy says against it, as soon as there is one.
async fn refusal(write: impl AsyncFn() -> Result<(), Error>) -> Result<String> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match write().await {
            Err(Error::Api(status)) if status.message.contains("ValidatingAdmissionPolicy") => {
                return Ok(status.message);
            }
            Err(error) => return Err(error).context("refused by another"),
            Ok(()) if Instant::now() > deadline => bail!("not refused"),
            Ok(()) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

fn entry(pod: &str, role: &str) -> Value {
    json!({"name": pod, "role": role})
}

#[tokio::test]
async fn an_agent_writes_its_own_entry() -> Result<()> {
    let server = ApiServer::with_chart();
    // The second is cut in the pod's name, at a dash.
    for lb in [
        "web",
        "a-name-that-is-too-long-to-be-read-whole-in-the-name-of-a-pod",
    ] {
        let namespace = balancer(server, lb).await?;
        let (a, client_a) = agent(server, &namespace, lb, "aaaaa").await?;
        let (b, client_b) = agent(server, &namespace, lb, "bbbbb").await?;
        let [one, two] = [&client_a, &client_b].map(|client| Writer {
            client,
            namespace: &namespace,
            lb,
        });
        one.write(&a, json!({"agents": [entry(&a, "Active")]})).await?;
        two.write(&b, json!({"agents": [entry(&b, "Active")]})).await?;
        let status = one.write(&a, json!({"agents": [entry(&a, "Backup")]})).await?;
        assert_eq!(
            status["agents"],
            json!([entry(&a, "Backup"), entry(&b, "Active")])
        );
    }
    Ok(())
}

/// Statuses that an agent may not write, whose own entry is `own`.
fn forgeries(own: &Value) -> [(&'static str, Value); 5] {
    let address = json!([{"type": "IPAddress", "value": "10.0.0.2"}]);
    [
        (
            "claims an address",
            json!({"agents": [own], "addresses": address}),
        ),
        (
            "adds a field",
            json!({"agents": [own], "summary": {"address": "10.0.0.2"}}),
        ),
        (
            "claims a generation",
            json!({"agents": [own], "observedGeneration": 2}),
        ),
        (
            "invents an agent",
            json!({"agents": [own, entry("third", "Active")]}),
        ),
        (
            "speaks for another",
            json!({"agents": [own, entry("other", "Backup")]}),
        ),
    ]
}

#[tokio::test]
async fn an_agent_writes_nothing_else() -> Result<()> {
    let server = ApiServer::with_chart();
    let namespace = balancer(server, "web").await?;
    let (pod, client) = agent(server, &namespace, "web", "aaaaa").await?;
    let admin = server.client().await?;
    let [admin, agent] = [&admin, &client].map(|client| Writer {
        client,
        namespace: &namespace,
        lb: "web",
    });
    let address = json!([{"type": "IPAddress", "value": "10.0.0.1"}]);
    let agents = json!([entry("other", "Active")]);
    admin
        .write("another", json!({"addresses": address, "agents": agents}))
        .await?;
    for (case, status) in forgeries(&entry(&pod, "Active")) {
        let said = agent.refusal(&pod, status).await.context(case)?;
        assert!(said.contains("only its own entry"), "{case}: {said}");
    }
    // In another's name, what is left out is removed.
    let said = agent.refusal("another", json!({})).await?;
    assert!(said.contains("only its own entry"), "{said}");
    Ok(())
}

#[tokio::test]
async fn an_agent_writes_to_no_other_balancer() -> Result<()> {
    let server = ApiServer::with_chart();
    let namespace = balancer(server, "web").await?;
    // Of the same namespace, so that the rights are there.
    let (pod, client) = agent(server, &namespace, "web-2", "aaaaa").await?;
    let agent = Writer {
        client: &client,
        namespace: &namespace,
        lb: "web",
    };
    let said = agent
        .refusal(&pod, json!({"agents": [entry(&pod, "Active")]}))
        .await?;
    assert!(said.contains("serves another plb than web"), "{said}");
    Ok(())
}

#[tokio::test]
async fn a_token_of_no_pod_is_refused() -> Result<()> {
    let server = ApiServer::with_chart();
    let namespace = balancer(server, "web").await?;
    let token = server.kubectl(&[
        "create",
        "token",
        "-n",
        AGENTS,
        &names::service_account(&namespace),
    ])?;
    let client = server.client_with(token.out.trim()).await?;
    let agent = Writer {
        client: &client,
        namespace: &namespace,
        lb: "web",
    };
    let said = agent
        .refusal("x", json!({"agents": [entry("x", "Active")]}))
        .await?;
    assert!(said.contains("the token of its own pod"), "{said}");
    Ok(())
}

#[tokio::test]
async fn the_operator_removes_the_entry_of_a_vanished_agent() -> Result<()> {
    let server = ApiServer::with_chart();
    let namespace = balancer(server, "web").await?;
    let (pod, client) = agent(server, &namespace, "web", "aaaaa").await?;
    let agent = Writer {
        client: &client,
        namespace: &namespace,
        lb: "web",
    };
    agent
        .write(&pod, json!({"agents": [entry(&pod, "Active")]}))
        .await?;
    let client = server.client_as(OPERATOR, &[]).await?;
    let operator = Writer {
        client: &client,
        namespace: &namespace,
        lb: "web",
    };
    let status = operator.write(&pod, json!({})).await?;
    assert_eq!(status["agents"], Value::Null);
    Ok(())
}

#[tokio::test]
async fn the_operator_binds_only_its_agents() -> Result<()> {
    let server = ApiServer::with_chart();
    let namespace = balancer(server, "web").await?;
    let api = Api::<RoleBinding>::namespaced(server.client_as(OPERATOR, &[]).await?, &namespace);
    let apply = async |binding: &Value, dry_run| {
        let name = binding["metadata"]["name"].as_str().unwrap_or_default();
        let params = PatchParams {
            dry_run,
            ..PatchParams::apply(names::OPERATOR_MANAGER).force()
        };
        api.patch(name, &params, &Patch::Apply(binding)).await.map(drop)
    };
    let good = binding(&namespace, "portable-lb-agent-new");
    let subject = |kind: &str, name: &str, place: &str| {
        let mut bad = good.clone();
        bad["subjects"][0] = json!({"kind": kind, "name": name, "namespace": place});
        bad
    };
    let account = names::service_account(&namespace);
    let cases = [
        ("another name", binding(&namespace, "admins")),
        (
            "another namespace's agents",
            subject("ServiceAccount", "plb-kube-system", AGENTS),
        ),
        (
            "another's account",
            subject("ServiceAccount", &account, "kube-system"),
        ),
    ];
    for (case, bad) in cases {
        refusal(async || apply(&bad, true).await).await.context(case)?;
    }
    apply(&good, false).await?;
    api.delete("portable-lb-agent-new", &DeleteParams::default())
        .await?;
    Ok(())
}

#[tokio::test]
async fn the_operator_deletes_no_other_binding() -> Result<()> {
    let server = ApiServer::with_chart();
    let namespace = balancer(server, "web").await?;
    let others = binding(&namespace, "others").to_string();
    server.kubectl_with(&["apply", "-f", "-"], &others)?;
    let api = Api::<RoleBinding>::namespaced(server.client_as(OPERATOR, &[]).await?, &namespace);
    let try_only = DeleteParams {
        dry_run: true,
        ..DeleteParams::default()
    };
    refusal(async || api.delete("others", &try_only).await.map(drop)).await?;
    Ok(())
}
