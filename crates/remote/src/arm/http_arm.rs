//! Azure's management over HTTP.
//!
//! **Invariant**: the token goes to the service it was made for and nowhere else, whatever URL an answer names.

use super::rest::{Arm, Method, Reply, Request};
use crate::entra::Tokens;
use crate::http::{self, Http, HttpError, SecretUrl};
use failback_model::limits::AZURE_REPLY_MAX_BYTES;
use failback_model::{Code, Finding};
use serde_json::Value;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Azure's management of the public cloud.
pub const PUBLIC_ENDPOINT: &str = "https://management.azure.com";

/// How often a wait asks whether it shall stop.
const STOP_TICK: Duration = Duration::from_millis(200);

/// The service.
pub struct HttpArm {
    http: Http,
    endpoint: SecretUrl,
    tokens: Tokens,
    is_stopped: Box<dyn Fn() -> bool + Send + Sync>,
    heard: Box<dyn Fn(&Finding) + Send + Sync>,
}

impl HttpArm {
    /// The service at `endpoint`. Waits end once `is_stopped`; `heard` hears what is waited for.
    pub fn new(
        http: Http,
        endpoint: &str,
        tokens: Tokens,
        is_stopped: impl Fn() -> bool + Send + Sync + 'static,
        heard: impl Fn(&Finding) + Send + Sync + 'static,
    ) -> Result<Self, Finding> {
        let endpoint = SecretUrl::parse(endpoint)
            .map_err(|why| Finding::error(Code::ConfigInvalid, format!("the management's URL: {why}")))?;
        Ok(Self { http, endpoint, tokens, is_stopped: Box::new(is_stopped), heard: Box::new(heard) })
    }

    /// The URL of a path, or of an answer that stays with the service.
    fn url(&self, target: &str) -> Result<SecretUrl, Finding> {
        let base = self.endpoint.expose();
        let joined = base.join(target).ok().filter(|url| url.origin() == base.origin());
        let url = joined.ok_or("it leads to another service").map(|url| url.to_string());
        url.and_then(|url| SecretUrl::parse(&url)).map_err(|why| {
            Finding::error(
                Code::CloudFailed,
                format!("{self_}: a URL in an answer: {why}", self_ = self.endpoint),
            )
        })
    }

    fn ask(&self, request: &Request, url: &SecretUrl) -> Result<Reply, Finding> {
        let token = self.tokens.bearer()?;
        let method = match request.method {
            Method::Get => http::Method::GET,
            Method::Put => http::Method::PUT,
            Method::Post => http::Method::POST,
            Method::Delete => http::Method::DELETE,
        };
        let fail = |error: HttpError| failed(&request.name(), &error);
        let mut sent = http::Request::new(method, url.clone())
            .with_secret("authorization", token.header())
            .map_err(fail)?;
        match &request.body {
            Some(body) => {
                sent = sent.with("content-type", "application/json").map_err(fail)?;
                sent.body = body.to_string().into_bytes().into();
            }
            // Azure wants the length of a POST without body said.
            None if request.method == Method::Post => {
                sent = sent.with("content-length", "0").map_err(fail)?;
            }
            None => {}
        }
        let answer = self.http.send(sent).map_err(fail)?;
        let text = |name| answer.text_of(name).map(str::to_owned);
        let reply = Reply {
            status: answer.status().as_u16(),
            operation: text("azure-asyncoperation"),
            location: text("location"),
            retry_after: answer.retry_after(),
            body: Value::Null,
        };
        let body = answer.body(AZURE_REPLY_MAX_BYTES).map_err(fail)?;
        // What is no JSON is some proxy's page: the status says enough.
        Ok(Reply { body: serde_json::from_slice(&body).unwrap_or_default(), ..reply })
    }
}

impl Arm for HttpArm {
    fn send(&self, request: &Request) -> Result<Reply, Finding> {
        let url = self.url(&request.target)?;
        let reply = self.ask(request, &url)?;
        if reply.status != 401 {
            return Ok(reply);
        }
        self.tokens.forget();
        self.ask(request, &url)
    }

    fn now_unix_ms(&self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }

    fn wait(&self, time: Duration) -> Result<(), Finding> {
        let end = Instant::now() + time;
        loop {
            if (self.is_stopped)() {
                return Err(Finding::error(Code::Cancelled, "stopped while the cloud was waited for"));
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            std::thread::sleep(left.min(STOP_TICK));
        }
    }

    fn note(&self, finding: &Finding) {
        (self.heard)(finding);
    }
}

/// A failure of HTTP in the words of findings.
fn failed(what: &str, error: &HttpError) -> Finding {
    let code = match error {
        HttpError::Unreachable(_) => Code::SourceUnreachable,
        HttpError::Cut(_) => Code::ConnectionLost,
        HttpError::TooLong(_) => Code::CloudFailed,
    };
    Finding::error(code, format!("{what}: {error}"))
}
