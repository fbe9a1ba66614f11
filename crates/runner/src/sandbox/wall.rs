//! What stands behind the wall, as bubblewrap's arguments.

use std::borrow::Cow;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tokio::net::UnixListener;
use tokio::process::Child;
use tokio::sync::mpsc;

use super::arguments::{Arguments, in_memory};
use super::gate::{self, Closed, GATE, Gate, Task};
use super::home::{self, Environment};
use super::host::{HostList, HostRule};
use super::scratch::Scratch;
use super::{Ground, Level, Sandbox, proxy, system};
use crate::record::Spec;

/// Where our own things are inside.
const OURS: &str = "/run/agent-server";
/// Inside, [`super::inside()`] listens here and leads to the proxy. The port is the customary one
/// of a proxy; nothing else listens in a network namespace that is new.
pub(super) const PROXY_PORT: u16 = 3128;
/// The proxy's socket in the attempt's directory, and below [`OURS`].
const PROXY: &str = "proxy";
/// Variables that name sockets or directories of the machine that are not there.
const NOT_INSIDE: [&str; 3] = ["SSH_AUTH_SOCK", "TMPDIR", "XDG_RUNTIME_DIR"];
/// Variables that tell programs of a proxy.
const PROXY_VARIABLES: [&str; 6] = [
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "http_proxy",
    "https_proxy",
    "all_proxy",
];
/// How many refusals may wait to be written to the log.
const NOTICES: usize = 16;
/// Where the CLI renews a login that was made by hand.
const LOGIN_HOST: &str = "platform.claude.com:443";
/// Where the model's API is when nothing else is said.
const API: &str = "https://api.anthropic.com";

/// A wall as a supervisor is told of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct WallSpec {
    isolated: bool,
    bwrap: OsString,
    inside: OsString,
    inside_args: Vec<OsString>,
    hidden: Vec<OsString>,
    readable: Vec<OsString>,
    writable: Vec<OsString>,
    hosts: Vec<String>,
}

/// A wall that is ready to be started.
#[derive(Debug)]
pub(crate) struct Raised {
    /// bubblewrap's command line and environment; the rest is as in the spec it was made from.
    pub(crate) program: PathBuf,
    pub(crate) args: Vec<OsString>,
    pub(crate) environment: Vec<(OsString, OsString)>,
    /// What the proxy has to say; ends at once where there is none.
    pub(crate) notices: mpsc::Receiver<String>,
    folder: PathBuf,
    gate: UnixListener,
    task: Task,
    /// Read by bubblewrap, and so without the flag that closes them.
    _inherited: Vec<OwnedFd>,
}

impl WallSpec {
    pub(crate) fn new(sandbox: &Sandbox, ground: &Ground) -> Option<Self> {
        if sandbox.level == Level::Off {
            return None;
        }
        let words = |paths: &[PathBuf]| paths.iter().map(|path| path.clone().into()).collect();
        let readable = [sandbox.readable.as_slice(), &ground.readable].concat();
        Some(Self {
            isolated: sandbox.level == Level::Isolated,
            bwrap: sandbox.bwrap.clone().into(),
            inside: sandbox.inside.path.clone().into(),
            inside_args: sandbox.inside.args.clone(),
            hidden: words(&sandbox.hidden),
            readable: words(&readable),
            writable: words(&ground.writable),
            hosts: sandbox.hosts.iter().map(HostRule::to_string).collect(),
        })
    }

    fn hosts(&self, environment: Environment<'_>) -> io::Result<HostList> {
        let parse = |text: &str| text.parse::<HostRule>().map_err(io::Error::other);
        let mut rules: Vec<HostRule> = self
            .hosts
            .iter()
            .map(|text| parse(text))
            .collect::<Result<_, _>>()?;
        if !environment.has_login() {
            rules.push(parse(LOGIN_HOST)?);
        }
        let url = environment.get("ANTHROPIC_BASE_URL");
        let rule = match url {
            Some(url) => HostRule::of_url(&url.to_string_lossy()),
            None => HostRule::of_url(API),
        };
        let rule = rule.map_err(|error| io::Error::other(format!("ANTHROPIC_BASE_URL {error}")))?;
        if url.is_some() {
            Ok(HostList::new(rules, Some(rule)))
        } else {
            rules.push(rule);
            Ok(HostList::new(rules, None))
        }
    }

    /// Hosts for which no proxy is used: this machine inside, unless the list means the one
    /// outside.
    fn no_proxy(&self, environment: Environment<'_>) -> String {
        let gateway = environment.get("ANTHROPIC_BASE_URL");
        let gateway = gateway.and_then(|url| HostRule::of_url(&url.to_string_lossy()).ok());
        let listed = self
            .hosts
            .iter()
            .filter_map(|text| text.parse::<HostRule>().ok());
        let listed: Vec<HostRule> = listed.chain(gateway).collect();
        let outside = |own: &str| {
            listed.iter().any(|rule| match own.parse() {
                Ok(address) => rule.loopback() == Some(address),
                Err(_) => rule.is_localhost(),
            })
        };
        let own = ["localhost", "127.0.0.1", "::1"];
        own.into_iter()
            .filter(|own| !outside(own))
            .collect::<Vec<_>>()
            .join(",")
    }
}

/// Prepares a wall around the agent of `spec`, with what it needs in `folder`, which is the
/// attempt's. To be called in a runtime.
pub(crate) fn raise(spec: &Spec<'_>, wall: &WallSpec, folder: &Path) -> io::Result<Raised> {
    let program = Some(Path::new(&spec.program));
    let plan = Plan {
        wall,
        environment: Environment(&spec.environment),
        cwd: Some(Path::new(&spec.cwd)),
        program,
    };
    plan.raise(
        folder,
        Task {
            program: Some(spec.program.clone()),
            args: spec.args.clone(),
            drain: spec.ladder.drain,
            proxied: wall.isolated,
        },
    )
}

/// What a wall is planned by.
pub(super) struct Plan<'a> {
    pub(super) wall: &'a WallSpec,
    pub(super) environment: Environment<'a>,
    /// The workspace.
    pub(super) cwd: Option<&'a Path>,
    pub(super) program: Option<&'a Path>,
}

impl Plan<'_> {
    pub(super) fn raise(&self, folder: &Path, task: Task) -> io::Result<Raised> {
        let folder = fs::canonicalize(folder)?;
        let scratch = Scratch::make(&folder)?;
        let gate = gate::listen(&folder, GATE)?;
        let (notices, heard) = mpsc::channel(NOTICES);
        if self.wall.isolated {
            let listener = gate::listen(&folder, PROXY)?;
            proxy::serve(listener, self.wall.hosts(self.environment)?, notices);
        }
        let mut arguments = self.arguments(&folder, &scratch)?;
        let mut inherited = Vec::new();
        #[cfg(target_os = "linux")]
        if let Some(filter) = super::kernel::filter()? {
            let filter = in_memory("filter", &filter)?;
            arguments.add(["--seccomp", &filter.as_raw_fd().to_string()]);
            inherited.push(filter);
        }
        let list = in_memory("arguments", &arguments.bytes())?;
        let mut args: Vec<OsString> = vec!["--args".into(), list.as_raw_fd().to_string().into()];
        inherited.push(list);
        args.extend(["--".into(), format!("{OURS}/inside").into()]);
        args.extend(self.wall.inside_args.iter().cloned());
        Ok(Raised {
            program: self.wall.bwrap.clone().into(),
            args,
            environment: self.variables(),
            notices: heard,
            folder,
            gate,
            task,
            _inherited: inherited,
        })
    }

    fn variables(&self) -> Vec<(OsString, OsString)> {
        let mut variables = self.environment.0.to_vec();
        variables.retain(|(name, _)| !NOT_INSIDE.iter().any(|gone| name == gone));
        if self.wall.isolated {
            variables.retain(|(name, _)| {
                !PROXY_VARIABLES
                    .iter()
                    .chain(&["NO_PROXY", "no_proxy"])
                    .any(|gone| name == gone)
            });
            let proxy = format!("http://127.0.0.1:{PROXY_PORT}");
            variables.extend(PROXY_VARIABLES.map(|name| (name.into(), proxy.clone().into())));
            let without = self.wall.no_proxy(self.environment);
            variables
                .extend(["NO_PROXY", "no_proxy"].map(|name| (name.into(), without.clone().into())));
        }
        variables.retain(|(name, _)| name != "HOME");
        variables.push(("HOME".into(), self.environment.home().into()));
        variables
    }

    fn arguments(&self, folder: &Path, scratch: &Scratch) -> io::Result<Arguments> {
        let mut arguments = Arguments::default();
        self.namespaces(&mut arguments);
        system::show(&mut arguments, scratch)?;
        home::furnish(self.environment, scratch, self.cwd, &mut arguments)?;
        self.readable(scratch, &mut arguments);
        arguments.ro_bind(
            Path::new(&self.wall.inside),
            &Path::new(OURS).join("inside"),
        );
        arguments.bind(&folder.join(GATE), &Path::new(OURS).join(GATE));
        if self.wall.isolated {
            arguments.bind(&folder.join(PROXY), &Path::new(OURS).join(PROXY));
        }
        for path in self.wall.writable.iter().map(Path::new).chain(self.cwd) {
            arguments.bind(path, path);
        }
        // All that is mounted stands by now, so nothing can be added to the root itself.
        arguments.add(["--remount-ro", "/", "--chdir"]);
        arguments.add([self.cwd.unwrap_or(Path::new("/"))]);
        Ok(arguments)
    }

    fn namespaces(&self, arguments: &mut Arguments) {
        arguments.add([
            "--unshare-user",
            "--unshare-pid",
            "--unshare-ipc",
            "--unshare-uts",
            "--unshare-cgroup-try",
            "--disable-userns",
            "--hostname",
            "agent",
            "--cap-drop",
            "ALL",
            "--die-with-parent",
            "--new-session",
            "--as-pid-1",
        ]);
        if self.wall.isolated {
            arguments.add(["--unshare-net"]);
        }
    }

    /// Shows what is to be read, hides what must not be seen in it, and shows again what of the
    /// former lies in the latter.
    fn readable(&self, scratch: &Scratch, arguments: &mut Arguments) {
        let mut shown = home::readable(self.environment);
        shown.extend(
            self.wall
                .readable
                .iter()
                .map(PathBuf::from)
                .filter(|path| path.exists()),
        );
        if let Some(program) = self.program {
            shown.extend(whole_program(program, &self.environment.program_folders()));
        }
        let mut hidden: Vec<PathBuf> = self.wall.hidden.iter().map(PathBuf::from).collect();
        hidden.extend(
            hidden
                .clone()
                .iter()
                .filter_map(|path| fs::canonicalize(path).ok()),
        );
        // A link leads to what is hidden already.
        let files: Vec<PathBuf> = hidden.iter().filter_map(|path| real_file(path)).collect();
        hidden.retain(|path| path.is_dir());
        let is_hidden = |path: &Path| hidden.iter().any(|root| path.starts_with(root));
        for path in shown.iter().filter(|path| !system::holds(path)) {
            arguments.ro_bind(path, path);
        }
        for path in &hidden {
            if system::holds(path) || shown.iter().any(|root| path.starts_with(root)) {
                arguments.hide(path);
            }
        }
        for path in shown.iter().filter(|path| is_hidden(path)) {
            arguments.ro_bind(path, path);
        }
        for path in &files {
            if system::holds(path) || shown.iter().any(|root| path.starts_with(root)) {
                arguments.ro_bind(&scratch.path("empty"), path);
            }
        }
    }
}

/// Where a file is that is no link and exists.
fn real_file(path: &Path) -> Option<PathBuf> {
    let real = fs::canonicalize(path).ok()?;
    real.is_file().then_some(real)
}

/// The file of a program, and where it is a link or part of a Node package, what it needs.
fn whole_program(program: &Path, folders: &[PathBuf]) -> Vec<PathBuf> {
    let found = if program.components().count() > 1 {
        Some(program.to_owned())
    } else {
        let places = folders.iter().map(|folder| folder.join(program));
        places.into_iter().find(|path| path.is_file())
    };
    // Where it is missing, its start says so.
    let real = found
        .as_ref()
        .and_then(|found| fs::canonicalize(found).ok());
    let (Some(found), Some(real)) = (found, real) else {
        return Vec::new();
    };
    let package = real
        .ancestors()
        .filter(|path| path.ends_with("node_modules"))
        .last();
    let whole = package.unwrap_or(&real).to_owned();
    if found.starts_with(&whole) || folders.iter().any(|folder| found.starts_with(folder)) {
        vec![whole]
    } else {
        vec![whole, found]
    }
}

impl Raised {
    /// What to start in place of the agent.
    pub(crate) fn spec<'a>(&self, spec: &'a Spec<'_>) -> Spec<'a> {
        Spec {
            program: self.program.clone().into(),
            args: self.args.clone(),
            environment: self.environment.clone(),
            cwd: "/".into(),
            prompt: Cow::Borrowed(&spec.prompt),
            log: spec.log.clone(),
            timeout: spec.timeout,
            idle_timeout: spec.idle_timeout,
            budget: spec.budget,
            ladder: spec.ladder,
            secrets: Vec::new(),
            log_limits: crate::LogLimits::default(),
            mark: spec.mark.clone(),
            limits: spec.limits,
            control_groups: spec.control_groups,
            wall: None,
        }
    }

    /// What it means that it could not be started.
    pub(crate) fn not_started(&self, error: &io::Error) -> String {
        let program = self.program.display();
        if error.kind() == io::ErrorKind::NotFound {
            format!("{program} is not installed")
        } else {
            format!("cannot start {program}: {error}")
        }
    }

    /// Waits until the wall stands and the agent runs in it.
    pub(crate) async fn open(
        self,
        child: &mut Child,
    ) -> Result<(Gate, mpsc::Receiver<String>), Closed> {
        let gate = Gate::open(self.gate, &self.folder, child, &self.task).await?;
        Ok((gate, self.notices))
    }
}
