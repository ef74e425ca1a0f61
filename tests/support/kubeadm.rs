//! Running the real kubeadm without touching this machine.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// A file with its permission bits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    pub mode: u32,
    pub content: Vec<u8>,
}

/// What a dry run of `kubeadm init` wrote and said.
pub struct DryRun {
    /// By path on the node.
    pub files: BTreeMap<String, File>,
    /// Standard output: what was done, and every API object.
    pub output: String,
}

/// Runs `kubeadm init --dry-run` with `config`. `existing` are files that kubeadm finds: keys are
/// paths on the node.
///
/// The environment is empty, so that neither proxy variables nor systemd-resolved of this machine
/// change the result.
pub fn dry_run(
    kubeadm: &Path,
    config: &str,
    certificates_dir: &str,
    existing: &BTreeMap<String, File>,
) -> Result<DryRun> {
    let scratch = tempfile::tempdir()?;
    let folder = scratch.path().join("dry-run");
    fs::create_dir(&folder)?;
    for (path, file) in existing {
        if let Some(place) = place_in_dry_run(path, certificates_dir) {
            let place = folder.join(place);
            fs::create_dir_all(place.parent().context("a parent")?)?;
            fs::write(&place, &file.content)?;
            fs::set_permissions(&place, fs::Permissions::from_mode(file.mode))?;
        }
    }
    let output = run(
        kubeadm,
        &["init", "--dry-run", "--skip-phases=preflight", "--config"],
        config,
        &folder,
    )?;
    Ok(DryRun {
        files: read_files(&folder, certificates_dir)?,
        output,
    })
}

/// The manifest that `kubeadm init phase etcd local` writes: what kubeadm's guide to machines that run
/// nothing but etcd uses.
pub fn etcd_phase(kubeadm: &Path, config: &str) -> Result<File> {
    let scratch = tempfile::tempdir()?;
    let folder = scratch.path().join("dry-run");
    fs::create_dir(&folder)?;
    run(
        kubeadm,
        &["init", "phase", "etcd", "local", "--dry-run", "--config"],
        config,
        &folder,
    )?;
    let manifest = folder.join("etcd.yaml");
    Ok(File {
        mode: fs::metadata(&manifest)?.permissions().mode() & 0o7777,
        content: fs::read(&manifest)?,
    })
}

/// What `kubeadm config images list` names for `config`, in its order.
pub fn images(kubeadm: &Path, config: &str) -> Result<Vec<String>> {
    let unused = tempfile::tempdir()?;
    let text = run(
        kubeadm,
        &["config", "images", "list", "--config"],
        config,
        unused.path(),
    )?;
    Ok(text.lines().map(str::to_owned).collect())
}

/// What kubeadm prints with these arguments and `config` after them; a dry run writes into `folder`.
fn run(kubeadm: &Path, arguments: &[&str], config: &str, folder: &Path) -> Result<String> {
    let mut config_file = tempfile::NamedTempFile::new()?;
    config_file.write_all(config.as_bytes())?;
    let output = Command::new(kubeadm)
        .env_clear()
        .env("KUBEADM_INIT_DRYRUN_DIR", folder)
        .args(arguments)
        .arg(config_file.path())
        .output()
        .with_context(|| format!("cannot run {}", kubeadm.display()))?;
    ensure!(
        output.status.success(),
        "kubeadm failed: {}\nwith configuration:\n{config}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8(output.stdout)?)
}

/// The dry run keeps everything in one folder: certificates with their subfolder, all else flat.
fn place_in_dry_run(path: &str, certificates_dir: &str) -> Option<PathBuf> {
    let certificates = format!("{certificates_dir}/");
    if let Some(name) = path.strip_prefix(&certificates) {
        return Some(name.into());
    }
    let name = path.strip_prefix("/etc/kubernetes/")?;
    name.ends_with(".conf").then(|| name.into())
}

fn path_on_node(name: &str, certificates_dir: &str) -> String {
    match name {
        "config.yaml" | "instance-config.yaml" | "kubeadm-flags.env" => {
            format!("/var/lib/kubelet/{name}")
        }
        _ if name.ends_with(".conf") => format!("/etc/kubernetes/{name}"),
        _ if name.ends_with(".yaml") => format!("/etc/kubernetes/manifests/{name}"),
        _ => format!("{certificates_dir}/{name}"),
    }
}

fn read_files(folder: &Path, certificates_dir: &str) -> Result<BTreeMap<String, File>> {
    let mut files = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(current) = folders.pop() {
        for entry in fs::read_dir(&current)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                folders.push(entry.path());
                continue;
            }
            let path = entry.path();
            let name = path
                .strip_prefix(folder)?
                .to_str()
                .context("a name in UTF-8")?;
            let file = File {
                mode: entry.metadata()?.permissions().mode() & 0o7777,
                content: fs::read(&path)?,
            };
            files.insert(path_on_node(name, certificates_dir), file);
        }
    }
    Ok(files)
}

/// The name that kubeadm finds for this machine; a node of another name gets
/// `--hostname-override`.
pub fn hostname() -> Result<String> {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").context("read the hostname")?;
    Ok(name.trim().to_lowercase())
}
