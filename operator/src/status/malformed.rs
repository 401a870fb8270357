//! Balancers that can't be read as such: stored before a rule was, or by another version. They are told so, and stop
//! nothing else.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::{ApiResource, DynamicObject, Patch, PatchParams};
use kube::core::error_boundary::InvalidObject;
use kube::{Api, Resource, ResourceExt};
use serde_json::{Value, json};

use super::patch::body;
use super::{Error, MESSAGE_MAX, now};
use crate::controller::Context;
use crate::events;
use crd::condition::{self, Observed, State, reason};
use crd::{PortableLoadBalancer, names, shorten};

/// Writes `Accepted=False` and `Ready=False` into an otherwise unchanged status, if they aren't there.
pub(crate) async fn report(context: &Context, invalid: &InvalidObject) -> Result<(), Error> {
    let metadata = &invalid.metadata;
    let name = metadata.name.as_deref().unwrap_or_default();
    let namespace = metadata.namespace.as_deref().unwrap_or_default();
    let kind = ApiResource::erase::<PortableLoadBalancer>(&());
    let api = Api::<DynamicObject>::namespaced_with(context.client.clone(), namespace, &kind);
    let Some(raw) = api.get_opt(name).await.map_err(Error::Read)? else {
        return Ok(());
    };
    let class = raw.data.pointer("/spec/className").and_then(Value::as_str);
    if class.unwrap_or(names::DEFAULT_CLASS) != context.config.class_name {
        return Ok(());
    }
    let live = raw.data.get("status").cloned().unwrap_or_else(|| json!({}));
    let before = conditions(&live);
    let status = told(&live, raw.metadata.generation, &invalid.error);
    if without_agents(live) == status {
        return Ok(());
    }
    let params = PatchParams::apply(names::OPERATOR_MANAGER).force();
    let body = body(&raw.metadata, Some(&status));
    api.patch_status(&raw.name_any(), &params, &Patch::Apply(&body))
        .await
        .map_err(Error::Write)?;
    let about = raw.object_ref(&kind);
    events::publish(&context.teller, &about, &before, &conditions(&status)).await;
    Ok(())
}

/// The operator's part of the status, with the two conditions in it.
fn told(live: &Value, generation: Option<i64>, error: &str) -> Value {
    let mut status = without_agents(live.clone());
    let mut conditions = conditions(live);
    let message = format!(
        "the object is malformed: {error}; correct it as kubectl explain plb.spec says; \
         until then agents, if there are any, keep serving the previous configuration"
    );
    for type_ in [condition::ACCEPTED, condition::READY] {
        let observed = Observed {
            type_,
            state: State::False,
            reason: reason::INVALID_SPEC.to_owned(),
            message: shorten(&message, MESSAGE_MAX),
        };
        condition::set(&mut conditions, observed, generation, &now());
    }
    status["conditions"] = json!(conditions);
    if let Some(generation) = generation {
        status["observedGeneration"] = json!(generation);
    }
    status
}

fn conditions(status: &Value) -> Vec<Condition> {
    let conditions = status.get("conditions").cloned().unwrap_or_default();
    serde_json::from_value(conditions).unwrap_or_default()
}

fn without_agents(mut status: Value) -> Value {
    if let Some(fields) = status.as_object_mut() {
        fields.remove("agents");
    }
    status
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_stays_and_a_second_look_changes_nothing() {
        let live =
            json!({"addresses": [{"type": "IPAddress", "value": "10.96.0.7"}], "agents": [{"name": "a"}]});
        let status = told(&live, Some(2), "ports: not a list");
        assert_eq!(status["addresses"], live["addresses"]);
        assert!(status.get("agents").is_none(), "agents own their entries");
        let conditions = conditions(&status);
        assert!(
            conditions
                .iter()
                .all(|it| it.status == "False" && it.observed_generation == Some(2))
        );
        assert!(conditions[0].message.contains("ports: not a list"));
        assert_eq!(told(&status, Some(2), "ports: not a list"), status);
    }
}
