//! Loads `config.data` once, for `ganeti-confd --check`, by the same steps as [`Reader`].
//!
//! [`Reader`]: super::Reader

use std::fmt;
use std::path::{Path, PathBuf};

use super::CONFIG_BYTES_MAX;
use super::failure::LoadFailure;
use super::file::{self, FileReader, Io};
use crate::snapshot::{Loaded, Snapshot};

/// Why `config.data` cannot be served. `Display` prints one line with the file and the remedy.
#[derive(Debug)]
pub struct ConfigError {
    path: PathBuf,
    why: LoadFailure,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why.explain(&self.path.display()))
    }
}

impl std::error::Error for ConfigError {}

/// Loads the configuration from the file `path`, on the calling thread. Never waits for a writer of
/// a named pipe.
///
/// # Errors
///
/// The file is not a regular file of at most [`CONFIG_BYTES_MAX`] bytes, cannot be read, or is not
/// a configuration that can be served.
pub fn load_config(path: &Path) -> Result<Loaded, ConfigError> {
    let failed = |why| ConfigError {
        path: path.to_owned(),
        why,
    };
    // Found before the file is opened, because opening some devices has effects.
    file::stat(path, CONFIG_BYTES_MAX).map_err(|why| failed(LoadFailure::Unreadable(why)))?;
    let mut bytes = Vec::new();
    FileReader::new(Io::Blocking)
        .read_to(path, CONFIG_BYTES_MAX, &mut bytes)
        .map_err(|why| failed(LoadFailure::Unreadable(why)))?;
    Snapshot::load(&bytes).map_err(|error| failed(LoadFailure::Invalid(error)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_names_file_cause_and_remedy() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("config.data");
        let check = |expect: &str| {
            let message = load_config(&path).expect_err("unusable").to_string();
            let expect = expect.replace("PATH", &path.display().to_string());
            assert_eq!(message, expect);
        };
        check(
            "PATH does not exist; make sure that this node is a master candidate, or name another \
             file with --config",
        );
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
        check("PATH is not a regular file; name another file with --config");
        std::fs::remove_file(&path).expect("removed");
        std::os::unix::fs::symlink("/dev/zero", &path).expect("a link");
        check("PATH is not a regular file; name another file with --config");
        std::fs::remove_file(&path).expect("removed");
        std::os::unix::fs::symlink(&path, &path).expect("a link");
        check(
            "PATH cannot be read: Too many symbolic links encountered; correct its symbolic links, \
             which form a loop",
        );
        std::fs::remove_file(&path).expect("removed");
        let sparse = std::fs::File::create(&path).expect("a file");
        sparse.set_len(CONFIG_BYTES_MAX + 1).expect("a sparse file");
        check(
            "PATH has 2147483648 bytes, more than the 2147483647 that can be served; name another \
             file with --config",
        );
    }
}
