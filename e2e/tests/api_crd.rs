//! The definition in the chart, installed in a real API server: what it accepts, refuses, fills in and shows.

use anyhow::{Context, Result, ensure};
use crd::PortableLoadBalancer;
use e2e::api_server::ApiServer;
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, DynamicObject};
use kube::{Client, Error};
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Deserialize)]
struct Specs {
    accepted: Vec<Case>,
    refused: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    what: String,
    #[serde(default)]
    path: String,
    spec: Value,
}

/// Objects of any shape, since refused ones have none that Rust knows.
fn any(client: &Client, namespace: &str) -> Api<DynamicObject> {
    Api::namespaced_with(
        client.clone(),
        namespace,
        &ApiResource::erase::<PortableLoadBalancer>(&()),
    )
}

fn object(name: &str, spec: &Value) -> Result<DynamicObject> {
    let object = json!({
        "apiVersion": "portablelb.io/v1alpha1",
        "kind": "PortableLoadBalancer",
        "metadata": {"name": name},
        "spec": spec,
    });
    Ok(serde_json::from_value(object)?)
}

fn smallest() -> Value {
    json!({"backends": {"service": {"name": "web"}}, "ports": [{"name": "http", "port": 80}]})
}

fn specs() -> Specs {
    serde_yaml::from_str(include_str!("../../crd/tests/specs.yaml")).expect("specs.yaml is valid")
}

/// Creates it without keeping it, and gives the paths and messages of a refusal.
async fn refusal(api: &Api<DynamicObject>, object: &DynamicObject) -> Result<Vec<(String, String)>> {
    let try_only = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    match api.create(&try_only, object).await {
        Ok(_) => Ok(Vec::new()),
        Err(error) => causes(error),
    }
}

fn causes(error: Error) -> Result<Vec<(String, String)>> {
    let Error::Api(status) = error else {
        return Err(error.into());
    };
    ensure!(status.code == 422, "not refused as invalid: {status:?}");
    let causes = status.details.context("a refusal has details")?.causes;
    Ok(causes
        .into_iter()
        .map(|cause| (cause.field, cause.message))
        .collect())
}

#[tokio::test]
async fn the_definition_is_installed_without_a_warning() -> Result<()> {
    let (server, said) = ApiServer::with_definition();
    assert_eq!(said.err, "");
    let definition = server
        .kubectl(&["get", "crd", "portableloadbalancers.portablelb.io", "-o", "json"])?
        .out;
    let definition: Value = serde_json::from_str(&definition)?;
    let conditions = definition["status"]["conditions"]
        .as_array()
        .context("it has conditions")?;
    for condition in conditions {
        let good = ["NamesAccepted", "Established"].contains(&condition["type"].as_str().unwrap_or_default());
        assert!(good && condition["status"] == "True", "{condition}");
    }
    Ok(())
}

#[tokio::test]
async fn valid_specs_are_accepted() -> Result<()> {
    let (server, _) = ApiServer::with_definition();
    let client = server.client().await?;
    let api = any(&client, &server.namespace(&client).await?);
    for case in specs().accepted {
        assert_eq!(
            refusal(&api, &object("web", &case.spec)?).await?,
            [],
            "{}",
            case.what
        );
    }
    Ok(())
}

#[tokio::test]
async fn invalid_specs_are_refused_with_the_fields_path() -> Result<()> {
    let (server, _) = ApiServer::with_definition();
    let client = server.client().await?;
    let api = any(&client, &server.namespace(&client).await?);
    for case in specs().refused {
        let causes = refusal(&api, &object("web", &case.spec)?).await?;
        let paths: Vec<&str> = causes.iter().map(|(path, _)| path.as_str()).collect();
        // Rules are not asked where a type is wrong already, which the API server then says too, without a path.
        assert!(paths.contains(&case.path.as_str()), "{}: {causes:?}", case.what);
        for path in paths {
            assert!(path == case.path || path == "<nil>", "{}: {causes:?}", case.what);
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_refusal_says_what_must_be() -> Result<()> {
    let (server, _) = ApiServer::with_definition();
    let client = server.client().await?;
    let api = any(&client, &server.namespace(&client).await?);
    let spec = json!({"backends": {"service": {"name": "web"}}, "ports": [{"name": "http", "port": 9913}]});
    let causes = refusal(&api, &object("web", &spec)?).await?;
    let [(path, message)] = causes.as_slice() else {
        panic!("{causes:?}")
    };
    assert_eq!(path, "spec.ports[0].port");
    assert!(
        message.contains("must not cover 9913 of TCP, where the agents' own server listens"),
        "{message}"
    );
    Ok(())
}

#[tokio::test]
async fn a_name_must_be_a_label() -> Result<()> {
    let (server, _) = ApiServer::with_definition();
    let client = server.client().await?;
    let api = any(&client, &server.namespace(&client).await?);
    assert_eq!(refusal(&api, &object(&"x".repeat(63), &smallest())?).await?, []);
    for name in ["x".repeat(64), "a.b".to_owned()] {
        let causes = refusal(&api, &object(&name, &smallest())?).await?;
        assert!(
            causes.iter().any(|(path, _)| path == "metadata.name"),
            "{causes:?}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn the_class_cannot_be_changed() -> Result<()> {
    let (server, _) = ApiServer::with_definition();
    let client = server.client().await?;
    let api = any(&client, &server.namespace(&client).await?);
    api.create(&PostParams::default(), &object("web", &smallest())?)
        .await?;
    let change = Patch::Merge(json!({"spec": {"className": "another"}}));
    let error = api
        .patch("web", &PatchParams::default(), &change)
        .await
        .expect_err("refused");
    let causes = causes(error)?;
    assert_eq!(causes.len(), 1, "{causes:?}");
    assert_eq!(causes[0].0, "spec.className");
    assert!(causes[0].1.contains("cannot be changed"), "{causes:?}");
    let change = Patch::Merge(json!({"spec": {"drainTimeoutSeconds": 10}}));
    api.patch("web", &PatchParams::default(), &change).await?;
    Ok(())
}

#[tokio::test]
async fn what_is_not_said_is_filled_in() -> Result<()> {
    let (server, _) = ApiServer::with_definition();
    let client = server.client().await?;
    let namespace = server.namespace(&client).await?;
    let stored = any(&client, &namespace)
        .create(&PostParams::default(), &object("web", &smallest())?)
        .await?;
    let expected = json!({
        "className": "portable-lb",
        "backends": {"type": "Service", "service": {"name": "web"}},
        "ports": [{"name": "http", "port": 80, "protocol": "TCP"}],
        "scheduler": {"name": "wlc"},
        "forwarding": {"type": "NAT"},
        "flannelBackend": "Auto",
        "timeouts": {"tcpSeconds": 900, "tcpFinSeconds": 120, "udpSeconds": 300},
        "drainTimeoutSeconds": 30,
        "healthCheck": {"type": "Readiness", "intervalSeconds": 5, "timeoutSeconds": 2, "rise": 2, "fall": 3},
        "warmUpSeconds": 0,
        "exposure": {"type": "Service"},
        "redundancy": {"replicas": 2, "mode": "ActiveActive"},
        "packetSteering": {"rps": "Auto"},
    });
    assert_eq!(stored.data["spec"], expected);
    Ok(())
}

#[tokio::test]
async fn our_types_fill_in_the_same_and_write_no_null() -> Result<()> {
    let (server, _) = ApiServer::with_definition();
    let client = server.client().await?;
    let namespace = server.namespace(&client).await?;
    let ours: PortableLoadBalancer =
        serde_json::from_value(serde_json::to_value(object("web", &smallest())?)?)?;
    assert!(!serde_json::to_string(&ours)?.contains("null"));
    let api: Api<PortableLoadBalancer> = Api::namespaced(client, &namespace);
    let stored = api.create(&PostParams::default(), &ours).await?;
    assert_eq!(stored.spec, ours.spec);
    Ok(())
}

#[tokio::test]
async fn an_unknown_field_is_told() -> Result<()> {
    let (server, _) = ApiServer::with_definition();
    let client = server.client().await?;
    let namespace = server.namespace(&client).await?;
    let mut spec = smallest();
    spec["agent"] = json!({"tolerations": []});
    let text = serde_json::to_string(&object("web", &spec)?)?;
    let error = server
        .kubectl_with(&["create", "-n", &namespace, "-f", "-"], &text)
        .expect_err("refused");
    assert!(
        error
            .to_string()
            .contains("unknown field \"spec.agent.tolerations\""),
        "{error}"
    );
    Ok(())
}

#[tokio::test]
async fn kubectl_shows_the_promised_columns() -> Result<()> {
    let (server, _) = ApiServer::with_definition();
    let client = server.client().await?;
    let namespace = server.namespace(&client).await?;
    let api = any(&client, &namespace);
    api.create(&PostParams::default(), &object("web", &smallest())?)
        .await?;
    let status = json!({"status": {
        "conditions": [{
            "type": "Ready", "status": "True", "reason": "Serving", "message": "",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        }],
        "summary": {"address": "10.0.0.1", "ports": "80/TCP", "backends": "3/3", "agents": "2/2", "activeNode": "node1"},
        "network": {"flannelBackend": "VXLAN", "forwarding": "NAT"},
    }});
    api.patch_status("web", &PatchParams::default(), &Patch::Merge(status))
        .await?;
    let columns = |text: &str| -> Vec<Vec<String>> {
        text.lines()
            .map(|line| line.split_whitespace().map(str::to_owned).collect())
            .collect()
    };
    let narrow = columns(&server.kubectl(&["get", "plb", "-n", &namespace])?.out);
    assert_eq!(
        narrow[0].join(" "),
        "NAME CLASS ADDRESS PORTS READY BACKENDS AGENTS AGE"
    );
    assert_eq!(
        narrow[1][..7].join(" "),
        "web portable-lb 10.0.0.1 80/TCP True 3/3 2/2"
    );
    let wide = columns(
        &server
            .kubectl(&["get", "plb", "-n", &namespace, "-o", "wide"])?
            .out,
    );
    assert_eq!(wide[0][8..].join(" "), "SCHEDULER FORWARDING FLANNEL NODE REASON");
    assert_eq!(wide[1][8..].join(" "), "wlc NAT VXLAN node1 Serving");
    Ok(())
}

#[tokio::test]
async fn objects_are_found_by_their_class() -> Result<()> {
    let (server, _) = ApiServer::with_definition();
    let client = server.client().await?;
    let namespace = server.namespace(&client).await?;
    let api = any(&client, &namespace);
    let mut other = smallest();
    other["className"] = json!("other");
    api.create(&PostParams::default(), &object("ours", &smallest())?)
        .await?;
    api.create(&PostParams::default(), &object("theirs", &other)?)
        .await?;
    let found = api
        .list(&kube::api::ListParams::default().fields("spec.className=other"))
        .await?;
    let names: Vec<_> = found
        .items
        .iter()
        .map(|object| object.metadata.name.as_deref())
        .collect();
    assert_eq!(names, [Some("theirs")]);
    Ok(())
}

#[tokio::test]
async fn kubectl_explains_every_field() -> Result<()> {
    let (server, _) = ApiServer::with_definition();
    for field in [
        "spec.scheduler.name",
        "spec.ports.targetPort",
        "status.agents.observedGeneration",
    ] {
        let text = server.kubectl(&["explain", &format!("plb.{field}")])?.out;
        let description = text.split("DESCRIPTION:").nth(1).unwrap_or_default().trim();
        assert!(
            !description.is_empty() && !description.contains("<empty>"),
            "{field}: {text}"
        );
    }
    Ok(())
}
