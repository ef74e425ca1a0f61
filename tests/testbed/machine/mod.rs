//! Machines: Debian systems that boot with systemd in containers of their own, each in its own
//! network namespace, from the user data that Seedbed wrote.
//!
//! A machine's disk (an overlay over the shared root, and a containerd store) lives until
//! `reimage` or `destroy`; `power_off` and `boot` keep it, like pulling the plug of a real one.
//!
//! Must never: look into Seedbed's Secrets or change user data; bytes go in as they are.
//! `disk` makes and wipes disks, `cgroup` contains the processes, `kubeadm` is the baseline that
//! benchmarks compare with.
mod cgroup;
mod disk;
pub mod kubeadm;

use std::{
    fs,
    net::Ipv4Addr,
    path::PathBuf,
    process::Command,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

use self::disk::Disk;
use super::{
    netns,
    network::Network,
    process::{Process, Recorded, Spawn},
    progress,
    rootfs::Rootfs,
    state::StateDir,
};

/// How often a condition is looked at again.
const POLL: Duration = Duration::from_millis(100);

/// One machine. Dropping it does not destroy it: it goes away with its state folder.
pub struct Machine {
    name: String,
    address: Ipv4Addr,
    namespace: String,
    cgroup: String,
    network: Network,
    state: StateDir,
    disk: Disk,
    process: Mutex<Option<Process>>,
}

impl Machine {
    /// Makes the machine `name`, plugged into the network at `address`, with a fresh disk and the
    /// given user data (cloud-config, gzip or not, exactly as the Secret has it). It is off.
    pub fn create(
        state: &StateDir,
        network: &Network,
        rootfs: &Rootfs,
        name: &str,
        address: Ipv4Addr,
        user_data: &[u8],
    ) -> Result<Self> {
        let namespace = network.attach(name, address)?;
        let cgroup = format!("{}-{name}", state.name());
        let folder = state.join("machines").join(name);
        state.undo_later(&["umount", "--lazy", &folder.join("root").to_string_lossy()])?;
        let undo = cgroup::removal(&cgroup);
        state.undo_later(&undo.iter().map(String::as_str).collect::<Vec<_>>())?;
        let disk = Disk::create(folder, rootfs, name, user_data)?;
        let state = state.clone();
        let name = name.to_owned();
        Ok(Self {
            name,
            address,
            namespace,
            cgroup,
            network: network.clone(),
            state,
            disk,
            process: Mutex::default(),
        })
    }

    /// The machine's host name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its address on the switch.
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// The full name of its network namespace.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// A file on its disk, as a path on this machine. Valid whether it is on or off, but not for
    /// what is mounted inside, such as `/run`.
    pub fn file(&self, path: &str) -> PathBuf {
        self.disk.root().join(path.trim_start_matches('/'))
    }

    /// Whether it is switched on.
    pub fn is_on(&self) -> bool {
        self.process().as_ref().is_some_and(Process::is_running)
    }

    /// Switches it on; returns at once (see [`Machine::wait_booted`]).
    pub fn boot(&self) -> Result<()> {
        let mut process = self.process();
        ensure!(
            !process.as_ref().is_some_and(Process::is_running),
            "{} is switched on already",
            self.name
        );
        self.network.link_up(&self.name)?;
        cgroup::create(&self.cgroup)?;
        self.disk.add_hosts(&self.network.attached())?;
        let mut command = Command::new("sh");
        command.args([
            "-c",
            &cgroup::enter_and_exec(&self.cgroup),
            "sh",
            "systemd-nspawn",
        ]);
        command.args([
            "--quiet",
            "--boot",
            "--register=no",
            "--keep-unit",
            "--capability=all",
        ]);
        command.args([
            "--system-call-filter=add_key keyctl bpf",
            "--resolv-conf=off",
        ]);
        command.args(["--timezone=off", "--link-journal=no", "--bind=/dev/kmsg"]);
        command.arg(format!(
            "--bind={}:/var/lib/containerd",
            self.disk.containerd().display()
        ));
        command.arg(format!("--machine={}", self.cgroup));
        command.arg(format!("--hostname={}", self.name));
        command.arg(format!("--directory={}", self.disk.root().display()));
        // The clean-up kills the cgroup anyway, so it need not wait for an orderly shutdown.
        let how = Spawn {
            netns: Some(self.namespace.clone()),
            grace: Duration::ZERO,
        };
        let log_name = format!("machine-{}", self.name);
        *process = Some(Process::spawn(&self.state, &log_name, &command, &how)?);
        Ok(())
    }

    /// Waits until systemd says that all units have started and cloud-init has done its work.
    /// An error names the units that failed and carries the end of their journals.
    pub fn wait_booted(&self, timeout: Duration) -> Result<()> {
        let deadline = Instant::now() + timeout;
        loop {
            self.check_on()?;
            let state = match self.leader() {
                Ok(_) => self.shell_output("systemctl is-system-running || true")?,
                Err(_) => "not started".to_owned(),
            };
            match state.trim() {
                "running" => return Ok(()),
                "degraded" => bail!("{}: units failed:\n{}", self.name, self.failed_units()?),
                other => ensure!(
                    Instant::now() < deadline,
                    "{} has not booted within {timeout:?}: systemd says {other:?}; waiting for:\n\
                     {}\nend of the console:\n{}",
                    self.name,
                    self.shell_output("systemctl list-jobs --no-pager")
                        .unwrap_or_default(),
                    self.console_tail()
                ),
            }
            std::thread::sleep(POLL);
        }
    }

    /// Pulls the plug: every process ends at once, nothing is written back in order.
    pub fn power_off(&self) -> Result<()> {
        let mut process = self.process();
        let Some(running) = process.take() else {
            return Ok(());
        };
        if let Ok(leader) = leader_of(running.pid()) {
            // The end of its first process takes every other process of the machine with it.
            let _ = kill_process(leader, Signal::KILL);
        }
        running.kill()?;
        self.forget_kernel_state()?;
        cgroup::remove(&self.cgroup)
    }

    /// Pulls its cable: nothing answers at its address any more, not even with a refusal, as of a
    /// machine without power. [`Machine::boot`] plugs it in again.
    pub fn unplug(&self) -> Result<()> {
        self.network.link_down(&self.name)
    }

    /// What the kernel of a real machine forgets without power: packet filters and the pods'
    /// bridge. Here it would stay in the network namespace.
    fn forget_kernel_state(&self) -> Result<()> {
        let inside = |program: &str| netns::command(Some(&self.namespace), program);
        progress::output(inside("nft").args(["flush", "ruleset"]))?;
        if progress::output(inside("ip").args(["link", "show", "cni0"])).is_ok() {
            progress::output(inside("ip").args(["link", "delete", "cni0"]))?;
        }
        Ok(())
    }

    /// Shuts it down in order, as a person would before maintenance; waits up to `timeout`.
    pub fn shutdown(&self, timeout: Duration) -> Result<()> {
        let deadline = Instant::now() + timeout;
        {
            let process = self.process();
            let Some(running) = process.as_ref() else {
                return Ok(());
            };
            running.signal(Signal::TERM)?;
            while running.is_running() {
                ensure!(
                    Instant::now() < deadline,
                    "{} has not shut down within {timeout:?}; end of the console:\n{}",
                    self.name,
                    running.log_tail()
                );
                std::thread::sleep(POLL);
            }
        }
        self.power_off()
    }

    /// Wipes its disk and gives it new user data, as a provisioning system does. It is off then.
    pub fn reimage(&self, user_data: &[u8]) -> Result<()> {
        self.power_off()?;
        self.disk.wipe()?;
        self.disk.fill(user_data)
    }

    /// Applies user data to a machine that is on, as its first boot would have: for benchmarks
    /// which measure from booted machines.
    pub fn provision(&self, user_data: &[u8]) -> Result<()> {
        self.disk.write_seed(user_data)?;
        self.shell_output(
            "set -e; cloud-init clean --logs; cloud-init init --local; cloud-init init; \
             cloud-init modules --mode=config; cloud-init modules --mode=final",
        )
        .map(drop)
    }

    /// Switches it off and removes its disk.
    pub fn destroy(self) -> Result<()> {
        self.power_off()?;
        self.disk.wipe()
    }

    /// Runs a command inside and returns what it printed; its stderr becomes the error.
    pub fn exec(&self, argv: &[&str]) -> Result<String> {
        progress::output(&mut self.command(argv)?)
            .with_context(|| format!("on machine {}", self.name))
    }

    /// A command that runs inside, for callers that want its streams.
    pub fn command(&self, argv: &[&str]) -> Result<Command> {
        self.check_on()?;
        Ok(enter(self.leader()?, argv))
    }

    /// The journal of one unit, whether the machine is on or off.
    pub fn journal(&self, unit: &str) -> Result<String> {
        let mut journalctl = Command::new("journalctl");
        journalctl
            .arg("--directory")
            .arg(self.file("/var/log/journal"));
        journalctl.args(["--no-pager", "--output=short-precise", "--unit", unit]);
        progress::output(&mut journalctl)
    }

    /// The last lines of one unit's journal, or why there are none.
    pub fn journal_tail(&self, unit: &str) -> String {
        match self.journal(unit) {
            Ok(text) => {
                let lines: Vec<&str> = text.lines().collect();
                lines[lines.len().saturating_sub(progress::TAIL_LINES)..].join("\n")
            }
            Err(e) => format!("(no journal of {unit}: {e:#})"),
        }
    }

    /// The last lines of its console.
    pub fn console_tail(&self) -> String {
        let log = self.state.log(&format!("machine-{}", self.name));
        progress::tail(&log, progress::TAIL_LINES)
    }

    fn process(&self) -> MutexGuard<'_, Option<Process>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn check_on(&self) -> Result<()> {
        match self.process().as_ref() {
            Some(process) => process.check(),
            None => bail!("{} is switched off", self.name),
        }
    }

    fn leader(&self) -> Result<Pid> {
        let pid = self.process().as_ref().map(Process::pid);
        leader_of(pid.with_context(|| format!("{} is switched off", self.name))?)
    }

    fn shell_output(&self, script: &str) -> Result<String> {
        self.exec(&["sh", "-c", script])
    }

    fn failed_units(&self) -> Result<String> {
        let units = self.exec(&[
            "systemctl",
            "list-units",
            "--failed",
            "--plain",
            "--no-legend",
        ])?;
        let mut text = units.clone();
        for unit in units
            .lines()
            .filter_map(|line| line.split_whitespace().next())
        {
            text.push_str(&self.journal_tail(unit));
            text.push('\n');
        }
        Ok(text)
    }
}

/// A command that runs inside the running machine that `process` (its record) stands for: for
/// another program than the one that started it.
pub fn command_inside(process: &Recorded, argv: &[&str]) -> Result<Command> {
    ensure!(process.running, "{} is switched off", process.name);
    Ok(enter(leader_of(process.pid)?, argv))
}

fn enter(leader: Pid, argv: &[&str]) -> Command {
    let mut command = Command::new("nsenter");
    command
        .arg("--target")
        .arg(leader.as_raw_nonzero().to_string());
    command.args([
        "--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--root", "--wd",
    ]);
    command.arg("--").args(argv).env_clear();
    command.env(
        "PATH",
        "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    );
    command.envs([("HOME", "/root"), ("LANG", "C.UTF-8"), ("TERM", "xterm")]);
    command
}

/// The process with ID 1 inside the container whose manager is `manager`.
fn leader_of(manager: i32) -> Result<Pid> {
    let children = fs::read_to_string(format!("/proc/{manager}/task/{manager}/children"))
        .context("the machine's process is gone")?;
    for child in children.split_whitespace() {
        let status = fs::read_to_string(format!("/proc/{child}/status")).unwrap_or_default();
        let inner = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
        let ids: Vec<&str> = inner.unwrap_or_default().split_whitespace().collect();
        // Process 1 of an inner namespace; systemd, once it has replaced the manager's image.
        if ids.len() > 1 && ids.last() == Some(&"1") && status.starts_with("Name:\tsystemd\n") {
            return child
                .parse()
                .ok()
                .and_then(Pid::from_raw)
                .context("process ID out of range");
        }
    }
    bail!("systemd has not started yet")
}
