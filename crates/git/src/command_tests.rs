//! Tests of how git is started, bounded and ended, with scripts in the place of git.

use std::fs;

use super::*;
use crate::lock::Locks;

/// A directory with a `git` that is the given shell script, which finds the directory in `$HERE`.
fn fake(script: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let text = format!(
        "#!/bin/sh\ncase \"$*\" in *'config --list'*) exit;; esac\nHERE={}\n{script}\n",
        dir.path().display()
    );
    // Written by another process: a file this one has open for writing, or a child it is just
    // starting in another test, cannot be run.
    let mut install = std::process::Command::new("install")
        .args(["-m", "755", "/dev/stdin"])
        .arg(dir.path().join("git"))
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut install.stdin.take().unwrap(), text.as_bytes()).unwrap();
    assert!(install.wait().unwrap().success());
    dir
}

fn program(dir: &tempfile::TempDir, timeout: Duration) -> Program {
    let path = format!("{}:/usr/bin:/bin", dir.path().display());
    let env = [
        ("PATH".into(), path.into()),
        ("GIT_DIR".into(), "/elsewhere".into()),
        ("LC_MESSAGES".into(), "de_DE.UTF-8".into()),
    ];
    Program::find(&env, timeout).unwrap()
}

fn access() -> Access {
    let token = agent_domain::Secret::new("hunter2");
    let remote = crate::remote::Remote::parse("https://h/", Some(&token)).unwrap();
    remote.access(None).unwrap()
}

const LONG: Duration = Duration::from_secs(30);

#[tokio::test]
async fn nothing_is_inherited_and_messages_are_english() {
    let dir = fake("env");
    let output = program(&dir, LONG).command("x").run().await.unwrap();
    let env = String::from_utf8(output.stdout).unwrap();
    let names: Vec<&str> = env
        .lines()
        .filter_map(|line| line.split('=').next())
        .collect();
    assert!(
        !names.contains(&"GIT_DIR") && !names.contains(&"LC_MESSAGES"),
        "{env}"
    );
    assert!(!names.contains(&"CARGO_MANIFEST_DIR"), "{env}");
    assert!(env.contains("LC_ALL=C\n") && env.contains("GIT_TERMINAL_PROMPT=0\n"));
}

#[tokio::test]
async fn secrets_are_masked_in_errors() {
    let dir = fake("echo 'fatal: hunter2 is no good' >&2; exit 128");
    let program = program(&dir, LONG);
    let command = program.command("x").network(Some(access()));
    let error = command.run_ok().await.err().unwrap();
    assert_eq!(
        error.to_string(),
        "git x failed (exit code 128): fatal: *** is no good"
    );
}

#[tokio::test]
async fn a_token_is_read_from_standard_error_and_is_in_no_argument_or_variable() {
    let dir = fake(
        "env; echo \"$@\"; tr '\\0' '\\n' < /proc/$$/environ
        for n in 1 2; do IFS= read -r token <&2; echo \"told $n: $token\"; done
        cat <&2 | wc -l; read -r none <&2 || echo 'no more'; echo said >&2",
    );
    let program = program(&dir, LONG);
    let output = program.command("x").network(Some(access())).run().await;
    let output = output.unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        text.contains("told 1: hunter2\ntold 2: hunter2\n"),
        "{text}"
    );
    assert_eq!(text.matches("hunter2").count(), 2, "{text}");
    assert!(text.ends_with("no more\n"), "{text}");
    assert_eq!(output.stderr, "said\n");
}

#[tokio::test]
async fn output_without_end_is_bounded_and_does_not_block_git() {
    let dir = fake("head -c 3000000 /dev/zero; head -c 3000000 /dev/zero >&2; echo END >&2");
    let output = program(&dir, LONG).command("x").run().await.unwrap();
    assert!(output.success());
    assert_eq!(output.stdout.len(), STDOUT_MAX);
    assert!(output.stderr.len() <= 2 * STDERR_MAX && output.stderr.ends_with("END\n"));
}

#[tokio::test]
async fn a_child_that_keeps_the_pipes_open_does_not_hold_git_up() {
    let dir = fake("sleep 60 & echo $!");
    let output = program(&dir, LONG).command("x").run().await.unwrap();
    let pid: i32 = String::from_utf8(output.stdout)
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    let pid = Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(pid, Signal::KILL).unwrap();
}

/// Waits until a process is dead, a zombie counting as dead.
async fn dies(pid: &str) {
    let stat = format!("/proc/{}/stat", pid.trim());
    for _ in 0..1000 {
        match fs::read_to_string(&stat) {
            Ok(text) if !text.contains(") Z ") => {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            _ => return,
        }
    }
    panic!("{pid} lives on");
}

/// Waits until the script has written two process ids.
async fn pids(file: &Path) -> Vec<String> {
    for _ in 0..1000 {
        let text = fs::read_to_string(file).unwrap_or_default();
        if text.lines().count() == 2 {
            return text.lines().map(str::to_owned).collect();
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the script did not start");
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn the_time_limit_ends_the_whole_group_even_when_it_ignores_term() {
    let dir = fake(
        "trap '' TERM; sleep 60 & echo $! >> $HERE/pids; echo $$ >> $HERE/pids; wait; sleep 60",
    );
    let file = dir.path().join("pids");
    let program = program(&dir, Duration::from_millis(500));
    let error = program.command("x").run().await.err().unwrap();
    assert!(matches!(error, GitError::TimedOut { .. }), "{error}");
    for pid in pids(&file).await {
        dies(&pid).await;
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_dropped_run_ends_the_whole_group_and_keeps_the_lock_until_then() {
    let dir = fake(
        "trap 'sleep 0.3; exit' TERM; sleep 60 & echo $! >> $HERE/pids; echo $$ >> $HERE/pids; wait",
    );
    let file = dir.path().join("pids");
    let program = program(&dir, LONG);
    let locks = Locks::default();
    let mirror = dir.path().join("r.git");
    let lock = locks.acquire(&mirror, LONG).await.unwrap();
    let run = program.command("x").under(&lock).run();
    drop(lock);
    let ids = tokio::select! {
        _ = run => panic!("it ended by itself"),
        ids = pids(&file) => ids,
    };
    assert!(
        locks
            .acquire(&mirror, Duration::from_millis(50))
            .await
            .is_err()
    );
    let _lock = locks.acquire(&mirror, LONG).await.unwrap();
    for pid in ids {
        dies(&pid).await;
    }
}
