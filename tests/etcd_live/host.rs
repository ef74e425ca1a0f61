//! A machine that runs nothing but etcd: a network namespace with an address, a folder as its disk,
//! and a stand-in for cloud-init's and the kubelet's part in starting etcd.
//!
//! What is real: the user data is read by cloud-init's own code, its scripts run unchanged with the
//! folder as their root, and etcd runs with exactly the arguments of the static pod's manifest. What
//! stands in: `systemctl` only notes that the kubelet was started, and the kubelet is the loop
//! below, which runs etcd while its manifest is there, starts it again when it ends, and listens at
//! its port. Whole machines with the real kubelet are tested in `e2e`.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::Signal;
use serde_json::Value;

use crate::cloud_init;
use crate::testbed::network::Network;
use crate::testbed::process::{Process, Spawn};
use crate::testbed::{Component, StateDir, build, netns, progress};

#[path = "firewall.rs"]
mod firewall;

const KUBELET_PORT: u16 = 10250;
const TICK: Duration = Duration::from_millis(100);
/// The kubelet's own delays are 10 s to 5 min; these keep tests short.
const BACKOFF: [Duration; 2] = [Duration::from_millis(500), Duration::from_secs(8)];
const MANIFEST: &str = "etc/kubernetes/manifests/etcd.yaml";
const KUBELET_RUNS: &str = "run/kubelet-runs";
const KUBELET_ENABLED: &str = "etc/kubelet-enabled";
const SUCCESS: &str = "run/cluster-api/bootstrap-success.complete";

/// Runs the command that follows the disk and etcd's folder, with the disk as its root.
const INSIDE: &str = r#"
root=$1 etcd=$2
shift 2
mount --bind /usr "$root/usr"
mount --bind "$etcd" "$root/opt/etcd"
mount --rbind /dev "$root/dev"
mount --rbind /proc "$root/proc"
exec chroot "$root" /usr/bin/env -i PATH=/stand-in:/opt/etcd:/usr/bin:/usr/sbin "$@"
"#;

const SYSTEMCTL: &str = r#"#!/bin/sh
case "$*" in
*disable*kubelet*) rm -f /etc/kubelet-enabled /run/kubelet-runs ;;
"enable kubelet") : > /etc/kubelet-enabled ;;
"start kubelet" | "restart kubelet") : > /run/kubelet-runs ;;
esac
"#;

const PER_INSTANCE: &str = r#"#!/bin/sh
# cloud-init-per FREQUENCY NAME COMMAND...
done=/var/lib/cloud-per-$2
[ "$1" = always ] || [ ! -e "$done" ] || exit 0
shift
: > "$done"
shift
exec "$@"
"#;

/// A machine.
#[derive(Clone)]
pub struct Host(Arc<Inner>);

struct Inner {
    /// Unique in the run, for logs and records.
    id: String,
    /// Its name in the inventory.
    name: String,
    address: Ipv4Addr,
    /// Its name on the network; a machine that gets another's address gets its namespace, too.
    port: String,
    network: Network,
    state: StateDir,
    root: PathBuf,
    running: Mutex<Running>,
    filters: Mutex<Vec<String>>,
    gone: AtomicBool,
}

#[derive(Default)]
struct Running {
    on: bool,
    frozen: bool,
    etcd: Option<Process>,
    kubelet: Option<TcpListener>,
    started: Option<Instant>,
    not_before: Option<Instant>,
    delay: Duration,
}

/// Which network namespace a new machine gets.
pub enum Place<'a> {
    New,
    Of(&'a Host),
}

impl Host {
    /// A machine that is off, with an empty disk.
    pub fn new(
        state: &StateDir,
        network: &Network,
        id: &str,
        name: &str,
        address: Ipv4Addr,
        place: Place<'_>,
    ) -> Result<Self> {
        let port = match place {
            Place::New => {
                network.attach(id, address)?;
                network.link_down(id)?;
                id.to_owned()
            }
            Place::Of(other) => {
                ensure!(other.address() == address, "another address");
                other.0.port.clone()
            }
        };
        let host = Self(Arc::new(Inner {
            id: id.to_owned(),
            name: name.to_owned(),
            address,
            port,
            network: network.clone(),
            state: state.clone(),
            root: state.join(format!("disks/{id}")),
            running: Mutex::default(),
            filters: Mutex::default(),
            gone: AtomicBool::new(false),
        }));
        host.format()?;
        let kubelet = Arc::downgrade(&host.0);
        std::thread::spawn(move || {
            while let Some(inner) = kubelet.upgrade() {
                if inner.gone.load(Ordering::Relaxed) {
                    break;
                }
                if let Err(error) = Self(inner).tick() {
                    progress::say(&format!("a kubelet's stand-in: {error:#}"));
                }
                std::thread::sleep(TICK);
            }
        });
        Ok(host)
    }

    pub fn name(&self) -> &str {
        &self.0.name
    }

    pub fn address(&self) -> Ipv4Addr {
        self.0.address
    }

    /// Name of its network namespace.
    pub fn netns(&self) -> String {
        self.0.network.namespace(&self.0.port)
    }

    /// A file on its disk.
    pub fn file(&self, path: &str) -> PathBuf {
        self.0.root.join(path.trim_start_matches('/'))
    }

    /// The end of etcd's log.
    pub fn log_tail(&self, lines: usize) -> String {
        progress::tail(&self.0.state.log(&self.0.id), lines)
    }

    /// Everything that etcd has logged here.
    pub fn log(&self) -> String {
        fs::read_to_string(self.0.state.log(&self.0.id)).unwrap_or_default()
    }

    pub fn is_on(&self) -> bool {
        self.running().on
    }

    /// Whether an etcd process is there and not stopped.
    pub fn etcd_runs(&self) -> bool {
        let running = self.running();
        !running.frozen && running.etcd.as_ref().is_some_and(Process::is_running)
    }

    /// An empty disk, as after imaging. The machine has to be off.
    pub fn format(&self) -> Result<()> {
        ensure!(!self.is_on(), "{} is on", self.0.id);
        let root = &self.0.root;
        if root.exists() {
            fs::remove_dir_all(root).with_context(|| format!("format {}", root.display()))?;
        }
        for folder in ["usr", "opt/etcd", "dev", "proc", "tmp", "etc", "run"] {
            fs::create_dir_all(root.join(folder))?;
        }
        for folder in ["var/lib", "var/log", "stand-in", "root"] {
            fs::create_dir_all(root.join(folder))?;
        }
        for link in ["bin", "sbin", "lib", "lib64"] {
            symlink(format!("usr/{link}"), root.join(link))?;
        }
        for (name, script) in [("systemctl", SYSTEMCTL), ("cloud-init-per", PER_INSTANCE)] {
            cloud_init::executable(&root.join("stand-in").join(name), script);
        }
        Ok(())
    }

    /// Switches it on for the first time with this user data: files are written, the scripts run.
    /// Whether the scripts succeeded; a machine whose scripts failed is on nevertheless.
    pub fn first_boot(&self, user_data: &[u8]) -> Result<bool> {
        let scratch = tempfile::tempdir()?;
        let read = cloud_init::read(user_data, scratch.path());
        self.power()?;
        self.script("bootcmd", &read.bootcmd)?;
        for file in &read.files {
            let to = self.file(&file.path);
            fs::create_dir_all(to.parent().context("no folder")?)?;
            let (mode, bytes) = cloud_init::written(scratch.path(), &file.path);
            fs::write(&to, bytes).with_context(|| to.display().to_string())?;
            fs::set_permissions(&to, fs::Permissions::from_mode(mode))?;
        }
        let done = self.script("runcmd", &read.runcmd)?;
        ensure!(
            done == self.file(SUCCESS).exists(),
            "the marker does not say whether the boot succeeded"
        );
        Ok(done)
    }

    /// Switches it on again: cloud-init does what it does on every boot, the kubelet starts.
    pub fn power_on(&self) -> Result<()> {
        self.power()?;
        if self.file(KUBELET_ENABLED).exists() {
            fs::write(self.file(KUBELET_RUNS), "")?;
        }
        Ok(())
    }

    fn power(&self) -> Result<()> {
        let mut running = self.running();
        ensure!(!running.on, "{} is on already", self.0.id);
        for folder in ["run", "tmp"] {
            fs::remove_dir_all(self.file(folder))?;
            fs::create_dir(self.file(folder))?;
        }
        self.0.network.link_up(&self.0.port)?;
        *running = Running {
            on: true,
            ..Running::default()
        };
        Ok(())
    }

    /// Pulls the plug.
    pub fn power_off(&self) -> Result<()> {
        let mut running = self.running();
        if running.on {
            self.0.network.link_down(&self.0.port)?;
            if let Some(etcd) = running.etcd.take() {
                etcd.kill()?;
            }
            *running = Running::default();
        }
        Ok(())
    }

    /// SIGKILL for etcd; the kubelet starts it again.
    pub fn kill_etcd(&self) -> Result<()> {
        match &self.running().etcd {
            Some(etcd) => etcd.signal(Signal::KILL),
            None => bail!("no etcd on {}", self.0.id),
        }
    }

    /// SIGSTOP for etcd.
    pub fn freeze(&self) -> Result<()> {
        let mut running = self.running();
        running.frozen = true;
        let etcd = running.etcd.as_ref().context("no etcd")?;
        etcd.signal(Signal::STOP)
    }

    pub fn thaw(&self) -> Result<()> {
        let mut running = self.running();
        running.frozen = false;
        let etcd = running.etcd.as_ref().context("no etcd")?;
        etcd.signal(Signal::CONT)
    }

    fn script(&self, name: &str, text: &str) -> Result<bool> {
        cloud_init::executable(&self.file(&format!("root/{name}")), text);
        let mut command = netns::command(Some(&self.netns()), "unshare");
        command.args(self.inside(&build::ensure(Component::Etcd)?)?);
        command.args(["/bin/sh", &format!("/root/{name}")]);
        let output = command.stdin(Stdio::null()).output()?;
        let said = [output.stdout, output.stderr].concat();
        fs::write(self.file(&format!("var/log/{name}.log")), said)?;
        Ok(output.status.success())
    }

    fn inside(&self, etcd: &Path) -> Result<Vec<String>> {
        let text = |path: &Path| Ok::<_, anyhow::Error>(path.to_str().context("UTF-8")?.to_owned());
        let fixed = ["--mount", "sh", "-e", "-c", INSIDE, "sh"].map(str::to_owned);
        let mut all = Vec::from(fixed);
        all.push(text(&self.0.root)?);
        all.push(text(etcd)?);
        Ok(all)
    }

    /// One look of the kubelet.
    fn tick(&self) -> Result<()> {
        let mut running = self.running();
        if !running.on {
            return Ok(());
        }
        let runs = self.file(KUBELET_RUNS).exists();
        if runs && running.kubelet.is_none() {
            running.kubelet = Some(self.listen()?);
        }
        while let Some(Ok(_)) = running.kubelet.as_ref().map(TcpListener::accept) {}
        let manifest = fs::read_to_string(self.file(MANIFEST))
            .ok()
            .filter(|_| runs);
        let Some(manifest) = manifest else {
            if let Some(etcd) = running.etcd.take() {
                etcd.kill()?;
            }
            return Ok(());
        };
        if running.etcd.as_ref().is_some_and(Process::is_running) {
            return Ok(());
        }
        if running.etcd.take().is_some() {
            let lived = running.started.map(|since| since.elapsed());
            running.delay = if lived.is_some_and(|lived| lived > BACKOFF[1]) {
                BACKOFF[0]
            } else {
                (running.delay * 2).clamp(BACKOFF[0], BACKOFF[1])
            };
            running.not_before = Some(Instant::now() + running.delay);
        }
        if running.not_before.is_none_or(|at| at <= Instant::now()) {
            running.etcd = Some(self.start_etcd(&manifest)?);
            running.started = Some(Instant::now());
        }
        Ok(())
    }

    fn listen(&self) -> Result<TcpListener> {
        let listener = netns::inside(&self.netns(), || {
            Ok(TcpListener::bind((Ipv4Addr::UNSPECIFIED, KUBELET_PORT))?)
        })?;
        listener.set_nonblocking(true)?;
        Ok(listener)
    }

    fn start_etcd(&self, manifest: &str) -> Result<Process> {
        let pod: Value = serde_saphyr::from_str(manifest)?;
        let container = &pod["spec"]["containers"][0];
        let image = container["image"].as_str().context("no image")?;
        let (_, tag) = image.rsplit_once(':').context("no tag")?;
        let component = if tag.starts_with("3.6.") {
            Component::Etcd36
        } else {
            Component::Etcd
        };
        let argv = container["command"].as_array().context("no command")?;
        let argv: Vec<&str> = argv.iter().filter_map(Value::as_str).collect();
        fs::create_dir_all(self.file("var/lib/etcd"))?;
        let mut command = Command::new("unshare");
        command
            .args(self.inside(&build::ensure(component)?)?)
            .args(argv);
        let how = Spawn {
            netns: Some(self.netns()),
            ..Spawn::default()
        };
        Process::spawn(&self.0.state, &self.0.id, &command, &how)
    }

    fn running(&self) -> MutexGuard<'_, Running> {
        self.0
            .running
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// It will not be needed any more.
    pub fn scrap(&self) -> Result<()> {
        self.0.gone.store(true, Ordering::Relaxed);
        self.power_off()?;
        Ok(fs::remove_dir_all(&self.0.root)?)
    }
}

/// Swaps what two machines that are off keep of etcd.
pub fn swap_data(a: &Host, b: &Host) -> Result<()> {
    let data = "var/lib/etcd";
    let aside = a.file("var/lib/aside");
    fs::rename(a.file(data), &aside)?;
    fs::rename(b.file(data), a.file(data))?;
    Ok(fs::rename(aside, b.file(data))?)
}
