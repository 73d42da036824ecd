//! Runs programs and judges how they ended.

use serde_json::Value;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;

/// How a `failback` run ended.
#[derive(Debug)]
pub(crate) struct Ended {
    exit_code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Ended {
    fn of(output: &Output) -> Self {
        let ended = Self {
            exit_code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        };
        assert!(!ended.stderr.contains("panicked at"), "panic: {}", ended.stderr);
        ended
    }

    /// Everything that it wrote.
    pub(crate) fn said(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }

    /// The one line of JSON, after checking that the run succeeded.
    #[track_caller]
    pub(crate) fn success(&self) -> Value {
        assert_eq!(self.exit_code, Some(0), "stdout: {}stderr: {}", self.stdout, self.stderr);
        self.json()
    }

    /// The one line of JSON, after checking that the run ended with this exit code and named this error.
    #[track_caller]
    pub(crate) fn failure(&self, exit_code: i32, code: &str) -> Value {
        assert_eq!(self.exit_code, Some(exit_code), "stdout: {}stderr: {}", self.stdout, self.stderr);
        let json = self.json();
        let named = codes(&json);
        assert!(named.iter().any(|named| named == code), "{code} is not among {named:?}: {}", self.stdout);
        json
    }

    #[track_caller]
    fn json(&self) -> Value {
        assert_eq!(self.stdout.lines().count(), 1, "not one line: {}", self.stdout);
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error} in {}", self.stdout))
    }

    /// Whether the run succeeded, or else its exit code and the codes of its findings.
    pub(crate) fn outcome(&self) -> Result<Value, (Option<i32>, Vec<String>)> {
        let json = self.json();
        if self.exit_code == Some(0) { Ok(json) } else { Err((self.exit_code, codes(&json))) }
    }
}

/// Codes of a run's findings.
pub(crate) fn codes(json: &Value) -> Vec<String> {
    let findings = json["findings"].as_array().expect("findings are a list");
    findings.iter().map(|finding| finding["code"].as_str().expect("a code is text").to_owned()).collect()
}

/// A figure of a run.
#[track_caller]
pub(crate) fn figure(json: &Value, name: &str) -> u64 {
    json[name].as_u64().unwrap_or_else(|| panic!("no figure {name} in {json}"))
}

/// Runs `failback` with `--json`.
pub(crate) fn failback<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Ended {
    Ended::of(&prepare(arguments).output().expect("failback starts"))
}

/// Starts `failback` with `--json`; [`finish`] waits for it.
pub(crate) fn start<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Child {
    prepare(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("failback starts")
}

/// Waits for a run that [`start`] began.
pub(crate) fn finish(child: Child) -> Ended {
    Ended::of(&child.wait_with_output().expect("failback can be waited for"))
}

fn prepare<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(binary());
    command.args(arguments).arg("--json").stdin(Stdio::null());
    command
}

/// The command under test.
fn binary() -> PathBuf {
    std::env::var_os("FAILBACK_BIN").map_or_else(|| program("failback"), PathBuf::from)
}

/// A program under test, by its file name: beside the command that `FAILBACK_BIN` names, or else built now. Cargo tells
/// a test of another package neither where it is nor whether it is up to date.
pub(crate) fn program(name: &str) -> PathBuf {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| match std::env::var_os("FAILBACK_BIN") {
        Some(named) => folder_of(Path::new(&named)),
        None => build(),
    });
    folder.join(name)
}

fn folder_of(file: &Path) -> PathBuf {
    file.parent().expect("a program lies in a folder").to_owned()
}

/// Builds the command and the daemons at once; their folder.
fn build() -> PathBuf {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let packages = ["failback-cli", "failback-master-target", "failback-process-server"];
    let mut command = Command::new(cargo);
    // What cargo tells this test of its package would make packages that ask for the same names build anew, each time.
    let told = std::env::vars_os().map(|(name, _)| name);
    let is_of_package = |name: &std::ffi::OsString| {
        let name = name.to_string_lossy();
        name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_")
    };
    told.filter(is_of_package).for_each(|name| {
        command.env_remove(name);
    });
    let built = command
        .args(["build", "--locked", "--message-format", "json-render-diagnostics"])
        .args(packages.into_iter().flat_map(|package| ["--package", package]))
        .stderr(Stdio::inherit())
        .output()
        .expect("cargo starts");
    assert!(built.status.success(), "the programs under test do not build");
    String::from_utf8_lossy(&built.stdout)
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter_map(|message| message["executable"].as_str().map(PathBuf::from))
        .find(|executable| executable.file_name() == Some(OsStr::new("failback")))
        .map(|executable| folder_of(&executable))
        .expect("cargo names the executable")
}

/// Runs the judge, qemu-img, which must find what it is asked for; its standard output. `FAILBACK_QEMU_IMG` names another
/// one than the installed.
#[track_caller]
pub(crate) fn qemu_img(arguments: &[&str], images: &[&Path]) -> String {
    let program = std::env::var("FAILBACK_QEMU_IMG").unwrap_or_else(|_| "qemu-img".into());
    run(&program, arguments.iter().map(Path::new).chain(images.iter().copied()))
}

/// Runs another program that must succeed; its standard output.
#[track_caller]
pub(crate) fn run<S: AsRef<OsStr>>(program: &str, arguments: impl IntoIterator<Item = S>) -> String {
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("{program} does not start ({error}); tools/test installs it"));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program}: {}: {stderr}", output.status);
    String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
}

/// The project's folder.
pub(crate) fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests lie in the project")
}
