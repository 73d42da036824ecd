//! TLS by certificates, against nbdkit.

use crate::server::{Server, assert_same, open, raw_disk, read_all, refused, socket};
use failback_model::Code;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use std::fs;
use std::path::Path;

const LENGTH: u64 = 3 << 20;

/// An authority with a server's certificate for `localhost` and a client's, in the names that GnuTLS programs look for.
fn certificates(folder: &Path) {
    fs::create_dir_all(folder).expect("a folder");
    let mut params = CertificateParams::new(Vec::new()).expect("parameters");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority =
        CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("signed");
    fs::write(folder.join("ca-cert.pem"), authority.pem()).expect("kept");
    for (role, purpose) in
        [("server", ExtendedKeyUsagePurpose::ServerAuth), ("client", ExtendedKeyUsagePurpose::ClientAuth)]
    {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).expect("parameters");
        params.extended_key_usages = vec![purpose];
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &authority).expect("signed");
        fs::write(folder.join(format!("{role}-cert.pem")), certificate.pem()).expect("kept");
        fs::write(folder.join(format!("{role}-key.pem")), key.serialize_pem()).expect("kept");
    }
}

#[test]
fn both_ends_know_each_other_by_their_certificates() {
    let folder = tempfile::tempdir().expect("a folder");
    let (raw, bytes) = raw_disk(folder.path(), LENGTH);
    let ours = folder.path().join("pki");
    certificates(&ours);
    let option = format!("--tls-certificates={}", ours.display());
    let tls = ["--tls=require", "--tls-verify-peer", &option, "file", raw.to_str().expect("a name")];
    let _server = Server::nbdkit(folder.path(), &tls);
    let at = socket(folder.path());
    let uri = |certificates: &Path, more: &str| {
        format!("nbds+unix:///?socket={}&tls-certificates={}{more}", at.display(), certificates.display())
    };
    assert_same(&read_all(&*open(&uri(&ours, "")).expect("opened")), &bytes);
    let judged = |uri: &str| {
        let finding = refused(uri);
        (finding.code, finding.evidence)
    };
    let (code, said) = judged(&uri(&ours, "&tls-hostname=elsewhere"));
    assert_eq!(code, Code::TlsFailed, "{said}");
    let others = folder.path().join("others");
    certificates(&others);
    let (code, said) = judged(&uri(&others, ""));
    assert_eq!(code, Code::TlsFailed, "{said}");
    let (code, said) = judged(&format!("nbd+unix:///?socket={}", at.display()));
    assert_eq!(code, Code::SourceDenied, "{said}");
    assert!(said.contains("nbds://"), "{said}");
}

#[test]
fn a_server_without_tls_is_not_spoken_to_in_the_clear() {
    let folder = tempfile::tempdir().expect("a folder");
    let (raw, _) = raw_disk(folder.path(), LENGTH);
    let ours = folder.path().join("pki");
    certificates(&ours);
    let _server = Server::nbdkit(folder.path(), &["--tls=off", "file", raw.to_str().expect("a name")]);
    let at = socket(folder.path());
    let uri = format!("nbds+unix:///?socket={}&tls-certificates={}", at.display(), ours.display());
    let finding = refused(&uri);
    assert_eq!(finding.code, Code::SourceUnsupported, "{}", finding.evidence);
}
