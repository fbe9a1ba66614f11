//! A machine in small: a home with secrets, a server's data, other jobs, processes and sockets.

use std::collections::BTreeSet;
use std::fs;
use std::net::{TcpListener, UdpSocket};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use agent_domain::JobId;
use agent_runner::{HostRule, Level, RunRequest};

use super::Attempt;
use crate::support::{Place, sandbox};

/// In every file that is nobody's business.
pub(crate) const CANARY: &str = "CANARY-of-this-test";
/// In everything that an attempt writes.
pub(crate) const EVIL: &str = "EVIL-of-this-test";

/// What an agent runs in and against.
pub(crate) struct Arena {
    pub(crate) place: Place,
    /// Stands for the server, or another agent, with a canary in its environment.
    pub(crate) other: Child,
    /// To be killed by attempts.
    pub(crate) victim: Child,
    pub(crate) tcp4: TcpListener,
    pub(crate) tcp6: Option<TcpListener>,
    pub(crate) udp: UdpSocket,
    pub(crate) abstract_name: String,
    pub(crate) shared_memory: String,
    /// When the machine's own `/dev/null` was last changed.
    pub(crate) null_changed: (i64, i64),
    /// Files of the host's temporary directories.
    pub(crate) in_tmp: PathBuf,
    pub(crate) in_shm: PathBuf,
    _sockets: Vec<UnixListener>,
}

/// Secrets of a home.
pub(crate) const SECRETS: [&str; 18] = [
    ".ssh/id_ed25519",
    ".aws/credentials",
    ".netrc",
    ".config/gh/hosts.yml",
    ".config/git/credentials",
    ".git-credentials",
    ".gnupg/private-keys-v1.d/key",
    ".docker/config.json",
    ".kube/config",
    ".npmrc",
    ".pypirc",
    ".cargo/credentials.toml",
    ".bash_history",
    ".local/share/keyrings/login.keyring",
    ".config/gcloud/application_default_credentials.json",
    ".claude/history.jsonl",
    ".claude/projects/-other/session.jsonl",
    ".claude/.credentials.json",
];

/// Secrets of a server, below its directory.
pub(crate) const OF_THE_SERVER: [&str; 9] = [
    "data/agent.db",
    "data/logs/other.log",
    "data/attempts/other.1/supervisor.json",
    "repos/org/other.git/config",
    "repos/org/other.git/objects/aa/bb",
    "repos/org/own.git/config",
    "worktrees/org/other/job9/source.rs",
    "worktrees/org/own/job8/source.rs",
    "secrets/token",
];

impl Arena {
    pub(crate) fn new(level: Level) -> Self {
        let place = Place::with("", |config| {
            let base = config.attempts_dir.parent().unwrap().to_owned();
            config.attempts_dir = base.join("srv/data/attempts");
            let path = base.join("home/tools/bin");
            config.environment = vec![
                (
                    "PATH".into(),
                    format!(
                        "{}:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
                        path.display()
                    )
                    .into(),
                ),
                ("HOME".into(), base.join("home").into()),
                ("ANTHROPIC_API_KEY".into(), "sk-ant-of-the-agent".into()),
                ("SSH_AUTH_SOCK".into(), base.join("agent.sock").into()),
            ];
            let mut wall = sandbox(level);
            // Shown as a whole, so that what is hidden in it is hidden by more than its absence.
            wall.readable = vec![base.join("srv")];
            wall.hidden = ["data", "repos", "worktrees", "secrets/token"]
                .map(|name| base.join("srv").join(name))
                .into();
            wall.hosts = vec!["localhost".parse::<HostRule>().unwrap()];
            config.sandbox = Some(wall);
        });
        let base = place.folder.path().to_owned();
        furnish(&base);
        let name = place.job.to_string();
        let sockets = ["srv/data/attempts/other.1/sock", "agent.sock"]
            .map(|name| UnixListener::bind(base.join(name)).unwrap());
        let abstract_name = format!("agent-server-test-{name}");
        let address = SocketAddr::from_abstract_name(&abstract_name).unwrap();
        let in_tmp = std::env::temp_dir().join(format!("agent-server-escape-{name}"));
        let in_shm = Path::new("/dev/shm").join(format!("agent-server-escape-{name}"));
        fs::write(&in_tmp, CANARY).unwrap();
        fs::write(&in_shm, CANARY).unwrap();
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        udp.set_nonblocking(true).unwrap();
        Self {
            other: sleeper(&base),
            victim: sleeper(&base),
            tcp4: TcpListener::bind("127.0.0.1:0").unwrap(),
            tcp6: TcpListener::bind("[::1]:0").ok(),
            udp,
            abstract_name,
            shared_memory: shared_memory(),
            null_changed: changed("/dev/null"),
            in_tmp,
            in_shm,
            _sockets: sockets
                .into_iter()
                .chain([UnixListener::bind_addr(&address).unwrap()])
                .collect(),
            place,
        }
    }

    pub(crate) fn base(&self) -> PathBuf {
        self.place.folder.path().to_owned()
    }

    pub(crate) fn home(&self) -> PathBuf {
        self.place.path("home")
    }

    pub(crate) fn srv(&self) -> PathBuf {
        self.place.path("srv")
    }

    pub(crate) fn work(&self) -> PathBuf {
        self.place.path("work")
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.srv().join("data/logs/own.log")
    }

    pub(crate) fn job(&self) -> JobId {
        self.place.job
    }

    fn request(&self) -> RunRequest {
        RunRequest {
            log: self.log(),
            ..self.place.request()
        }
    }

    /// Runs a script as the agent, and returns what it said.
    pub(crate) async fn run(&self, script: &str) -> String {
        let agent = self.place.path("claude");
        fs::write(&agent, format!("#!/bin/sh\n{script}\n")).unwrap();
        let mut run = self.place.runner.start(self.request()).await.unwrap();
        let end = self.place.wait(&mut run).await.unwrap();
        assert_eq!(end.sandbox_error, None);
        assert_eq!(end.spawn_error, None);
        let said = crate::support::said(&self.log(), agent_domain::LogStream::Stdout);
        String::from_utf8_lossy(&said).into_owned()
    }

    /// Carries out attempts one after the other, and returns which said that they succeeded.
    pub(crate) async fn carry_out(&self, attempts: &[Attempt]) -> BTreeSet<String> {
        let folder = self.work().join("attempts");
        fs::create_dir(&folder).unwrap();
        for (at, one) in attempts.iter().enumerate() {
            fs::write(folder.join(format!("{at:03}.sh")), &one.command).unwrap();
        }
        let said = self
            .run(
                "for file in attempts/*.sh; do\n\
                 timeout 20 sh $file </dev/null >/dev/null 2>&1 && echo \"succeeded $file\"\n\
                 done; echo finished",
            )
            .await;
        assert!(said.ends_with("finished\n"), "{said}");
        let name = |line: &str| {
            let at = line
                .strip_prefix("succeeded attempts/")?
                .strip_suffix(".sh")?;
            Some(attempts[at.parse::<usize>().ok()?].name.clone())
        };
        said.lines().filter_map(name).collect()
    }

    pub(crate) fn holds_evil(path: &Path) -> bool {
        fs::read(path).is_ok_and(|text| String::from_utf8_lossy(&text).contains(EVIL))
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        for process in [&mut self.other, &mut self.victim] {
            process.kill().ok();
            process.wait().ok();
        }
        Command::new("ipcrm")
            .args(["-m", &self.shared_memory])
            .status()
            .ok();
        fs::remove_file(&self.in_tmp).ok();
        fs::remove_file(&self.in_shm).ok();
    }
}

fn furnish(base: &Path) {
    let put = |path: PathBuf, text: &str| {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    for name in SECRETS {
        put(base.join("home").join(name), CANARY);
    }
    for name in OF_THE_SERVER {
        put(base.join("srv").join(name), CANARY);
    }
    let state = format!("{{\"mcpServers\":{{}},\"projects\":{{\"/other\":\"{CANARY}\"}}}}");
    put(base.join("home/.claude.json"), &state);
    put(base.join("home/.claude/CLAUDE.md"), "our conventions");
    put(base.join("home/.claude/settings.json"), "{}");
    put(base.join("home/.claude/plugins/one/hooks.json"), "{}");
    let config =
        format!("[user]\n\tname = Operator\n[url \"https://{CANARY}@x/\"]\n\tinsteadOf = x\n");
    put(base.join("home/.gitconfig"), &config);
    put(base.join("srv/repos/org/own.git/hooks/placeholder"), "");
    put(base.join("srv/shown"), "to be read");
    let tool = base.join("home/tools/bin/tool");
    put(tool.clone(), "#!/bin/sh\necho from the home\n");
    fs::set_permissions(tool, fs::Permissions::from_mode(0o755)).unwrap();
}

/// When a file's owner, mode or content was last changed.
pub(crate) fn changed(path: &str) -> (i64, i64) {
    let found = fs::metadata(path).unwrap();
    (found.ctime(), found.ctime_nsec())
}

fn sleeper(base: &Path) -> Child {
    let mut command = Command::new("sleep");
    command.arg("600").env("SECRET", CANARY).current_dir("/");
    command.stdin(Stdio::null()).stdout(Stdio::null());
    assert!(base.exists());
    command.spawn().unwrap()
}

fn shared_memory() -> String {
    let made = Command::new("ipcmk").args(["-M", "64"]).output().unwrap();
    let text = String::from_utf8(made.stdout).unwrap();
    text.rsplit(' ').next().unwrap().trim().to_owned()
}
