//! Holds a JSON value against a schema of the OpenAPI document.

use crate::admin::openapi;
use serde_json::Value;

/// What `value` has against `schema`; nothing if it conforms. Knows just what our schemas use.
pub(super) fn complaints(value: &Value, schema: &Value, at: &str) -> Vec<String> {
    let schemas = openapi::schemas();
    if let Some(reference) = schema["$ref"].as_str() {
        let name = reference.strip_prefix("#/components/schemas/").unwrap();
        assert!(schemas[name].is_object(), "{name} is not a schema");
        return complaints(value, &schemas[name], at);
    }
    if let Some(choices) = schema["oneOf"].as_array() {
        let tried: Vec<_> = choices.iter().map(|choice| complaints(value, choice, at)).collect();
        return if tried.iter().any(Vec::is_empty) { Vec::new() } else { tried.concat() };
    }
    let actual = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let allowed = match &schema["type"] {
        Value::String(one) => vec![one.as_str()],
        Value::Array(several) => several.iter().filter_map(Value::as_str).collect(),
        _ => return vec![format!("{at}: the schema has no type")],
    };
    let fits = allowed.contains(&actual) || (actual == "integer" && allowed.contains(&"number"));
    if !fits {
        return vec![format!("{at}: {actual} instead of {allowed:?}")];
    }
    let mut found = Vec::new();
    if let Some(values) = schema["enum"].as_array()
        && !values.contains(value)
    {
        found.push(format!("{at}: {value} is not listed"));
    }
    if let Value::Array(items) = value {
        found.extend(items.iter().flat_map(|item| complaints(item, &schema["items"], at)));
    }
    if let Value::Object(fields) = value {
        let known = schema["properties"].as_object().unwrap();
        for (name, field) in fields {
            match known.get(name) {
                Some(schema) => found.extend(complaints(field, schema, &format!("{at}.{name}"))),
                None => found.push(format!("{at}.{name} is not in the schema")),
            }
        }
        let required = schema["required"].as_array().unwrap().iter().filter_map(Value::as_str);
        found.extend(
            required.filter(|name| !fields.contains_key(*name)).map(|name| format!("{at}.{name} is missing")),
        );
    }
    found
}
