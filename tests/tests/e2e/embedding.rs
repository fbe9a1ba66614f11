//! The example of docs/EMBEDDING.md: another program with the engine inside.

use std::process::Command;

use agent_tests::repo::BareRepo;
use agent_tests::server::program;

#[test]
fn a_program_that_embeds_the_engine_runs_a_job() {
    let dir = tempfile::tempdir().unwrap();
    let repo = BareRepo::create(&dir.path().join("remotes"), "acme", "site").unwrap();
    let bin = dir.path().join("bin");
    std::fs::create_dir(&bin).unwrap();
    std::os::unix::fs::symlink(program("fake-claude").unwrap(), bin.join("claude")).unwrap();
    let path = std::env::var_os("PATH").unwrap();
    let path = std::env::join_paths([bin].into_iter().chain(std::env::split_paths(&path))).unwrap();
    let output = Command::new(program("examples/embedded").unwrap())
        .arg(dir.path().join("remotes"))
        .args([
            "acme",
            "site",
            "```fake\ntext Hello from inside.\nwrite a.txt a\n```",
        ])
        .env_clear()
        .env("PATH", path)
        .env("HOME", dir.path())
        .env("TMPDIR", dir.path())
        .env("ANTHROPIC_API_KEY", "sk-ant-of-the-agent")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{output:?}");
    assert!(said.contains("Hello from inside."), "{said}");
    assert!(said.contains("completed: "), "{said}");
    assert_eq!(repo.show("agent/embedded", "a.txt").unwrap(), b"a\n");
}
