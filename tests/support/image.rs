//! A file system in a file, mounted through a loop device, whose power can be cut.

use super::{
    lane::Lane,
    process::{as_root, run},
};
use std::{
    fs::File,
    path::{Path, PathBuf},
    process::Command,
};

/// Sparse: only what is written takes room.
const BYTES: u64 = 256 << 20;

/// An ext4 of the test's own, unmounted at its end.
pub struct Image {
    file: PathBuf,
    at: PathBuf,
}

impl Image {
    /// Makes and mounts it; whoever runs the test may write to it.
    #[track_caller]
    pub fn make(lane: &Lane) -> Image {
        let file = lane.path("image.ext4");
        File::create(&file).and_then(|file| file.set_len(BYTES)).expect("a sparse file");
        // SAFETY: both only read a number.
        let owner = unsafe { (libc::geteuid(), libc::getegid()) };
        let owner = format!("root_owner={}:{}", owner.0, owner.1);
        run(Command::new("/usr/sbin/mkfs.ext4").args(["-q", "-F", "-E", &owner]).arg(&file));
        let image = Image { file, at: lane.make_folder("mounted") };
        image.mount();
        image
    }

    /// Where its files are.
    pub fn path(&self) -> &Path {
        &self.at
    }

    #[track_caller]
    fn mount(&self) {
        run(as_root("mount").args(["-o", "loop"]).arg(&self.file).arg(&self.at));
    }

    /// From now on nothing reaches the disk: neither what waits in memory, nor the journal of ext4 itself.
    #[track_caller]
    pub fn cut_power(&self) {
        run(as_root("xfs_io").args(["-x", "-c", "shutdown"]).arg(&self.at));
    }

    /// Comes back with what the disk has. Nobody may have a file of it open any more.
    #[track_caller]
    pub fn restore_power(&self) {
        run(as_root("umount").arg(&self.at));
        self.mount();
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        let _ = as_root("umount").arg("-l").arg(&self.at).output();
    }
}
