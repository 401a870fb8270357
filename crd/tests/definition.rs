//! The definition in the chart is the generated one and keeps Kubernetes' API conventions.

use serde_json::{Map, Value};

const COMMITTED: &str =
    include_str!("../../charts/portable-lb/files/crds/portablelb.io_portableloadbalancers.yaml");

#[test]
fn the_chart_has_the_generated_definition() {
    let generated = crd::schema::file().expect("the definition is generated");
    assert!(
        COMMITTED == generated,
        "the chart's definition is old: run `make crds`"
    );
}

#[test]
fn the_yaml_holds_what_was_generated() {
    let read: Value = serde_yaml::from_str(COMMITTED).expect("the definition is YAML");
    assert_eq!(
        read,
        crd::schema::definition().expect("the definition is generated")
    );
}

#[test]
fn every_field_tells_what_it_is() {
    each_property(|path, field| {
        let text = field
            .get("description")
            .and_then(Value::as_str)
            .unwrap_or_default();
        // Kubernetes has its own words for metadata.
        assert!(
            text.len() > 10 || path == ".metadata",
            "{path} has no documentation"
        );
    });
}

#[test]
fn every_default_is_documented() {
    each_property(|path, field| {
        let text = field
            .get("description")
            .and_then(Value::as_str)
            .unwrap_or_default();
        assert!(
            !field.contains_key("default") || text.contains("Defaults to"),
            "{path}"
        );
    });
}

#[test]
fn no_value_is_a_boolean_of_yaml_1_1() {
    each_schema(|path, schema| {
        // People write the spec; a condition's True comes from programs.
        let values = schema.get("enum").filter(|_| path.starts_with(".spec"));
        let values = values.and_then(Value::as_array).into_iter().flatten();
        for word in values.filter_map(Value::as_str) {
            let booleans = ["y", "n", "yes", "no", "on", "off", "true", "false"];
            assert!(
                !booleans.contains(&word.to_lowercase().as_str()),
                "{path} may be {word}"
            );
        }
    });
}

#[test]
fn every_string_is_bounded() {
    each_schema(|path, schema| {
        let known = ["enum", "format", "maxLength"]
            .iter()
            .any(|key| schema.contains_key(*key));
        assert!(known || !is(schema, "string"), "{path}");
    });
}

#[test]
fn every_number_is_a_bounded_int() {
    each_schema(|path, schema| {
        assert!(!is(schema, "number"), "{path}");
        if is(schema, "integer") {
            let format = schema.get("format").and_then(Value::as_str).unwrap_or_default();
            assert!(["int32", "int64"].contains(&format), "{path}");
            assert!(schema["minimum"].is_i64(), "{path}");
            // Generations have no end.
            assert!(format == "int64" || schema["maximum"].is_i64(), "{path}");
        }
    });
}

#[test]
fn every_list_and_map_is_bounded_and_says_how_it_merges() {
    each_schema(|path, schema| {
        if is(schema, "array") {
            assert!(schema.contains_key("maxItems"), "{path}");
            assert!(schema.contains_key("x-kubernetes-list-type"), "{path}");
        }
        if schema.contains_key("additionalProperties") {
            assert!(schema.contains_key("maxProperties"), "{path}");
        }
    });
}

#[test]
fn nothing_is_nullable() {
    each_schema(|path, schema| {
        assert!(!schema.contains_key("nullable"), "{path}");
        let values = schema.get("enum").and_then(Value::as_array);
        assert!(
            values.is_none_or(|values| values.iter().all(Value::is_string)),
            "{path}"
        );
    });
}

fn is(schema: &Map<String, Value>, name: &str) -> bool {
    schema.get("type").is_some_and(|it| it == name)
}

/// Visits the fields that have a name.
fn each_property(mut visit: impl FnMut(&str, &Map<String, Value>)) {
    each_schema(|path, schema| {
        for (name, field) in schema
            .get("properties")
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
        {
            visit(&format!("{path}.{name}"), field.as_object().expect("a schema"));
        }
    });
}

/// Visits every schema within that of the object.
fn each_schema(mut visit: impl FnMut(&str, &Map<String, Value>)) {
    let definition = crd::schema::definition().expect("the definition is generated");
    let root = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    let mut open = vec![(String::new(), root)];
    while let Some((path, schema)) = open.pop() {
        let schema = schema.as_object().expect("a schema");
        visit(&path, schema);
        for (name, field) in schema
            .get("properties")
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
        {
            open.push((format!("{path}.{name}"), field));
        }
        for (key, mark) in [("items", "[]"), ("additionalProperties", "{}")] {
            open.extend(schema.get(key).map(|inner| (format!("{path}{mark}"), inner)));
        }
    }
}
