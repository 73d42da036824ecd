//! One request to Azure's management and its answer.

use failback_model::Finding;
use serde_json::Value;
use std::time::Duration;

/// What is done to a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// Read it.
    Get,
    /// Make it, or change it.
    Put,
    /// Call an action of it.
    Post,
    /// Remove it.
    Delete,
}

impl Method {
    /// The word on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Put => "PUT",
            Self::Post => "POST",
            Self::Delete => "DELETE",
        }
    }
}

/// A request.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// What is done.
    pub method: Method,
    /// Path with its `api-version`, or a whole URL of the same service, as answers name them.
    pub target: String,
    /// Body, if any.
    pub body: Option<Value>,
}

impl Request {
    /// A request about a resource's path by a version of its interface.
    pub fn new(method: Method, path: &str, version: &str) -> Self {
        Self { method, target: format!("{path}?api-version={version}"), body: None }
    }

    /// The same with a body.
    pub fn with(self, body: Value) -> Self {
        Self { body: Some(body), ..self }
    }

    /// A look at a URL that an answer named.
    pub fn look(url: &str) -> Self {
        Self { method: Method::Get, target: url.into(), body: None }
    }

    /// The request for people: without its query, which may hold what nobody needs to read.
    pub fn name(&self) -> String {
        format!("{} {}", self.method.as_str(), self.target.split('?').next().unwrap_or_default())
    }
}

/// What came back.
#[derive(Clone, Default)]
pub struct Reply {
    /// Status of HTTP.
    pub status: u16,
    /// `Azure-AsyncOperation`: where the operation's state is asked.
    pub operation: Option<String>,
    /// `Location`: where its result is asked.
    pub location: Option<String>,
    /// `Retry-After`.
    pub retry_after: Option<Duration>,
    /// Body; null where there is none. May hold a signature.
    pub body: Value,
}

impl std::fmt::Debug for Reply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reply").field("status", &self.status).finish_non_exhaustive()
    }
}

/// Azure's management, and the clock it is waited for by.
pub trait Arm: Send + Sync {
    /// Sends one request. Fails where no answer came; an answer that refuses is no failure here.
    fn send(&self, request: &Request) -> Result<Reply, Finding>;

    /// Milliseconds since 1970.
    fn now_unix_ms(&self) -> u64;

    /// Waits; an error says that whoever waits shall stop.
    fn wait(&self, time: Duration) -> Result<(), Finding>;

    /// Hears what is waited for, and for how long.
    fn note(&self, finding: &Finding);
}
