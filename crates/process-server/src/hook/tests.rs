use super::*;
use std::path::Path;
use std::time::Instant;

const PATIENCE: Duration = Duration::from_secs(30);

async fn run(script: &str, file: &Path, limit: Duration) -> Result<(), HookError> {
    run_until(script, file, limit, std::future::pending()).await
}

/// Runs a shell's script, which knows `file` as `$0`.
async fn run_until(
    script: &str,
    file: &Path,
    limit: Duration,
    stop: impl Future<Output = ()>,
) -> Result<(), HookError> {
    let command = ["/bin/sh", "-c", script, file.to_str().expect("plain")].map(str::to_owned);
    let (machine, job) = ("web01".parse().expect("an id"), "job-1".parse().expect("an id"));
    Hook { name: "snapshot", command: &command, machine: &machine, job: &job, environment: &[], limit }
        .run(stop)
        .await
}

/// A process that a hook wrote the number of.
fn process(file: &Path) -> Option<i32> {
    std::fs::read_to_string(file).ok()?.trim().parse().ok()
}

/// Gone, or dead and not yet asked about.
fn is_dead(process: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat"));
    stat.map_or(true, |stat| stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('Z')))
}

async fn until_dead(process: i32) {
    let until = Instant::now() + PATIENCE;
    while !is_dead(process) {
        assert!(Instant::now() < until, "process {process} lives on");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_hook_knows_its_machine_and_job_and_has_no_shell() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("said");
    let script = "echo \"$FAILBACK_MACHINE $FAILBACK_JOB ${NOTIFY_SOCKET-none} $1\" > \"$0\"";
    run(script, &file, PATIENCE).await.expect("it works");
    assert_eq!(std::fs::read_to_string(&file).expect("written"), "web01 job-1 none \n");
}

#[tokio::test]
async fn a_hook_that_fails_says_why() {
    let folder = tempfile::tempdir().expect("a folder");
    let error = run("echo no space >&2; exit 3", folder.path(), PATIENCE).await.expect_err("it fails");
    assert_eq!(error.to_string(), "snapshot ended with exit status: 3: no space");
    let error = run("kill -9 $$", folder.path(), PATIENCE).await.expect_err("it fails");
    assert!(matches!(error, HookError::Failed(..)), "{error}");
    let error = run("printf 'a\\033[2J' >&2; false", folder.path(), PATIENCE).await.expect_err("it fails");
    assert!(!error.to_string().contains('\x1b'), "{error:?}");
}

#[tokio::test]
async fn a_hook_that_is_not_there_is_named() {
    let command = ["/nowhere/lvcreate".to_owned()];
    let (machine, job) = ("web01".parse().expect("an id"), "job-1".parse().expect("an id"));
    let hook = Hook {
        name: "snapshot",
        command: &command,
        machine: &machine,
        job: &job,
        environment: &[],
        limit: PATIENCE,
    };
    let error = hook.run(std::future::pending()).await.expect_err("it is not there");
    assert!(matches!(error, HookError::NotStarted(..)), "{error}");
    assert!(error.to_string().contains("snapshot cannot be started: No such file"), "{error}");
}

#[tokio::test]
async fn a_hook_that_hangs_is_killed_at_its_limit_with_its_children() {
    let folder = tempfile::tempdir().expect("a folder");
    // A loaded host may need longer to start the child than a short limit lets it.
    for (at, limit_ms) in [500, 2_000, 10_000].into_iter().enumerate() {
        let file = folder.path().join(at.to_string());
        let limit = Duration::from_millis(limit_ms);
        let script = "trap '' TERM; sleep 1000 & echo $! > \"$0\"; wait; wait";
        let error = run(script, &file, limit).await.expect_err("it hangs");
        assert!(matches!(error, HookError::Late(..)), "{error}");
        if let Some(child) = process(&file) {
            return until_dead(child).await;
        }
    }
    panic!("the child never started");
}

#[tokio::test]
async fn a_hook_of_a_job_that_is_stopped_is_killed() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("child");
    let started = async {
        while process(&file).is_none() {
            tokio::task::yield_now().await;
        }
    };
    let error = run_until("sleep 1000 & echo $! > \"$0\"; wait", &file, PATIENCE, started)
        .await
        .expect_err("stopped");
    assert!(matches!(error, HookError::Stopped(_)), "{error}");
    until_dead(process(&file).expect("its number")).await;
}

#[tokio::test]
async fn a_hook_is_not_held_up_by_what_it_says_or_leaves_behind() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("child");
    let flood = "yes long | head -c 3000000; yes bad | head -c 3000000 >&2; exit 1";
    let error = run(flood, &file, PATIENCE).await.expect_err("it fails");
    assert!(error.to_string().starts_with("snapshot ended with exit status: 1: b"), "{error}");
    run("sleep 1000 & echo $! > \"$0\"", &file, PATIENCE).await.expect("it ends, its child does not");
    let child = Pid::from_raw(process(&file).expect("its number")).expect("a number");
    assert!(!is_dead(child.as_raw_nonzero().get()), "what works on after the hook is the operator's");
    rustix::process::kill_process(child, Signal::KILL).expect("it runs");
}

#[test]
fn of_an_output_the_first_bytes_are_kept() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let output = Output::default();
    let said = vec![b'a'; HOOK_OUTPUT_MAX_BYTES + 4097];
    runtime.block_on(output.clone().take(&said[..]));
    let (text, dropped_bytes) = output.text();
    assert_eq!((text.len(), dropped_bytes), (HOOK_OUTPUT_MAX_BYTES, 4097));
}
