//! Picks dynamically linked programs out of a Debian root, with the loader and the libraries that
//! they need: the iptables and nft of the kube-proxy image, the curl of the test image.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};

use super::archive::Layer;

/// A layer with `programs` (absolute paths in `root`), their shared libraries and everything under
/// `folders`, laid out as in a merged-/usr Debian. Links between programs stay links.
pub fn layer(root: &Path, programs: &[&str], folders: &[&str]) -> Result<Layer> {
    let mut layer = Layer::default();
    for (link, target) in [
        ("bin", "usr/bin"),
        ("sbin", "usr/sbin"),
        ("lib", "usr/lib"),
        ("lib64", "usr/lib64"),
    ] {
        layer = layer.directory(target, 0o755).symlink(link, target);
    }
    let mut wanted: BTreeSet<PathBuf> = BTreeSet::new();
    for program in programs {
        let real = resolve(root, Path::new(program))?;
        layer = alias(layer, Path::new(program), &real);
        wanted.insert(real);
    }
    for folder in folders {
        for entry in fs::read_dir(root.join(relative(Path::new(folder))))? {
            let path = Path::new(folder).join(entry?.file_name());
            let real = resolve(root, &path)?;
            layer = alias(layer, &path, &real);
            wanted.insert(real);
        }
    }
    let mut files = wanted.clone();
    for binary in &wanted {
        for library in libraries(root, binary)? {
            let real = resolve(root, &library)?;
            layer = alias(layer, &library, &real);
            files.insert(real);
        }
    }
    for file in files {
        let name = relative(&file).display().to_string();
        layer = layer.file(&name, root.join(relative(&file)));
    }
    Ok(layer)
}

/// Adds `path` as a link to `real` when it is another name for it.
fn alias(layer: Layer, path: &Path, real: &Path) -> Layer {
    let name = merged(path);
    if name == real {
        return layer;
    }
    layer.symlink(
        &relative(&name).display().to_string(),
        &real.display().to_string(),
    )
}

/// The absolute paths of the libraries and the loader of a program or plugin, as `ldd` inside the
/// root sees them. Static programs have none.
fn libraries(root: &Path, binary: &Path) -> Result<Vec<PathBuf>> {
    let output = Command::new("chroot")
        .arg(root)
        .arg("ldd")
        .arg(binary)
        .output()
        .context("ldd")?;
    let text = String::from_utf8_lossy(&output.stdout);
    if text.contains("not a dynamic") || text.contains("statically linked") {
        return Ok(Vec::new());
    }
    if !output.status.success() {
        let error = String::from_utf8_lossy(&output.stderr);
        ensure!(
            error.contains("not a dynamic"),
            "ldd {}: {}",
            binary.display(),
            error.trim()
        );
        return Ok(Vec::new());
    }
    Ok(text
        .split_whitespace()
        .filter(|word| word.starts_with('/') && !word.ends_with(':'))
        .map(PathBuf::from)
        .collect())
}

/// The file that `path` leads to inside `root`, as an absolute path inside `root`. Links are
/// followed by hand, because an absolute link means the root's file, not this machine's.
fn resolve(root: &Path, path: &Path) -> Result<PathBuf> {
    let mut current = merged(path);
    for _ in 0..16 {
        let outside = root.join(relative(&current));
        let metadata = fs::symlink_metadata(&outside)
            .with_context(|| format!("{} is missing in the root filesystem", path.display()))?;
        if !metadata.is_symlink() {
            return Ok(current);
        }
        let target = fs::read_link(&outside)?;
        let joined = current.parent().unwrap_or(Path::new("/")).join(target);
        current = merged(&joined);
    }
    anyhow::bail!("{}: too many links", path.display())
}

/// `/lib/x` is `/usr/lib/x` in a merged-/usr root.
fn merged(path: &Path) -> PathBuf {
    let first = path
        .components()
        .nth(1)
        .map(|part| part.as_os_str().to_owned());
    match first.as_deref().and_then(|part| part.to_str()) {
        Some("bin" | "sbin" | "lib" | "lib64") => Path::new("/usr").join(relative(path)),
        _ => path.to_owned(),
    }
}

fn relative(path: &Path) -> &Path {
    path.strip_prefix("/").unwrap_or(path)
}
