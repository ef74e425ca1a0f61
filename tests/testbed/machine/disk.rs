//! A machine's disk: an overlay over the shared root, a containerd store, and the cloud-init seed.

use std::{
    collections::BTreeMap,
    fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
};

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

use super::super::{images::archive::hex, network, progress, rootfs::Rootfs};

pub(super) struct Disk {
    folder: PathBuf,
    rootfs: Rootfs,
    host_name: String,
    // Counts what cloud-init takes for a new instance: a disk or user data that is new.
    instance: AtomicU32,
}

impl Disk {
    /// A fresh disk in `folder`.
    pub(super) fn create(
        folder: PathBuf,
        rootfs: &Rootfs,
        host_name: &str,
        user_data: &[u8],
    ) -> Result<Self> {
        let disk = Self {
            folder,
            rootfs: rootfs.clone(),
            host_name: host_name.to_owned(),
            instance: AtomicU32::new(0),
        };
        disk.fill(user_data)?;
        Ok(disk)
    }

    /// Where the root is mounted.
    pub(super) fn root(&self) -> PathBuf {
        self.folder.join("root")
    }

    /// The containerd store. Not on the overlay: overlays do not stack.
    pub(super) fn containerd(&self) -> PathBuf {
        self.folder.join("containerd")
    }

    /// Unmounts and removes everything. The machine must be off.
    pub(super) fn wipe(&self) -> Result<()> {
        progress::output(Command::new("umount").arg(self.root()))?;
        fs::remove_dir_all(&self.folder)
            .with_context(|| format!("cannot remove {}", self.folder.display()))
    }

    /// Mounts an empty overlay and puts in what makes this machine this machine.
    pub(super) fn fill(&self, user_data: &[u8]) -> Result<()> {
        for part in ["root", "upper", "work"] {
            fs::create_dir_all(self.folder.join(part))?;
        }
        let options = format!(
            "lowerdir={}:{},upperdir={},workdir={}",
            self.rootfs.node.display(),
            self.rootfs.base.display(),
            self.folder.join("upper").display(),
            self.folder.join("work").display()
        );
        let mut mount = Command::new("mount");
        mount
            .args(["-t", "overlay", "seedbed-testbed", "-o", &options])
            .arg(self.root());
        progress::output(&mut mount)?;
        copy_store(&self.rootfs.containerd, &self.containerd())?;
        self.write("etc/hostname", format!("{}\n", self.host_name).as_bytes())?;
        self.write(
            "etc/machine-id",
            format!("{}\n", self.machine_id()).as_bytes(),
        )?;
        // Something must stand there for CoreDNS to forward to; nothing answers.
        let resolver = format!("nameserver {}\n", network::SWITCH);
        self.write("etc/resolv.conf", resolver.as_bytes())?;
        self.write_seed(user_data)
    }

    /// The NoCloud seed: user data as it is, and a new instance ID so that it is applied.
    pub(super) fn write_seed(&self, user_data: &[u8]) -> Result<()> {
        let count = self.instance.fetch_add(1, Ordering::Relaxed);
        let name = &self.host_name;
        let meta = format!("instance-id: {name}-{count}\nlocal-hostname: {name}\n");
        self.write("var/lib/cloud/seed/nocloud/user-data", user_data)?;
        self.write("var/lib/cloud/seed/nocloud/meta-data", meta.as_bytes())
    }

    /// Makes the names in the network known, as a data centre's DNS would.
    pub(super) fn add_hosts(&self, hosts: &BTreeMap<String, Ipv4Addr>) -> Result<()> {
        let file = self.root().join("etc/hosts");
        let mut text = fs::read_to_string(&file).unwrap_or_default();
        for line in ["127.0.0.1 localhost".to_owned()].into_iter().chain(
            hosts
                .iter()
                .map(|(name, address)| format!("{address} {name}")),
        ) {
            if !text.lines().any(|present| present == line) {
                text.push_str(&line);
                text.push('\n');
            }
        }
        self.write("etc/hosts", text.as_bytes())
    }

    fn write(&self, path: &str, content: &[u8]) -> Result<()> {
        let file = self.root().join(path);
        if let Some(parent) = file.parent() {
            fs::create_dir_all(parent)?;
        }
        // The root's own entry may be a link that leads out of the root.
        if fs::symlink_metadata(&file).is_ok() {
            fs::remove_file(&file)?;
        }
        fs::write(&file, content).with_context(|| format!("write {}", file.display()))
    }

    /// Unique per machine and run, and another one after each wipe, as on new hardware.
    fn machine_id(&self) -> String {
        let count = self.instance.load(Ordering::Relaxed);
        let seed = format!("{} {count}", self.folder.display());
        hex(&Sha256::digest(seed))[..32].to_owned()
    }
}

/// Copies a containerd store. Blobs and unpacked layers never change in place, so they are hard
/// links where the file system allows; the databases are real copies.
fn copy_store(from: &Path, to: &Path) -> Result<()> {
    let linked = Command::new("cp")
        .args(["-a", "--link"])
        .arg(from)
        .arg(to)
        .output()?;
    if !linked.status.success() {
        if to.exists() {
            fs::remove_dir_all(to)?;
        }
        progress::output(
            Command::new("cp")
                .args(["-a", "--reflink=auto"])
                .arg(from)
                .arg(to),
        )?;
        return Ok(());
    }
    for plugin in fs::read_dir(from)? {
        let plugin = plugin?;
        if !plugin.file_type()?.is_dir() {
            continue;
        }
        for file in fs::read_dir(plugin.path())? {
            let file = file?;
            if file
                .path()
                .extension()
                .is_some_and(|extension| extension == "db")
            {
                let copy = to.join(plugin.file_name()).join(file.file_name());
                fs::remove_file(&copy)?;
                fs::copy(file.path(), copy)?;
            }
        }
    }
    Ok(())
}
