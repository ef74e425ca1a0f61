//! Host paths that a static pod mounts.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use k8s_openapi::api::core::v1::{HostPathVolumeSource, Volume, VolumeMount};

use crate::crd::HostPathMount;

/// Where every distribution has, or links, its CA certificates.
const CA_CERTIFICATES: &str = "/etc/ssl/certs";

/// Longest name of a volume: a DNS label.
const NAME_LIMIT: usize = 63;

/// One host path, mounted at one place.
#[derive(Clone, Debug)]
struct Mount {
    host_path: String,
    mount_path: String,
    read_only: bool,
    /// core/v1 `HostPathType`; empty: not checked.
    path_type: &'static str,
}

/// The mounts of a pod by volume name, so that a later one replaces an earlier one of its name.
#[derive(Clone, Debug, Default)]
pub(super) struct Volumes(BTreeMap<String, Mount>);

impl Volumes {
    /// A folder of the node at the same path in the container, created when it is missing.
    pub(super) fn folder(mut self, name: &str, path: &str, read_only: bool) -> Self {
        self.insert(name.to_owned(), path, read_only, "DirectoryOrCreate");
        self
    }

    /// A read-only file of the node at the same path in the container.
    pub(super) fn file(mut self, name: &str, path: &str) -> Self {
        self.insert(name.to_owned(), path, true, "FileOrCreate");
        self
    }

    /// `/etc/ssl/certs` and the machine's further folders of CA certificates, where links in
    /// `/etc/ssl/certs` may lead. kubeadm adds those of a fixed list that exist on the machine; a
    /// renderer cannot look, so the machine names them.
    pub(super) fn ca_certificates(mut self, directories: &[String]) -> Self {
        self = self.folder("ca-certs", CA_CERTIFICATES, true);
        for directory in directories {
            let directory = match directory.trim_end_matches('/') {
                "" => "/",
                trimmed => trimmed,
            };
            let mounted = |mount: &Mount| mount.mount_path == directory;
            if !self.0.values().any(mounted) {
                let name = self.free_name(directory);
                self.insert(name, directory, true, "DirectoryOrCreate");
            }
        }
        self
    }

    /// The folders of these files, read-only, but those that are mounted already, by themselves or
    /// below another (kubeadm `getEtcdCertVolumes`). The volumes are called `<name>-0`, `<name>-1`, ...
    pub(super) fn files_of(mut self, name: &str, files: &[&str]) -> Self {
        let folders = files
            .iter()
            .filter_map(|file| Some(file.rsplit_once('/')?.0));
        let folders: BTreeSet<&str> = folders
            .map(|folder| if folder.is_empty() { "/" } else { folder })
            .collect();
        // In byte order, a folder comes before what is below it.
        let mut number = 0;
        for folder in folders {
            let mut mounted = self.0.values();
            if !mounted.any(|mount| Path::new(folder).starts_with(&mount.mount_path)) {
                self.insert(
                    format!("{name}-{number}"),
                    folder,
                    true,
                    "DirectoryOrCreate",
                );
                number += 1;
            }
        }
        self
    }

    /// The user's volumes; one with the name of a default replaces it.
    pub(super) fn extra(mut self, volumes: &[HostPathMount]) -> Self {
        for volume in volumes {
            let mount = Mount {
                host_path: volume.host_path.clone(),
                mount_path: volume.mount_path.clone(),
                read_only: volume.read_only.unwrap_or(false),
                path_type: volume.path_type.map_or("", |kind| kind.as_str()),
            };
            self.0.insert(volume.name.clone(), mount);
        }
        self
    }

    /// `volumes` of the pod, sorted by name.
    pub(super) fn volumes(&self) -> Vec<Volume> {
        let volume = |(name, mount): (&String, &Mount)| Volume {
            name: name.clone(),
            host_path: Some(HostPathVolumeSource {
                path: mount.host_path.clone(),
                type_: Some(mount.path_type.to_owned()),
            }),
            ..Volume::default()
        };
        self.0.iter().map(volume).collect()
    }

    /// `volumeMounts` of the container, sorted by name.
    pub(super) fn mounts(&self) -> Vec<VolumeMount> {
        let mount = |(name, mount): (&String, &Mount)| VolumeMount {
            name: name.clone(),
            mount_path: mount.mount_path.clone(),
            // Go leaves `false` out.
            read_only: mount.read_only.then_some(true),
            ..VolumeMount::default()
        };
        self.0.iter().map(mount).collect()
    }

    fn insert(&mut self, name: String, path: &str, read_only: bool, path_type: &'static str) {
        let mount = Mount {
            host_path: path.to_owned(),
            mount_path: path.to_owned(),
            read_only,
            path_type,
        };
        self.0.insert(name, mount);
    }

    /// kubeadm's volume name for a folder: the path with `-` for `/`. Other characters that a
    /// volume name cannot have become `-` too, and a name that is taken gets a number.
    fn free_name(&self, path: &str) -> String {
        let name: String = path
            .chars()
            .map(|c| match c.to_ascii_lowercase() {
                c @ ('a'..='z' | '0'..='9') => c,
                _ => '-',
            })
            .collect();
        let name = name.trim_matches('-');
        let name = if name.is_empty() { "root" } else { name };
        // Room for a number behind it; what tells folders apart is at their end.
        let start = name.len().saturating_sub(NAME_LIMIT - 4);
        let name = name[start..].trim_start_matches('-');
        let numbered = (2..).map(|n| format!("{name}-{n}"));
        std::iter::once(name.to_owned())
            .chain(numbered)
            .find(|candidate| !self.0.contains_key(candidate))
            .unwrap_or_else(|| name.to_owned())
    }
}
