//! NBD URIs, as the NBD project publishes them.
//!
//! `nbd://HOST[:PORT]/EXPORT`, `nbds://` with TLS, `nbd+unix:///EXPORT?socket=PATH`, `nbds+unix://`. Parameters:
//! `socket`, `tls-certificates` (a folder), `tls-hostname`, `tls-verify-peer` (refused where it is off).

use failback_model::{Code, Finding};
use std::path::PathBuf;

/// The port that NBD servers listen on where none is named.
const PORT: u16 = 10809;

/// Where a server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Transport {
    /// TCP.
    Tcp {
        /// Name or address, an IPv6 address without its brackets.
        host: String,
        /// Port.
        port: u16,
    },
    /// A socket of this host.
    Unix(PathBuf),
}

/// How the connection is protected.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TlsChoice {
    /// Folder of `ca-cert.pem`, `client-cert.pem` and `client-key.pem`; none: `/etc/pki/libnbd`, where libnbd looks.
    pub certificates: Option<PathBuf>,
    /// Name that the server's certificate must have; none: the host's.
    pub hostname: Option<String>,
}

/// What an NBD URI names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NbdUri {
    /// Where.
    pub transport: Transport,
    /// Which export; empty: the server's default.
    pub export: String,
    /// Whether and how TLS is spoken.
    pub tls: Option<TlsChoice>,
    /// As it was written.
    pub text: String,
}

impl NbdUri {
    /// Understands a URI.
    pub fn parse(text: &str) -> Result<Self, Finding> {
        parse(text).map_err(|why| {
            Finding::error(Code::SourceUnsupported, format!("{text}: {why}")).with_remedy(
                "write nbd://HOST[:PORT]/EXPORT, nbds://…?tls-certificates=DIR or nbd+unix:///EXPORT?socket=PATH",
            )
        })
    }
}

fn parse(text: &str) -> Result<NbdUri, String> {
    let (scheme, rest) = text.split_once("://").ok_or("it is no URI")?;
    let rest = rest.split_once('#').map_or(rest, |(rest, _)| rest);
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let export = decode(path)?;
    let parameters = Parameters::parse(query)?;
    let (is_tls, is_unix) = match scheme {
        "nbd" => (false, false),
        "nbds" => (true, false),
        "nbd+unix" => (false, true),
        "nbds+unix" => (true, true),
        _ => return Err(format!("{scheme}:// is no scheme of NBD")),
    };
    let transport = match (is_unix, parameters.socket) {
        (true, Some(socket)) if authority.is_empty() => Transport::Unix(socket),
        (true, Some(_)) => return Err("a socket of this host has no host name".into()),
        (true, None) => return Err("which socket? (socket=PATH is missing)".into()),
        (false, Some(_)) => return Err("socket= belongs to nbd+unix:// and nbds+unix://".into()),
        (false, None) => tcp(authority)?,
    };
    let tls = is_tls.then_some(parameters.tls);
    Ok(NbdUri { transport, export, tls, text: text.into() })
}

fn tcp(authority: &str) -> Result<Transport, String> {
    if let Some((user, _)) = authority.split_once('@') {
        let why = "TLS with a pre-shared key is not supported: use certificates (tls-certificates=DIR)";
        return Err(format!("it names a user ({}): {why}", decode(user)?));
    }
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']').ok_or("an address in [ ] has no end")?;
            (host, port.strip_prefix(':').or(port.is_empty().then_some("")).ok_or("behind ] stands no port")?)
        }
        None => authority.split_once(':').unwrap_or((authority, "")),
    };
    let port = match port {
        "" => PORT,
        port => port.parse().ok().filter(|port| *port > 0).ok_or_else(|| format!("{port:?} is no port"))?,
    };
    let host = if host.is_empty() { "localhost".into() } else { decode(host)? };
    Ok(Transport::Tcp { host, port })
}

/// The part behind the question mark.
#[derive(Debug, Default)]
struct Parameters {
    socket: Option<PathBuf>,
    tls: TlsChoice,
}

impl Parameters {
    fn parse(query: &str) -> Result<Self, String> {
        let mut parsed = Self::default();
        for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            let value = decode(value)?;
            match name {
                "socket" if !value.is_empty() => parsed.socket = Some(value.into()),
                "tls-certificates" => parsed.tls.certificates = Some(value.into()),
                "tls-hostname" => parsed.tls.hostname = Some(value),
                "tls-psk-file" | "tls-username" => {
                    return Err(
                        "TLS with a pre-shared key is not supported: use certificates (tls-certificates=DIR)"
                            .into(),
                    );
                }
                "tls-verify-peer" if matches!(value.as_str(), "0" | "false" | "no" | "off") => {
                    return Err(
                        "a server that is not verified may be anyone: tls-verify-peer cannot be off".into()
                    );
                }
                "tls-verify-peer" => {}
                _ => return Err(format!("parameter {name} is not known")),
            }
        }
        Ok(parsed)
    }
}

/// Takes `%XX` back.
fn decode(text: &str) -> Result<String, String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        (rest, _) = match (*first, tail) {
            (b'%', [high, low, tail @ ..]) => {
                let digit =
                    |byte: u8| char::from(byte).to_digit(16).ok_or_else(|| format!("{text:?} has a wrong %"));
                bytes.push((digit(*high)? * 16 + digit(*low)?) as u8);
                (tail, ())
            }
            (b'%', _) => return Err(format!("{text:?} ends in the middle of a %")),
            (byte, tail) => {
                bytes.push(byte);
                (tail, ())
            }
        };
    }
    if bytes.contains(&0) {
        return Err("it holds a zero byte".into());
    }
    String::from_utf8(bytes).map_err(|_| format!("{text:?} is no UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(host: &str, port: u16) -> Transport {
        Transport::Tcp { host: host.into(), port }
    }

    #[test]
    fn uris_of_the_specification_are_understood() {
        let of = |text: &str| {
            let uri = NbdUri::parse(text).expect(text);
            (uri.transport, uri.export, uri.tls)
        };
        assert_eq!(of("nbd://example.com"), (tcp("example.com", 10809), String::new(), None));
        assert_eq!(of("nbd://example.com/a%20b/c"), (tcp("example.com", 10809), "a b/c".into(), None));
        assert_eq!(of("nbd://[2001:db8::1]:10810/x"), (tcp("2001:db8::1", 10810), "x".into(), None));
        assert_eq!(of("nbds://h/"), (tcp("h", 10809), String::new(), Some(TlsChoice::default())));
        assert_eq!(
            of("nbd+unix:///x?socket=/tmp/s%3f"),
            (Transport::Unix("/tmp/s?".into()), "x".into(), None)
        );
        // A slash that is part of the export's name is a second one.
        assert_eq!(of("nbd+unix:////x?socket=/s").1, "/x");
        let (_, _, tls) = of("nbds+unix:///?socket=/s&tls-certificates=/c&tls-hostname=h");
        assert_eq!(tls, Some(TlsChoice { certificates: Some("/c".into()), hostname: Some("h".into()) }));
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_its_reason() {
        for (text, why) in [
            ("nbd://h:0/x", "is no port"),
            ("nbd://h:x/x", "is no port"),
            ("nbd://[::1/x", "has no end"),
            ("nbd://[::1]x/x", "no port"),
            ("nbd+unix:///x", "socket=PATH"),
            ("nbd+unix://h/x?socket=/s", "no host name"),
            ("nbd://h/x?socket=/s", "belongs to"),
            ("nbd://h/%zz", "wrong %"),
            ("nbd://h/%0", "middle of a %"),
            ("nbd://h/%ff", "UTF-8"),
            ("nbd://h/%00", "zero byte"),
            ("nbds://alice@h/x", "pre-shared key"),
            ("nbds://h/x?tls-psk-file=/k", "pre-shared key"),
            ("nbds://h/x?tls-verify-peer=false", "cannot be off"),
            ("nbd://h/x?compress=1", "not known"),
        ] {
            let finding = NbdUri::parse(text).expect_err(text);
            assert!(finding.evidence.contains(why), "{text}: {}", finding.evidence);
        }
    }
}
