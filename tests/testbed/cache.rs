//! The folder outside the checkout that holds what is expensive to make again.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::progress::say;

/// The cache folder: `$SEEDBED_CACHE`, or `$XDG_CACHE_HOME/seedbed`, or `~/.cache/seedbed`.
/// Created when missing; always absolute.
pub fn cache_dir() -> Result<PathBuf> {
    let set = |name: &str| {
        std::env::var_os(name)
            .filter(|v| !v.is_empty())
            .map(PathBuf::from)
    };
    let dir = set("SEEDBED_CACHE")
        .or_else(|| set("XDG_CACHE_HOME").map(|d| d.join("seedbed")))
        .or_else(|| set("HOME").map(|d| d.join(".cache/seedbed")))
        .context("no cache folder: set SEEDBED_CACHE or HOME")?;
    std::fs::create_dir_all(&dir)
        .with_context(|| format!("cannot create the cache folder {}", dir.display()))?;
    dir.canonicalize()
        .with_context(|| format!("cannot resolve {}", dir.display()))
}

/// Takes the exclusive lock on `path`, waiting for whoever holds it, and says on stderr that it
/// waits for `what`. The lock lasts until the returned file is dropped; a crash releases it.
pub fn lock(path: &Path, what: &str) -> Result<File> {
    let file = open_lock(path)?;
    match file.try_lock() {
        Ok(()) => return Ok(file),
        Err(TryLockError::WouldBlock) => say(&format!("{what}: waiting for another run")),
        Err(TryLockError::Error(e)) => return Err(e).context(format!("lock {}", path.display())),
    }
    file.lock()
        .with_context(|| format!("lock {}", path.display()))?;
    Ok(file)
}

/// Takes the exclusive lock on `path` if nobody holds it.
pub fn try_lock(path: &Path) -> Result<Option<File>> {
    let file = open_lock(path)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(e)) => Err(e).context(format!("lock {}", path.display())),
    }
}

fn open_lock(path: &Path) -> Result<File> {
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)
            .with_context(|| format!("cannot create {}", parent.display()))?;
    }
    File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .with_context(|| format!("cannot open the lock {}", path.display()))
}
