//! Tells cheaply whether an object in the cluster is still what was applied.

use kube::Resource;
use serde::Serialize;
use serde_json::Value;

/// Annotation with the fingerprint of what was applied last.
pub(crate) const APPLIED: &str = "portablelb.io/applied";

/// A short hash of a typed object, the same in every version of the toolchain.
///
/// Structs serialize in the order of their fields and maps are ordered, so equal objects have equal text.
pub(crate) fn of(object: &impl Serialize) -> String {
    let text = serde_json::to_vec(object).unwrap_or_default();
    format!("{:016x}", crd::names::fnv1a(&text))
}

/// Writes the object's own fingerprint on it.
pub(crate) fn stamp<K: Resource + Serialize>(object: &mut K) {
    let print = of(object);
    let annotations = object.meta_mut().annotations.get_or_insert_default();
    annotations.insert(APPLIED.to_owned(), print);
}

/// Whether the live object carries the fingerprint of the stamped one, and nobody has changed what it says since.
pub(crate) fn unchanged<K: Resource + Serialize>(live: &K, wanted: &K) -> bool {
    let print = |object: &K| object.meta().annotations.as_ref()?.get(APPLIED).cloned();
    print(live) == print(wanted)
        && match (serde_json::to_value(live), serde_json::to_value(wanted)) {
            (Ok(live), Ok(wanted)) => contains(&live, &wanted),
            _ => false,
        }
}

/// Whether all that `wanted` says is so in `live`, which may say more: the API server adds defaults.
fn contains(live: &Value, wanted: &Value) -> bool {
    match (live, wanted) {
        (Value::Object(live), Value::Object(wanted)) => wanted.iter().all(|(key, wanted)| {
            // The API server rewrites quantities, and it drops what is empty.
            key == "resources"
                || match live.get(key) {
                    Some(live) => contains(live, wanted),
                    None => is_empty(wanted),
                }
        }),
        (Value::Array(live), Value::Array(wanted)) => {
            live.len() == wanted.len()
                && live
                    .iter()
                    .zip(wanted)
                    .all(|(live, wanted)| contains(live, wanted))
        }
        (live, wanted) => live == wanted,
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::ConfigMap;
    use serde_json::json;

    #[test]
    fn a_live_object_may_say_more() {
        let wanted = json!({"a": 1, "list": [{"x": 1}], "empty": {}});
        assert!(contains(
            &json!({"a": 1, "list": [{"x": 1, "y": 2}], "b": 3}),
            &wanted
        ));
    }

    #[test]
    fn a_live_object_may_not_say_otherwise() {
        let wanted = json!({"a": 1, "list": [{"x": 1}]});
        assert!(!contains(&json!({"a": 2, "list": [{"x": 1}]}), &wanted));
        assert!(!contains(&json!({"a": 1, "list": [{"x": 1}, {"x": 2}]}), &wanted));
        assert!(!contains(&json!({"list": [{"x": 1}]}), &wanted));
    }

    #[test]
    fn a_field_that_is_wanted_no_more_shows_in_the_fingerprint() {
        let map = |entries: &[&str]| {
            let data = entries
                .iter()
                .map(|key| ((*key).to_owned(), "x".to_owned()))
                .collect();
            let mut map = ConfigMap {
                data: Some(data),
                ..ConfigMap::default()
            };
            stamp(&mut map);
            map
        };
        assert!(unchanged(&map(&["a"]), &map(&["a"])));
        assert!(!unchanged(&map(&["a", "b"]), &map(&["a"])));
    }
}
