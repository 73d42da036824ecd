//! One request carried to its end: operations that take long, answers to come again later, refusals.
//!
//! **Invariant**: every wait and every number of tries is bounded, and whoever waits hears why.

use super::rest::{Arm, Method, Reply, Request};
use super::secret::without_signatures;
use failback_model::limits::{
    AZURE_MESSAGE_MAX_BYTES, AZURE_OPERATION_MAX, AZURE_POLL, AZURE_POLL_MAX, AZURE_TRIES_MAX,
};
use failback_model::{Code, Finding};
use serde_json::Value;
use std::time::Duration;

/// Why a request had no success.
#[derive(Debug)]
pub(crate) enum CallError {
    /// The cloud refused it.
    Refused(Refused),
    /// It could not be carried out.
    Failed(Finding),
}

/// A refusal.
#[derive(Debug)]
pub(crate) struct Refused {
    /// The request.
    request: String,
    /// Status of HTTP; 200 where an operation that was accepted failed later.
    pub(crate) status: u16,
    /// Azure's code.
    pub(crate) code: String,
    /// Its words, without signatures.
    message: String,
}

impl CallError {
    /// The refusal or failure, for people.
    pub(crate) fn finding(self) -> Finding {
        match self {
            Self::Failed(finding) => finding,
            Self::Refused(refused) => refused.finding(),
        }
    }

    /// Whether what was asked for does not exist.
    pub(crate) fn is_absent(&self) -> bool {
        matches!(self, Self::Refused(Refused { status: 404 | 410, .. }))
    }
}

impl Refused {
    fn of(request: &Request, status: u16, body: &Value) -> Self {
        let error = if body["error"].is_object() { &body["error"] } else { body };
        let text = |key: &str| without_signatures(error[key].as_str().unwrap_or_default());
        let mut message = text("message").replace(char::is_control, " ");
        message.truncate(message.floor_char_boundary(AZURE_MESSAGE_MAX_BYTES));
        Self { request: request.name(), status, code: text("code"), message }
    }

    fn finding(&self) -> Finding {
        let Self { request, status, code, message } = self;
        let said = format!("{request}: HTTP {status}, {code}: {message}");
        let is_limit = *status == 429 || ["Quota", "Limit", "TooMany"].iter().any(|word| code.contains(word));
        let code = match status {
            401 | 403 => Code::SourceDenied,
            _ if is_limit => Code::SnapshotLimit,
            _ => Code::CloudFailed,
        };
        Finding::error(code, said)
    }

    /// Whether something else is done to the resource just now.
    fn is_conflict(&self) -> bool {
        const BUSY: [&str; 4] = ["Conflict", "InProgress", "Preempted", "Retryable"];
        self.status == 409 && BUSY.iter().any(|word| self.code.contains(word))
    }
}

/// Carries a request to its end and returns the body that it ends in.
pub(crate) fn call(arm: &dyn Arm, request: &Request) -> Result<Value, CallError> {
    let mut tries = 1;
    loop {
        let answered = arm.send(request);
        let (why, asked_to_wait) = match answered {
            Ok(reply) if matches!(reply.status, 200..=299) => return finish(arm, request, reply),
            Ok(reply) => {
                let refused = Refused::of(request, reply.status, &reply.body);
                if !(is_busy(reply.status) || refused.is_conflict()) || tries >= AZURE_TRIES_MAX {
                    return Err(CallError::Refused(refused));
                }
                (refused.finding(), reply.retry_after)
            }
            Err(finding) if is_transient(&finding) && tries < AZURE_TRIES_MAX => (finding, None),
            Err(finding) => return Err(CallError::Failed(finding)),
        };
        let backoff = AZURE_POLL * (1 << tries.min(6));
        pause(arm, asked_to_wait.unwrap_or(backoff), &why).map_err(CallError::Failed)?;
        tries += 1;
    }
}

/// Waits no longer than is sensible, and says why.
pub(crate) fn pause(arm: &dyn Arm, time: Duration, why: &Finding) -> Result<(), Finding> {
    let time = time.clamp(Duration::from_millis(100), AZURE_POLL_MAX);
    let evidence = format!("{}; asks again in {} s", why.evidence, time.as_secs());
    arm.note(&Finding { evidence, ..Finding::info(why.code, "") });
    arm.wait(time)
}

const fn is_busy(status: u16) -> bool {
    matches!(status, 408 | 429 | 500 | 502 | 503 | 504)
}

fn is_transient(finding: &Finding) -> bool {
    matches!(finding.code, Code::SourceUnreachable | Code::TimedOut | Code::ConnectionLost)
}

/// Waits for what was accepted.
fn finish(arm: &dyn Arm, request: &Request, reply: Reply) -> Result<Value, CallError> {
    if let Some(url) = &reply.operation {
        let state = poll(arm, request, url, reply.retry_after)?;
        let output = &state["properties"]["output"];
        return match (request.method, &reply.location) {
            _ if !output.is_null() => Ok(output.clone()),
            (Method::Post, Some(location)) => poll(arm, request, location, None),
            (Method::Put, _) => {
                call(arm, &Request { method: Method::Get, body: None, target: request.target.clone() })
            }
            _ => Ok(Value::Null),
        };
    }
    match (reply.status, &reply.location) {
        (202, Some(url)) => poll(arm, request, url, reply.retry_after),
        (202, None) => {
            let evidence = format!("{}: accepted, but not said where to ask for its end", request.name());
            Err(CallError::Failed(Finding::error(Code::CloudFailed, evidence)))
        }
        _ => Ok(reply.body),
    }
}

/// Looks at an operation, or at the place of its result, until it has ended.
fn poll(
    arm: &dyn Arm,
    request: &Request,
    url: &str,
    first_wait: Option<Duration>,
) -> Result<Value, CallError> {
    let deadline = arm.now_unix_ms().saturating_add(AZURE_OPERATION_MAX.as_millis() as u64);
    let mut wait = first_wait;
    while arm.now_unix_ms() < deadline {
        let time = wait.unwrap_or(AZURE_POLL).clamp(Duration::from_millis(100), AZURE_POLL_MAX);
        arm.wait(time).map_err(CallError::Failed)?;
        let reply = match arm.send(&Request::look(url)) {
            Err(finding) if is_transient(&finding) => {
                wait = None;
                continue;
            }
            other => other.map_err(CallError::Failed)?,
        };
        wait = reply.retry_after;
        match (reply.status, reply.body["status"].as_str()) {
            (202, _) => {}
            (status, _) if is_busy(status) => {}
            (200..=299, None | Some("Succeeded")) => return Ok(reply.body),
            (200..=299, Some("Failed" | "Canceled")) | (300.., _) => {
                return Err(CallError::Refused(Refused::of(request, reply.status, &reply.body)));
            }
            _ => {}
        }
    }
    let evidence = format!("{}: not done after {} s", request.name(), AZURE_OPERATION_MAX.as_secs());
    Err(CallError::Failed(Finding::error(Code::CloudFailed, evidence)))
}
