//! Agents that do what they can to leave something behind: the whole mix, over and over.
//!
//! `HOSTILE_RUNS` says how many runs; `cargo xtask hostile` sets it.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use agent_runner::RunnerError;
use rustix::process::{Pid, Signal};
use tokio::sync::Semaphore;

use crate::support::Place;

/// Runs where nothing else is said.
const RUNS: usize = 68;
/// Runs at the same time.
const AT_ONCE: usize = 4;

/// What an agent does before it ends or waits. File 9 is one of the place's, so that whoever
/// inherits it is recognised whatever else it hides.
const AGENTS: &[(&str, &str)] = &[
    ("setsid", "setsid sleep 1000 >/dev/null 2>&1 &"),
    (
        "double fork",
        "(setsid sh -c 'sleep 1000 & exit' >/dev/null 2>&1 &)",
    ),
    (
        "env -i",
        "env -i setsid sh -c '(sleep 1000 &)' >/dev/null 2>&1 &",
    ),
    (
        "ignores INT TERM HUP",
        "trap '' INT TERM HUP; setsid sh -c 'while :; do sleep 1; done' >/dev/null 2>&1 &",
    ),
    ("nohup", "nohup sleep 1000 >/dev/null 2>&1 &"),
    (
        "stopped",
        "setsid sh -c 'kill -STOP $$; sleep 1000' >/dev/null 2>&1 &",
    ),
    ("holds the pipes open", "setsid sleep 1000 &"),
    (
        "fork loop",
        "../hop 3000 & ../hop 3000 & setsid ../hop 3000 & setsid ../hop 3000 & sleep 0.1",
    ),
    ("growing crowd", "../grow 5 >/dev/null 2>&1 &"),
    (
        "renamed, without environment, elsewhere",
        "env -i bash -c 'cd /; exec -a \"[kworker/0:1]\" setsid sleep 1000' >/dev/null 2>&1 &",
    ),
    (
        "daemon of a daemon",
        "env -i setsid sh -c 'cd /; (setsid sh -c \"trap : HUP TERM; (setsid sleep 1000 &) ; sleep 1000\" &) &' </dev/null >/dev/null 2>&1 &",
    ),
    (
        "dead main thread",
        "env -i python3 -c 'import ctypes,platform,threading,time
threading.Thread(target=time.sleep,args=(1000,)).start()
open(\"ready\",\"w\").close()
ctypes.CDLL(None).syscall(93 if platform.machine()==\"aarch64\" else 60,0)' >/dev/null 2>&1 &
        while ! [ -e ready ]; do sleep 0.01; done",
    ),
    (
        "traced and stopped",
        "env -i setsid python3 -c 'import ctypes,os,signal
ctypes.CDLL(None).ptrace(0,0,0,0)
open(\"ready\",\"w\").close()
os.kill(os.getpid(),signal.SIGSTOP)' >/dev/null 2>&1 &
        while ! [ -e ready ]; do sleep 0.01; done",
    ),
    (
        "another process group and a pipe of its own",
        "sh -mc 'sleep 1000 | sleep 1000 &' >/dev/null 2>&1 &",
    ),
    (
        "groups inside its group",
        "for mount in /sys/fs/cgroup /sys/fs/cgroup/unified; do
            group=$mount$(sed -n s/^0:://p /proc/self/cgroup)
            case $group in *agent-server-*) ;; *) continue ;; esac
            [ -e $group/cgroup.events ] && mkdir -p $group/a/b && echo 0 > $group/a/b/cgroup.procs
        done 2>/dev/null
        env -i setsid sleep 1000 >/dev/null 2>&1 &",
    ),
    (
        LEAVER,
        "env -i setsid sh -c 'for mount in /sys/fs/cgroup /sys/fs/cgroup/unified; do
            echo 0 > $mount/cgroup.procs
        done; sleep 1000' >/dev/null 2>&1 & sleep 0.05",
    ),
    (
        "many at once",
        "i=0; while [ $i -lt 40 ]; do setsid sleep 1000 & i=$((i+1)); done >/dev/null 2>&1",
    ),
];

/// As only root can. Without a supervisor it would not be found.
const LEAVER: &str = "leaves its control group";
/// Each is replaced by its child in a new session, at most as often as its argument says.
const HOP: &str =
    "[ -e ../stop ] || [ $1 -le 0 ] && exit; setsid ../hop $(($1-1)) >/dev/null 2>&1 &";
/// Every member starts two more until its argument is used up.
const GROW: &str = "[ $1 -gt 0 ] && { ../grow $(($1-1)) & setsid ../grow $(($1-1)) & }\nsleep 1000";

/// How a run is brought to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum End {
    ByItself,
    Cancelled,
    Killed,
    /// The supervisor is killed, and whoever waits for it has to see to the rest.
    WithoutSupervisor,
}

const ENDS: [End; 4] = [
    End::ByItself,
    End::Cancelled,
    End::Killed,
    End::WithoutSupervisor,
];

fn program(place: &Place, name: &str, text: &str) {
    let path = place.path(name);
    fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// One run; returns what is left of it, and how long its ending took.
async fn run(script: &str, end: End, control_groups: bool) -> (Vec<String>, Duration) {
    let last = match end {
        End::ByItself => "",
        End::Cancelled | End::Killed | End::WithoutSupervisor => "sleep 1000",
    };
    let script = format!("exec 9>../held\n{script}\ntouch up\n{last}");
    let place = Place::with(&script, |config| config.control_groups = control_groups);
    program(&place, "hop", HOP);
    program(&place, "grow", GROW);
    let mut run = place.start().await;
    place.made("up").await;
    let begun = Instant::now();
    match end {
        End::ByItself => {}
        End::Cancelled => run.cancel().await,
        End::Killed => run.kill().await,
        End::WithoutSupervisor => {
            let pid = run.supervisor_pid().and_then(|pid| i32::try_from(pid).ok());
            let pid = pid.and_then(Pid::from_raw).unwrap();
            rustix::process::kill_process(pid, Signal::KILL).unwrap();
        }
    }
    let mut left = match place.wait(&mut run).await {
        Ok(end) => end.unkillable.iter().map(u32::to_string).collect(),
        Err(RunnerError::Lost(run)) if end == End::WithoutSupervisor => {
            run.unkillable.iter().map(u32::to_string).collect()
        }
        Err(error) => vec![error.to_string()],
    };
    let took = begun.elapsed();
    left.extend(place.processes());
    left.extend(place.groups().iter().map(|path| path.display().to_string()));
    fs::write(place.path("stop"), "").unwrap();
    (left, took)
}

/// Whether processes can be kept together here by control groups.
fn has_groups() -> bool {
    let name = format!("hostile-{}", std::process::id());
    agent_runner::process_control(&name).ends_at_once
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_process_of_a_hostile_agent_is_left() {
    let count = std::env::var("HOSTILE_RUNS").ok();
    let count = count.map_or(RUNS, |count| count.parse().unwrap());
    let groups = has_groups();
    let slots = Arc::new(Semaphore::new(AT_ONCE));
    let mut runs = Vec::new();
    for number in 0..count {
        let (name, script) = AGENTS[number % AGENTS.len()];
        let end = match ENDS[number / AGENTS.len() % ENDS.len()] {
            End::WithoutSupervisor if name == LEAVER => End::Killed,
            end => end,
        };
        // Some go without control groups, as it is where there are none, every case in its turn.
        // Then only what is marked or was seen can be found once the supervisor is dead.
        let grouped = groups && (number % 7 < 4 || end == End::WithoutSupervisor);
        if !groups && end == End::WithoutSupervisor {
            continue;
        }
        let slots = slots.clone();
        runs.push(tokio::spawn(async move {
            let _slot = slots.acquire_owned().await.unwrap();
            let (left, took) = run(script, end, grouped).await;
            (name, end, grouped, left, took)
        }));
    }
    let mut longest = BTreeMap::<(&str, End, bool), Duration>::new();
    let mut failures = Vec::new();
    let total = runs.len();
    for run in runs {
        let (name, end, grouped, left, took) = run.await.unwrap();
        let most = longest.entry((name, end, grouped)).or_default();
        *most = took.max(*most);
        if !left.is_empty() {
            failures.push(format!("{name}, {end:?}, groups {grouped}: {left:#?}"));
        }
    }
    for ((name, end, grouped), took) in longest {
        println!("{took:>9.0?} at most: {name}, {end:?}, control groups {grouped}");
    }
    println!("{total} runs, {} left something behind", failures.len());
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
