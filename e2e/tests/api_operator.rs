//! The operator's whole loop against a real API server, with the chart's configuration and no more rights than the chart
//! gives. There are no nodes, so no agent ever runs.

use anyhow::{Context, Result, bail, ensure};
use crd::{PortableLoadBalancer, condition, names};
use e2e::api_server::{AGENTS, ApiServer, OPERATOR, RELEASE};
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Service, ServiceAccount};
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::api::{Api, DeleteParams, ListParams, ObjectMeta, Patch, PatchParams, PostParams};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

const PATIENCE: Duration = Duration::from_secs(30);

/// A namespace to work in, while an operator runs. The tests of this file take turns, since each has an operator.
struct Stage {
    client: Client,
    namespace: String,
    stop: CancellationToken,
    operator: tokio::task::JoinHandle<()>,
    _turn: tokio::sync::MutexGuard<'static, ()>,
}

impl Stage {
    async fn start() -> Result<Self> {
        static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
        let turn = TURN.lock().await;
        let server = ApiServer::with_chart();
        let client = server.client().await?;
        let namespace = server.namespace(&client).await?;
        let maps: Api<ConfigMap> = Api::namespaced(client.clone(), RELEASE);
        let map = maps.get("portable-lb-operator").await?.data.unwrap_or_default();
        let config = serde_yaml::from_str(map.get("config.yaml").context("the chart has a configuration")?)?;
        let limited = server
            .client_as(OPERATOR, &["system:serviceaccounts", "system:authenticated"])
            .await?;
        let stop = CancellationToken::new();
        let (context, streams) = operator::Context::new(limited, config);
        let operator = tokio::spawn(operator::run(context, streams, stop.clone()));
        Ok(Self {
            client,
            namespace,
            stop,
            operator,
            _turn: turn,
        })
    }

    async fn end(self) -> Result<()> {
        self.stop.cancel();
        Ok(self.operator.await?)
    }

    fn balancers(&self) -> Api<PortableLoadBalancer> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    async fn apply(&self, spec: Value) -> Result<()> {
        let lb = json!({
            "apiVersion": "portablelb.io/v1alpha1", "kind": "PortableLoadBalancer",
            "metadata": {"name": "web"}, "spec": spec,
        });
        self.balancers()
            .patch("web", &PatchParams::apply("user"), &Patch::Apply(lb))
            .await?;
        Ok(())
    }

    fn agents<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), AGENTS)
    }
}

/// Asks again until there is an answer.
async fn until<T>(what: &str, ask: impl AsyncFn() -> Result<Option<T>>) -> Result<T> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask().await? {
            return Ok(answer);
        }
        if Instant::now() > deadline {
            bail!("not within {PATIENCE:?}: {what}");
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn spec() -> Value {
    json!({"backends": {"service": {"name": "web"}}, "ports": [{"name": "http", "port": 80}]})
}

/// The reason of a condition, once it is in that state for this generation.
async fn reason(stage: &Stage, type_: &str, wanted: &str) -> Result<String> {
    until(&format!("{type_} is {wanted}"), async || {
        let lb = stage.balancers().get("web").await?;
        let status = lb.status.unwrap_or_default();
        let found = condition::find(&status.conditions, type_);
        let found =
            found.filter(|it| it.status == wanted && it.observed_generation == lb.metadata.generation);
        Ok(found.map(|it| it.reason.clone()))
    })
    .await
}

/// Waits for a child.
async fn present<K>(api: &Api<K>, name: &str) -> Result<K>
where
    K: kube::Resource + Clone + std::fmt::Debug + serde::de::DeserializeOwned,
{
    until(&format!("{name} is there"), async || {
        Ok(api.get_opt(name).await?)
    })
    .await
}

/// Waits until a child is gone.
async fn absent<K>(api: &Api<K>, name: &str) -> Result<()>
where
    K: kube::Resource + Clone + std::fmt::Debug + serde::de::DeserializeOwned,
{
    until(&format!("{name} is gone"), async || {
        Ok(api.get_opt(name).await?.is_none().then_some(()))
    })
    .await
}

#[tokio::test]
async fn a_balancer_gets_its_children_and_leaves_none() -> Result<()> {
    let stage = Stage::start().await?;
    stage.apply(spec()).await?;
    let name = names::child_name(&stage.namespace, "web");
    present(&stage.agents::<ReplicaSet>(), &name).await?;
    present(&stage.agents::<Service>(), &name).await?;
    present(&stage.agents::<PodDisruptionBudget>(), &name).await?;
    let account = names::service_account(&stage.namespace);
    present(&stage.agents::<ServiceAccount>(), &account).await?;

    stage.balancers().delete("web", &DeleteParams::default()).await?;
    absent(&stage.agents::<ReplicaSet>(), &name).await?;
    absent(&stage.agents::<Service>(), &name).await?;
    absent(&stage.agents::<PodDisruptionBudget>(), &name).await?;
    absent(&stage.agents::<ServiceAccount>(), &account).await?;
    stage.end().await
}

#[tokio::test]
async fn the_agents_role_is_bound_as_long_as_the_balancer_lives() -> Result<()> {
    let stage = Stage::start().await?;
    stage.apply(spec()).await?;
    let bindings: Api<RoleBinding> = Api::namespaced(stage.client.clone(), &stage.namespace);
    let binding = present(&bindings, &names::role_binding("web")).await?;
    // Kubernetes deletes it with its owner.
    let lb = stage.balancers().get("web").await?;
    assert_eq!(Some(&binding.owner_references()[0].uid), lb.metadata.uid.as_ref());
    assert_eq!(binding.role_ref.name, names::NAME);
    stage.end().await
}

#[tokio::test]
async fn the_agents_pods_are_admitted() -> Result<()> {
    let stage = Stage::start().await?;
    stage.apply(spec()).await?;
    let name = names::child_name(&stage.namespace, "web");
    let set = present(&stage.agents::<ReplicaSet>(), &name).await?;
    present(
        &stage.agents::<ServiceAccount>(),
        &names::service_account(&stage.namespace),
    )
    .await?;
    let try_only = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    stage.agents::<Pod>().create(&try_only, &pod(set)?).await?;
    stage.end().await
}

/// What a `ReplicaSet`'s controller would make.
fn pod(set: ReplicaSet) -> Result<Pod> {
    let name = format!("{}-", set.name_any());
    let template = set.spec.context("a spec")?.template.context("a template")?;
    let metadata = template.metadata.unwrap_or_default();
    Ok(Pod {
        metadata: ObjectMeta {
            generate_name: Some(name),
            ..metadata
        },
        spec: template.spec,
        status: None,
    })
}

/// Two agents as they would be if there were nodes. Their pods are ready.
async fn two_agents(stage: &Stage) -> Result<[String; 2]> {
    let name = names::child_name(&stage.namespace, "web");
    let set = present(&stage.agents::<ReplicaSet>(), &name).await?;
    let account = names::service_account(&stage.namespace);
    present(&stage.agents::<ServiceAccount>(), &account).await?;
    let pod = pod(set)?;
    let ready = json!({"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}});
    let mut made = [String::new(), String::new()];
    for name in &mut made {
        *name = stage
            .agents::<Pod>()
            .create(&PostParams::default(), &pod)
            .await?
            .name_any();
        let pods = stage.agents::<Pod>();
        pods.patch_status(name, &PatchParams::default(), &Patch::Merge(&ready))
            .await?;
    }
    Ok(made)
}

/// Writes the entry of an agent, as that agent does.
async fn says(stage: &Stage, agent: &str, hash: &str) -> Result<()> {
    let now = k8s_openapi::jiff::Timestamp::now().as_second();
    let now = k8s_openapi::jiff::Timestamp::from_second(now)?.to_string();
    let entry = json!({
        "name": agent, "observedGeneration": 1, "tableHash": hash,
        "drains": [{"server": "10.0.0.1:80/TCP", "outcome": "Cut", "connections": 2, "endTime": now}],
    });
    let patch = json!({
        "apiVersion": "portablelb.io/v1alpha1", "kind": "PortableLoadBalancer", "status": {"agents": [entry]},
    });
    let params = PatchParams::apply(agent).force();
    stage
        .balancers()
        .patch_status("web", &params, &Patch::Apply(patch))
        .await?;
    Ok(())
}

#[tokio::test]
async fn what_agents_say_becomes_conditions_and_events() -> Result<()> {
    let stage = Stage::start().await?;
    stage.apply(spec()).await?;
    let [one, other] = two_agents(&stage).await?;
    says(&stage, &one, "1").await?;
    says(&stage, &other, "2").await?;
    let events: Api<Event> = Api::namespaced(stage.client.clone(), &stage.namespace);
    let note = until("the cut is told by an Event", async || {
        let all = events.list(&ListParams::default()).await?;
        let found = all
            .into_iter()
            .find(|it| it.reason.as_deref() == Some("DrainCut"));
        Ok(found.and_then(|it| it.note))
    });
    let note = note.await?;
    ensure!(
        note.contains("10.0.0.1:80/TCP") && note.contains("drainTimeoutSeconds"),
        "{note}"
    );
    reason(&stage, condition::PROGRAMMED, "True").await?;
    // They have some seconds to agree; these two do not.
    assert_eq!(reason(&stage, condition::DEGRADED, "True").await?, "TablesDiffer");
    says(&stage, &other, "1").await?;
    assert_eq!(reason(&stage, condition::DEGRADED, "False").await?, "AsWanted");
    for agent in [one, other] {
        let at_once = DeleteParams::default().grace_period(0);
        stage.agents::<Pod>().delete(&agent, &at_once).await?;
    }
    stage.end().await
}

#[tokio::test]
async fn what_the_administrator_has_not_allowed_is_not_served() -> Result<()> {
    let stage = Stage::start().await?;
    let mut given = spec();
    given["backends"] = json!({"type": "Endpoints", "endpoints": [{"address": "192.0.2.7"}]});
    stage.apply(given).await?;
    assert_eq!(
        reason(&stage, condition::ACCEPTED, "False").await?,
        "EndpointNotAllowed"
    );
    let mut announced = spec();
    announced["exposure"] = json!({"type": "VirtualIP", "virtualIP": {"addresses": ["192.0.2.1"]}});
    stage.apply(announced).await?;
    assert_eq!(
        reason(&stage, condition::ACCEPTED, "False").await?,
        "ExposureNotAvailable"
    );
    let name = names::child_name(&stage.namespace, "web");
    ensure!(
        stage.agents::<ReplicaSet>().get_opt(&name).await?.is_none(),
        "it has agents"
    );
    stage.apply(spec()).await?;
    reason(&stage, condition::ACCEPTED, "True").await?;
    present(&stage.agents::<ReplicaSet>(), &name).await?;
    stage.end().await
}

#[tokio::test]
async fn conditions_tell_what_is_missing_and_change_with_it() -> Result<()> {
    let stage = Stage::start().await?;
    stage.apply(spec()).await?;
    assert_eq!(
        reason(&stage, condition::RESOLVED_REFS, "False").await?,
        "ServiceNotFound"
    );
    reason(&stage, condition::ACCEPTED, "True").await?;
    let status = stage.balancers().get("web").await?.status.unwrap_or_default();
    for type_ in condition::ALL {
        assert!(condition::find(&status.conditions, type_).is_some(), "{type_}");
    }
    assert!(
        !condition::is_true(&status.conditions, condition::READY),
        "nothing is programmed"
    );

    let services: Api<Service> = Api::namespaced(stage.client.clone(), &stage.namespace);
    let service: Service = serde_json::from_value(json!({
        "metadata": {"name": "web"}, "spec": {"ports": [{"name": "http", "port": 80}]},
    }))?;
    services.create(&PostParams::default(), &service).await?;
    reason(&stage, condition::RESOLVED_REFS, "True").await?;
    let mut unknown = spec();
    unknown["ports"][0]["targetPort"] = json!("admin");
    stage.apply(unknown).await?;
    assert_eq!(
        reason(&stage, condition::RESOLVED_REFS, "False").await?,
        "PortNotFound"
    );
    stage.end().await
}

#[tokio::test]
async fn a_balancer_of_another_class_is_left_alone() -> Result<()> {
    let stage = Stage::start().await?;
    let other = json!({
        "apiVersion": "portablelb.io/v1alpha1", "kind": "PortableLoadBalancer",
        "metadata": {"name": "other"},
        "spec": {"className": "other", "backends": {"service": {"name": "web"}}, "ports": [{"name": "http", "port": 80}]},
    });
    let balancers = stage.balancers();
    balancers
        .create(&PostParams::default(), &serde_json::from_value(other)?)
        .await?;
    // One of ours that is made after it is served, so the other one was seen.
    stage.apply(spec()).await?;
    reason(&stage, condition::ACCEPTED, "True").await?;
    let child = names::child_name(&stage.namespace, "other");
    ensure!(
        stage.agents::<ReplicaSet>().get_opt(&child).await?.is_none(),
        "it has a child"
    );
    ensure!(balancers.get("other").await?.status.is_none(), "it has a status");
    stage.end().await
}
