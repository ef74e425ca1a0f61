//! The folder of one running testbed: logs, process records, and what has to be undone.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, bail};

use super::janitor::{self, Janitor};
use super::process::{self, Lifetime};
use super::{cache, progress};

/// A state folder `<cache>/run/<name>`. Clones share it.
///
/// A folder made with `for_test` belongs to this process: when the last clone goes, everything
/// that runs is stopped, everything recorded with `undo_later` is undone and the folder is
/// removed (it is kept, and its place printed, when the test panics).
#[derive(Clone)]
pub struct StateDir(Arc<Inner>);

struct Inner {
    name: String,
    path: PathBuf,
    lifetime: Lifetime,
    // Held as long as the folder is in use; the kernel releases it after a crash.
    lock: Option<File>,
    // Cleans up if this process ends without doing so.
    janitor: Mutex<Option<Janitor>>,
}

impl StateDir {
    /// A fresh folder for one test, `<prefix>-<process ID>-<count>`. Folders which earlier runs
    /// with the same prefix left behind after a crash are cleaned up first.
    pub fn for_test(prefix: &str) -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        sweep(prefix)?;
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{prefix}-{}-{count}", std::process::id());
        Self::open(&name, Lifetime::WithParent)?
            .with_context(|| format!("the state folder {name} is in use"))
    }

    /// The folder of a testbed that outlives this process, locked for this process. An error if
    /// another one works on it at this moment.
    pub fn named(name: &str) -> Result<Self> {
        Self::open(name, Lifetime::Detached)?
            .with_context(|| format!("another command works on the testbed {name:?}; try later"))
    }

    /// An existing folder, to look at; `None` if there is none. Takes no lock.
    pub fn existing(name: &str) -> Result<Option<Self>> {
        let path = run_dir()?.join(checked(name)?);
        let inner = Inner {
            name: name.to_owned(),
            lifetime: Lifetime::Detached,
            lock: None,
            janitor: Mutex::default(),
            path,
        };
        Ok(inner
            .path
            .join("processes")
            .is_dir()
            .then(|| Self(Arc::new(inner))))
    }

    fn open(name: &str, lifetime: Lifetime) -> Result<Option<Self>> {
        let run = run_dir()?;
        let path = run.join(checked(name)?);
        let Some(lock) = cache::try_lock(&run.join(format!("{name}.lock")))? else {
            return Ok(None);
        };
        let inner = Inner {
            name: name.to_owned(),
            path,
            lifetime,
            lock: Some(lock),
            janitor: Mutex::default(),
        };
        for folder in ["", "logs", "processes", "undo"] {
            let folder = inner.path.join(folder);
            std::fs::create_dir_all(&folder)
                .with_context(|| format!("cannot create {}", folder.display()))?;
        }
        Ok(Some(Self(Arc::new(inner))))
    }

    /// Its name, unique on this machine among running testbeds: letters, digits and hyphens.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// The path of `file` in it.
    pub fn join(&self, file: impl AsRef<Path>) -> PathBuf {
        self.0.path.join(file)
    }

    /// The log of the process `name`.
    pub fn log(&self, name: &str) -> PathBuf {
        self.join("logs").join(format!("{name}.log"))
    }

    /// Whether processes started here go with this program.
    pub fn lifetime(&self) -> Lifetime {
        self.0.lifetime
    }

    pub(super) fn processes(&self) -> PathBuf {
        self.join("processes")
    }

    /// Records a command that `down` has to run, for example `["umount", path]` or
    /// `["ip", "netns", "delete", name]`. Call it *before* the act that it undoes: a crash in
    /// between then costs only a command that finds nothing to do. `down` runs these after all
    /// processes have ended, the last recorded first; failures are tolerated.
    /// Fails once an interrupt is being cleaned up after.
    pub fn undo_later(&self, argv: &[&str]) -> Result<()> {
        process::check_not_interrupted()?;
        // The lock also keeps two threads from taking the same number.
        let mut janitor = self
            .0
            .janitor
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let dir = self.join("undo");
        let count = std::fs::read_dir(&dir)?.count();
        let file = dir.join(format!("{count:06}"));
        std::fs::write(&file, janitor::shell_command(argv))
            .with_context(|| format!("cannot write {}", file.display()))?;
        if self.0.lifetime == Lifetime::WithParent && janitor.is_none() {
            *janitor = Some(Janitor::start(&self.0.path)?);
        }
        Ok(())
    }

    /// Kills everything that runs here and undoes everything recorded; keeps logs and files.
    pub fn down(&self) -> Result<()> {
        process::kill_recorded(self)?;
        let dir = self.join("undo");
        let mut files: Vec<PathBuf> = std::fs::read_dir(&dir)
            .with_context(|| format!("cannot list {}", dir.display()))?
            .map(|entry| entry.map(|e| e.path()))
            .collect::<std::io::Result<_>>()?;
        files.sort();
        for file in files.iter().rev() {
            if let Err(e) = progress::output(Command::new("sh").arg(file)) {
                progress::say(&format!("clean-up: {e:#}"));
            }
            std::fs::remove_file(file)?;
        }
        Ok(())
    }

    /// `down`, then removes the folder. Refuses while anything is mounted below it: removal would
    /// otherwise reach into what is mounted.
    pub fn remove(&self) -> Result<()> {
        self.down()?;
        let mounts = mounts_below(&self.0.path)?;
        if !mounts.is_empty() {
            bail!(
                "still mounted below {}: {}",
                self.0.path.display(),
                mounts.join(", ")
            );
        }
        std::fs::remove_dir_all(&self.0.path)
            .with_context(|| format!("cannot remove {}", self.0.path.display()))
    }

    // With its lock. Only for the names of tests, which are never used again.
    fn remove_with_lock(&self) -> Result<()> {
        self.remove()?;
        let lock = self.0.path.with_extension("lock");
        std::fs::remove_file(&lock).with_context(|| format!("cannot remove {}", lock.display()))
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if self.lifetime != Lifetime::WithParent {
            return;
        }
        // The methods take the shared form; this last one no longer cleans up when it goes.
        let last = StateDir(Arc::new(Self {
            name: std::mem::take(&mut self.name),
            path: std::mem::take(&mut self.path),
            lifetime: Lifetime::Detached,
            lock: self.lock.take(),
            janitor: Mutex::default(),
        }));
        let result = if std::thread::panicking() {
            progress::say(&format!("logs are kept in {}", last.join("logs").display()));
            last.down()
        } else {
            last.remove_with_lock()
        };
        if let Err(e) = result {
            progress::say(&format!(
                "clean-up of {} failed: {e:#}",
                last.path().display()
            ));
        }
    }
}

/// The names of all state folders.
pub fn names() -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(run_dir()?)? {
        let entry = entry?;
        if entry.path().join("processes").is_dir() {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    names.sort();
    Ok(names)
}

// A folder that nobody has locked belongs to a process that is gone.
fn sweep(prefix: &str) -> Result<()> {
    for name in names()? {
        let rest = name
            .strip_prefix(prefix)
            .and_then(|r| r.strip_prefix('-'))
            .unwrap_or("");
        let ours = rest.split('-').count() == 2
            && rest
                .split('-')
                .all(|p| !p.is_empty() && p.bytes().all(|b| b.is_ascii_digit()));
        if !ours {
            continue;
        }
        if let Some(old) = StateDir::open(&name, Lifetime::Detached)?
            && let Err(e) = old.remove_with_lock()
        {
            progress::say(&format!("cannot clean up {name}: {e:#}"));
        }
    }
    Ok(())
}

fn run_dir() -> Result<PathBuf> {
    let dir = cache::cache_dir()?.join("run");
    std::fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
    Ok(dir)
}

fn checked(name: &str) -> Result<&str> {
    let fits = (1..=40).contains(&name.len())
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    if !fits {
        bail!("testbed name {name:?}: use 1 to 40 lower-case letters, digits and hyphens");
    }
    Ok(name)
}

/// What is mounted at or below `path`.
pub fn mounts_below(path: &Path) -> Result<Vec<String>> {
    let text = std::fs::read_to_string("/proc/self/mountinfo").context("cannot list mounts")?;
    // The fifth field is the mount point; a blank in it is written \040.
    Ok(text
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(|point| point.replace("\\040", " "))
        .filter(|point| Path::new(point).starts_with(path))
        .collect())
}
