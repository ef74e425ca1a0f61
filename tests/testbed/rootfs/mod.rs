//! What the machines of a run have in common, made once and cached: a small Debian (`base`), what
//! a Kubernetes node adds to it (`node`), and a containerd store with every image already imported
//! (`containerd`). A machine stacks its own disk on the first two and gets a copy of the third.
//!
//! Must never: contain anything that a user's machine would get from Seedbed (kubelet drop-in,
//! kubelet config, manifests, certificates). The files of a node are under `assets/node`.
mod store;

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::Command,
    time::UNIX_EPOCH,
};

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

use super::{
    build, cache,
    images::{archive::hex, content},
    packages, progress, state,
};

/// The programs that go onto a machine or into its images; all paths on this machine.
#[derive(Clone, Debug)]
pub struct Software {
    /// containerd, its runc shim and ctr.
    pub containerd: PathBuf,
    pub containerd_shim: PathBuf,
    pub ctr: PathBuf,
    /// What goes into images; the kubelet comes from the same multi-call binary.
    pub images: content::Programs,
    pub tags: content::Tags,
}

impl Software {
    /// The pinned versions, built when they are missing; images tagged as `kubeadm config images
    /// list` of the same Kubernetes release prints them.
    pub fn built() -> Result<Self> {
        use build::Component::{Containerd, Coredns, Etcd, Kubernetes};
        let kubernetes = build::program(Kubernetes, "kubernetes")?;
        let images = content::Programs {
            etcd: build::program(Etcd, "etcd")?,
            etcdctl: build::program(Etcd, "etcdctl")?,
            etcdutl: build::program(Etcd, "etcdutl")?,
            coredns: build::program(Coredns, "coredns")?,
            pause: pause()?,
            kubernetes,
        };
        Ok(Self {
            containerd: build::program(Containerd, "containerd")?,
            containerd_shim: build::program(Containerd, "containerd-shim-runc-v2")?,
            ctr: build::program(Containerd, "ctr")?,
            tags: content::Tags::of_kubeadm(&build::program(Kubernetes, "kubeadm")?)?,
            images,
        })
    }
}

/// The cached folders that machines are made from.
#[derive(Clone, Debug)]
pub struct Rootfs {
    pub(super) base: PathBuf,
    pub(super) node: PathBuf,
    pub(super) containerd: PathBuf,
}

/// Files of a node besides its programs: path, content, mode.
const NODE_FILES: [(&str, &str, u32); 10] = [
    (
        "usr/lib/systemd/system/kubelet.service",
        include_str!("../assets/node/usr/lib/systemd/system/kubelet.service"),
        0o644,
    ),
    (
        "usr/lib/systemd/system/containerd.service",
        include_str!("../assets/node/usr/lib/systemd/system/containerd.service"),
        0o644,
    ),
    (
        "usr/lib/systemd/system/testbed-machine.service",
        include_str!("../assets/node/usr/lib/systemd/system/testbed-machine.service"),
        0o644,
    ),
    (
        "usr/local/sbin/testbed-machine",
        include_str!("../assets/node/usr/local/sbin/testbed-machine"),
        0o755,
    ),
    (
        "etc/containerd/config.toml",
        include_str!("../assets/node/etc/containerd/config.toml"),
        0o644,
    ),
    (
        "etc/containerd/testbed.toml",
        include_str!("../assets/node/etc/containerd/testbed.toml"),
        0o644,
    ),
    (
        "etc/default/kubelet",
        include_str!("../assets/node/etc/default/kubelet"),
        0o644,
    ),
    (
        "etc/cloud/cloud.cfg.d/95_testbed.cfg",
        include_str!("../assets/node/etc/cloud/cloud.cfg.d/95_testbed.cfg"),
        0o644,
    ),
    (
        "etc/cloud/ds-identify.cfg",
        include_str!("../assets/node/etc/cloud/ds-identify.cfg"),
        0o644,
    ),
    (
        "etc/systemd/journald.conf.d/testbed.conf",
        include_str!("../assets/node/etc/systemd/journald.conf.d/testbed.conf"),
        0o644,
    ),
];

/// Links of a node: path, target. The kubelet is not enabled: the machine config does that.
const NODE_LINKS: [(&str, &str); 5] = [
    ("usr/bin/kubelet", "kubernetes"),
    ("usr/bin/kubectl", "kubernetes"),
    ("usr/bin/kubeadm", "kubernetes"),
    (
        "etc/systemd/system/multi-user.target.wants/containerd.service",
        "/usr/lib/systemd/system/containerd.service",
    ),
    (
        "etc/systemd/system/sysinit.target.wants/testbed-machine.service",
        "/usr/lib/systemd/system/testbed-machine.service",
    ),
];

const BUILD_SCRIPT: &str = include_str!("../assets/build-rootfs.sh");
const PAUSE_SOURCE: &str = include_str!("../assets/pause.c");

/// Makes what is missing in the cache. The first time takes some minutes; needs root.
pub fn prepare(software: &Software) -> Result<Rootfs> {
    packages::ensure(&packages::MACHINES)?;
    let base = base()?;
    let node = node(software)?;
    let containerd = store::build(&base, software)?;
    Ok(Rootfs {
        base,
        node,
        containerd,
    })
}

/// Compiles the program of the pod sandbox; a C compiler is there wherever Rust links.
pub fn pause() -> Result<PathBuf> {
    let folder = cached("pause", &[PAUSE_SOURCE], |folder| {
        fs::create_dir_all(folder)?;
        let source = folder.join("pause.c");
        fs::write(&source, PAUSE_SOURCE)?;
        let mut compiler = Command::new("cc");
        compiler
            .args(["-Os", "-static", "-s", "-o"])
            .arg(folder.join("pause"))
            .arg(source);
        progress::output(&mut compiler).map(drop)
    })?;
    Ok(folder.join("pause"))
}

fn base() -> Result<PathBuf> {
    cached("rootfs", &[BUILD_SCRIPT], |folder| {
        let script = folder.with_extension("sh");
        fs::write(&script, BUILD_SCRIPT)?;
        let mut build = Command::new("bash");
        build.arg(&script).arg(folder);
        let label = "building the machines' root filesystem";
        progress::run(label, &build, &folder.with_extension("log"))?;
        fs::remove_file(script).context("remove the build script")
    })
}

fn node(software: &Software) -> Result<PathBuf> {
    let programs = [
        ("usr/bin/kubernetes", &software.images.kubernetes),
        ("usr/bin/containerd", &software.containerd),
        ("usr/bin/containerd-shim-runc-v2", &software.containerd_shim),
        ("usr/bin/ctr", &software.ctr),
    ];
    let mut key = vec![software.tags.pause_reference()];
    for (path, content, _) in NODE_FILES {
        key.extend([path.to_owned(), content.to_owned()]);
    }
    key.extend(
        NODE_LINKS
            .iter()
            .map(|(path, target)| format!("{path} -> {target}")),
    );
    for (_, source) in &programs {
        key.push(stamp(source)?);
    }
    let key: Vec<&str> = key.iter().map(String::as_str).collect();
    cached("node", &key, |folder| {
        for (path, content, mode) in NODE_FILES {
            let content = content.replace("@PAUSE@", &software.tags.pause_reference());
            let file = parent_made(folder, path)?;
            fs::write(&file, content)?;
            fs::set_permissions(&file, fs::Permissions::from_mode(mode))?;
        }
        for (path, target) in NODE_LINKS {
            symlink(target, parent_made(folder, path)?)?;
        }
        for (path, source) in &programs {
            let file = parent_made(folder, path)?;
            fs::copy(source, &file).with_context(|| format!("copy {}", source.display()))?;
            fs::set_permissions(&file, fs::Permissions::from_mode(0o755))?;
        }
        Ok(())
    })
}

fn parent_made(folder: &Path, path: &str) -> Result<PathBuf> {
    let file = folder.join(path);
    if let Some(parent) = file.parent() {
        fs::create_dir_all(parent)?;
    }
    Ok(file)
}

/// Identifies a file without reading it: path, size and time of change.
fn stamp(path: &Path) -> Result<String> {
    let metadata = fs::metadata(path).with_context(|| format!("{} is missing", path.display()))?;
    let changed = metadata.modified()?.duration_since(UNIX_EPOCH)?.as_nanos();
    Ok(format!("{} {} {changed}", path.display(), metadata.len()))
}

/// The folder `<cache>/<name>-<hash of key>`, made by `build` under another name first, so that
/// what carries the final name is complete. One run builds, the others wait.
fn cached(name: &str, key: &[&str], build: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    let mut hash = Sha256::new();
    for part in key {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part.as_bytes());
    }
    let short = &hex(&hash.finalize())[..12];
    let folder = cache::cache_dir()?.join(format!("{name}-{short}"));
    if folder.is_dir() {
        return Ok(folder);
    }
    let _lock = cache::lock(&folder.with_extension("lock"), name)?;
    if folder.is_dir() {
        return Ok(folder);
    }
    let partial = folder.with_extension("partial");
    remove_tree(&partial)?;
    build(&partial).with_context(|| format!("making {}", folder.display()))?;
    fs::rename(&partial, &folder)?;
    Ok(folder)
}

/// Removes what an interrupted build left, after unmounting what it mounted there.
fn remove_tree(folder: &Path) -> Result<()> {
    for point in state::mounts_below(folder)?.iter().rev() {
        progress::output(Command::new("umount").args(["--lazy", point]))?;
    }
    match fs::remove_dir_all(folder) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(e).with_context(|| format!("cannot remove {}", folder.display()))
        }
        _ => Ok(()),
    }
}
