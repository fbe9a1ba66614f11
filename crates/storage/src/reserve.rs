//! Room kept beside the database for the day the disk is full.
//!
//! It is kept in pieces, each a file: whoever must store what has become of a job gives up one
//! piece at a time and writes at once, so that others who wait for room cannot take all of it.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use crate::{StoreError, open};

/// How many pieces the reserve has.
const PIECES: u64 = 8;

/// The reserve of one database.
#[derive(Debug)]
pub(crate) struct Reserve {
    pieces: Vec<PathBuf>,
}

impl Reserve {
    /// The reserve of the database at `path`; makes nothing.
    pub(crate) fn of(path: &Path) -> Self {
        let piece = |number| {
            let mut name = path.as_os_str().to_owned();
            name.push(format!(".reserve.{number}"));
            name.into()
        };
        Self {
            pieces: (1..=PIECES).map(piece).collect(),
        }
    }

    /// Makes what is missing, so that there are `bytes` in all; none for zero. Blocks.
    pub(crate) fn fill(&self, bytes: u64) -> Result<(), StoreError> {
        let each = bytes / PIECES;
        for piece in self.pieces.iter().filter(|_| each > 0) {
            if fs::metadata(piece).is_ok_and(|found| found.len() >= each) {
                continue;
            }
            if let Err(error) = allocate(piece, each) {
                // Part of a piece is no reserve, but it takes room.
                fs::remove_file(piece).ok();
                return Err(StoreError::io(&piece.display().to_string(), &error));
            }
        }
        Ok(())
    }

    /// Gives up one piece; returns whether there was one. Blocks.
    pub(crate) fn release(&self) -> bool {
        let given_up = self
            .pieces
            .iter()
            .any(|piece| fs::remove_file(piece).is_ok());
        if given_up {
            tracing::warn!("the disk is full: part of the reserve was given up for the database");
        }
        given_up
    }
}

/// Makes a file of zeros that really takes its room on the disk.
fn allocate(path: &Path, bytes: u64) -> io::Result<()> {
    let file = open::private().truncate(true).open(path)?;
    if !by_the_system(&file, bytes)? {
        write_zeros(&file, bytes)?;
    }
    file.sync_all()
}

/// Returns whether the file system could do it.
#[cfg(target_os = "linux")]
fn by_the_system(file: &File, bytes: u64) -> io::Result<bool> {
    use rustix::fs::{FallocateFlags, fallocate};
    match fallocate(file, FallocateFlags::empty(), 0, bytes) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::OPNOTSUPP) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

#[cfg(not(target_os = "linux"))]
#[expect(clippy::unnecessary_wraps, reason = "as on Linux")]
fn by_the_system(_file: &File, _bytes: u64) -> io::Result<bool> {
    Ok(false)
}

fn write_zeros(mut file: &File, bytes: u64) -> io::Result<()> {
    use io::Read as _;
    io::copy(&mut io::repeat(0).take(bytes), &mut file).map(drop)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    fn reserve() -> (Reserve, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        (Reserve::of(&dir.path().join("agent.db")), dir)
    }

    fn taken(dir: &Path) -> u64 {
        let files = fs::read_dir(dir).unwrap();
        let blocks = files.map(|file| file.unwrap().metadata().unwrap().blocks());
        blocks.sum::<u64>() * 512
    }

    #[test]
    fn a_reserve_takes_its_room_and_gives_it_up_piece_by_piece() {
        let (reserve, dir) = reserve();
        reserve.fill(8 << 20).unwrap();
        assert!(taken(dir.path()) >= 8 << 20);
        for left in (0..8).rev() {
            assert!(reserve.release());
            assert_eq!(fs::read_dir(dir.path()).unwrap().count(), left);
        }
        assert!(!reserve.release());
    }

    #[test]
    fn only_what_is_missing_is_made_again() {
        let (reserve, dir) = reserve();
        reserve.fill(8 << 20).unwrap();
        let kept = fs::metadata(&reserve.pieces[1]).unwrap().ino();
        assert!(reserve.release());
        reserve.fill(8 << 20).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 8);
        assert_eq!(fs::metadata(&reserve.pieces[1]).unwrap().ino(), kept);
        // Another size was wanted earlier.
        reserve.fill(16 << 20).unwrap();
        assert!(taken(dir.path()) >= 16 << 20);
    }

    #[test]
    fn no_reserve_takes_no_room() {
        let (reserve, dir) = reserve();
        reserve.fill(0).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn zeros_are_written_where_the_file_system_cannot_reserve() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("zeros");
        write_zeros(&File::create(&path).unwrap(), 100_000).unwrap();
        assert_eq!(fs::read(path).unwrap(), vec![0; 100_000]);
    }
}
