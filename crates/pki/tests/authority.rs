//! The life of an authority in a folder, and what a broken one says.

use failback_model::{Code, PeerIdentity, PeerRole};
use failback_pki::{Authority, CertificateState, Overview, PkiError, Request, Selection, Validity};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, SystemTime};
use std::{fs, io};

fn identity(name: &str) -> PeerIdentity {
    PeerIdentity::new(PeerRole::ProcessServer, name).expect("a name")
}

fn request(name: &str) -> Request {
    Request::new(identity(name), Validity::days(30))
}

fn new_authority(folder: &Path) -> Authority {
    Authority::init(folder, "Failback test", Validity::days(365)).expect("an authority")
}

fn code<T>(result: Result<T, PkiError>) -> Code {
    result.err().expect("an error").code
}

fn mode(path: &Path) -> u32 {
    path.metadata().expect("a file").permissions().mode() & 0o777
}

#[test]
fn a_certificate_is_issued_renewed_and_revoked() {
    let home = tempfile::tempdir().expect("a folder");
    let folder = home.path().join("pki");
    let mut authority = new_authority(&folder);
    let mut wanted = request("azure-1");
    wanted.dns_names = vec!["ps.example".into()];
    wanted.addresses = vec!["192.0.2.1".parse().expect("an address")];
    let first = authority.issue(&wanted).expect("issued");
    assert_eq!(code(authority.issue(&wanted)), Code::PkiCertificateExists);
    let second = authority.renew(&wanted.identity, Validity::days(60)).expect("renewed");
    assert_ne!(first.record.serial, second.record.serial);
    assert_eq!((&second.record.dns_names, &second.record.addresses), (&wanted.dns_names, &wanted.addresses));

    let revoked = authority.revoke(&Selection::Serial(first.record.serial.to_uppercase())).expect("revoked");
    assert_eq!(revoked.len(), 1);
    drop(authority);
    let now = SystemTime::now();
    let states = || {
        let overview = Overview::read(&folder).expect("an index");
        overview.certificates.iter().map(|record| record.state(now)).collect::<Vec<_>>()
    };
    assert_eq!(states(), [CertificateState::Revoked, CertificateState::Valid]);

    let mut authority = Authority::open(&folder).expect("opened");
    let list = fs::read(folder.join("crl.pem")).expect("a list");
    let revoked = authority.revoke(&Selection::Identity(wanted.identity.clone())).expect("revoked");
    assert_eq!(revoked.len(), 2);
    assert_ne!(fs::read(folder.join("crl.pem")).expect("a list"), list);
    let number = authority.overview().crl_number;
    authority.revoke(&Selection::Identity(wanted.identity.clone())).expect("twice is once");
    assert_eq!(authority.overview().crl_number, number);
    assert_eq!(states(), [CertificateState::Revoked, CertificateState::Revoked]);
    assert_eq!(code(authority.renew(&wanted.identity, Validity::days(1))), Code::PkiUnknown);
    authority.issue(&wanted).expect("a revoked identity may get a new certificate");
    assert_eq!(code(authority.revoke(&Selection::Identity(identity("other")))), Code::PkiUnknown);
    assert_eq!(code(authority.revoke(&Selection::Serial("00".into()))), Code::PkiUnknown);
}

#[test]
fn keys_are_for_their_owner_only() {
    let home = tempfile::tempdir().expect("a folder");
    let folder = home.path().join("pki");
    let mut authority = new_authority(&folder);
    let issued = authority.issue(&request("a")).expect("issued");
    let out = authority.export(&identity("a"), &home.path().join("out/a")).expect("exported");
    for path in [&folder.join("ca-key.pem"), &issued.files.key, &out.key] {
        assert_eq!(mode(path), 0o600, "{}", path.display());
    }
    for path in [&issued.files.cert, &out.cert, &out.ca, &out.crl] {
        assert_eq!(mode(path) & 0o600, 0o600);
    }
    assert_eq!(mode(&folder), 0o700);
    assert_eq!(fs::read(&out.key).expect("a key"), fs::read(&issued.files.key).expect("a key"));
    // A file that was left behind with another mode is not written through.
    let draft = folder.join("issued/process-server/a/.key.pem.draft");
    fs::write(&draft, "left behind").expect("written");
    fs::set_permissions(&draft, fs::Permissions::from_mode(0o644)).expect("set");
    let renewed = authority.renew(&identity("a"), Validity::days(30)).expect("renewed");
    assert_eq!(mode(&renewed.files.key), 0o600);
    assert!(!draft.exists());
    assert_eq!(code(authority.export(&identity("b"), home.path())), Code::PkiUnknown);
}

#[test]
fn an_authority_appears_whole_or_not_at_all() {
    let home = tempfile::tempdir().expect("a folder");
    let folder = home.path().join("deep/pki");
    fs::create_dir_all(home.path().join("deep/.pki.draft")).expect("what a crash left");
    drop(new_authority(&folder));
    let again = Authority::init(&folder, "again", Validity::days(1)).map(|_| ());
    assert_eq!(code(again), Code::PkiExists);
    assert!(!home.path().join("deep/.pki.draft").exists());
    let empty = home.path().join("empty");
    fs::create_dir(&empty).expect("a folder");
    assert_eq!(code(Authority::open(&empty).map(|_| ())), Code::PkiMissing);
    assert_eq!(empty.read_dir().expect("a folder").count(), 0, "looking leaves nothing behind");
    drop(new_authority(&empty));
    assert_eq!(code(Authority::open(&home.path().join("none")).map(|_| ())), Code::PkiMissing);
    for name in ["", "a\nb", &"x".repeat(65)] {
        let refused = Authority::init(&home.path().join("new"), name, Validity::days(1)).map(|_| ());
        assert_eq!(code(refused), Code::PkiIdentityInvalid);
    }
}

#[test]
fn what_cannot_be_certified_is_refused_before_it_is_signed() {
    let home = tempfile::tempdir().expect("a folder");
    let mut authority = new_authority(&home.path().join("pki"));
    let now = SystemTime::now();
    let mut longer = request("a");
    longer.validity = Validity::days(366);
    assert_eq!(code(authority.issue(&longer)), Code::PkiAuthorityExpires);
    let mut backwards = request("a");
    backwards.validity = Validity::between(now, now - Duration::from_secs(10));
    assert_eq!(code(authority.issue(&backwards)), Code::PkiIdentityInvalid);
    for name in ["", "a b", "ä.example", "a\0", "-"] {
        let mut bad = request("a");
        bad.dns_names = vec![name.into()];
        assert_eq!(code(authority.issue(&bad)), Code::PkiIdentityInvalid, "{name:?}");
    }
    let mut many = request("a");
    many.dns_names = (0..33).map(|i| format!("n{i}.example")).collect();
    assert_eq!(code(authority.issue(&many)), Code::PkiIdentityInvalid);
    assert!(authority.overview().certificates.is_empty());
}

#[test]
fn files_that_do_not_belong_together_are_found() {
    let home = tempfile::tempdir().expect("a folder");
    let (folder, other) = (home.path().join("pki"), home.path().join("other"));
    drop(new_authority(&folder));
    drop(Authority::init(&other, "Another", Validity::days(365)).expect("an authority"));
    let broken = |file: &str, contents: &[u8]| -> io::Result<Code> {
        let path = folder.join(file);
        let right = fs::read(&path)?;
        fs::write(&path, contents)?;
        let found = code(Authority::open(&folder).and_then(|mut authority| authority.issue(&request("a"))));
        fs::write(&path, right)?;
        Ok(found)
    };
    for (file, contents) in [
        ("ca.pem", fs::read(other.join("ca.pem")).expect("a file")),
        ("ca-key.pem", fs::read(other.join("ca-key.pem")).expect("a file")),
        ("index.json", fs::read(other.join("index.json")).expect("a file")),
        ("index.json", b"{}".to_vec()),
        ("index.json", b"{\"format\": 1".to_vec()),
        ("ca-key.pem", b"no key".to_vec()),
        ("ca.pem", b"no certificate".to_vec()),
    ] {
        assert_eq!(broken(file, &contents).expect("files"), Code::PkiDamaged, "{file}");
    }
    fs::remove_file(folder.join("ca-key.pem")).expect("removed");
    assert_eq!(code(Authority::open(&folder).map(|_| ())), Code::PkiMissing);
}

#[test]
fn a_revocation_that_was_cut_short_is_finished() {
    let home = tempfile::tempdir().expect("a folder");
    let folder = home.path().join("pki");
    let mut authority = new_authority(&folder);
    authority.issue(&request("a")).expect("issued");
    let index = folder.join("index.json");
    let list = folder.join("crl.pem");
    let before = fs::read(&list).expect("a list");
    authority.revoke(&Selection::Identity(identity("a"))).expect("revoked");
    drop(authority);
    // As after a crash between the index and the list.
    let text = fs::read_to_string(&index).expect("an index");
    assert!(text.contains("\"crl_written\": 2"));
    fs::write(&index, text.replace("\"crl_written\": 2", "\"crl_written\": 1")).expect("written");
    fs::write(&list, &before).expect("written");
    drop(Authority::open(&folder).expect("opened"));
    assert_ne!(fs::read(&list).expect("a list"), before);
    let overview = Overview::read(&folder).expect("an index");
    assert_eq!((overview.crl_number, overview.crl_written), (2, 2));
}

#[test]
fn states_follow_the_clock() {
    let home = tempfile::tempdir().expect("a folder");
    let mut authority = new_authority(&home.path().join("pki"));
    let now = SystemTime::now();
    let hour = Duration::from_secs(3600);
    let mut later = request("a");
    later.validity = Validity::between(now + hour, now + 2 * hour);
    let record = authority.issue(&later).expect("issued").record;
    assert_eq!(record.state(now), CertificateState::NotYetValid);
    assert_eq!(record.state(now + hour + hour / 2), CertificateState::Valid);
    assert_eq!(record.state(now + 3 * hour), CertificateState::Expired);
    authority.issue(&later).expect("one that is not valid now does not stand in the way");
}

#[test]
fn commands_on_one_folder_wait_for_each_other() {
    let home = tempfile::tempdir().expect("a folder");
    let folder = home.path().join("pki");
    drop(new_authority(&folder));
    std::thread::scope(|scope| {
        for i in 0..8 {
            let folder = &folder;
            scope.spawn(move || {
                let mut authority = Authority::open(folder).expect("opened");
                authority.issue(&request(&format!("m{i}"))).expect("issued");
            });
        }
    });
    assert_eq!(Overview::read(&folder).expect("an index").certificates.len(), 8);
}
