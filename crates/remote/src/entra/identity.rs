//! Tokens of the identity that Azure gave a machine, or of an application.

use super::{Issued, denied, first_line, issued};
use crate::http::{Http, Method, Request, SecretUrl, header};
use failback_model::Finding;
use failback_model::limits::TOKEN_FILE_MAX_BYTES;
use std::path::PathBuf;

/// Where a machine of Azure asks for its identity's tokens.
const MACHINE: &str = "http://169.254.169.254/metadata/identity/oauth2/token";
/// Where an application asks, in the public cloud.
const AUTHORITY: &str = "https://login.microsoftonline.com";
const ASSERTION: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    who: Who,
    /// Another issuer than the public cloud's.
    issuer: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Who {
    /// This machine; the client id where it has several identities.
    Machine(Option<String>),
    /// An application.
    Application { tenant: String, client: String, proof: Proof },
}

/// How an application proves who it is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Proof {
    /// First line of a file is its secret.
    Secret(PathBuf),
    /// First line of a file is a token of an issuer that it trusts.
    Federated(PathBuf),
}

impl Identity {
    /// This machine's, by a client id where it has several.
    pub fn machine(client: Option<&str>) -> Self {
        Self { who: Who::Machine(client.map(str::to_owned)), issuer: None }
    }

    /// An application's, whose secret is the first line of a file.
    pub fn secret(tenant: &str, client: &str, file: impl Into<PathBuf>) -> Self {
        Self::application(tenant, client, Proof::Secret(file.into()))
    }

    /// An application's, for which the first line of a file vouches.
    pub fn federated(tenant: &str, client: &str, file: impl Into<PathBuf>) -> Self {
        Self::application(tenant, client, Proof::Federated(file.into()))
    }

    fn application(tenant: &str, client: &str, proof: Proof) -> Self {
        Self { who: Who::Application { tenant: tenant.into(), client: client.into(), proof }, issuer: None }
    }

    /// The same of another cloud's issuer.
    pub fn at(self, issuer: &str) -> Self {
        Self { issuer: Some(issuer.into()), ..self }
    }

    /// Asks for a token.
    pub(super) fn issue(&self, http: &Http, resource: &str) -> Result<Issued, Finding> {
        let request = match &self.who {
            Who::Machine(client) => self.of_machine(client.as_deref(), resource)?,
            Who::Application { tenant, client, proof } => {
                self.of_application(tenant, client, proof, resource)?
            }
        };
        let answer = http.send(request).map_err(|error| denied(error.to_string()))?;
        let status = answer.status();
        let body = answer.body(TOKEN_FILE_MAX_BYTES as usize).map_err(|error| denied(error.to_string()))?;
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
        if !status.is_success() {
            // Its words name the tenant and the application, and never a secret; they are long.
            let said = body["error"].as_str().unwrap_or("no reason given");
            return Err(denied(format!("HTTP {}: {said}", status.as_u16())));
        }
        issued(&body).ok_or_else(|| denied("the answer holds none".into()))
    }

    fn of_machine(&self, client: Option<&str>, resource: &str) -> Result<Request, Finding> {
        let url = parse(self.issuer.as_deref().unwrap_or(MACHINE))?.changed(|url| {
            let mut query = url.query_pairs_mut();
            query.append_pair("api-version", "2018-02-01").append_pair("resource", resource);
            if let Some(client) = client {
                query.append_pair("client_id", client);
            }
        });
        let name = header::HeaderName::from_static("metadata");
        Request::new(Method::GET, url).with(name, "true").map_err(|error| denied(error.to_string()))
    }

    fn of_application(
        &self,
        tenant: &str,
        client: &str,
        proof: &Proof,
        resource: &str,
    ) -> Result<Request, Finding> {
        let issuer = self.issuer.as_deref().unwrap_or(AUTHORITY);
        let url = parse(&format!("{issuer}/{tenant}/oauth2/v2.0/token"))?;
        let (Proof::Secret(file) | Proof::Federated(file)) = proof;
        let text =
            first_line(file).map_err(|error| denied(format!("{}: {error}", file.display())).about(file))?;
        // Any URL writes a form as it must be.
        let form = url.changed(|url| {
            let mut query = url.query_pairs_mut();
            query.append_pair("client_id", client).append_pair("grant_type", "client_credentials");
            query.append_pair("scope", &format!("{resource}/.default"));
            match proof {
                Proof::Secret(_) => query.append_pair("client_secret", &text),
                Proof::Federated(_) => query
                    .append_pair("client_assertion_type", ASSERTION)
                    .append_pair("client_assertion", &text),
            };
        });
        let form = form.expose().query().unwrap_or_default().to_owned();
        let kind = "application/x-www-form-urlencoded";
        let mut request = Request::new(Method::POST, url)
            .with(header::CONTENT_TYPE, kind)
            .map_err(|error| denied(error.to_string()))?;
        request.body = form.into_bytes().into();
        Ok(request)
    }
}

fn parse(url: &str) -> Result<SecretUrl, Finding> {
    SecretUrl::parse(url).map_err(|why| denied(format!("the issuer's URL: {why}")))
}
