//! The control loop against an API server that is only pretended.

#[path = "support/fake.rs"]
mod fake;

use fake::{Asked, Log};
use kube::core::DeserializeGuard;
use kube::runtime::watcher::Event;
use operator::Config;
use operator::build::{Children, build};
use operator::controller::{Context, Guarded, Streams, reconcile, run};
use operator::packed::Packed;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

const SECOND: Duration = Duration::from_secs(1);

fn config() -> Config {
    serde_json::from_value(json!({
        "agents": {"namespace": "agents", "clusterRole": "portable-lb-agent", "image": "agent:1"},
    }))
    .expect("a valid configuration")
}

fn balancer() -> Value {
    json!({
        "apiVersion": "portablelb.io/v1alpha1", "kind": "PortableLoadBalancer",
        "metadata": {"namespace": "shop", "name": "web", "uid": "u1", "generation": 1},
        "spec": {"backends": {"type": "Service", "service": {"name": "web"}}, "ports": [{"name": "http", "port": 80}]},
    })
}

fn malformed() -> Value {
    let mut object = balancer();
    object["metadata"]["name"] = json!("broken");
    object["metadata"]["uid"] = json!("u2");
    object["spec"]["ports"] = json!("none");
    object
}

fn guarded(object: &Value) -> Arc<Guarded> {
    Arc::new(serde_json::from_value(object.clone()).expect("at least metadata"))
}

/// Says yes to all writes, and gives balancers by name.
fn yes(asked: &Asked) -> (u16, Value) {
    let missing = json!({"kind": "Status", "code": 404, "reason": "NotFound", "message": "not found"});
    if asked.path.contains("/portableloadbalancers/broken") {
        (200, malformed())
    } else if asked.path.contains("/portableloadbalancers/") {
        (200, balancer())
    } else if asked.is_write() {
        (200, asked.body.clone())
    } else {
        (404, missing)
    }
}

/// Marks all stores as read.
fn fill(streams: &mut Streams, children: Option<Children>) {
    let writers = &mut streams.writers;
    if let Some(children) = children {
        writers
            .replica_sets
            .apply_watcher_event(&Event::InitApply(Packed::new(&children.agents)));
        writers
            .service_accounts
            .apply_watcher_event(&Event::InitApply(Packed::new(&children.service_account)));
        writers
            .role_bindings
            .apply_watcher_event(&Event::InitApply(Packed::new(&children.role_binding)));
        if let Some(budget) = children.budget {
            writers
                .budgets
                .apply_watcher_event(&Event::InitApply(Packed::new(&budget)));
        }
        if let Some(service) = children.service {
            writers
                .services
                .apply_watcher_event(&Event::InitApply(Packed::new(&service)));
        }
    }
    writers.replica_sets.apply_watcher_event(&Event::InitDone);
    writers.pods.apply_watcher_event(&Event::InitDone);
    writers.services.apply_watcher_event(&Event::InitDone);
    writers.budgets.apply_watcher_event(&Event::InitDone);
    writers.service_accounts.apply_watcher_event(&Event::InitDone);
    writers.role_bindings.apply_watcher_event(&Event::InitDone);
    writers.nodes.apply_watcher_event(&Event::InitDone);
}

async fn reconciled(context: &Arc<Context>, object: &Value) {
    let done = timeout(SECOND, reconcile(guarded(object), context.clone())).await;
    done.expect("within a second").expect("no error");
}

fn status_patch(log: &Log, name: &str) -> Option<Asked> {
    let path = format!("/apis/portablelb.io/v1alpha1/namespaces/shop/portableloadbalancers/{name}/status");
    log.writes().into_iter().find(|asked| asked.path == path)
}

fn condition<'a>(status: &'a Value, type_: &str) -> &'a Value {
    let conditions = status["conditions"].as_array().expect("conditions");
    conditions
        .iter()
        .find(|it| it["type"] == type_)
        .expect("all conditions are there")
}

/// Of several reconciles that wait for a store only one would be woken.
#[tokio::test]
async fn before_all_is_read_nothing_is_written_and_nobody_waits() {
    let (client, log) = fake::client(yes);
    let (context, mut streams) = Context::new(client, config());
    streams.writers.pods.apply_watcher_event(&Event::InitDone);
    reconciled(&context, &balancer()).await;
    assert!(log.writes().is_empty());
}

#[tokio::test]
async fn the_first_reconcile_applies_the_children_and_then_reports() {
    let (client, log) = fake::client(yes);
    let (context, mut streams) = Context::new(client, config());
    fill(&mut streams, None);
    reconciled(&context, &balancer()).await;
    let child = crd::names::child_name("shop", "web");
    let expected = [
        "PATCH /api/v1/namespaces/agents/serviceaccounts/plb-shop".to_owned(),
        "PATCH /apis/rbac.authorization.k8s.io/v1/namespaces/shop/rolebindings/portable-lb-agent-web"
            .to_owned(),
        format!("PATCH /api/v1/namespaces/agents/services/{child}"),
        format!("PATCH /apis/policy/v1/namespaces/agents/poddisruptionbudgets/{child}"),
        format!("PATCH /apis/apps/v1/namespaces/agents/replicasets/{child}"),
        "PATCH /apis/portablelb.io/v1alpha1/namespaces/shop/portableloadbalancers/web/status".to_owned(),
    ];
    // Events of the missing Service come after.
    assert_eq!(log.lines()[..6], expected);
    let writes = log.writes();
    assert!(
        writes[..6]
            .iter()
            .all(|asked| asked.query.contains("fieldManager=portable-lb-operator"))
    );
    let status = &writes[5].body["status"];
    assert_eq!(status["observedGeneration"], 1);
    assert_eq!(status["conditions"].as_array().map(Vec::len), Some(7));
    assert_eq!(condition(status, "Accepted")["status"], "True");
    assert_eq!(condition(status, "ResolvedRefs")["reason"], "ServiceNotFound");
    assert_eq!(condition(status, "Ready")["status"], "False");
    assert!(status.get("agents").is_none(), "each agent owns its entry");
}

#[tokio::test]
async fn what_has_not_changed_is_not_written() {
    let (client, log) = fake::client(yes);
    let (context, mut streams) = Context::new(client, config());
    let mut object = balancer();
    let lb = serde_json::from_value(object.clone()).expect("valid");
    fill(&mut streams, Some(build(&lb, &config().agents)));
    reconciled(&context, &object).await;
    // With all children in the stores, the status alone was missing.
    let reported = status_patch(&log, "web").expect("a status");
    assert!(
        log.lines().iter().all(|line| !line.contains("agents/")),
        "{:?}",
        log.lines()
    );
    object["status"] = reported.body["status"].clone();
    let before = log.writes().len();
    reconciled(&context, &object).await;
    assert_eq!(log.writes().len(), before, "{:?}", log.lines());
}

#[tokio::test]
async fn a_restarted_operator_writes_nothing_anew() {
    let (client, log) = fake::client(yes);
    let (context, mut streams) = Context::new(client, config());
    let mut object = balancer();
    let lb = serde_json::from_value(object.clone()).expect("valid");
    fill(&mut streams, Some(build(&lb, &config().agents)));
    reconciled(&context, &object).await;
    object["status"] = status_patch(&log, "web").expect("a status").body["status"].clone();

    let (client, log) = fake::client(yes);
    let (context, mut streams) = Context::new(client, config());
    fill(&mut streams, Some(build(&lb, &config().agents)));
    reconciled(&context, &object).await;
    assert!(log.lines().is_empty(), "{:?}", log.lines());
}

#[tokio::test]
async fn what_is_wanted_no_more_is_deleted() {
    let (client, log) = fake::client(yes);
    let (context, mut streams) = Context::new(client, config());
    let mut object = balancer();
    let mut children = build(
        &serde_json::from_value(object.clone()).expect("valid"),
        &config().agents,
    );
    if let Some(service) = &mut children.service {
        service.metadata.uid = Some("s1".into());
    }
    fill(&mut streams, Some(children));
    object["spec"]["exposure"] = json!({"type": "PodIP"});
    reconciled(&context, &object).await;
    let deletions: Vec<Asked> = log
        .writes()
        .into_iter()
        .filter(|asked| asked.method == "DELETE")
        .collect();
    assert_eq!(deletions.len(), 1);
    assert!(deletions[0].path.contains("/services/"));
    assert_eq!(deletions[0].body["preconditions"]["uid"], "s1");
}

#[tokio::test]
async fn a_child_of_a_namesake_that_is_gone_is_made_anew() {
    let (client, log) = fake::client(yes);
    let (context, mut streams) = Context::new(client, config());
    let mut gone = balancer();
    gone["metadata"]["uid"] = json!("u0");
    let children = build(&serde_json::from_value(gone).expect("valid"), &config().agents);
    fill(&mut streams, Some(children));
    reconciled(&context, &balancer()).await;
    let lines = log.lines();
    let child = crd::names::child_name("shop", "web");
    let path = format!("/apis/apps/v1/namespaces/agents/replicasets/{child}");
    let of_agents: Vec<&String> = lines
        .iter()
        .filter(|line| line.contains("/replicasets/"))
        .collect();
    assert_eq!(of_agents, [&format!("DELETE {path}"), &format!("PATCH {path}")]);
}

#[tokio::test]
async fn the_entry_of_an_agent_that_is_gone_is_removed_in_its_name() {
    let (client, log) = fake::client(yes);
    let (context, mut streams) = Context::new(client, config());
    fill(&mut streams, None);
    let mut object = balancer();
    object["status"] = json!({"agents": [{"name": "plb-web-gone"}]});
    reconciled(&context, &object).await;
    let removal = log
        .writes()
        .into_iter()
        .find(|asked| asked.query.contains("fieldManager=plb-web-gone"));
    let removal = removal.expect("an apply in the agent's name");
    assert!(removal.body.get("status").is_none());
}

#[tokio::test]
async fn balancers_of_another_class_or_on_their_way_out_are_left_alone() {
    let (client, log) = fake::client(yes);
    let (context, mut streams) = Context::new(client, config());
    fill(&mut streams, None);
    let mut other = balancer();
    other["spec"]["className"] = json!("another");
    reconciled(&context, &other).await;
    let mut going = balancer();
    going["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    reconciled(&context, &going).await;
    assert!(log.all().is_empty(), "{:?}", log.lines());
}

#[tokio::test]
async fn children_that_are_refused_are_told_in_the_status() {
    let refusal = json!({"kind": "Status", "code": 403, "reason": "Forbidden", "message": "exceeded quota"});
    let (client, log) = fake::client(move |asked: &Asked| {
        let refused = asked.path.contains("/replicasets/");
        if refused {
            (403, refusal.clone())
        } else {
            yes(asked)
        }
    });
    let (context, mut streams) = Context::new(client, config());
    fill(&mut streams, None);
    let done = timeout(SECOND, reconcile(guarded(&balancer()), context))
        .await
        .expect("within a second");
    assert!(done.is_err(), "it is tried again");
    let status = &status_patch(&log, "web").expect("a status").body["status"];
    assert_eq!(condition(status, "Programmed")["reason"], "ChildRefused");
    let message = condition(status, "Programmed")["message"].to_string();
    assert!(message.contains("exceeded quota"), "{message}");
}

#[tokio::test]
async fn a_malformed_balancer_is_told_so() {
    let (client, log) = fake::client(yes);
    let (context, mut streams) = Context::new(client, config());
    fill(&mut streams, None);
    let object = guarded(&malformed());
    assert!(matches!(*object, DeserializeGuard(Err(_))));
    timeout(SECOND, reconcile(object, context))
        .await
        .expect("within a second")
        .expect("no error");
    let status = &status_patch(&log, "broken").expect("a status").body["status"];
    for type_ in ["Accepted", "Ready"] {
        assert_eq!(condition(status, type_)["status"], "False");
        assert_eq!(condition(status, type_)["reason"], "InvalidSpec");
    }
}

/// Answers lists, and leaves watches open.
fn lists(asked: &Asked) -> Option<(u16, Value)> {
    let of = |items: Vec<Value>| Some((200, json!({"metadata": {"resourceVersion": "7"}, "items": items})));
    match (asked.method.as_str(), asked.path.as_str()) {
        ("GET", _) if asked.query.contains("watch=true") => None,
        ("GET", "/apis/portablelb.io/v1alpha1/portableloadbalancers") => of(vec![malformed(), balancer()]),
        ("GET", path) if !path.contains("/portableloadbalancers/") => of(Vec::new()),
        _ => Some(yes(asked)),
    }
}

#[tokio::test]
async fn a_malformed_balancer_stops_no_other() {
    let (client, log) = fake::client(lists);
    let (context, streams) = Context::new(client, config());
    let stop = CancellationToken::new();
    let running = tokio::spawn(run(context, streams, stop.clone()));
    let both = async {
        while status_patch(&log, "web").is_none() || status_patch(&log, "broken").is_none() {
            tokio::task::yield_now().await;
        }
    };
    timeout(2 * SECOND, both).await.expect("both have a status soon");
    stop.cancel();
    timeout(SECOND, running)
        .await
        .expect("it ends when told to")
        .expect("it does not panic");
}
