//! Room on the volumes that matter: below the watermark no new work is taken.
//!
//! The volumes are looked at once a second; everyone else reads what was seen last, so asking
//! costs nothing.

use std::fmt;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use agent_domain::{Room, Shortage, Watermark};

use crate::engine::Engine;

/// How often the volumes are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Which volumes are watched, and how much room they must have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskConfig {
    /// What is watched, by what it is for: `data`, `repositories`, `workspaces`. Directories on
    /// the same device count as one volume.
    pub volumes: Vec<(&'static str, PathBuf)>,
    /// How much must be free on each.
    pub watermark: Watermark,
    /// Bytes kept back beside the database, so that what becomes of running jobs can be stored on
    /// a full disk.
    pub reserve: u64,
}

impl DiskConfig {
    /// Every volume as it is now.
    pub fn look(&self) -> Vec<DiskVolume> {
        look(self, &[])
    }
}

/// Why no new work is taken: a volume that is short of room, or cannot be looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskShortage {
    /// What the volume is for.
    pub name: &'static str,
    /// The directory watched.
    pub path: PathBuf,
    /// What is wrong.
    pub trouble: DiskTrouble,
}

/// What is wrong with a volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DiskTrouble {
    /// Too little is free.
    Short(Shortage),
    /// It cannot be looked at.
    Unreadable(String),
}

/// A volume as last seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskVolume {
    /// What it is for.
    pub name: &'static str,
    /// The directory watched.
    pub path: PathBuf,
    /// What it has; `None` when it cannot be looked at.
    pub room: Option<Room>,
    /// Bytes that must be free.
    pub min_free: u64,
    /// What is wrong with it.
    pub trouble: Option<DiskTrouble>,
}

/// What the watcher has seen last.
#[derive(Debug)]
pub(crate) struct Disk {
    config: DiskConfig,
    seen: Mutex<Vec<DiskVolume>>,
}

impl Disk {
    /// Looks once, so that the first request is answered rightly.
    pub(crate) fn new(config: DiskConfig) -> Self {
        let seen = look(&config, &[]);
        Self {
            config,
            seen: Mutex::new(seen),
        }
    }

    /// Every volume as last seen.
    pub(crate) fn volumes(&self) -> Vec<DiskVolume> {
        self.seen().clone()
    }

    /// The first volume with something wrong.
    pub(crate) fn shortage(&self) -> Option<DiskShortage> {
        self.seen().iter().find_map(DiskVolume::shortage)
    }

    fn seen(&self) -> MutexGuard<'_, Vec<DiskVolume>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks again; returns what was short before and what is now.
    fn renew(&self) -> (Option<DiskShortage>, Option<DiskShortage>) {
        let before = self.volumes();
        let now = look(&self.config, &before);
        let short = |volumes: &[DiskVolume]| volumes.iter().find_map(DiskVolume::shortage);
        let changed = (short(&before), short(&now));
        *self.seen() = now;
        changed
    }
}

impl DiskVolume {
    fn shortage(&self) -> Option<DiskShortage> {
        Some(DiskShortage {
            name: self.name,
            path: self.path.clone(),
            trouble: self.trouble.clone()?,
        })
    }
}

/// Makes the reserve again once there is room. Not while the disk is short of it: then it is more
/// use to whoever runs.
async fn keep_reserve(engine: &Engine) {
    if engine.inner.disk.shortage().is_some() {
        return;
    }
    let wanted = engine.inner.disk.config.reserve;
    if let Err(error) = engine.inner.store.keep_reserve(wanted).await {
        tracing::debug!(%error, "no room for the reserve yet");
    }
}

/// Runs until the engine stops.
pub(crate) async fn watch(engine: Engine) {
    loop {
        keep_reserve(&engine).await;
        tokio::select! {
            () = engine.inner.stop.cancelled() => return,
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
        let own = engine.clone();
        let looked = tokio::task::spawn_blocking(move || own.inner.disk.renew()).await;
        match looked {
            Ok((None, Some(short))) => {
                tracing::warn!(%short, "the disk is nearly full: no new work is taken");
                engine.inner.house.notify_one();
            }
            Ok((Some(_), None)) => {
                tracing::info!("there is room on the disk again: new work is taken");
                // Jobs that ended meanwhile may not have been able to remove their workspaces.
                engine.inner.house.notify_one();
                engine.inner.ready.notify_waiters();
            }
            Ok(_) => {}
            Err(error) => tracing::error!(%error, "the volumes could not be looked at"),
        }
    }
}

fn look(config: &DiskConfig, before: &[DiskVolume]) -> Vec<DiskVolume> {
    let mut devices = Vec::new();
    let mut seen = Vec::new();
    for (name, path) in &config.volumes {
        let was_short = before
            .iter()
            .any(|volume| volume.name == *name && volume.trouble.is_some());
        let (device, volume) = look_at(name, path, config.watermark, was_short);
        if device.is_some() && devices.contains(&device) {
            continue;
        }
        devices.push(device);
        seen.push(volume);
    }
    seen
}

fn look_at(
    name: &'static str,
    path: &Path,
    watermark: Watermark,
    was_short: bool,
) -> (Option<u64>, DiskVolume) {
    let mut volume = DiskVolume {
        name,
        path: path.to_owned(),
        room: None,
        min_free: watermark.0.unwrap_or_default(),
        trouble: None,
    };
    // What is to be made there goes to the volume of the directory it will be made in.
    let there = path.ancestors().find(|path| path.is_dir());
    let there = there.unwrap_or(Path::new("/"));
    let device = there.metadata().map(|meta| meta.dev()).ok();
    match rustix::fs::statvfs(there) {
        Ok(found) => {
            let room = Room {
                bytes: found.f_bavail.saturating_mul(found.f_frsize),
                bytes_total: found.f_blocks.saturating_mul(found.f_frsize),
                files: found.f_favail,
                files_total: found.f_files,
            };
            volume.min_free = watermark.bytes(&room);
            volume.trouble = watermark.shortage(&room, was_short).map(DiskTrouble::Short);
            volume.room = Some(room);
        }
        Err(error) => {
            let error = std::io::Error::from(error).to_string();
            volume.trouble = Some(DiskTrouble::Unreadable(error));
        }
    }
    (device, volume)
}

impl fmt::Display for DiskTrouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Short(shortage) => shortage.fmt(f),
            Self::Unreadable(error) => f.write_str(error),
        }
    }
}

impl fmt::Display for DiskShortage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, trouble, .. } = self;
        write!(f, "volume of {}: {trouble}", path.display())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(paths: &[(&'static str, &Path)], min_free: u64) -> DiskConfig {
        let volumes = paths.iter().map(|(name, path)| (*name, (*path).to_owned()));
        DiskConfig {
            volumes: volumes.collect(),
            watermark: Watermark(Some(min_free)),
            reserve: 0,
        }
    }

    #[test]
    fn directories_on_one_device_are_one_volume() {
        let dir = tempfile::tempdir().unwrap();
        let (one, other) = (dir.path().join("a"), dir.path().join("b/not/made/yet"));
        std::fs::create_dir(&one).unwrap();
        let disk = Disk::new(config(&[("data", &one), ("repositories", &other)], 1));
        let seen = disk.volumes();
        assert_eq!(seen.len(), 1);
        assert_eq!((seen[0].name, &seen[0].trouble), ("data", &None));
        assert!(seen[0].room.unwrap().bytes_total > 0);
    }

    #[test]
    fn a_volume_below_the_watermark_is_named_with_what_it_has_and_what_it_needs() {
        let dir = tempfile::tempdir().unwrap();
        let disk = Disk::new(config(&[("data", dir.path())], u64::MAX));
        let short = disk.shortage().unwrap();
        assert_eq!(short.name, "data");
        let text = short.to_string();
        assert!(text.contains(&dir.path().display().to_string()), "{text}");
        assert!(text.contains("free, 16777215.9 TiB wanted"), "{text}");
    }
}
