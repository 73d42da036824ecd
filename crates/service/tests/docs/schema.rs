//! The parts of a JSON schema that a reader wants.

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::Value;

/// A field of an object.
pub(crate) struct Field {
    pub(crate) name: String,
    pub(crate) kind: String,
    pub(crate) meaning: String,
}

/// A variant of a tagged type.
pub(crate) struct Variant {
    pub(crate) name: String,
    pub(crate) meaning: String,
    pub(crate) fields: Vec<Field>,
}

/// The schema of a type, references filled in.
pub(crate) fn of<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
    settings.into_generator().into_root_schema_for::<T>().to_value()
}

/// The variants of a type that is told apart by `tag`.
pub(crate) fn variants(schema: &Value, tag: &str) -> Vec<Variant> {
    let variants = schema["oneOf"].as_array().expect("a tagged type");
    let of = |schema: &Value| {
        let name = schema["properties"][tag]["const"].as_str().expect("a tag").to_string();
        let fields = own_fields(schema).into_iter().filter(|field| field.name != tag).collect();
        Variant { name, meaning: meaning(schema), fields }
    };
    variants.iter().map(of).collect()
}

/// The fields of an object, those inside objects and lists with their path.
pub(crate) fn all_fields(schema: &Value) -> Vec<Field> {
    let mut fields = Vec::new();
    collect(schema, "", &mut fields);
    fields
}

fn collect(schema: &Value, within: &str, fields: &mut Vec<Field>) {
    for (field, (name, schema)) in own_fields(schema).into_iter().zip(properties(schema)) {
        let path = format!("{within}{name}");
        fields.push(Field { name: path.clone(), ..field });
        let schema = without_null(schema);
        if schema["properties"].is_object() {
            collect(schema, &format!("{path}."), fields);
        }
        if schema["items"]["properties"].is_object() {
            collect(&schema["items"], &format!("{path}[]."), fields);
        }
    }
}

fn properties(schema: &Value) -> impl Iterator<Item = (&String, &Value)> {
    schema["properties"].as_object().into_iter().flatten()
}

fn own_fields(schema: &Value) -> Vec<Field> {
    let required = |name: &str| {
        schema["required"].as_array().is_some_and(|required| required.iter().any(|other| other == name))
    };
    let of = |(name, schema): (&String, &Value)| {
        let optional = if required(name) { "" } else { ", may be missing" };
        Field { name: name.clone(), kind: kind(schema) + optional, meaning: meaning(schema) }
    };
    properties(schema).map(of).collect()
}

fn without_null(schema: &Value) -> &Value {
    let is_something = |schema: &&Value| schema["type"] != "null";
    schema["anyOf"].as_array().and_then(|any| any.iter().find(is_something)).unwrap_or(schema)
}

fn meaning(schema: &Value) -> String {
    let text =
        schema["description"].as_str().or(without_null(schema)["description"].as_str()).unwrap_or_default();
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|")
}

fn kind(schema: &Value) -> String {
    let nullable = schema["anyOf"].is_array();
    let schema = without_null(schema);
    let words = words_of(schema);
    if !words.is_empty() {
        return words.join(", ") + if nullable { " or null" } else { "" };
    }
    let named = |name: &str| match name {
        "array" => format!("list of {}", kind(&schema["items"])),
        "object" if schema["additionalProperties"].is_object() => {
            format!("object of {}", kind(&schema["additionalProperties"]))
        }
        name => name.to_string(),
    };
    let kind = match &schema["type"] {
        Value::String(name) => named(name),
        Value::Array(names) => {
            names.iter().filter_map(Value::as_str).map(named).collect::<Vec<_>>().join(" or ")
        }
        _ => "any".into(),
    };
    kind + if nullable { " or null" } else { "" }
}

fn words_of(schema: &Value) -> Vec<String> {
    let quoted = |word: &Value| word.as_str().map(|word| format!("`{word}`"));
    if let Some(words) = schema["enum"].as_array() {
        return words.iter().filter_map(quoted).collect();
    }
    let variants = schema["oneOf"].as_array().map(Vec::as_slice).unwrap_or_default();
    variants
        .iter()
        .flat_map(|variant| quoted(&variant["const"]).map_or_else(|| words_of(variant), |word| vec![word]))
        .collect()
}
