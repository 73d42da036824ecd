//! A fake of Azure's management of disks, after what is publicly known of its REST interface: snapshots, restore points, access,
//! operations that take long, and the limits that Microsoft names. It has a clock of its own and knows no network.
//!
//! **Invariant**: what Azure would refuse is refused and remembered in [`FakeArm::violations`]: a client that keeps the limits
//! by itself causes none.

#[cfg(feature = "blobs")]
mod server;
mod state;

#[cfg(feature = "blobs")]
pub use server::ArmServer;

use serde_json::{Value, json};
use state::{Effect, Resource, World};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Where the fake says it is.
const HOST: &str = "https://management.azure.com";

/// An answer.
#[derive(Debug, Clone, Default)]
pub struct ArmReply {
    /// Status of HTTP.
    pub status: u16,
    /// Headers that matter, in lower case.
    pub headers: Vec<(&'static str, String)>,
    /// Body.
    pub body: Value,
}

impl ArmReply {
    /// A header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| *key == name).map(|(_, value)| value.as_str())
    }

    fn new(status: u16, body: Value) -> Self {
        Self { status, headers: Vec::new(), body }
    }

    fn refused(status: u16, code: &str, message: &str) -> Self {
        Self::new(status, json!({"error": {"code": code, "message": message}}))
    }
}

/// The fake.
#[derive(Debug, Default)]
pub struct FakeArm(Mutex<World>);

impl FakeArm {
    /// An empty cloud.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a machine of a size, whose system disk its host caches like this.
    pub fn add_machine(&self, path: &str, size: &str, caching: &str) {
        let disk = json!({"managedDisk": {"id": ""}, "caching": caching});
        let body = json!({"id": path, "location": "westeurope", "properties": {
            "hardwareProfile": {"vmSize": size},
            "storageProfile": {"osDisk": disk, "dataDisks": []},
        }});
        self.world().add(path, body);
    }

    /// Adds a disk, to a machine or to none; a machine's first one is its system disk.
    pub fn add_disk(&self, path: &str, machine: Option<&str>, kind: &str, length_bytes: u64) {
        let mut world = self.world();
        if let Some(machine) = machine.and_then(|machine| world.get_mut(machine)) {
            let storage = &mut machine.body["properties"]["storageProfile"];
            match storage["osDisk"]["managedDisk"]["id"] == "" {
                true => storage["osDisk"]["managedDisk"]["id"] = path.into(),
                false => {
                    let disk = json!({"managedDisk": {"id": path}, "caching": "None"});
                    storage["dataDisks"].as_array_mut().expect("a list").push(disk);
                }
            }
        }
        let properties = json!({"diskSizeBytes": length_bytes, "uniqueId": format!("family-of-{path}")});
        let body = json!({"id": path, "location": "westeurope", "sku": {"name": kind}, "managedBy": machine, "properties": properties});
        world.add(path, body);
    }

    /// Grows a disk.
    pub fn resize(&self, path: &str, length_bytes: u64) {
        let mut world = self.world();
        world.get_mut(path).expect("the disk").body["properties"]["diskSizeBytes"] = length_bytes.into();
    }

    /// Lets time go by.
    pub fn advance(&self, time: Duration) {
        self.world().now_unix_ms += time.as_millis() as u64;
    }

    /// The fake's clock.
    pub fn now_unix_ms(&self) -> u64 {
        self.world().now_unix_ms
    }

    /// Answers the next requests with 429.
    pub fn throttle(&self, requests: u32) {
        self.world().throttled = requests;
    }

    /// Refuses restore points from now on.
    pub fn refuse_restore_points(&self) {
        self.world().no_restore_points = true;
    }

    /// Paths of the snapshots and restore points that are there.
    pub fn states(&self) -> Vec<String> {
        let world = self.world();
        let is_state = |path: &&String| {
            let kind = state::kind(path);
            kind == "snapshots" || kind == "restorepoints"
        };
        world.resources.keys().filter(is_state).cloned().collect()
    }

    /// Paths of what can be read now.
    pub fn open_accesses(&self) -> Vec<String> {
        let mut world = self.world();
        world.settle();
        world.open()
    }

    /// What Azure would not have allowed.
    pub fn violations(&self) -> Vec<String> {
        self.world().violations.clone()
    }

    /// Answers a request; `target` is a path with its query, or a URL that an answer named.
    pub fn handle(&self, method: &str, target: &str, body: Option<&Value>) -> ArmReply {
        let mut world = self.world();
        world.settle();
        if world.throttled > 0 {
            world.throttled -= 1;
            let mut reply = ArmReply::refused(429, "TooManyRequests", "slow down");
            reply.headers.push(("retry-after", "7".into()));
            return reply;
        }
        let path = target.strip_prefix(HOST).unwrap_or(target);
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        if !query.contains("api-version=") {
            return ArmReply::refused(400, "MissingApiVersionParameter", "which version?");
        }
        if let Some((_, id)) = path.split_once("/operations/") {
            return world.operation(id, query.contains("monitor=true"));
        }
        let (parent, action) = path.rsplit_once('/').unwrap_or_default();
        match (method, action) {
            ("POST", "beginGetAccess") => world.begin_access(parent, body),
            ("POST", "endGetAccess") => world.end_access(parent),
            ("GET", "diskRestorePoints") => world.list(path, query),
            ("GET", _) => world.read(path),
            ("PUT", _) => world.make(path, body.unwrap_or(&Value::Null)),
            ("DELETE", _) => world.remove(path),
            _ => ArmReply::refused(405, "MethodNotAllowed", method),
        }
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl World {
    fn read(&self, path: &str) -> ArmReply {
        match self.resources.get(path) {
            Some(resource) => ArmReply::new(200, self.shown(path, resource)),
            None => ArmReply::refused(404, "ResourceNotFound", path),
        }
    }

    /// One item a page, so that clients must follow.
    fn list(&self, path: &str, query: &str) -> ArmReply {
        let page = query.split_once("page=").and_then(|(_, page)| page.parse().ok()).unwrap_or(0_usize);
        let inside = format!("{path}/");
        let found: Vec<_> = self.resources.iter().filter(|(path, _)| path.starts_with(&inside)).collect();
        let value: Vec<_> =
            found.iter().skip(page).take(1).map(|(path, found)| self.shown(path, found)).collect();
        let mut body = json!({"value": value});
        if page + 1 < found.len() {
            body["nextLink"] = format!("{HOST}{path}?api-version=2023-10-02&page={}", page + 1).into();
        }
        ArmReply::new(200, body)
    }

    fn make(&mut self, path: &str, body: &Value) -> ArmReply {
        if self.resources.contains_key(path) {
            return self.read(path);
        }
        match state::kind(path) {
            "snapshots" => self.make_snapshot(path, body),
            "restorepointcollections" => {
                self.add(path, merged(path, body));
                ArmReply::new(201, merged(path, body))
            }
            "restorepoints" => self.make_restore_point(path, body),
            other => ArmReply::refused(400, "InvalidResourceType", other),
        }
    }

    fn make_snapshot(&mut self, path: &str, body: &Value) -> ArmReply {
        let properties = &body["properties"];
        let source = properties["creationData"]["sourceResourceId"].as_str().unwrap_or_default().to_owned();
        let is_right =
            properties["incremental"] == true && properties["creationData"]["createOption"] == "Copy";
        let Some(disk) = self.resources.get(&source).filter(|_| is_right).map(|disk| disk.body.clone())
        else {
            return ArmReply::refused(400, "InvalidParameter", "creationData");
        };
        if let Some(refused) = self.count(&source) {
            return refused;
        }
        let mut made = merged(path, body);
        self.state_of(&mut made, &disk, "incrementalSnapshotFamilyId");
        self.add(path, made.clone());
        self.accepted(202, path, Effect::Ready, made)
    }

    fn make_restore_point(&mut self, path: &str, body: &Value) -> ArmReply {
        if self.no_restore_points {
            return ArmReply::refused(409, "OperationNotAllowed", "this machine has no restore points");
        }
        if body["properties"]["consistencyMode"] != "CrashConsistent" {
            return ArmReply::refused(400, "InvalidParameter", "consistencyMode");
        }
        let collection = path.rsplit_once("/restorePoints/").map_or("", |(before, _)| before);
        let Some(machine) = self.resources.get(collection).and_then(|found| {
            self.resources.get(found.body["properties"]["source"]["id"].as_str().unwrap_or_default())
        }) else {
            return ArmReply::refused(404, "ParentResourceNotFound", collection);
        };
        let storage = machine.body["properties"]["storageProfile"].clone();
        let data = storage["dataDisks"].as_array().cloned().unwrap_or_default();
        let left_out = body["properties"]["excludeDisks"].as_array().cloned().unwrap_or_default();
        for attached in std::iter::once(&storage["osDisk"]).chain(&data) {
            let id = attached["managedDisk"]["id"].as_str().unwrap_or_default().to_owned();
            if left_out.iter().any(|disk| disk["id"] == id.as_str()) {
                continue;
            }
            if let Some(refused) = self.count(&id) {
                return refused;
            }
            let disk = self.resources[&id].body.clone();
            let name = id.rsplit('/').next().unwrap_or_default();
            let inside = format!("{path}/diskRestorePoints/{name}_{}", self.next);
            let mut made = json!({"id": inside, "properties": {"sourceResourceId": id}});
            self.state_of(&mut made, &disk, "familyId");
            self.add(&inside, made);
        }
        let mut made = merged(path, body);
        made["properties"]["timeCreated"] = self.time(self.now_unix_ms).into();
        self.add(path, made.clone());
        self.accepted(201, path, Effect::Ready, made)
    }

    fn remove(&mut self, path: &str) -> ArmReply {
        let Some(found) = self.resources.get(path) else { return ArmReply::new(204, Value::Null) };
        if found.ready_unix_ms > self.now_unix_ms {
            let mut reply = ArmReply::refused(409, "AnotherOperationInProgress", "it is being made");
            reply.headers.push(("retry-after", "2".into()));
            return reply;
        }
        if self.open().iter().any(|open| open.starts_with(path)) {
            return self
                .violated("OperationNotAllowed", &format!("{path} has an active shared access signature"));
        }
        self.accepted(202, path, Effect::Gone, Value::Null)
    }

    fn begin_access(&mut self, path: &str, body: Option<&Value>) -> ArmReply {
        let Some(found) = self.resources.get(path) else {
            return ArmReply::refused(404, "ResourceNotFound", path);
        };
        let seconds = body.and_then(|body| body["durationInSeconds"].as_u64()).unwrap_or(0);
        if self.completion(found) < 100 {
            return self.violated("OperationNotAllowed", "the background copy is not complete");
        }
        let family = state::family(found);
        let beside = self.resources.iter().filter(|(other, found)| {
            *other != path && found.access_until > self.now_unix_ms && state::family(found) == family
        });
        if beside.count() >= 5 {
            return self.violated("OperationNotAllowed", "five snapshots of the family are read already");
        }
        let (now, number) = (self.now_unix_ms, self.next);
        let until = match found.access_until > now {
            true => found.access_until,
            false => now + seconds * 1000,
        };
        let time = self.time(until).replace(':', "%3A");
        let found = self.resources.get_mut(path).expect("it is there");
        if found.access_until <= now {
            found.access_number = number;
        }
        found.access_until = until;
        let url = format!(
            "https://md.blob.fake/{}/abcd?sv=1&sr=b&se={time}&sig=SECRET{}",
            path.len(),
            found.access_number
        );
        self.accepted(202, path, Effect::Ready, json!({"accessSAS": url}))
    }

    fn end_access(&mut self, path: &str) -> ArmReply {
        match self.resources.get_mut(path) {
            Some(found) => found.access_until = 0,
            None => return ArmReply::refused(404, "ResourceNotFound", path),
        }
        self.accepted(202, path, Effect::Ready, Value::Null)
    }

    fn violated(&mut self, code: &str, message: &str) -> ArmReply {
        self.violations.push(message.into());
        ArmReply::refused(409, code, message)
    }

    /// Counts a snapshot of a disk, or refuses it.
    fn count(&mut self, disk: &str) -> Option<ArmReply> {
        let now = self.now_unix_ms;
        let made = self.made.entry(disk.into()).or_default();
        made.retain(|time| now < time + 300_000);
        if made.len() >= 7 {
            return Some(self.violated("OperationNotAllowed", "seven snapshots within five minutes"));
        }
        made.push(now);
        None
    }
}

fn merged(path: &str, body: &Value) -> Value {
    let mut made = body.clone();
    made["id"] = path.into();
    made
}

impl Resource {
    const fn new(body: Value, now_unix_ms: u64) -> Self {
        Self { body, made_unix_ms: now_unix_ms, ready_unix_ms: 0, access_until: 0, access_number: 0 }
    }
}
