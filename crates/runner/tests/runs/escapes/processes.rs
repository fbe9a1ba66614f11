//! Other processes: seeing them, reading them, ending them, speaking with them, outliving the run.

use std::fs;

use super::arena::{Arena, CANARY};
use super::{Attempt, NONE, WALLS, attempt, got_through, is_root};

fn others(arena: &Arena) -> Vec<Attempt> {
    let (other, victim) = (arena.other.id(), arena.victim.id());
    let supervisor = |name: &str| {
        let path = arena.srv().join("data/attempts").join(name).join("sock");
        connect(&path.display().to_string())
    };
    vec![
        attempt(
            "see another process",
            "ps -e -o args | grep -q '^sleep 600'",
        ),
        attempt(
            "see its command line",
            "grep -qa 'sleep.600' /proc/[0-9]*/cmdline",
        ),
        attempt(
            "read its environment",
            format!("grep -qa {CANARY} /proc/{other}/environ"),
        ),
        attempt(
            "read any environment",
            format!("cat /proc/[0-9]*/environ | grep -qa {CANARY}"),
        ),
        attempt(
            "read its memory",
            format!("head -c 1 /proc/{other}/maps | grep -q ."),
        ),
        attempt(
            "look through its directory",
            format!("ls /proc/{other}/root/ | grep -q ."),
        ),
        attempt(
            "trace it",
            format!("perl -e 'exit(syscall({PTRACE}, 16, {other}, 0, 0) == 0 ? 0 : 1)'"),
        )
        .control_if(is_root()),
        attempt("kill it", format!("kill -KILL {victim}; sleep 0.1; exit 1"))
            .or_shows(|arena| !lives(arena)),
        attempt(
            "change how it is scheduled",
            format!("renice -n 5 -p {other}"),
        ),
        attempt("speak with another supervisor", supervisor("other.1")),
        attempt(
            "speak with the own supervisor",
            supervisor(&format!("{}.1", arena.job())),
        ),
        attempt(
            "speak with the ssh agent",
            connect(&arena.place.path("agent.sock").display().to_string()),
        ),
        attempt("find the ssh agent", "test -S \"$SSH_AUTH_SOCK\""),
        attempt(
            "speak with a daemon of the system",
            "find -L /run /var/run -type s ! -path '/run/agent-server/*' 2>/dev/null | grep -q .",
        )
        .harmful(),
        attempt("speak with docker", connect("/var/run/docker.sock")).harmful(),
        attempt("speak with D-Bus", connect("/run/dbus/system_bus_socket")).harmful(),
        attempt(
            "speak with an abstract socket",
            connect(&format!("\\0{}", arena.abstract_name)),
        ),
        attempt(
            "see shared memory",
            format!(
                "ipcs -m -i {} | grep -q 'Segment shmid'",
                arena.shared_memory
            ),
        ),
        attempt(
            "pose as the first process inside",
            connect("/run/agent-server/gate"),
        )
        .harmful(),
        attempt(
            "read what the first process inside was given",
            "cat /proc/1/environ | grep -qa .",
        )
        .harmful(),
        attempt(
            "trace the first process inside",
            format!("perl -e 'exit(syscall({PTRACE}, 16, 1, 0, 0) == 0 ? 0 : 1)'"),
        )
        .harmful(),
        attempt(
            "kill the first process inside",
            "kill -KILL 1; kill -STOP 1; grep -q 'State:.*T' /proc/1/status",
        )
        .harmful(),
        attempt("take part in its network", "ls -l /proc/1/ns/net").harmful(),
    ]
}

#[cfg(target_arch = "x86_64")]
const PTRACE: u32 = 101;
#[cfg(not(target_arch = "x86_64"))]
const PTRACE: u32 = 117;

/// Connects to a Unix socket.
fn connect(path: &str) -> String {
    format!(
        "perl -MSocket -e 'socket(S, AF_UNIX, SOCK_STREAM, 0) or exit 1; connect(S, pack_sockaddr_un(\"{path}\")) or exit 1'"
    )
}

#[tokio::test]
async fn no_other_process_is_seen_read_ended_or_spoken_with() {
    assert_eq!(got_through(&WALLS, others).await, NONE);
}

fn lives(arena: &Arena) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", arena.victim.id()));
    stat.is_ok_and(|stat| !stat.contains(") Z "))
}

#[tokio::test]
async fn killing_everything_there_is_kills_the_agent_alone() {
    for level in WALLS {
        let arena = Arena::new(level);
        assert_eq!(arena.run("kill -KILL -1; echo alive").await, "alive\n");
        assert!(lives(&arena));
    }
}

#[tokio::test]
async fn no_daemon_outlives_its_run() {
    for level in WALLS {
        let arena = Arena::new(level);
        let base = arena.base().display().to_string();
        let said = arena
            .run(&format!(
                "setsid sleep 1000 & (setsid nohup env -i sh -c ': {base}; sleep 1000' >/dev/null 2>&1 &) ; \
                 perl -e 'use POSIX; exit if fork; setsid(); exit if fork; chdir \"/\"; $0 = \"kworker\"; sleep 1000' ; \
                 echo started"
            ))
            .await;
        assert_eq!(said, "started\n");
        arena.place.assert_gone();
    }
}
