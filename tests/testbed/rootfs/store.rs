//! A containerd store with all images imported and unpacked, so that machines boot with images.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};

use super::{Software, cached, stamp};

use super::super::{images::content, process, progress};

/// What the folders of stores are called in the cache.
const NAME: &str = "containerd";

/// The namespace in which the kubelet's images live.
const NAMESPACE: &str = "k8s.io";

/// The code that decides what is in the images is part of what identifies them.
const RECIPE: [&str; 3] = [
    include_str!("../images/content.rs"),
    include_str!("../images/userland.rs"),
    include_str!("../images/archive.rs"),
];

/// Only the content store and the overlayfs snapshotter are needed to import.
const CONFIG: &str = "version = 3
disabled_plugins = [
  \"io.containerd.cri.v1.images\",
  \"io.containerd.cri.v1.runtime\",
  \"io.containerd.grpc.v1.cri\",
  \"io.containerd.internal.v1.opt\",
  \"io.containerd.nri.v1.nri\",
]
";

/// The folder to put under `/var/lib/containerd`.
pub(super) fn build(base: &Path, software: &Software) -> Result<PathBuf> {
    let programs = &software.images;
    let mut key = vec![
        format!("{:?}", content::images(&software.tags)),
        stamp(base)?,
    ];
    key.extend(RECIPE.map(str::to_owned));
    for program in [
        &software.containerd,
        &programs.kubernetes,
        &programs.etcd,
        &programs.etcdctl,
        &programs.etcdutl,
        &programs.coredns,
        &programs.pause,
    ] {
        key.push(stamp(program)?);
    }
    let key: Vec<&str> = key.iter().map(String::as_str).collect();
    cached(NAME, &key, |folder| {
        let progress = progress::Progress::start("making and importing the images");
        let archive = folder.with_extension("tar");
        content::write(&archive, base, programs, &software.tags)?;
        import(folder, &archive, software)?;
        fs::remove_file(archive)?;
        remove_old(folder)?;
        progress.done();
        Ok(())
    })
}

/// Removes all stores but the newest: each takes 600 MB. Machines hold copies of their own.
fn remove_old(next: &Path) -> Result<()> {
    let cache = next.parent().context("the cache folder has no parent")?;
    let mut stores = Vec::new();
    for entry in fs::read_dir(cache)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with(NAME) && path.extension().is_none() {
            stores.push((fs::metadata(&path)?.modified()?, path));
        }
    }
    stores.sort();
    // One stays for another checkout that may use it.
    stores.pop();
    for (_, store) in stores {
        fs::remove_dir_all(&store).with_context(|| format!("cannot remove {}", store.display()))?;
    }
    Ok(())
}

fn import(folder: &Path, archive: &Path, software: &Software) -> Result<()> {
    fs::create_dir_all(folder)?;
    let scratch = tempfile::tempdir()?;
    let socket = scratch.path().join("containerd.sock");
    let mut daemon = Daemon::start(folder, scratch.path(), &socket, software)?;
    let ctr = |arguments: &[&str]| {
        let mut ctr = Command::new(&software.ctr);
        ctr.arg("--address")
            .arg(&socket)
            .args(["--namespace", NAMESPACE])
            .args(arguments);
        progress::output(&mut ctr)
    };
    daemon.wait_ready(|| ctr(&["version"]).is_ok())?;
    let archive = archive
        .to_str()
        .context("the cache folder's name is not UTF-8")?;
    ctr(&["images", "import", archive])?;
    let imported = ctr(&["images", "list", "--quiet"])?;
    for image in content::images(&software.tags) {
        let present = imported.lines().any(|line| line == image.reference);
        ensure!(
            present,
            "{} was not imported; there is:\n{imported}",
            image.reference
        );
    }
    daemon.stop()
}

/// A containerd for as long as the import takes; killed when dropped.
struct Daemon {
    child: Child,
    log: PathBuf,
}

impl Daemon {
    fn start(folder: &Path, scratch: &Path, socket: &Path, software: &Software) -> Result<Self> {
        let config = scratch.join("config.toml");
        fs::write(&config, CONFIG)?;
        let log = scratch.join("containerd.log");
        let out = File::create(&log)?;
        let mut command = Command::new(&software.containerd);
        command
            .arg("--config")
            .arg(config)
            .arg("--root")
            .arg(folder);
        command
            .arg("--state")
            .arg(scratch.join("state"))
            .arg("--address")
            .arg(socket);
        let child = process::dying_with_parent(&command)
            .stdin(Stdio::null())
            .stdout(out.try_clone()?)
            .stderr(out)
            .spawn()
            .context("start containerd")?;
        Ok(Self { child, log })
    }

    fn wait_ready(&mut self, ready: impl Fn() -> bool) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(60);
        while !ready() {
            let ended = self.child.try_wait()?.is_some();
            ensure!(
                !ended && Instant::now() < deadline,
                "containerd did not come up; end of its log:\n{}",
                progress::tail(&self.log, progress::TAIL_LINES)
            );
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(())
    }

    /// Ends it in order, so that its databases are complete on disk.
    fn stop(&mut self) -> Result<()> {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, Signal::TERM).context("stop containerd")?;
        self.child.wait().context("wait for containerd").map(drop)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It has ended already when all went well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
