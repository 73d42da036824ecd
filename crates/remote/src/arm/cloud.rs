//! The few requests about disks, snapshots, restore points and access.

use super::call::{CallError, call};
use super::resource::checked;
use super::rest::{Arm, Method, Request};
use crate::http::SecretUrl;
use failback_model::limits::{AZURE_ACCESS_TIME, AZURE_LIST_PAGES_MAX};
use failback_model::{Code, Finding};
use serde_json::{Value, json};

/// Version of the interface for disks, snapshots and access to them.
const DISKS: &str = "2023-10-02";
/// Version of the interface for machines and restore points.
const MACHINES: &str = "2023-09-01";

/// Azure's management as a cycle needs it.
pub(crate) struct Cloud<'a>(pub(crate) &'a dyn Arm);

impl Cloud<'_> {
    /// A disk, a snapshot or a disk's restore point.
    pub(crate) fn disk(&self, path: &str) -> Result<Value, CallError> {
        call(self.0, &Request::new(Method::Get, path, DISKS))
    }

    /// A machine or a restore point.
    pub(crate) fn machine(&self, path: &str) -> Result<Value, CallError> {
        call(self.0, &Request::new(Method::Get, path, MACHINES))
    }

    /// Makes an incremental snapshot.
    pub(crate) fn snapshot(&self, path: &str, disk: &Value, tags: &Value) -> Result<Value, CallError> {
        let body = json!({
            "location": disk["location"],
            "tags": tags,
            "properties": {
                "incremental": true,
                "creationData": {"createOption": "Copy", "sourceResourceId": disk["id"]},
            },
        });
        call(self.0, &Request::new(Method::Put, path, DISKS).with(body))
    }

    /// Makes the collection that a machine's restore points lie in; that it is there is no error.
    pub(crate) fn collection(&self, path: &str, machine: &Value, tags: &Value) -> Result<(), CallError> {
        let body = json!({
            "location": machine["location"],
            "tags": tags,
            "properties": {"source": {"id": machine["id"]}},
        });
        call(self.0, &Request::new(Method::Put, path, MACHINES).with(body)).map(drop)
    }

    /// Makes a crash-consistent restore point of a machine's disks but those that are left out.
    pub(crate) fn restore_point(&self, path: &str, left_out: &[&str]) -> Result<Value, CallError> {
        let left_out: Vec<_> = left_out.iter().map(|id| json!({"id": id})).collect();
        let body = json!({"properties": {"consistencyMode": "CrashConsistent", "excludeDisks": left_out}});
        call(self.0, &Request::new(Method::Put, path, MACHINES).with(body))
    }

    /// The restore points of the disks in one of a machine.
    pub(crate) fn disks_of(&self, restore_point: &str) -> Result<Vec<Value>, CallError> {
        let mut request = Request::new(Method::Get, &format!("{restore_point}/diskRestorePoints"), DISKS);
        let mut found = Vec::new();
        for _page in 0..AZURE_LIST_PAGES_MAX {
            let page = call(self.0, &request)?;
            found.extend(page["value"].as_array().into_iter().flatten().cloned());
            match page["nextLink"].as_str() {
                Some(next) => request = Request::look(next),
                None => return Ok(found),
            }
        }
        let evidence = format!("{}: the list does not end", request.name());
        Err(CallError::Failed(Finding::error(Code::CloudFailed, evidence)))
    }

    /// Asks for the URL to read a snapshot by.
    pub(crate) fn begin_access(&self, path: &str) -> Result<SecretUrl, CallError> {
        let body = json!({"access": "Read", "durationInSeconds": AZURE_ACCESS_TIME.as_secs()});
        let action = format!("{path}/beginGetAccess");
        let answer = call(self.0, &Request::new(Method::Post, &action, DISKS).with(body))?;
        let url = ["accessSAS", "accessSas"].iter().find_map(|key| answer[*key].as_str());
        let url = url.ok_or("none came").and_then(SecretUrl::parse);
        url.map_err(|why| {
            CallError::Failed(Finding::error(
                Code::CloudFailed,
                format!("{action}: the URL to read by: {why}"),
            ))
        })
    }

    /// Takes access back; that there is none is no error.
    pub(crate) fn end_access(&self, path: &str) -> Result<(), CallError> {
        match call(self.0, &Request::new(Method::Post, &format!("{path}/endGetAccess"), DISKS)) {
            Err(error) if error.is_absent() => Ok(()),
            other => other.map(drop),
        }
    }

    /// Removes a snapshot, or a restore point; whether there was one.
    pub(crate) fn remove(&self, path: &str, is_restore_point: bool) -> Result<bool, CallError> {
        let version = if is_restore_point { MACHINES } else { DISKS };
        let is_there = match call(self.0, &Request::new(Method::Get, path, version)) {
            Err(error) if error.is_absent() => false,
            other => other.map(|_| true)?,
        };
        match call(self.0, &Request::new(Method::Delete, path, version)) {
            Err(error) if error.is_absent() => Ok(is_there),
            other => other.map(|_| is_there),
        }
    }
}

/// A path in an answer.
pub(crate) fn path_in(answer: &Value, what: &str) -> Result<String, Finding> {
    let path = answer.as_str().unwrap_or_default();
    checked(path)
        .map(str::to_owned)
        .ok_or_else(|| Finding::error(Code::CloudFailed, format!("{what}: not a resource's path: {path:?}")))
}

/// A time in an answer, milliseconds since 1970.
pub(crate) fn time_in(answer: &Value) -> Option<u64> {
    let time: jiff::Timestamp = answer.as_str()?.parse().ok()?;
    u64::try_from(time.as_millisecond()).ok()
}
