//! The page of promises names tests that are there.

use failback_testkit::repository;
use std::fs;

#[test]
fn every_test_that_a_promise_names_is_there() {
    let root = repository(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(root.join("docs/durability.md")).expect("the page");
    let mut named = 0;
    for quoted in page.split('`').skip(1).step_by(2) {
        let Some((file, function)) = quoted.split_once(".rs: ") else { continue };
        let path = root.join(format!("{file}.rs"));
        let source = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert!(source.contains(&format!("fn {function}(")), "no {function} in {}", path.display());
        named += 1;
    }
    assert!(named > 40, "only {named} tests are named");
    // Each promise is a paragraph that begins in bold and names at least one.
    let promises = page.split("## Promises").nth(1).and_then(|rest| rest.split("## Not promised").next());
    for promise in promises.expect("promises").split("\n\n").filter(|text| text.starts_with("**")) {
        assert!(promise.contains(".rs: "), "nothing shows this: {promise}");
    }
}
