//! Tokens of Entra ID (OAuth 2), by which Azure knows who asks.
//!
//! They come from a file, from a command such as `az account get-access-token`, or, with the feature `azure_identity`, from the
//! machine's own identity or from an application's secret or federated token. The name is that of Microsoft's crate, which would
//! bring about 200 packages and second versions of some that we have: ADR 5.
//!
//! **Invariant**: a token is printed by nothing.

mod command;
#[cfg(feature = "azure_identity")]
mod identity;

use crate::http::Http;
use failback_model::limits::{TOKEN_FILE_MAX_BYTES, TOKEN_LEFT_MIN, TOKEN_TIME_DEFAULT};
use failback_model::{Code, Finding};
use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

#[cfg(feature = "azure_identity")]
pub use identity::Identity;

/// Where tokens come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenSource {
    /// First line of a file that somebody else keeps fresh.
    File(PathBuf),
    /// What a command writes: the token as one line, or the JSON of `az account get-access-token`.
    Command(Vec<String>),
    /// An identity of Entra's.
    #[cfg(feature = "azure_identity")]
    Identity(Identity),
}

/// A token.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// The value of the header `Authorization`.
    pub fn header(&self) -> String {
        format!("Bearer {}", self.0)
    }

    /// A token of characters that a header can hold.
    fn of(text: &str) -> Option<Self> {
        let text = text.trim();
        let is_plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
        is_plain.then(|| Self(text.into()))
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(...)")
    }
}

/// A token, and how long it holds.
#[derive(Debug, Clone)]
struct Issued {
    token: Token,
    lasts: Duration,
}

/// Tokens for one service, made anew before they expire.
#[derive(Debug)]
pub struct Tokens {
    source: TokenSource,
    #[cfg_attr(
        not(feature = "azure_identity"),
        expect(dead_code, reason = "only identities are asked over HTTP")
    )]
    http: Http,
    /// The service: `https://management.azure.com`, `https://storage.azure.com`.
    #[cfg_attr(not(feature = "azure_identity"), expect(dead_code, reason = "files and commands know it"))]
    resource: String,
    held: Mutex<Option<(Token, Instant)>>,
}

impl Tokens {
    /// Tokens of a source for a service, named by its URL without a path.
    pub fn new(source: TokenSource, http: Http, resource: &str) -> Self {
        Self { source, http, resource: resource.trim_end_matches('/').into(), held: Mutex::default() }
    }

    /// A token that holds now.
    pub fn bearer(&self) -> Result<Token, Finding> {
        let mut held = self.held();
        if let Some((token, until)) = &*held
            && Instant::now() < *until
        {
            return Ok(token.clone());
        }
        let Issued { token, lasts } = match &self.source {
            // Read each time: whoever keeps it fresh need not tell.
            TokenSource::File(path) => return read(path),
            TokenSource::Command(command) => command::run(command)?,
            #[cfg(feature = "azure_identity")]
            TokenSource::Identity(identity) => identity.issue(&self.http, &self.resource)?,
        };
        *held = Some((token.clone(), Instant::now() + lasts.saturating_sub(TOKEN_LEFT_MIN)));
        Ok(token)
    }

    /// The service refused the token: the next one is made anew.
    pub fn forget(&self) {
        *self.held() = None;
    }

    fn held(&self) -> MutexGuard<'_, Option<(Token, Instant)>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn read(path: &Path) -> Result<Token, Finding> {
    let refuse = |why: String| denied(format!("{}: {why}", path.display())).about(path);
    Token::of(&first_line(path).map_err(|error| refuse(error.to_string()))?)
        .ok_or_else(|| refuse("its first line is no token".into()))
}

fn first_line(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(TOKEN_FILE_MAX_BYTES).read_to_string(&mut text)?;
    Ok(text.lines().next().unwrap_or_default().trim().into())
}

/// What an issuer answers, as OAuth 2 or `az` writes it.
fn issued(answer: &serde_json::Value) -> Option<Issued> {
    let text = ["access_token", "accessToken"].iter().find_map(|key| answer[*key].as_str())?;
    let seconds = match &answer["expires_in"] {
        serde_json::Value::String(text) => text.parse().ok(),
        other => other.as_u64(),
    };
    Some(Issued { token: Token::of(text)?, lasts: seconds.map_or(TOKEN_TIME_DEFAULT, Duration::from_secs) })
}

fn denied(evidence: String) -> Finding {
    Finding::error(Code::SourceDenied, format!("no token: {evidence}"))
}

#[cfg(test)]
mod tests;
