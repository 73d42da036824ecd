//! The reference of a configuration, from the schema of its types: names, types and defaults come from serde's
//! attributes and meanings from the doc comments, so that the page cannot say anything else than the code does.

use super::Config;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value};
use std::fmt::Write as _;

/// Every table of a configuration as markdown, the outermost first.
pub fn reference<C: Config>() -> String {
    let settings = SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
    let schema = settings.into_generator().into_root_schema_for::<C>();
    let mut text = String::new();
    write_table(&mut text, "", false, schema.as_value(), None);
    text
}

/// One table's heading, meaning and keys, then the tables inside it.
fn write_table(text: &mut String, name: &str, is_list: bool, schema: &Value, meaning: Option<&str>) {
    match (name, is_list) {
        ("", _) => text.push_str("### Top level\n\n"),
        (name, true) => drop(write!(text, "### `[[{name}]]`\n\n")),
        (name, false) => drop(write!(text, "### `[{name}]`\n\n")),
    }
    if let Some(meaning) = meaning.filter(|_| !name.is_empty()) {
        let _ = write!(text, "{meaning}\n\n");
    }
    let empty = Map::new();
    let properties = schema["properties"].as_object().unwrap_or(&empty);
    let is_required = |key: &str| {
        schema["required"].as_array().is_some_and(|required| required.iter().any(|name| name == key))
    };
    text.push_str("| key | type | default | meaning |\n|---|---|---|---|\n");
    let mut tables = Vec::new();
    for (key, schema) in properties {
        let schema = without_null(schema);
        match table_in(schema) {
            Some((table, is_list)) => tables.push((key, table, is_list, description(properties, key))),
            None => {
                let default = if is_required(key) { "required".into() } else { default_of(&properties[key]) };
                let meaning = description(properties, key).unwrap_or_default();
                let _ =
                    writeln!(text, "| `{key}` | {} | {default} | {} |", type_of(schema), escaped(&meaning));
            }
        }
    }
    text.push('\n');
    for (key, table, is_list, meaning) in tables {
        let name = if name.is_empty() { key.clone() } else { format!("{name}.{key}") };
        write_table(text, &name, is_list, table, meaning.as_deref());
    }
}

/// The schema of a value that may be missing, without the null.
fn without_null(schema: &Value) -> &Value {
    let is_null = |schema: &&Value| schema["type"] != "null";
    schema["anyOf"].as_array().and_then(|any| any.iter().find(is_null)).unwrap_or(schema)
}

/// The table that a key holds, alone or in a list.
fn table_in(schema: &Value) -> Option<(&Value, bool)> {
    if schema["properties"].is_object() {
        return Some((schema, false));
    }
    let items = &schema["items"];
    items["properties"].is_object().then_some((items, true))
}

fn description(properties: &Map<String, Value>, key: &str) -> Option<String> {
    let text =
        properties[key]["description"].as_str().or(without_null(&properties[key])["description"].as_str());
    text.map(|text| text.split_whitespace().collect::<Vec<_>>().join(" "))
}

fn type_of(schema: &Value) -> String {
    if schema["format"] == "size" {
        return "size".into();
    }
    if let Some(words) = words_of(schema) {
        return words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ");
    }
    let named = |name: &Value| match name.as_str() {
        Some("array") => Some(format!("list of {}", type_of(&schema["items"]))),
        Some("null") | None => None,
        Some(name) => Some(name.to_owned()),
    };
    let names: Vec<_> = match &schema["type"] {
        Value::Array(names) => names.iter().filter_map(named).collect(),
        name => named(name).into_iter().collect(),
    };
    names.join(" or ")
}

/// The words of a choice, whether its variants have descriptions or not.
fn words_of(schema: &Value) -> Option<Vec<&str>> {
    if let Some(words) = schema["enum"].as_array() {
        return Some(words.iter().filter_map(Value::as_str).collect());
    }
    let variants = schema["oneOf"].as_array()?;
    let words = |variant| {
        let variant: &Value = variant;
        variant["const"].as_str().map(|word| vec![word]).or_else(|| words_of(variant))
    };
    variants.iter().map(words).collect::<Option<Vec<_>>>().map(|words| words.concat())
}

fn default_of(schema: &Value) -> String {
    match &schema["default"] {
        Value::Null => "none".into(),
        Value::Array(items) if items.is_empty() => "none".into(),
        Value::String(text) if text.is_empty() => "none".into(),
        Value::String(text) => format!("`\"{text}\"`"),
        value => format!("`{value}`"),
    }
}

fn escaped(text: &str) -> String {
    text.replace('|', "\\|")
}
