//! `validate` accepts and refuses what the API server does.

use crd::PortableLoadBalancer;
use crd::validate::validate;
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

fn specs() -> Specs {
    serde_yaml::from_str(include_str!("specs.yaml")).expect("specs.yaml is valid")
}

fn named(name: &str, spec: &Value) -> Value {
    json!({
        "apiVersion": "portablelb.io/v1alpha1",
        "kind": "PortableLoadBalancer",
        "metadata": {"name": name},
        "spec": spec,
    })
}

#[test]
fn accepted_specs_have_no_problem() {
    for case in specs().accepted {
        let lb: PortableLoadBalancer = serde_json::from_value(named("web", &case.spec))
            .unwrap_or_else(|error| panic!("{}: {error}", case.what));
        assert_eq!(validate(&lb), [], "{}", case.what);
    }
}

/// Some are refused by their types already, and then tell the word rather than the path.
#[test]
fn refused_specs_have_one_problem_at_the_path() {
    for case in specs().refused {
        let Ok(lb) = serde_json::from_value::<PortableLoadBalancer>(named("web", &case.spec)) else {
            continue;
        };
        let paths: Vec<String> = validate(&lb).into_iter().map(|problem| problem.path).collect();
        assert_eq!(paths, [case.path], "{}", case.what);
    }
}

#[test]
fn a_name_must_be_a_label() {
    let spec = specs().accepted.remove(0).spec;
    for (name, refused) in [
        ("x".repeat(63), false),
        ("x".repeat(64), true),
        ("a.b".to_owned(), true),
    ] {
        let lb = serde_json::from_value(named(&name, &spec)).expect("valid types");
        let paths: Vec<String> = validate(&lb).into_iter().map(|problem| problem.path).collect();
        assert_eq!(paths == ["metadata.name"], refused, "{name}");
    }
}

#[test]
fn problems_say_where_and_what() {
    let spec = json!({"backends": {"service": {"name": "web"}}, "ports": [{"name": "x", "port": 9913}]});
    let lb = serde_json::from_value(named("web", &spec)).expect("valid types");
    let text: Vec<String> = validate(&lb).iter().map(ToString::to_string).collect();
    assert_eq!(
        text,
        ["spec.ports[0].port: must not cover 9913 of TCP, where the agents' own server listens"]
    );
}
