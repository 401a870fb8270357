//! What a sweep deletes, and when it deletes nothing.

#[path = "support/fake.rs"]
mod fake;

use fake::Asked;
use operator::sweep::sweep;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::timeout;

const SECOND: Duration = Duration::from_secs(1);
const BALANCERS: &str = "/apis/portablelb.io/v1alpha1/portableloadbalancers";

fn list(items: &Value) -> (u16, Value) {
    (200, json!({"metadata": {"resourceVersion": "7"}, "items": items}))
}

fn child(name: &str, uid: &str) -> Value {
    json!({"metadata": {"name": name, "namespace": "agents", "uid": format!("child-{name}"),
                        "labels": {"portablelb.io/plb-uid": uid, "portablelb.io/plb-namespace": "shop"}}})
}

fn account(namespace: &str) -> Value {
    json!({"metadata": {"name": format!("plb-{namespace}"), "namespace": "agents", "uid": "a",
                        "labels": {"portablelb.io/plb-namespace": namespace}}})
}

/// One living balancer, `u1` in the namespace `shop`; each kind has a child of it and one of `u0`, which is gone.
fn cluster(asked: &Asked) -> (u16, Value) {
    match (asked.method.as_str(), asked.path.rsplit('/').next()) {
        ("GET", Some("portableloadbalancers")) => {
            list(&json!([{"metadata": {"name": "web", "namespace": "shop", "uid": "u1"}}]))
        }
        ("GET", Some("serviceaccounts")) => list(&json!([account("shop"), account("closed")])),
        ("GET", _) => list(&json!([child("kept", "u1"), child("orphan", "u0")])),
        _ => (200, json!({"kind": "Status", "status": "Success"})),
    }
}

#[tokio::test]
async fn only_children_of_balancers_that_are_gone_are_deleted() {
    let (client, log) = fake::client(cluster);
    let deleted = timeout(SECOND, sweep(&client, "agents"))
        .await
        .expect("in time")
        .expect("no error");
    assert_eq!(deleted, 5);
    let expected = [
        "DELETE /apis/apps/v1/namespaces/agents/replicasets/orphan",
        "DELETE /api/v1/namespaces/agents/services/orphan",
        "DELETE /apis/policy/v1/namespaces/agents/poddisruptionbudgets/orphan",
        "DELETE /api/v1/namespaces/agents/pods/orphan",
        "DELETE /api/v1/namespaces/agents/serviceaccounts/plb-closed",
    ];
    assert_eq!(log.lines(), expected);
    let writes = log.writes();
    assert!(
        writes
            .iter()
            .all(|asked| asked.body["preconditions"]["uid"].is_string())
    );
}

#[tokio::test]
async fn only_what_carries_our_label_is_looked_at() {
    let (client, log) = fake::client(cluster);
    timeout(SECOND, sweep(&client, "agents"))
        .await
        .expect("in time")
        .expect("no error");
    let lists = log
        .all()
        .into_iter()
        .filter(|asked| !asked.is_write() && asked.path != BALANCERS);
    for asked in lists {
        assert!(asked.path.contains("/namespaces/agents/"), "{}", asked.path);
        assert!(
            asked.query.contains("managed-by%3Dportable-lb-operator"),
            "{}",
            asked.query
        );
    }
}

#[tokio::test]
async fn balancers_are_read_after_their_children() {
    let (client, log) = fake::client(cluster);
    timeout(SECOND, sweep(&client, "agents"))
        .await
        .expect("in time")
        .expect("no error");
    let reads: Vec<Asked> = log.all().into_iter().filter(|asked| !asked.is_write()).collect();
    assert_eq!(reads.last().map(|asked| asked.path.as_str()), Some(BALANCERS));
}

#[tokio::test]
async fn lists_are_read_page_by_page_to_their_end() {
    let page = |asked: &Asked| {
        let (status, mut body) = cluster(asked);
        if asked.path == BALANCERS && !asked.query.contains("continue=more") {
            body = json!({"metadata": {"resourceVersion": "7", "continue": "more"}, "items": []});
        }
        (status, body)
    };
    let (client, log) = fake::client(page);
    timeout(SECOND, sweep(&client, "agents"))
        .await
        .expect("in time")
        .expect("no error");
    assert!(
        log.all()
            .iter()
            .all(|asked| asked.is_write() || asked.query.contains("limit="))
    );
    assert!(
        log.lines().iter().all(|line| !line.ends_with("/kept")),
        "{:?}",
        log.lines()
    );
}

#[tokio::test]
async fn without_a_certain_list_of_balancers_nothing_is_deleted() {
    let forbidden = json!({"kind": "Status", "code": 403, "reason": "Forbidden", "message": "no"});
    let partial = json!({"metadata": {"resourceVersion": "7", "continue": "more"}, "items": []});
    let uncertain = json!({"metadata": {}, "items": []});
    for (status, answer) in [(403, forbidden), (200, partial), (200, uncertain)] {
        let (client, log) = fake::client(move |asked: &Asked| match asked.path.as_str() {
            BALANCERS => (status, answer.clone()),
            _ => cluster(asked),
        });
        let done = timeout(SECOND, sweep(&client, "agents")).await.expect("in time");
        assert!(done.is_err());
        assert!(log.lines().is_empty(), "{:?}", log.lines());
    }
}
