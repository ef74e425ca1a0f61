//! Long-running processes: recorded when started, stopped by that record only.
//!
//! A record holds the process ID with the start time of the process and the boot it belongs to,
//! so that a recycled ID is never signalled. Without `Lifetime::Detached` the kernel kills the
//! process when this one dies, however it dies.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};

use super::state::StateDir;
use super::{netns, progress};

/// Whether a process goes with the one that started it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lifetime {
    /// The kernel kills it when this process dies.
    WithParent,
    /// It stays until `testbed down`.
    Detached,
}

/// How to start a process.
#[derive(Clone, Debug)]
pub struct Spawn {
    /// The network namespace to run in; `None` is that of this process.
    pub netns: Option<String>,
    /// How long `stop` waits after SIGTERM before it sends SIGKILL.
    pub grace: Duration,
}

impl Default for Spawn {
    fn default() -> Self {
        Self {
            netns: None,
            grace: Duration::from_secs(10),
        }
    }
}

/// A process of the testbed. Dropping it kills it, unless its state outlives this program.
pub struct Process {
    record: Record,
    file: PathBuf,
    child: Mutex<Child>,
    state: StateDir,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Record {
    name: String,
    pid: i32,
    // In clock ticks since boot, as in /proc/PID/stat.
    start_time: u64,
    boot_id: String,
    grace_ms: u64,
    argv: String,
}

impl Process {
    /// Starts `command` (its program, arguments, variables and folder; not its streams) under
    /// `name`, with output appended to `state.log(name)`.
    pub fn spawn(state: &StateDir, name: &str, command: &Command, how: &Spawn) -> Result<Self> {
        let full = assemble(command, how.netns.as_deref(), state.lifetime());
        let out = File::options()
            .create(true)
            .append(true)
            .open(state.log(name))
            .with_context(|| format!("cannot open {}", state.log(name).display()))?;
        let shown = progress::shown(command);
        let child = spawn_from_lasting_thread(full, out)
            .with_context(|| format!("{name}: cannot start `{shown}`"))?;
        let pid = i32::try_from(child.id()).context("process ID out of range")?;
        let record = Record {
            name: name.to_owned(),
            pid,
            start_time: stat(pid).map_or(0, |s| s.start_time),
            boot_id: boot_id()?,
            grace_ms: u64::try_from(how.grace.as_millis()).unwrap_or(u64::MAX),
            argv: shown,
        };
        let file = state.processes().join(format!("{name}.json"));
        std::fs::write(&file, serde_json::to_vec_pretty(&record)?)
            .with_context(|| format!("cannot record {name} in {}", file.display()))?;
        Ok(Self {
            record,
            file,
            child: Mutex::new(child),
            state: state.clone(),
        })
    }

    /// The process ID.
    pub fn pid(&self) -> i32 {
        self.record.pid
    }

    /// The name it was started under.
    pub fn name(&self) -> &str {
        &self.record.name
    }

    /// The state folder it belongs to.
    pub fn state(&self) -> &StateDir {
        &self.state
    }

    /// Whether it still runs; collects it if not.
    pub fn is_running(&self) -> bool {
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        matches!(child.try_wait(), Ok(None))
    }

    /// The last lines of its log.
    pub fn log_tail(&self) -> String {
        progress::tail(&self.state.log(&self.record.name), progress::TAIL_LINES)
    }

    /// An error with its last log lines if it no longer runs.
    pub fn check(&self) -> Result<()> {
        if !self.is_running() {
            bail!(
                "{} has exited; end of its log:\n{}",
                self.record.name,
                self.log_tail()
            );
        }
        Ok(())
    }

    /// SIGTERM, then after the grace period SIGKILL; returns once it is gone.
    pub fn stop(&self) -> Result<()> {
        self.end(Signal::TERM)
    }

    /// SIGKILL; returns once it is gone.
    pub fn kill(&self) -> Result<()> {
        self.end(Signal::KILL)
    }

    /// Sends any other signal (for example `Signal::STOP` to freeze it).
    pub fn signal(&self, signal: Signal) -> Result<()> {
        self.record.signal(signal)
    }

    fn end(&self, first: Signal) -> Result<()> {
        self.record.end(first)?;
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        child
            .wait()
            .with_context(|| format!("wait for {}", self.record.name))?;
        remove(&self.file)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.state.lifetime() == Lifetime::Detached {
            return;
        }
        if let Err(e) = self.kill() {
            progress::say(&format!("cannot stop {}: {e:#}", self.record.name));
        }
    }
}

/// A recorded process, as `status` shows it.
#[derive(Debug)]
pub struct Recorded {
    /// The name it was started under.
    pub name: String,
    /// Its process ID.
    pub pid: i32,
    /// Whether the very process that was recorded still runs.
    pub running: bool,
    /// Its command line.
    pub argv: String,
}

/// Every process on record in `state`, sorted by name.
pub fn recorded(state: &StateDir) -> Result<Vec<Recorded>> {
    let all = records(state)?.into_iter().map(|(_, r)| Recorded {
        running: r.is_running(),
        name: r.name,
        pid: r.pid,
        argv: r.argv,
    });
    Ok(all.collect())
}

/// Kills every recorded process. Nothing here has anything to lose; and in good order each would
/// wait for others that are ending, too.
pub(super) fn kill_recorded(state: &StateDir) -> Result<()> {
    let all = records(state)?;
    for (_, record) in &all {
        record.signal(Signal::KILL)?;
    }
    for (file, record) in &all {
        record.end(Signal::KILL)?;
        remove(file)?;
    }
    Ok(())
}

/// From now on nothing new starts (`Process::spawn` and `StateDir::undo_later` fail): an interrupt
/// is being cleaned up after.
pub fn refuse_new() {
    REFUSE_NEW.store(true, Ordering::SeqCst);
}

pub(super) fn check_not_interrupted() -> Result<()> {
    if REFUSE_NEW.load(Ordering::SeqCst) {
        bail!("interrupted");
    }
    Ok(())
}

static REFUSE_NEW: AtomicBool = AtomicBool::new(false);

/// The same command, killed by the kernel when the calling thread ends.
pub(super) fn dying_with_parent(command: &Command) -> Command {
    assemble(command, None, Lifetime::WithParent)
}

fn assemble(command: &Command, netns: Option<&str>, lifetime: Lifetime) -> Command {
    let mut full = match lifetime {
        Lifetime::WithParent => {
            let mut full = netns::command(netns, "setpriv");
            full.args(["--pdeathsig", "KILL", "--"]);
            full
        }
        // A session of its own: neither an interrupt at the terminal nor its end reaches it.
        Lifetime::Detached => netns::command(netns, "setsid"),
    };
    full.arg(command.get_program()).args(command.get_args());
    for (key, value) in command.get_envs() {
        match value {
            Some(value) => full.env(key, value),
            None => full.env_remove(key),
        };
    }
    if let Some(dir) = command.get_current_dir() {
        full.current_dir(dir);
    }
    full
}

type SpawnRequest = (Command, Sender<std::io::Result<Child>>);

// The kernel's parent-death signal comes when the *thread* that started the process ends, and
// threads of tests and of runtimes end early. So one thread that never ends starts them all.
static SPAWNER: LazyLock<Mutex<Sender<SpawnRequest>>> = LazyLock::new(|| {
    let (sender, requests) = channel::<SpawnRequest>();
    std::thread::spawn(move || {
        let home = netns::leave();
        for (mut command, reply) in requests {
            let result = match &home {
                Ok(()) => command.spawn(),
                Err(e) => Err(std::io::Error::other(format!("{e:#}"))),
            };
            // Nobody waits any more: the requesting thread is gone, and so is its interest.
            let _ = reply.send(result);
        }
    });
    Mutex::new(sender)
});

fn spawn_from_lasting_thread(mut command: Command, out: File) -> Result<Child> {
    command
        .stdin(Stdio::null())
        .stdout(out.try_clone()?)
        .stderr(out);
    let (reply, answer) = channel();
    let spawner = SPAWNER.lock().unwrap_or_else(PoisonError::into_inner);
    check_not_interrupted()?;
    spawner
        .send((command, reply))
        .context("the spawning thread is gone")?;
    answer
        .recv()
        .context("the spawning thread is gone")?
        .context("spawn")
}

impl Record {
    fn is_running(&self) -> bool {
        // A zombie has ended; it only waits to be collected by its parent.
        self.boot_id == boot_id().unwrap_or_default()
            && stat(self.pid).is_some_and(|s| s.start_time == self.start_time && !s.ended)
    }

    /// Signals the process if it still runs. The descriptor is opened before the check, so the ID
    /// cannot be recycled between the check and the signal.
    fn signal(&self, signal: Signal) -> Result<()> {
        let Some(pid) = Pid::from_raw(self.pid) else {
            bail!("bad process ID {}", self.pid)
        };
        let Ok(descriptor) = pidfd_open(pid, PidfdFlags::empty()) else {
            return Ok(());
        };
        if !self.is_running() {
            return Ok(());
        }
        match pidfd_send_signal(&descriptor, signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(e) => Err(e).with_context(|| format!("signal {} ({})", self.name, self.pid)),
        }
    }

    fn end(&self, first: Signal) -> Result<()> {
        self.signal(first)?;
        if first != Signal::KILL && !self.gone_within(Duration::from_millis(self.grace_ms)) {
            self.signal(Signal::KILL)?;
        }
        if !self.gone_within(Duration::from_secs(30)) {
            bail!(
                "{} ({}) does not end, not even by SIGKILL",
                self.name,
                self.pid
            );
        }
        Ok(())
    }

    fn gone_within(&self, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        while self.is_running() {
            if Instant::now() > deadline {
                return false;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        true
    }
}

fn records(state: &StateDir) -> Result<Vec<(PathBuf, Record)>> {
    let dir = state.processes();
    let mut files: Vec<PathBuf> = std::fs::read_dir(&dir)
        .with_context(|| format!("cannot list {}", dir.display()))?
        .map(|entry| entry.map(|e| e.path()))
        .collect::<std::io::Result<_>>()?;
    files.sort();
    files
        .into_iter()
        .map(|file| {
            let record = serde_json::from_slice(&std::fs::read(&file)?)
                .with_context(|| format!("{} is not a process record", file.display()))?;
            Ok((file, record))
        })
        .collect()
}

fn remove(file: &Path) -> Result<()> {
    match std::fs::remove_file(file) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(e).with_context(|| format!("cannot remove {}", file.display()))
        }
        _ => Ok(()),
    }
}

struct Stat {
    start_time: u64,
    ended: bool,
}

// proc_pid_stat(5): the second field may hold blanks and parentheses, so count after the last one;
// from there the first field is the state and the twentieth the start time.
fn stat(pid: i32) -> Option<Stat> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let ended = matches!(*fields.first()?, "Z" | "X");
    Some(Stat {
        start_time: fields.get(19)?.parse().ok()?,
        ended,
    })
}

fn boot_id() -> Result<String> {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .context("cannot read the boot ID")?;
    Ok(id.trim().to_owned())
}
