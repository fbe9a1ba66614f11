//! The bare repositories under a directory, served by a real `sshd` on a free port.

use std::fs;
use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use crate::process;

/// Where distributions put it; it wants to be started by its full path.
const SSHD: [&str; 3] = ["/usr/sbin/sshd", "/usr/bin/sshd", "/sbin/sshd"];
/// Longest wait for it to listen.
const START_LIMIT: Duration = Duration::from_secs(10);

/// A running sshd; dropping it stops it.
#[derive(Debug)]
pub struct GitSsh {
    sshd: Child,
    dir: TempDir,
    port: u16,
    root: PathBuf,
}

impl GitSsh {
    /// Starts one with keys of its own; `root` holds the repositories.
    pub fn start(root: &Path) -> Result<Self> {
        let program = sshd()?;
        let dir = tempfile::tempdir()?;
        for key in ["host_key", "id"] {
            keygen(&dir.path().join(key))?;
        }
        fs::copy(
            dir.path().join("id.pub"),
            dir.path().join("authorized_keys"),
        )?;
        // sshd refuses to start without its privilege separation directory.
        fs::create_dir_all("/run/sshd").ok();
        let port = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
        let config = dir.path().join("sshd_config");
        fs::write(&config, configuration(dir.path(), port))?;
        let sshd = Command::new(program)
            .args(["-D", "-e", "-f"])
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(dir.path().join("log"))?)
            .spawn()
            .context("failed to start sshd")?;
        let mut server = Self {
            sshd,
            dir,
            port,
            root: root.canonicalize()?,
        };
        server.wait_for_banner()?;
        Ok(server)
    }

    fn wait_for_banner(&mut self) -> Result<()> {
        let port = self.port;
        let mut ended = None;
        let up = process::wait_until(START_LIMIT, || {
            ended = self.sshd.try_wait().ok().flatten();
            let greet = || -> std::io::Result<()> {
                let mut stream = TcpStream::connect(("127.0.0.1", port))?;
                stream.set_read_timeout(Some(Duration::from_secs(1)))?;
                stream.read_exact(&mut [0; 4])
            };
            ended.is_some() || greet().is_ok()
        });
        if up && ended.is_none() {
            return Ok(());
        }
        bail!("sshd did not start: {}", self.log())
    }

    /// What stands before `<org>/<repo>.git`, with its last slash.
    pub fn base(&self) -> String {
        let user = user();
        format!(
            "ssh://{user}@127.0.0.1:{}{}/",
            self.port,
            self.root.display()
        )
    }

    /// The value of `GIT_SSH_COMMAND` that lets a git client in.
    pub fn command(&self) -> String {
        let dir = self.dir.path().display();
        format!(
            "ssh -F /dev/null -i {dir}/id -o IdentitiesOnly=yes -o BatchMode=yes \
             -o UserKnownHostsFile={dir}/known_hosts -o StrictHostKeyChecking=accept-new"
        )
    }

    /// What sshd wrote.
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }
}

impl Drop for GitSsh {
    fn drop(&mut self) {
        self.sshd.kill().ok();
        self.sshd.wait().ok();
    }
}

fn sshd() -> Result<&'static str> {
    SSHD.into_iter()
        .find(|path| Path::new(path).exists())
        .context("no sshd on this machine: install the Debian package openssh-server")
}

fn keygen(path: &Path) -> Result<()> {
    let status = Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-C", "test", "-f"])
        .arg(path)
        .stdin(Stdio::null())
        .status()
        .context("no ssh-keygen on this machine: install the Debian package openssh-client")?;
    anyhow::ensure!(status.success(), "ssh-keygen ended with {status}");
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    Ok(())
}

fn configuration(dir: &Path, port: u16) -> String {
    let dir = dir.display();
    format!(
        "Port {port}\n\
         ListenAddress 127.0.0.1\n\
         HostKey {dir}/host_key\n\
         PidFile {dir}/pid\n\
         AuthorizedKeysFile {dir}/authorized_keys\n\
         StrictModes no\n\
         UsePAM no\n\
         PasswordAuthentication no\n\
         KbdInteractiveAuthentication no\n\
         PermitRootLogin prohibit-password\n\
         AllowTcpForwarding no\n\
         X11Forwarding no\n\
         MaxStartups 100\n\
         SetEnv GIT_CONFIG_NOSYSTEM=1 GIT_CONFIG_GLOBAL=/dev/null\n\
         LogLevel VERBOSE\n"
    )
}

/// The user this process runs as: sshd without root can let in nobody else.
fn user() -> String {
    let uid = rustix::process::getuid().as_raw().to_string();
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let name = passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1) == Some(uid.as_str())).then(|| name.to_owned())
    });
    name.unwrap_or_else(|| "root".to_owned())
}
