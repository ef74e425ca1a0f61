//! The docker-archive format (`docker save`): `manifest.json`, one config per image, and layers.
//! Each layer is an uncompressed tar named after its SHA-256, which is also its diff ID.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::{self, BufWriter, Read, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use serde_json::json;
use sha2::{Digest, Sha256};

/// What stands at one path of a layer.
#[derive(Clone, Debug)]
pub enum Entry {
    /// A copy of a file on this machine, with the given mode.
    File { source: PathBuf, mode: u32 },
    /// A file with the given content.
    Text { content: String, mode: u32 },
    /// A directory with the given mode.
    Directory { mode: u32 },
    /// A symbolic link to the given target.
    Symlink { target: String },
}

/// Paths without a leading slash; a parent directory that is not named is made by the importer.
#[derive(Clone, Debug, Default)]
pub struct Layer {
    entries: BTreeMap<String, Entry>,
}

impl Layer {
    pub fn file(mut self, path: &str, source: impl Into<PathBuf>) -> Self {
        self.entries.insert(
            path.into(),
            Entry::File {
                source: source.into(),
                mode: 0o755,
            },
        );
        self
    }

    pub fn text(mut self, path: &str, content: &str) -> Self {
        self.entries.insert(
            path.into(),
            Entry::Text {
                content: content.into(),
                mode: 0o644,
            },
        );
        self
    }

    pub fn directory(mut self, path: &str, mode: u32) -> Self {
        self.entries.insert(path.into(), Entry::Directory { mode });
        self
    }

    pub fn symlink(mut self, path: &str, target: &str) -> Self {
        self.entries.insert(
            path.into(),
            Entry::Symlink {
                target: target.into(),
            },
        );
        self
    }

    /// Writes the layer's tar to `out`.
    fn write(&self, out: impl Write) -> Result<()> {
        let mut tar = tar::Builder::new(out);
        for (path, entry) in &self.entries {
            append(&mut tar, path, entry).with_context(|| format!("layer entry {path}"))?;
        }
        tar.finish()?;
        Ok(())
    }
}

/// An image: its full reference, the layers by name (see [`write_archive`]) and what a container
/// runs by default.
#[derive(Clone, Debug)]
pub struct Image {
    /// Full reference with tag, exactly as pods name it.
    pub reference: String,
    /// Keys into the layer map, lowest first.
    pub layers: Vec<String>,
    pub entrypoint: Vec<String>,
    /// `uid` or `uid:gid`; empty means root.
    pub user: String,
}

/// Writes all `images` and the `layers` that they use into one archive at `path`, atomically.
pub fn write_archive(
    path: &Path,
    layers: &BTreeMap<String, Layer>,
    images: &[Image],
) -> Result<()> {
    let partial = path.with_extension("partial");
    let mut archive = tar::Builder::new(BufWriter::new(File::create(&partial)?));
    let used: BTreeSet<&String> = images.iter().flat_map(|image| &image.layers).collect();
    let mut digests = BTreeMap::new();
    for name in used {
        let layer = layers
            .get(name)
            .with_context(|| format!("no layer is named {name}"))?;
        digests.insert(name, append_layer(&mut archive, layer, path)?);
    }
    let mut manifest = Vec::new();
    for image in images {
        let diff_ids: Vec<&String> = image.layers.iter().map(|name| &digests[name]).collect();
        let config = config_json(image, &diff_ids);
        let config_name = format!("{}.json", hex(&Sha256::digest(&config)));
        append_bytes(&mut archive, &config_name, config.as_bytes())?;
        manifest.push(json!({
            "Config": config_name,
            "RepoTags": [image.reference],
            "Layers": diff_ids.iter().map(|id| format!("{id}.tar")).collect::<Vec<_>>(),
        }));
    }
    append_bytes(
        &mut archive,
        "manifest.json",
        serde_json::to_string(&manifest)?.as_bytes(),
    )?;
    archive.into_inner()?.flush()?;
    std::fs::rename(&partial, path)?;
    Ok(())
}

/// Appends one layer through a temporary file beside the archive; returns its digest in hex.
fn append_layer(
    archive: &mut tar::Builder<impl Write>,
    layer: &Layer,
    beside: &Path,
) -> Result<String> {
    let scratch = beside.with_extension("layer");
    let mut hashing = Hashing {
        out: BufWriter::new(File::create(&scratch)?),
        hash: Sha256::new(),
    };
    layer.write(&mut hashing)?;
    hashing.out.flush()?;
    let digest = hex(&hashing.hash.finalize());
    let mut file = File::open(&scratch)?;
    let mut header = header(file.metadata()?.len(), 0o644);
    archive.append_data(&mut header, format!("{digest}.tar"), &mut file)?;
    std::fs::remove_file(&scratch)?;
    Ok(digest)
}

fn config_json(image: &Image, diff_ids: &[&String]) -> String {
    let epoch = "1970-01-01T00:00:00Z";
    json!({
        "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" },
        "os": "linux",
        "created": epoch,
        "config": {
            "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
            "Entrypoint": image.entrypoint,
            "User": image.user,
            "WorkingDir": "/",
        },
        "rootfs": {
            "type": "layers",
            "diff_ids": diff_ids.iter().map(|id| format!("sha256:{id}")).collect::<Vec<_>>(),
        },
        "history": diff_ids.iter().map(|_| json!({"created": epoch})).collect::<Vec<_>>(),
    })
    .to_string()
}

fn append(tar: &mut tar::Builder<impl Write>, path: &str, entry: &Entry) -> Result<()> {
    ensure!(
        !path.starts_with('/'),
        "paths in a layer are relative to its root"
    );
    match entry {
        Entry::File { source, mode } => {
            let mut file =
                File::open(source).with_context(|| format!("open {}", source.display()))?;
            let mut header = header(file.metadata()?.len(), *mode);
            tar.append_data(&mut header, path, &mut file)?;
        }
        Entry::Text { content, mode } => {
            let mut header = header(content.len() as u64, *mode);
            tar.append_data(&mut header, path, content.as_bytes())?;
        }
        Entry::Directory { mode } => {
            let mut header = header(0, *mode);
            header.set_entry_type(tar::EntryType::Directory);
            tar.append_data(&mut header, format!("{path}/"), io::empty())?;
        }
        Entry::Symlink { target } => {
            let mut header = header(0, 0o777);
            header.set_entry_type(tar::EntryType::Symlink);
            tar.append_link(&mut header, path, target)?;
        }
    }
    Ok(())
}

fn append_bytes(tar: &mut tar::Builder<impl Write>, path: &str, bytes: &[u8]) -> Result<()> {
    let mut header = header(bytes.len() as u64, 0o644);
    tar.append_data(&mut header, path, bytes)?;
    Ok(())
}

fn header(size: u64, mode: u32) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    header.set_size(size);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header
}

/// Lower-case hex of a digest.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// SHA-256 of a file's content, in hex.
pub fn file_digest(path: &Path) -> Result<String> {
    let mut file = File::open(path).with_context(|| format!("open {}", path.display()))?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            return Ok(hex(&hash.finalize()));
        }
        hash.update(&buffer[..read]);
    }
}

struct Hashing<W> {
    out: W,
    hash: Sha256,
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.hash.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
