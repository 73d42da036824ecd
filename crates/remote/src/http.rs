//! A client of HTTP services for threads that read disks: they call and wait, as they do for a file.
//!
//! One small runtime carries the sockets of all clients. Calls block, so they are made from plain threads, never from a task
//! of a runtime.
//!
//! **Invariant**: a secret leaves only in the request that needs it. A URL shows itself without its query, values of headers
//! that hold one are marked as such, no redirect is followed, and no error repeats a URL.

use failback_model::limits::{HTTP_CONNECT_MAX, HTTP_IDLE_MAX, TLS_FILE_MAX_BYTES};
use failback_model::{Code, Finding};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::runtime::Runtime;

pub use bytes::Bytes;
pub use reqwest::{Method, StatusCode, header};

/// How services are reached.
#[derive(Debug, Clone, Default)]
pub struct HttpOptions {
    /// Certificates (PEM) that are trusted beside this host's own.
    pub ca_file: Option<PathBuf>,
}

/// A client; clones share its connections.
#[derive(Debug, Clone)]
pub struct Http {
    client: reqwest::Client,
}

/// A URL whose query may hold a secret: it shows itself without query.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretUrl(reqwest::Url);

/// One request.
#[derive(Debug, Clone)]
pub struct Request {
    /// What to do.
    pub method: Method,
    /// Where.
    pub url: SecretUrl,
    /// Values that are secrets are marked as sensitive.
    pub headers: HeaderMap,
    /// What is sent.
    pub body: Bytes,
}

/// An answer whose body was not read yet.
#[derive(Debug)]
pub struct Answer {
    response: reqwest::Response,
}

/// Why there is no answer, or no whole one. It names no URL.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HttpError {
    /// No connection, or it broke before the answer began.
    #[error("no answer: {0}")]
    Unreachable(String),
    /// The answer broke off.
    #[error("the answer broke off: {0}")]
    Cut(String),
    /// The answer is longer than it may be.
    #[error("the answer is longer than {0} bytes")]
    TooLong(usize),
}

impl Http {
    /// A client that trusts this host's certificate authorities and those of the options.
    pub fn new(options: &HttpOptions) -> Result<Self, Finding> {
        let tls = tls(options.ca_file.as_deref())?;
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .retry(reqwest::retry::never())
            .connect_timeout(HTTP_CONNECT_MAX)
            .read_timeout(HTTP_IDLE_MAX)
            .tcp_nodelay(true)
            .user_agent(concat!("failback/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| Finding::error(Code::Internal, words(error)))?;
        Ok(Self { client })
    }

    /// Sends a request and waits until its answer begins, whatever its status is.
    ///
    /// # Panics
    /// Within a task of a runtime, which must not block.
    pub fn send(&self, request: Request) -> Result<Answer, HttpError> {
        let mut sent = reqwest::Request::new(request.method, request.url.0);
        *sent.headers_mut() = request.headers;
        if !request.body.is_empty() {
            *sent.body_mut() = Some(request.body.into());
        }
        let response = runtime().block_on(async { self.client.execute(sent).await });
        response.map(|response| Answer { response }).map_err(|error| HttpError::Unreachable(words(error)))
    }
}

impl Request {
    /// A request without headers and body.
    pub fn new(method: Method, url: SecretUrl) -> Self {
        Self { method, url, headers: HeaderMap::new(), body: Bytes::new() }
    }

    /// The same with a header that may be seen; an error where no header can hold the value.
    pub fn with(self, name: impl TryInto<HeaderName>, value: impl AsRef<str>) -> Result<Self, HttpError> {
        self.with_value(name, value.as_ref(), false)
    }

    /// The same with a header whose value is a secret: a token, or a URL with a signature.
    pub fn with_secret(
        self,
        name: impl TryInto<HeaderName>,
        value: impl AsRef<str>,
    ) -> Result<Self, HttpError> {
        self.with_value(name, value.as_ref(), true)
    }

    fn with_value(
        mut self,
        name: impl TryInto<HeaderName>,
        value: &str,
        is_secret: bool,
    ) -> Result<Self, HttpError> {
        let refuse = |what| HttpError::Unreachable(format!("the {what} is no text of a header"));
        let name = name.try_into().map_err(|_| refuse("name"))?;
        let mut value = HeaderValue::from_str(value).map_err(|_| refuse("value"))?;
        value.set_sensitive(is_secret);
        self.headers.insert(name, value);
        Ok(self)
    }
}

impl Answer {
    /// Its status.
    pub fn status(&self) -> StatusCode {
        self.response.status()
    }

    /// Its headers.
    pub fn headers(&self) -> &HeaderMap {
        self.response.headers()
    }

    /// A header's text; none where it is missing or no text.
    pub fn text_of(&self, name: &str) -> Option<&str> {
        self.headers().get(name)?.to_str().ok()
    }

    /// How long the service asks to be left alone, where it says so in seconds.
    pub fn retry_after(&self) -> Option<Duration> {
        self.text_of("retry-after")?.trim().parse().ok().map(Duration::from_secs)
    }

    /// The whole body, at most `max_bytes`.
    pub fn body(mut self, max_bytes: usize) -> Result<Vec<u8>, HttpError> {
        runtime().block_on(async {
            let mut body = Vec::new();
            while let Some(part) = self.response.chunk().await.map_err(cut)? {
                if part.len() > max_bytes - body.len() {
                    return Err(HttpError::TooLong(max_bytes));
                }
                body.extend_from_slice(&part);
            }
            Ok(body)
        })
    }

    /// Fills `buffer` with the body, which must be exactly as long.
    pub fn fill(mut self, buffer: &mut [u8]) -> Result<(), HttpError> {
        runtime().block_on(async {
            let mut filled = 0;
            while let Some(part) = self.response.chunk().await.map_err(cut)? {
                let Some(place) = buffer.get_mut(filled..filled + part.len()) else {
                    return Err(HttpError::TooLong(buffer.len()));
                };
                place.copy_from_slice(&part);
                filled += part.len();
            }
            if filled < buffer.len() {
                return Err(HttpError::Cut(format!("{filled} of {} bytes came", buffer.len())));
            }
            Ok(())
        })
    }
}

impl SecretUrl {
    /// Understands a URL of a service: `https`, or `http`; what is wrong is said without repeating it.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let url = reqwest::Url::parse(text.trim()).map_err(|_| "it is no URL")?;
        if !matches!(url.scheme(), "https" | "http") || !url.has_host() {
            return Err("it is no URL of https:// or http://");
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err("it holds a user's name or password");
        }
        Ok(Self(url))
    }

    /// The URL itself, to be changed. What is made of it is as secret.
    pub fn expose(&self) -> &reqwest::Url {
        &self.0
    }

    /// The same URL with what a change makes of it.
    pub fn changed(&self, change: impl FnOnce(&mut reqwest::Url)) -> Self {
        let mut url = self.0.clone();
        change(&mut url);
        Self(url)
    }
}

impl fmt::Display for SecretUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.changed(|url| {
            url.set_query(None);
            url.set_fragment(None);
        });
        f.write_str(shown.0.as_str())
    }
}

impl fmt::Debug for SecretUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretUrl({self})")
    }
}

/// The runtime that carries the sockets of all clients of this process.
fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("http")
            .enable_all()
            .build()
            .expect("threads can be started")
    })
}

fn cut(error: reqwest::Error) -> HttpError {
    HttpError::Cut(words(error))
}

/// An error's words with those of its causes, without the URL.
fn words(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut words = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(error) = cause {
        let text = error.to_string();
        if !words.contains(&text) {
            words = format!("{words}: {text}");
        }
        cause = error.source();
    }
    words
}

/// TLS with the provider that the rest of the program has, and roots read now.
fn tls(ca_file: Option<&Path>) -> Result<rustls::ClientConfig, Finding> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(path) = ca_file {
        let refuse = |reason: String| {
            let evidence = format!("{}: {reason}", path.display());
            Finding::error(Code::OpenFailed, evidence)
                .about(path)
                .with_remedy("name a file of certificates in PEM")
        };
        let mut pem = Vec::new();
        std::fs::File::open(path)
            .and_then(|file| file.take(TLS_FILE_MAX_BYTES).read_to_end(&mut pem))
            .map_err(|error| refuse(error.to_string()))?;
        let mut count = 0;
        for certificate in CertificateDer::pem_slice_iter(&pem) {
            let certificate = certificate.map_err(|error| refuse(error.to_string()))?;
            roots.add(certificate).map_err(|error| refuse(error.to_string()))?;
            count += 1;
        }
        if count == 0 {
            return Err(refuse("it holds no certificate".into()));
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Finding::error(Code::Internal, error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(config)
}

#[cfg(test)]
mod tests;
