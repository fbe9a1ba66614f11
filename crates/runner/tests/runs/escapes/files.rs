//! The server's files, other jobs' files, and the machine's.

use std::fs;
use std::path::Path;

use agent_runner::Level;

use super::arena::{Arena, CANARY, EVIL, OF_THE_SERVER};
use super::{Attempt, NONE, WALLS, attempt, got_through, is_root};

fn reads(path: impl AsRef<Path>) -> String {
    format!("grep -q {CANARY} '{}'", path.as_ref().display())
}

fn reading(arena: &Arena) -> Vec<Attempt> {
    let mut attempts: Vec<Attempt> = OF_THE_SERVER
        .iter()
        .map(|name| attempt(format!("read {name}"), reads(arena.srv().join(name))))
        .collect();
    let secret = arena.srv().join(OF_THE_SERVER[6]);
    let shown = secret.display();
    attempts.extend([
        attempt("read through a symbolic link", format!("ln -s '{shown}' link; {}", reads("link"))),
        attempt(
            "read by going up",
            reads(arena.work().join("../srv/data/agent.db")),
        ),
        attempt(
            "read through the root of process 1",
            reads(Path::new("/proc/1/root").join(secret.strip_prefix("/").unwrap())),
        )
        .harmful(),
        attempt(
            "read through the root of another process",
            format!("for root in /proc/[0-9]*/root; do grep -q {CANARY} \"$root{shown}\" && exit 0; done; exit 1"),
        ),
        attempt("list the server's directories", format!("ls -A '{0}/data' '{0}/repos' '{0}/worktrees' | grep -q '[a-z]$'", arena.srv().display())),
        attempt("read the host's /tmp", reads(&arena.in_tmp)),
        attempt("read the host's /dev/shm", reads(&arena.in_shm)),
        attempt("read what only root's group may", "head -c 1 /etc/shadow | grep -q .").control_if(is_root()),
        attempt("read keys of the system", "find /etc -type f ! -perm -o+r -size +0 2>/dev/null | grep -q .").control_if(is_root()),
        attempt("read the server's log of this very job", format!("test -s '{}'", arena.log().display())).control_if(false),
    ]);
    attempts
}

#[tokio::test]
async fn nothing_of_the_server_of_other_jobs_and_of_the_machine_is_read() {
    assert_eq!(got_through(&WALLS, reading).await, NONE);
}

/// Writes to a file, and shows if it is found there.
fn writes(name: &str, path: impl AsRef<Path>) -> Attempt {
    let path = path.as_ref().to_owned();
    let command = format!(
        "mkdir -p \"$(dirname '{0}')\"; echo {EVIL} >> '{0}'",
        path.display()
    );
    attempt(format!("write {name}"), command).shows(move |_| Arena::holds_evil(&path))
}

fn writing(arena: &Arena) -> Vec<Attempt> {
    let srv = |name: &str| arena.srv().join(name);
    let own = srv("data/attempts").join(format!("{}.1", arena.job()));
    let linked = srv("worktrees/org/other/job9/linked");
    let mut attempts = vec![
        writes("the database", srv("data/agent.db")),
        writes(
            "another workspace",
            srv("worktrees/org/other/job9/source.rs"),
        ),
        writes(
            "a hook of the own mirror",
            srv("repos/org/own.git/hooks/post-checkout"),
        ),
        writes(
            "the own mirror's configuration",
            srv("repos/org/own.git/config"),
        ),
        writes(
            "an object of another mirror",
            srv("repos/org/other.git/objects/aa/cc"),
        ),
        writes(
            "another attempt's directory",
            srv("data/attempts/other.1/exit.json"),
        ),
        writes("the own attempt's directory", own.join("forged")),
        writes("the own log", arena.log()).harmful(),
        writes("what is shown to be read", srv("shown")),
        writes("the program that is the agent", arena.place.path("claude")),
        writes("the host's /tmp", &arena.in_tmp),
        writes("the host's /dev/shm", &arena.in_shm),
        {
            let path = linked.clone();
            let command = format!("ln -s '{0}' out; echo {EVIL} > out", linked.display());
            attempt("write through a symbolic link", command)
                .shows(move |_| Arena::holds_evil(&path))
        },
    ];
    for path in [
        "/etc/agent-server-escape",
        "/etc/cron.d/agent-server-escape",
        "/usr/local/bin/agent-server-escape",
        "/opt/agent-server-escape",
        "/var/spool/cron/crontabs/agent-server-escape",
        "/run/agent-server-escape",
        "/root/agent-server-escape",
        "/agent-server-escape",
    ] {
        attempts.push(writes(path, path).harmful());
    }
    attempts
}

#[tokio::test]
async fn nothing_outside_the_workspace_is_written() {
    assert_eq!(got_through(&WALLS, writing).await, NONE);
}

#[tokio::test]
async fn links_left_in_what_is_thrown_away_lead_the_clean_up_nowhere() {
    for level in WALLS {
        let arena = Arena::new(level);
        let kept = arena.place.path("kept");
        fs::create_dir(&kept).unwrap();
        fs::write(kept.join("file"), "x").unwrap();
        let script = format!(
            "for folder in ~ ~/.claude /tmp /var/tmp; do ln -s '{0}' $folder/link; done; \
             mkdir ~/closed; ln -s '{0}' ~/closed/link; chmod 0 ~/closed; echo done",
            kept.display()
        );
        assert_eq!(arena.run(&script).await, "done\n");
        arena.place.runner.forget(arena.job(), 1).await.unwrap();
        assert!(!arena.place.attempt().exists());
        assert_eq!(fs::read_to_string(kept.join("file")).unwrap(), "x");
    }
}

#[tokio::test]
async fn what_is_shown_is_read_and_the_workspace_is_written() {
    for level in [Level::Off, Level::Workspace, Level::Isolated] {
        let arena = Arena::new(level);
        let script = format!(
            "cat '{}'; echo made > made; cat made",
            arena.srv().join("shown").display()
        );
        assert_eq!(arena.run(&script).await, "to be readmade\n");
        assert_eq!(
            fs::read_to_string(arena.work().join("made")).unwrap(),
            "made\n"
        );
    }
}
