//! What a refusal of the service means for whoever reads a disk.
//!
//! **Invariant**: of a refusal only its status and its code are repeated: messages of the service quote what was asked.

use crate::http::{Answer, StatusCode};
use failback_model::Code;
use std::time::Duration;

/// What to do about an answer that is no success.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Ask again later, more slowly.
    Busy(Option<Duration>),
    /// The signature or the token is over: get another one.
    Expired(String),
    /// It will be refused again.
    Final(Code, String),
}

/// The service's own code of an answer; letters and digits only.
fn code_of(answer: &Answer) -> String {
    let code = answer.text_of("x-ms-error-code").unwrap_or_default();
    code.chars().filter(char::is_ascii_alphanumeric).take(64).collect()
}

/// Reads a refusal. `has_expired`: whether the signature says itself that its time is over; none where it says nothing.
pub(super) fn refusal(answer: &Answer, has_expired: Option<bool>, has_token: bool) -> Refusal {
    let code = code_of(answer);
    let said =
        if code.is_empty() { answer.status().to_string() } else { format!("{}: {code}", answer.status()) };
    let wants_token = answer
        .headers()
        .get_all("www-authenticate")
        .iter()
        .any(|value| value.to_str().is_ok_and(|text| text.to_ascii_lowercase().starts_with("bearer")));
    let last = |code: Code, words: &str| Refusal::Final(code, format!("{said}{words}"));
    match (answer.status(), code.as_str()) {
        (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, _) if wants_token && !has_token => {
            last(Code::BlobTokenNeeded, ": dataAccessAuthMode of the disk is AzureActiveDirectory")
        }
        (StatusCode::UNAUTHORIZED, _) => Refusal::Expired(said),
        (StatusCode::FORBIDDEN, "AuthorizationFailure") if has_expired == Some(false) => last(
            Code::BlobNetworkDenied,
            ": the signature is in its time, so this host is refused (networkAccessPolicy DenyAll or AllowPrivate, a firewall), or it is not for this blob or snapshot",
        ),
        (StatusCode::FORBIDDEN, "PublicNetworkAccessNotPermitted" | "AuthorizationSourceIPMismatch") => {
            last(Code::BlobNetworkDenied, "")
        }
        (
            StatusCode::FORBIDDEN,
            "AuthorizationPermissionMismatch"
            | "AuthorizationProtocolMismatch"
            | "AuthorizationServiceMismatch"
            | "AuthorizationResourceTypeMismatch"
            | "KeyBasedAuthenticationNotPermitted",
        ) => last(Code::SourceDenied, ": the signature does not allow this"),
        (StatusCode::FORBIDDEN, _) => Refusal::Expired(said),
        (StatusCode::NOT_FOUND, _) => last(Code::BlobMissing, ""),
        (StatusCode::PRECONDITION_FAILED, _) => last(Code::ChangedMeanwhile, ": its ETag is another one now"),
        (StatusCode::CONFLICT, "PublicAccessNotPermitted") => {
            last(Code::SourceDenied, ": it needs a signature")
        }
        (StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT, _) => {
            Refusal::Busy(answer.retry_after())
        }
        (status, _) if status.is_server_error() && status != StatusCode::NOT_IMPLEMENTED => {
            Refusal::Busy(answer.retry_after())
        }
        _ => last(Code::CloudFailed, ""),
    }
}
