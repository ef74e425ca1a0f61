//! Building the real binaries from their pinned Go modules, once per content.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

use super::{cache, progress};

/// Something that is built from a Go module under `tests/testbed/go/`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Component {
    /// kube-apiserver, kube-controller-manager, kube-scheduler, kube-proxy, kubelet, kubeadm and
    /// kubectl: names for one multi-call binary, `kubernetes`.
    Kubernetes,
    /// kubeadm of the oldest minor that a kubelet may have beside that control plane.
    #[value(name = "kubeadm-1.34")]
    Kubeadm134,
    /// etcd, etcdctl, etcdutl.
    Etcd,
    /// The same of the minor before: what older Kubernetes releases run.
    #[value(name = "etcd-3.6")]
    Etcd36,
    /// containerd, containerd-shim-runc-v2, ctr.
    Containerd,
    /// coredns.
    Coredns,
    /// helm.
    Helm,
    /// ignition-validate.
    Ignition,
}

/// The names under which the `kubernetes` binary is called.
pub const KUBERNETES_NAMES: [&str; 7] = [
    "kube-apiserver",
    "kube-controller-manager",
    "kube-proxy",
    "kube-scheduler",
    "kubeadm",
    "kubectl",
    "kubelet",
];

impl Component {
    /// All of them, the quickest build first.
    pub const ALL: [Self; 8] = [
        Self::Ignition,
        Self::Etcd,
        Self::Etcd36,
        Self::Containerd,
        Self::Helm,
        Self::Coredns,
        Self::Kubeadm134,
        Self::Kubernetes,
    ];

    /// The name of the component and of its module's folder.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kubernetes => "kubernetes",
            Self::Kubeadm134 => "kubeadm-1.34",
            Self::Etcd => "etcd",
            Self::Etcd36 => "etcd-3.6",
            Self::Containerd => "containerd",
            Self::Coredns => "coredns",
            Self::Helm => "helm",
            Self::Ignition => "ignition",
        }
    }

    /// The module whose required version is the version of the component.
    fn module(self) -> &'static str {
        match self {
            Self::Kubernetes | Self::Kubeadm134 => "k8s.io/kubernetes",
            Self::Etcd | Self::Etcd36 => "go.etcd.io/etcd/server/v3",
            Self::Containerd => "github.com/containerd/containerd/v2",
            Self::Coredns => "github.com/coredns/coredns",
            Self::Helm => "helm.sh/helm/v4",
            Self::Ignition => "github.com/coreos/ignition/v2",
        }
    }

    /// The binaries to build: name and Go package.
    fn binaries(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Kubernetes => &[("kubernetes", ".")],
            Self::Kubeadm134 => &[("kubeadm", "k8s.io/kubernetes/cmd/kubeadm")],
            Self::Etcd | Self::Etcd36 => &[
                ("etcd", "go.etcd.io/etcd/server/v3"),
                ("etcdctl", "go.etcd.io/etcd/etcdctl/v3"),
                ("etcdutl", "go.etcd.io/etcd/etcdutl/v3"),
            ],
            Self::Containerd => &[
                (
                    "containerd",
                    "github.com/containerd/containerd/v2/cmd/containerd",
                ),
                (
                    "containerd-shim-runc-v2",
                    "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2",
                ),
                ("ctr", "github.com/containerd/containerd/v2/cmd/ctr"),
            ],
            Self::Coredns => &[("coredns", "github.com/coredns/coredns")],
            Self::Helm => &[("helm", "helm.sh/helm/v4/cmd/helm")],
            Self::Ignition => &[(
                "ignition-validate",
                "github.com/coreos/ignition/v2/validate",
            )],
        }
    }

    /// Other names of the first binary, as symbolic links beside it.
    fn links(self) -> &'static [&'static str] {
        match self {
            Self::Kubernetes => &KUBERNETES_NAMES,
            _ => &[],
        }
    }

    /// The version as in its go.mod, without the `v`: for example `1.37.1`.
    pub fn version(self) -> Result<String> {
        let file = self.source().join("go.mod");
        let text = std::fs::read_to_string(&file)
            .with_context(|| format!("cannot read {}", file.display()))?;
        let found = text.lines().find_map(|line| {
            let line = line.trim().strip_prefix("require ").unwrap_or(line.trim());
            line.strip_prefix(self.module())?
                .strip_prefix(" v")?
                .split(' ')
                .next()
        });
        let version = found
            .with_context(|| format!("{} does not require {}", file.display(), self.module()))?;
        Ok(version.to_owned())
    }

    // Linker variables without which the programs would not know their version.
    fn linker_flags(self, version: &str) -> Result<String> {
        let mut flags = String::from("-s -w");
        let mut set = |variable: &str, value: &str| {
            flags.push_str(&format!(" -X {variable}={value}"));
        };
        let release = format!("v{version}");
        match self {
            Self::Kubernetes | Self::Kubeadm134 => {
                let mut numbers = version.split('.');
                let (Some(major), Some(minor)) = (numbers.next(), numbers.next()) else {
                    bail!("Kubernetes version {version:?} has no minor");
                };
                let package = "k8s.io/component-base/version";
                set(&format!("{package}.gitVersion"), &release);
                set(&format!("{package}.gitMajor"), major);
                set(&format!("{package}.gitMinor"), minor);
                set(&format!("{package}.gitTreeState"), "clean");
            }
            Self::Containerd => {
                set(
                    "github.com/containerd/containerd/v2/version.Version",
                    &release,
                );
            }
            Self::Helm => set("helm.sh/helm/v4/internal/version.version", &release),
            Self::Etcd | Self::Etcd36 | Self::Coredns | Self::Ignition => {}
        }
        Ok(flags)
    }

    fn source(self) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/testbed/go")
            .join(self.name())
    }

    /// The folder in the cache that holds (or will hold) this very build.
    pub fn folder(self) -> Result<PathBuf> {
        let version = self.version()?;
        let key = self.key(&version)?;
        Ok(cache::cache_dir()?
            .join("bin")
            .join(self.name())
            .join(format!("{version}-{key}")))
    }

    // A hash of everything that goes into the build apart from the Go toolchain.
    fn key(self, version: &str) -> Result<String> {
        let mut hash = Sha256::new();
        let mut add = |bytes: &[u8]| {
            hash.update(bytes.len().to_le_bytes());
            hash.update(bytes);
        };
        for text in [std::env::consts::ARCH, &self.linker_flags(version)?] {
            add(text.as_bytes());
        }
        for name in self
            .binaries()
            .iter()
            .flat_map(|(a, b)| [a, b])
            .chain(self.links())
        {
            add(name.as_bytes());
        }
        let mut files: Vec<PathBuf> = std::fs::read_dir(self.source())?
            .map(|entry| entry.map(|e| e.path()))
            .collect::<std::io::Result<_>>()?;
        files.sort();
        for file in files {
            add(file.file_name().unwrap_or_default().as_encoded_bytes());
            add(&std::fs::read(&file).with_context(|| format!("read {}", file.display()))?);
        }
        Ok(hash
            .finalize()
            .iter()
            .take(6)
            .map(|b| format!("{b:02x}"))
            .collect())
    }
}

/// The folder with the binaries of `component`; builds them first when they are missing. Two runs
/// at once do not collide: the second waits and finds the result of the first.
pub fn ensure(component: Component) -> Result<PathBuf> {
    let target = component.folder()?;
    if target.is_dir() {
        return Ok(target);
    }
    let parent = target.parent().context("the cache folder has no parent")?;
    std::fs::create_dir_all(parent)?;
    let _lock = cache::lock(&parent.join("lock"), &format!("build {}", component.name()))?;
    if target.is_dir() {
        return Ok(target);
    }
    remove_interrupted_builds(parent)?;
    // Below the same parent, because only a rename within one file system is atomic.
    let fresh = tempfile::Builder::new()
        .prefix(".build-")
        .tempdir_in(parent)?;
    build_into(component, fresh.path(), &parent.join("build.log"))?;
    let fresh = fresh.keep();
    std::fs::rename(&fresh, &target)
        .with_context(|| format!("cannot move the build to {}", target.display()))?;
    Ok(target)
}

const UNFINISHED: &str = ".build-";

// Whoever holds the lock is the only one who builds here.
fn remove_interrupted_builds(parent: &Path) -> Result<()> {
    for entry in std::fs::read_dir(parent)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(UNFINISHED) {
            std::fs::remove_dir_all(entry.path())
                .with_context(|| format!("cannot remove {}", entry.path().display()))?;
        }
    }
    Ok(())
}

/// The path of `program` in the build of `component`, building it when missing.
pub fn program(component: Component, program: &str) -> Result<PathBuf> {
    let path = ensure(component)?.join(program);
    if !path.exists() {
        bail!("{} has no program {program}", component.name());
    }
    Ok(path)
}

fn build_into(component: Component, dir: &Path, log: &Path) -> Result<()> {
    use std::os::unix::fs::{PermissionsExt, symlink};

    let version = component.version()?;
    let flags = component.linker_flags(&version)?;
    for (name, package) in component.binaries() {
        let mut go = Command::new("go");
        go.current_dir(component.source())
            .env("CGO_ENABLED", "0")
            .env("GOFLAGS", "")
            .args([
                "build",
                "-trimpath",
                "-buildvcs=false",
                "-ldflags",
                &flags,
                "-o",
            ])
            .arg(dir.join(name))
            .arg(package);
        progress::run(&format!("build {name} {version}"), &go, log)?;
    }
    if let [(first, _), ..] = component.binaries() {
        for link in component.links() {
            symlink(first, dir.join(link))?;
        }
    }
    // tempfile makes folders private; machines and other users may read these.
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o755))?;
    Ok(())
}
