//! Jobs on a remote reached over ssh, with the operator's own key and ssh settings.

use agent_tests::git_ssh::GitSsh;
use agent_tests::server::Builder;

use crate::scripted;

#[test]
fn a_job_fetches_and_pushes_over_ssh() {
    let builder = Builder::new().unwrap();
    let repo = builder.repo("acme", "site").unwrap();
    let ssh = GitSsh::start(&builder.remotes()).unwrap();
    let builder = builder.env("GIT_REMOTE_BASE", ssh.base());
    let server = builder
        .env("GIT_SSH_COMMAND", ssh.command())
        .start()
        .unwrap();
    let done = server
        .wait(
            &server
                .submit(&scripted("over-ssh", "write a.txt a"))
                .unwrap(),
        )
        .unwrap();
    assert_eq!(done["status"], "completed", "{done:#}\n{}", ssh.log());
    assert_eq!(repo.show("over-ssh", "a.txt").unwrap(), b"a\n");
}
