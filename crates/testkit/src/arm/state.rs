//! What the fake holds, and operations that take long.

use super::{ArmReply, HOST};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// How long an operation takes.
const OPERATION_MS: u64 = 5_000;
/// How long a background copy takes.
const COPY_MS: u64 = 60_000;

#[derive(Debug)]
pub(super) struct World {
    pub(super) now_unix_ms: u64,
    pub(super) resources: BTreeMap<String, Resource>,
    pub(super) made: BTreeMap<String, Vec<u64>>,
    pub(super) violations: Vec<String>,
    pub(super) throttled: u32,
    pub(super) no_restore_points: bool,
    pub(super) next: u64,
    operations: BTreeMap<String, Operation>,
}

#[derive(Debug, Clone)]
pub(super) struct Resource {
    pub(super) body: Value,
    pub(super) made_unix_ms: u64,
    pub(super) ready_unix_ms: u64,
    pub(super) access_until: u64,
    pub(super) access_number: u64,
}

#[derive(Debug)]
struct Operation {
    path: String,
    effect: Effect,
    done_unix_ms: u64,
    result: Value,
    is_done: bool,
}

/// What an operation does once it is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    Ready,
    Gone,
}

impl Default for World {
    fn default() -> Self {
        Self {
            now_unix_ms: 1_795_000_000_000,
            resources: BTreeMap::new(),
            made: BTreeMap::new(),
            violations: Vec::new(),
            throttled: 0,
            no_restore_points: false,
            next: 1,
            operations: BTreeMap::new(),
        }
    }
}

impl World {
    pub(super) fn add(&mut self, path: &str, body: Value) {
        self.next += 1;
        self.resources.insert(path.into(), Resource::new(body, self.now_unix_ms));
    }

    pub(super) fn get_mut(&mut self, path: &str) -> Option<&mut Resource> {
        self.resources.get_mut(path)
    }

    /// What a snapshot, or a disk's restore point, says of its disk.
    pub(super) fn state_of(&self, made: &mut Value, disk: &Value, family: &str) {
        let properties = &mut made["properties"];
        properties["diskSizeBytes"] = disk["properties"]["diskSizeBytes"].clone();
        properties[family] = disk["properties"]["uniqueId"].clone();
        properties["timeCreated"] = self.time(self.now_unix_ms).into();
        properties["sku"] = disk["sku"]["name"].clone();
    }

    /// Accepts a request, whose operation is asked about at two places.
    pub(super) fn accepted(&mut self, status: u16, path: &str, effect: Effect, result: Value) -> ArmReply {
        let id = self.next.to_string();
        self.next += 1;
        let done_unix_ms = self.now_unix_ms + OPERATION_MS;
        if let Some(found) = self.resources.get_mut(path) {
            found.ready_unix_ms = done_unix_ms;
        }
        let operation = Operation { path: path.into(), effect, done_unix_ms, result, is_done: false };
        self.operations.insert(id.clone(), operation);
        let url = format!(
            "{HOST}/subscriptions/s/providers/Microsoft.Compute/locations/westeurope/operations/{id}?api-version=2023-10-02"
        );
        let monitor = format!("{url}&monitor=true");
        // Both ways of Azure come in turn: with the state's own place, and with that of the result only.
        let mut headers = vec![("location", monitor), ("retry-after", "3".into())];
        if status == 201 || self.next.is_multiple_of(2) {
            headers.push(("azure-asyncoperation", url));
        }
        ArmReply { status, headers, body: json!({}) }
    }

    pub(super) fn operation(&self, id: &str, is_monitor: bool) -> ArmReply {
        let Some(operation) = self.operations.get(id) else {
            return ArmReply::refused(404, "NotFound", "no such operation");
        };
        match (operation.is_done, is_monitor) {
            (true, true) => ArmReply::new(200, operation.result.clone()),
            (true, false) => ArmReply::new(200, json!({"status": "Succeeded"})),
            (false, true) => ArmReply::new(202, Value::Null),
            (false, false) => ArmReply::new(200, json!({"status": "InProgress"})),
        }
    }

    /// Carries out what is due.
    pub(super) fn settle(&mut self) {
        let now = self.now_unix_ms;
        let due = |operation: &&mut Operation| !operation.is_done && operation.done_unix_ms <= now;
        for operation in self.operations.values_mut().filter(due) {
            operation.is_done = true;
            if operation.effect == Effect::Gone {
                let inside = format!("{}/", operation.path);
                self.resources.retain(|path, _| *path != operation.path && !path.starts_with(&inside));
            }
        }
    }

    /// Paths that can be read now.
    pub(super) fn open(&self) -> Vec<String> {
        let open = self.resources.iter().filter(|(_, found)| found.access_until > self.now_unix_ms);
        open.map(|(path, _)| path.clone()).collect()
    }

    /// Percent of the background copy; kinds without one are complete at once.
    pub(super) fn completion(&self, found: &Resource) -> u64 {
        match found.body["properties"]["sku"].as_str() {
            Some("UltraSSD_LRS" | "PremiumV2_LRS") => {
                ((self.now_unix_ms - found.made_unix_ms) * 100 / COPY_MS).min(100)
            }
            _ => 100,
        }
    }

    pub(super) fn shown(&self, path: &str, found: &Resource) -> Value {
        let mut body = found.body.clone();
        if matches!(kind(path), "snapshots" | "diskrestorepoints") {
            body["properties"]["completionPercent"] = (self.completion(found) as f64).into();
        }
        body
    }

    pub(super) fn time(&self, unix_ms: u64) -> String {
        jiff::Timestamp::from_millisecond(unix_ms as i64).expect("a time").to_string()
    }
}

/// Family of a state.
pub(super) fn family(found: &Resource) -> Value {
    let properties = &found.body["properties"];
    match properties["familyId"].is_null() {
        true => properties["incrementalSnapshotFamilyId"].clone(),
        false => properties["familyId"].clone(),
    }
}

/// Kind of the resource at a path.
pub(super) fn kind(path: &str) -> &'static str {
    let word = path.rsplit('/').nth(1).unwrap_or_default().to_ascii_lowercase();
    const KINDS: [&str; 4] = ["snapshots", "restorepointcollections", "restorepoints", "diskrestorepoints"];
    KINDS.into_iter().find(|kind| *kind == word).unwrap_or("other")
}
