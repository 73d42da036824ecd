//! One blob's requests: paced, asked again where that can help, let in by the signature in force.
//!
//! **Invariant**: a request is asked a bounded number of times; what is refused for good is refused at once.

use super::SERVICE_VERSION;
use super::access::Access;
use super::address::BlobUrl;
use super::pace::Pace;
use super::refusal::{Refusal, refusal};
use super::snapshots::decoded;
use super::token::TokenSource;
use crate::http::{Answer, Http, HttpError, HttpOptions, Request};
use crate::open::OpenOptions;
use crate::spec::BlobAddress;
use crate::waits::Waits;
use failback_blockio::{DiskError, Operation};
use failback_model::limits::{
    BLOB_TRIES_MAX, BLOB_WAIT_FIRST, BLOB_WAIT_MAX, HOOK_TIMEOUT_DEFAULT, SIGNATURE_POLL,
    SIGNATURE_TRIES_MAX, SIGNATURE_WAIT_MAX,
};
use failback_model::{Code, Finding};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// How long what may mend itself is waited for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    pub(crate) tries: u32,
    pub(crate) first_wait: Duration,
    pub(crate) longest_wait: Duration,
    pub(crate) signature_wait: Duration,
    pub(crate) signature_poll: Duration,
    pub(crate) command_wait: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            tries: BLOB_TRIES_MAX,
            first_wait: BLOB_WAIT_FIRST,
            longest_wait: BLOB_WAIT_MAX,
            signature_wait: SIGNATURE_WAIT_MAX,
            signature_poll: SIGNATURE_POLL,
            command_wait: HOOK_TIMEOUT_DEFAULT,
        }
    }
}

/// A blob's service.
#[derive(Debug)]
pub(super) struct BlobService {
    http: Http,
    access: Access,
    pace: Pace,
    patience: Patience,
    token: Option<Arc<dyn TokenSource>>,
    waits: Waits,
    name: PathBuf,
}

/// Why an answer that began well is of no use.
#[derive(Debug)]
pub(super) enum Trouble {
    /// It broke off, or is damaged: asked again.
    Again(String),
    /// It is wrong, and will be.
    Final(Code, String),
}

impl From<HttpError> for Trouble {
    fn from(error: HttpError) -> Self {
        match error {
            HttpError::TooLong(_) => Self::Final(Code::CloudFailed, error.to_string()),
            HttpError::Unreachable(_) | HttpError::Cut(_) => Self::Again(error.to_string()),
        }
    }
}

impl BlobService {
    /// Reads the blob's URL; nothing is asked yet.
    pub(super) fn new(
        address: &BlobAddress,
        options: &OpenOptions,
        patience: Patience,
    ) -> Result<Self, Finding> {
        let access = Access::new(address, options, patience)?;
        let (_, url) = access.current();
        Ok(Self {
            http: Http::new(&HttpOptions { ca_file: options.ca_file.clone() })?,
            access,
            pace: Pace::new(options.connections),
            patience,
            token: options.token.clone(),
            waits: options.waits.clone(),
            name: url.name(),
        })
    }

    /// What to call the blob.
    pub(super) fn name(&self) -> &Path {
        &self.name
    }

    /// The snapshot that is read, if it is one.
    pub(super) fn snapshot(&self) -> Option<String> {
        self.access.current().1.snapshot()
    }

    /// The blob's name in its container.
    pub(super) fn blob_name(&self) -> String {
        decoded(&self.access.current().1.container().1)
    }

    /// Asks what `request` makes of the URL in force until `take` makes something of the answer.
    pub(super) fn ask<T>(
        &self,
        operation: Operation,
        request: &dyn Fn(&BlobUrl) -> Result<Request, HttpError>,
        take: &mut dyn FnMut(Answer) -> Result<T, Trouble>,
    ) -> Result<T, DiskError> {
        let fail = |code, reason: String| DiskError::new(code, operation, &self.name, reason);
        let (mut tries, mut refused, mut wait) = (0, 0, self.patience.first_wait);
        loop {
            let (generation, url) =
                self.access.refresh().map_err(|finding| self.failed(operation, finding))?;
            let turn = self.pace.enter(&self.waits).map_err(|finding| self.failed(operation, finding))?;
            let request = request(&url).and_then(|request| request.with("x-ms-version", SERVICE_VERSION));
            let request = request.map_err(|error| fail(Code::Internal, error.to_string()))?;
            let request = self.let_in(request).map_err(|finding| self.failed(operation, finding))?;
            let outcome = self.http.send(request);
            let (code, reason, quiet) = match outcome {
                Ok(answer) if answer.status().is_success() => match take(answer) {
                    Ok(made) => {
                        self.pace.raise();
                        self.access.prove();
                        return Ok(made);
                    }
                    Err(Trouble::Final(code, reason)) => return Err(fail(code, reason)),
                    Err(Trouble::Again(reason)) => (Code::SourceUnreachable, reason, None),
                },
                Ok(answer) => match refusal(&answer, url.has_expired(now()), self.token.is_some()) {
                    Refusal::Final(code, reason) => return Err(fail(code, reason)),
                    Refusal::Expired(reason) => {
                        drop(turn);
                        refused += 1;
                        if refused > SIGNATURE_TRIES_MAX {
                            return Err(fail(Code::SourceDenied, reason));
                        }
                        self.access.replace(generation).map_err(|finding| self.failed(operation, finding))?;
                        continue;
                    }
                    Refusal::Busy(quiet) => (Code::SourceThrottled, answer.status().to_string(), quiet),
                },
                Err(error) => (Code::SourceUnreachable, error.to_string(), None),
            };
            drop(turn);
            tries += 1;
            if tries >= self.patience.tries {
                return Err(fail(code, format!("{reason}, {tries} times")));
            }
            // The pace keeps this thread and all others from asking too early.
            self.pace.slow(quiet.unwrap_or(wait).min(self.patience.longest_wait));
            wait = (wait * 2).min(self.patience.longest_wait);
        }
    }

    /// The request with a token, where access goes by tokens.
    fn let_in(&self, request: Request) -> Result<Request, Finding> {
        let Some(source) = &self.token else { return Ok(request) };
        let token = format!("Bearer {}", source.token()?);
        let denied = |_| Finding::error(Code::SourceDenied, "the token is no text of a header");
        request.with_secret("authorization", token).map_err(denied)
    }

    fn failed(&self, operation: Operation, finding: Finding) -> DiskError {
        DiskError::new(finding.code, operation, &self.name, finding.evidence)
    }
}

/// Seconds since 1970.
fn now() -> i64 {
    jiff::Timestamp::now().as_second()
}
