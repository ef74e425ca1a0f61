//! Running code and commands inside a named network namespace.

use std::fs::File;
use std::os::fd::AsFd;
use std::process::Command;

use anyhow::{Context, Result, anyhow};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Runs `work` on a thread of its own inside the network namespace `name` (as of `ip netns add`)
/// and returns its result. A runtime built inside `work` has all its threads and sockets there.
pub fn inside<T: Send>(name: &str, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let path = format!("/run/netns/{name}");
    std::thread::scope(|scope| {
        scope
            .spawn(|| {
                enter(&path)?;
                work()
            })
            .join()
            .map_err(|_| anyhow!("the work inside network namespace {name} panicked"))?
    })
}

/// `inside` when there is a name, else the same on a plain thread of its own.
pub fn inside_or_here<T: Send>(
    name: Option<&str>,
    work: impl FnOnce() -> Result<T> + Send,
) -> Result<T> {
    match name {
        Some(name) => inside(name, work),
        None => std::thread::scope(|scope| {
            scope
                .spawn(work)
                .join()
                .map_err(|_| anyhow!("the worker thread panicked"))?
        }),
    }
}

/// The command that runs `program` inside the namespace, or plainly when there is none. Not
/// `ip netns exec`: that hides /sys/fs/cgroup, and runc then fails.
pub fn command(name: Option<&str>, program: impl AsRef<std::ffi::OsStr>) -> Command {
    match name {
        None => Command::new(program),
        Some(name) => {
            let mut command = Command::new("nsenter");
            command
                .arg(format!("--net=/run/netns/{name}"))
                .arg("--")
                .arg(program);
            command
        }
    }
}

/// Moves the calling thread (only) back to the network namespace of the process's first thread.
pub(super) fn leave() -> Result<()> {
    let ours = std::fs::read_link("/proc/thread-self/ns/net")?;
    // Needs privileges, so only when the thread really is elsewhere.
    if ours != std::fs::read_link("/proc/self/ns/net")? {
        enter("/proc/self/ns/net")?;
    }
    Ok(())
}

fn enter(path: &str) -> Result<()> {
    let file = File::open(path).with_context(|| format!("no network namespace at {path}"))?;
    move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
        .with_context(|| format!("cannot enter the network namespace {path} (root needed)"))
}
