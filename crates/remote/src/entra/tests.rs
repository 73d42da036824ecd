use super::*;
use crate::http::HttpOptions;
use std::fs;

fn tokens(source: TokenSource) -> Tokens {
    Tokens::new(
        source,
        Http::new(&HttpOptions::default()).expect("a client"),
        "https://management.azure.com/",
    )
}

fn shell(script: &str) -> TokenSource {
    TokenSource::Command(vec!["/bin/sh".into(), "-c".into(), script.into()])
}

#[test]
fn a_file_is_read_each_time_and_what_is_no_token_is_refused_unseen() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("token");
    let tokens = tokens(TokenSource::File(path.clone()));
    for text in ["first", "second"] {
        fs::write(&path, format!("{text}\nmore")).expect("written");
        assert_eq!(tokens.bearer().expect("a token").header(), format!("Bearer {text}"));
    }
    fs::write(&path, "a SECRET of two words").expect("written");
    let refused = tokens.bearer().expect_err("no token");
    assert_eq!(refused.code, Code::SourceDenied);
    assert!(!format!("{refused:?}").contains("SECRET"));
}

#[test]
fn a_command_runs_once_until_its_token_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let runs = folder.path().join("runs");
    let script =
        format!("echo x >> {}; echo '{{\"accessToken\": \"T\", \"expires_in\": 3600}}'", runs.display());
    let tokens = tokens(shell(&script));
    (0..3).for_each(|_| assert_eq!(tokens.bearer().expect("a token").header(), "Bearer T"));
    assert_eq!(fs::read_to_string(&runs).expect("read"), "x\n");
    tokens.forget();
    tokens.bearer().expect("a token");
    assert_eq!(fs::read_to_string(&runs).expect("read"), "x\nx\n");
}

#[test]
fn a_command_that_fails_or_writes_something_else_is_named_without_its_output() {
    for script in ["echo SECRET; exit 3", "echo 'not SECRET one'", "true"] {
        let refused = tokens(shell(script)).bearer().expect_err("no token");
        assert_eq!(refused.code, Code::SourceDenied);
        assert!(refused.evidence.contains("/bin/sh") && !refused.evidence.contains("SECRET"), "{refused:?}");
    }
}
