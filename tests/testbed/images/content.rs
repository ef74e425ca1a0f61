//! What is in the images of a test cluster, named exactly as Kubernetes names them.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use super::super::progress;
use super::{
    archive::{Image, Layer, write_archive},
    userland,
};

/// Where the Go and C programs that go into images are on this machine.
#[derive(Clone, Debug)]
pub struct Programs {
    /// The multi-call binary with all Kubernetes components.
    pub kubernetes: PathBuf,
    pub etcd: PathBuf,
    pub etcdctl: PathBuf,
    pub etcdutl: PathBuf,
    pub coredns: PathBuf,
    pub pause: PathBuf,
}

/// The tags of one Kubernetes release; see `kubeadm config images list`.
#[derive(Clone, Debug)]
pub struct Tags {
    pub kubernetes: String,
    pub etcd: String,
    pub coredns: String,
    pub pause: String,
}

/// The repository that Kubernetes' own images have by default.
pub const REPOSITORY: &str = "registry.k8s.io";

/// An image for test pods: a shell with the usual tools (busybox) and curl.
pub const TOOLS_IMAGE: &str = "seedbed.dev/testbed/tools:1";

const COMPONENTS: [&str; 4] = [
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kube-proxy",
];

impl Tags {
    /// Asks the given kubeadm, so that the names cannot differ from what Kubernetes wants.
    pub fn of_kubeadm(kubeadm: &Path) -> Result<Self> {
        let version = progress::output(Command::new(kubeadm).args(["version", "-o", "short"]))?;
        let mut list = Command::new(kubeadm);
        list.args([
            "config",
            "images",
            "list",
            "--kubernetes-version",
            version.trim(),
        ]);
        let list = progress::output(&mut list)?;
        let tag = |name: &str| {
            list.lines()
                .find_map(|line| line.strip_prefix(&format!("{REPOSITORY}/{name}:")))
                .map(str::to_owned)
                .with_context(|| format!("kubeadm lists no image {name}:\n{list}"))
        };
        Ok(Self {
            kubernetes: tag("kube-apiserver")?,
            etcd: tag("etcd")?,
            coredns: tag("coredns/coredns")?,
            pause: tag("pause")?,
        })
    }

    /// The reference of the pod sandbox's image.
    pub fn pause_reference(&self) -> String {
        format!("{REPOSITORY}/pause:{}", self.pause)
    }
}

/// Writes every image of a test cluster into one archive. `root` is the machines' root filesystem:
/// kube-proxy's iptables and the test tools are taken from there.
pub fn write(path: &Path, root: &Path, programs: &Programs, tags: &Tags) -> Result<()> {
    let layers = layers(root, programs)?;
    write_archive(path, &layers, &images(tags))
}

/// All images of one release, and the image of the test tools.
pub fn images(tags: &Tags) -> Vec<Image> {
    let image = |reference: String, layers: &[&str], entrypoint: &str, user: &str| Image {
        reference,
        layers: layers.iter().map(|&layer| layer.into()).collect(),
        entrypoint: vec![entrypoint.into()],
        user: user.into(),
    };
    let mut images: Vec<Image> = COMPONENTS
        .iter()
        .map(|&name| {
            let layers: &[&str] = if name == "kube-proxy" {
                &["kubernetes", "packet-filter"]
            } else {
                &["kubernetes"]
            };
            let reference = format!("{REPOSITORY}/{name}:{}", tags.kubernetes);
            image(reference, layers, &format!("/usr/local/bin/{name}"), "")
        })
        .collect();
    let etcd = format!("{REPOSITORY}/etcd:{}", tags.etcd);
    images.push(image(etcd, &["base", "etcd"], "/usr/local/bin/etcd", ""));
    images.push(image(
        tags.pause_reference(),
        &["pause"],
        "/pause",
        "65535:65535",
    ));
    let coredns = format!("{REPOSITORY}/coredns/coredns:{}", tags.coredns);
    images.push(image(
        coredns,
        &["base", "coredns"],
        "/coredns",
        "65532:65532",
    ));
    images.push(image(
        TOOLS_IMAGE.into(),
        &["tools"],
        "/usr/bin/busybox",
        "",
    ));
    images
}

fn layers(root: &Path, programs: &Programs) -> Result<BTreeMap<String, Layer>> {
    let mut kubernetes =
        base(Layer::default()).file("usr/local/bin/kubernetes", &programs.kubernetes);
    for name in COMPONENTS {
        kubernetes = kubernetes.symlink(&format!("usr/local/bin/{name}"), "kubernetes");
    }
    let etcd = Layer::default()
        .file("usr/local/bin/etcd", &programs.etcd)
        .file("usr/local/bin/etcdctl", &programs.etcdctl)
        .file("usr/local/bin/etcdutl", &programs.etcdutl);
    Ok(BTreeMap::from([
        ("base".into(), base(Layer::default())),
        ("kubernetes".into(), kubernetes),
        ("packet-filter".into(), packet_filter(root)?),
        ("etcd".into(), etcd),
        (
            "pause".into(),
            Layer::default().file("pause", &programs.pause),
        ),
        (
            "coredns".into(),
            Layer::default().file("coredns", &programs.coredns),
        ),
        ("tools".into(), tools(root)?),
    ]))
}

/// The few files that static Go programs look for.
fn base(layer: Layer) -> Layer {
    let users = "root:x:0:0:root:/:/sbin/nologin\nnonroot:x:65532:65532:nonroot:/:/sbin/nologin\n";
    layer
        .directory("tmp", 0o1777)
        .text("etc/passwd", users)
        .text("etc/group", "root:x:0:\nnonroot:x:65532:\n")
        .text("etc/nsswitch.conf", "hosts: files dns\n")
}

/// What kube-proxy calls: iptables (nft variant, as every current distribution), nft, conntrack.
fn packet_filter(root: &Path) -> Result<Layer> {
    let programs = [
        "/usr/sbin/xtables-nft-multi",
        "/usr/sbin/nft",
        "/usr/sbin/conntrack",
    ];
    let plugins = root.join("usr/lib");
    let folder = multiarch(&plugins, "xtables")?;
    let mut layer = userland::layer(root, &programs, &[&folder])?;
    for family in ["iptables", "ip6tables"] {
        for suffix in ["", "-save", "-restore"] {
            let name = format!("usr/sbin/{family}{suffix}");
            layer = layer.symlink(&name, "xtables-nft-multi");
        }
    }
    Ok(layer)
}

fn tools(root: &Path) -> Result<Layer> {
    let mut layer = base(userland::layer(
        root,
        &["/usr/bin/busybox", "/usr/bin/curl"],
        &[],
    )?);
    for applet in [
        "sh", "cat", "ls", "sleep", "nslookup", "wget", "nc", "ping", "ip", "httpd",
    ] {
        layer = layer.symlink(&format!("usr/bin/{applet}"), "busybox");
    }
    Ok(layer)
}

/// The folder `name` below the architecture's library folder, as an absolute path in the root.
fn multiarch(lib: &Path, name: &str) -> Result<String> {
    for entry in std::fs::read_dir(lib)? {
        let entry = entry?;
        if entry.path().join(name).is_dir() {
            return Ok(format!(
                "/usr/lib/{}/{name}",
                entry.file_name().to_string_lossy()
            ));
        }
    }
    anyhow::bail!("no folder {name} below {}", lib.display())
}
