//! What of a configuration counts only once the daemon starts anew.

use failback_model::{Code, Finding};
use serde::Serialize;
use serde_json::{Map, Value};

/// The settings that a daemon was started with, apart from those that it takes over while it runs.
#[derive(Debug, Clone)]
pub struct AtStart(Map<String, Value>);

impl AtStart {
    /// Those of a configuration but for these keys, which are read again.
    pub fn new(config: &impl Serialize, read_again: &[&str]) -> Self {
        let mut settings = match serde_json::to_value(config) {
            Ok(Value::Object(settings)) => settings,
            _ => Map::new(),
        };
        settings.retain(|key, _| !read_again.contains(&key.as_str()));
        Self(settings)
    }

    /// A warning that names what has changed in a configuration and does not count yet.
    pub fn waiting(&self, config: &impl Serialize) -> Option<Finding> {
        let now = Self::new(config, &[]).0;
        let changed: Vec<_> = self
            .0
            .iter()
            .filter(|(key, value)| now.get(*key) != Some(value))
            .map(|(key, _)| &**key)
            .collect();
        if changed.is_empty() {
            return None;
        }
        let evidence =
            format!("changed, and counting only once the daemon starts anew: {}", changed.join(", "));
        let remedy = "restart the daemon; its passes go on from their last durable groups";
        Some(Finding::warning(Code::AlreadyRunning, evidence).with_remedy(remedy))
    }
}
