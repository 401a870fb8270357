//! The `CustomResourceDefinition` as it is installed: what the derive makes, mended where it departs from Kubernetes'
//! API conventions.

use kube::CustomResourceExt;
use serde_json::{Map, Number, Value, json};

use crate::PortableLoadBalancer;

/// File name of the definition in the chart.
pub const FILE: &str = "portablelb.io_portableloadbalancers.yaml";

const NAME: &str = "Name of the balancer, at most 63 characters without '.'.";

/// Why the definition could not be written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is no JSON.
    #[error("could not turn the definition into JSON")]
    Json(#[from] serde_json::Error),
    /// It is no YAML.
    #[error("could not turn the definition into YAML")]
    Yaml(#[from] serde_yaml::ser_error::Error),
}

/// The definition as JSON.
pub fn definition() -> Result<Value, Error> {
    let mut definition = serde_json::to_value(PortableLoadBalancer::crd())?;
    mend(&mut definition);
    let schema = &mut definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    if let Some(root) = schema.as_object_mut() {
        root.remove("title");
    }
    // Of the metadata, Kubernetes lets a schema say something of the name alone.
    let name = json!({"type": "string", "maxLength": crate::names::NAME_MAX, "description": NAME});
    schema["properties"]["metadata"] = json!({"type": "object", "properties": {"name": name}});
    schema["properties"]["status"]["properties"]["conditions"]["items"] = condition();
    Ok(definition)
}

/// The definition as the chart's file.
pub fn file() -> Result<String, Error> {
    let header = "# Made by `make crds` from the crate `crd`. Do not edit.\n";
    let options = serde_yaml::ser_options! { prefer_block_scalars: false };
    let text = serde_yaml::to_string_with_options(&definition()?, options)?;
    Ok(format!("{header}{text}"))
}

/// Goes through the whole schema.
fn mend(value: &mut Value) {
    match value {
        Value::Object(object) => {
            mend_object(object);
            object.values_mut().for_each(mend);
        }
        Value::Array(items) => items.iter_mut().for_each(mend),
        _ => {}
    }
}

fn mend_object(object: &mut Map<String, Value>) {
    // An absent field and a null one are not the same to patches, so there are only absent ones.
    if object.get("nullable") == Some(&Value::Bool(true)) {
        object.remove("nullable");
    }
    // The same for the null that an optional enum has among its values.
    if let Some(Value::Array(values)) = object.get_mut("enum") {
        values.retain(|value| !value.is_null());
    }
    // The lines of a comment are no lines of the text.
    if let Some(Value::String(text)) = object.get_mut("description") {
        *text = text
            .replace("\n\n", "\0")
            .replace('\n', " ")
            .replace('\0', "\n\n");
    }
    // An empty object as default would be stored in every object for nothing.
    if object.get("default") == Some(&json!({})) {
        object.remove("default");
    }
    for bound in ["minimum", "maximum"] {
        if let Some(whole) = object.get(bound).and_then(Value::as_f64).and_then(to_whole) {
            object.insert(bound.to_owned(), Value::Number(whole));
        }
    }
}

/// Bounds are read as floating point numbers and would be printed so.
fn to_whole(number: f64) -> Option<Number> {
    let text = format!("{number:.0}");
    let whole: i64 = text.parse().ok()?;
    (number.fract() == 0.0).then(|| whole.into())
}

/// Kubernetes' own `Condition` with all of its bounds.
fn condition() -> Value {
    json!({
        "description": "Condition contains details for one aspect of the current state of this API Resource.",
        "type": "object",
        "required": ["lastTransitionTime", "message", "reason", "status", "type"],
        "properties": {
            "lastTransitionTime": {
                "description": "When the condition last changed from one status to another.",
                "type": "string", "format": "date-time",
            },
            "message": {
                "description": "What is wrong and what to do, for people. May be empty.",
                "type": "string", "maxLength": 32768,
            },
            "observedGeneration": {
                "description": "The generation of the spec that this condition speaks of.",
                "type": "integer", "format": "int64", "minimum": 0,
            },
            "reason": {
                "description": "One CamelCase word for programs: why the status is what it is.",
                "type": "string",
                "minLength": 1,
                "maxLength": 1024,
                "pattern": "^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$",
            },
            "status": {
                "description": "Whether it is so: True, False or Unknown.",
                "type": "string",
                "enum": ["True", "False", "Unknown"],
            },
            "type": {
                "description": "Name of the condition in CamelCase.",
                "type": "string",
                "maxLength": 316,
                "pattern": "^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])$",
            },
        },
    })
}
