//! The real binary renders the examples: the same bytes every time, with the right modes, within
//! the promised size, and refuses what it should.

#[path = "support/cloud_init.rs"]
mod cloud_init;
#[path = "support/user_data.rs"]
mod user_data;

use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// Bytes that a P-256 control-plane machine of profile Standard may take when compressed.
const SIZE_LIMIT: usize = 12_288;

fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("examples")
        .join(name)
}

/// A manifest of these tests: three plain machines and a spare.
fn manifest(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/support/manifests")
        .join(name)
}

fn seedbed(args: &[&str]) -> Output {
    let output = Command::new(env!("CARGO_BIN_EXE_seedbed"))
        .args(args)
        .output();
    output.expect("seedbed runs")
}

fn render(file: &Path, output: &Path, pki: Option<&Path>) -> Output {
    let text = |path: &Path| path.to_str().expect("utf-8").to_owned();
    let mut args = vec![
        "render".into(),
        "-f".into(),
        text(file),
        "-o".into(),
        text(output),
    ];
    if let Some(pki) = pki {
        args.extend(["--pki".into(), text(pki)]);
    }
    seedbed(&args.iter().map(String::as_str).collect::<Vec<_>>())
}

fn rendered(file: &Path, output: &Path, pki: Option<&Path>) -> String {
    let done = render(file, output, pki);
    let errors = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{}: {errors}", file.display());
    assert!(errors.is_empty(), "{errors}");
    String::from_utf8(done.stdout).expect("text")
}

fn refused(file: &Path, output: &Path, pki: Option<&Path>) -> String {
    let done = render(file, output, pki);
    assert_eq!(done.status.code(), Some(1), "{}", file.display());
    assert!(done.stdout.is_empty());
    String::from_utf8(done.stderr).expect("text")
}

/// Mode and, of files, bytes of everything below `root`, by path.
fn tree(root: &Path) -> BTreeMap<String, (u32, Option<Vec<u8>>)> {
    let mut found = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("folder") {
            let path = entry.expect("entry").path();
            let mode = std::fs::metadata(&path)
                .expect("metadata")
                .permissions()
                .mode()
                & 0o7777;
            let bytes = path.is_file().then(|| std::fs::read(&path).expect("file"));
            let name = path
                .strip_prefix(root)
                .expect("below")
                .to_str()
                .expect("utf-8")
                .to_owned();
            if path.is_dir() {
                folders.push(path);
            }
            found.insert(name, (mode, bytes));
        }
    }
    found
}

/// A manifest with a change.
fn changed(folder: &Path, manifest: &Path, change: impl Fn(&str) -> String) -> PathBuf {
    let text = std::fs::read_to_string(manifest).expect("manifest");
    let new = change(&text);
    assert_ne!(text, new, "the change changes nothing");
    let path = folder.join("manifest.yaml");
    std::fs::write(&path, new).expect("manifest");
    path
}

fn examples() -> Vec<PathBuf> {
    let entries = std::fs::read_dir(example("")).expect("examples");
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("entry").path()).collect();
    // One by reference cannot be rendered without a seed.
    let is_control_plane = |path: &PathBuf| {
        let text = std::fs::read_to_string(path).expect("example");
        path.extension()
            .is_some_and(|extension| extension == "yaml")
            && text.contains("kind: ControlPlane")
            && !text.contains("clusterRef")
    };
    paths.retain(is_control_plane);
    paths.sort();
    assert!(paths.len() >= 3, "{paths:?}");
    paths
}

#[test]
fn every_example_renders_twice_to_the_same_bytes_that_cloud_init_takes() {
    for example in examples() {
        let folder = tempfile::tempdir().expect("folder");
        let (first, second) = (folder.path().join("first"), folder.path().join("second"));
        let pki = folder.path().join("pki");
        let said = rendered(&example, &first, Some(&pki));
        let stored = tree(&pki);
        assert_eq!(rendered(&example, &second, Some(&pki)), said);
        assert_eq!(rendered(&example, &first, Some(&pki)), said, "over itself");
        assert_eq!(tree(&first), tree(&second), "{}", example.display());
        assert_eq!(tree(&pki), stored, "PKI of {}", example.display());
        let user_data: Vec<_> = tree(&first)
            .into_iter()
            .filter(|(name, _)| name.ends_with(".user-data"))
            .collect();
        assert!(!user_data.is_empty());
        for (name, (mode, bytes)) in user_data {
            let bytes = bytes.expect("a file");
            assert_eq!(mode, 0o600, "{name}");
            let machine = first.join(name.trim_end_matches(".user-data"));
            assert_tree_is_in_user_data(&machine, &bytes);
            let scratch = tempfile::tempdir().expect("folder");
            cloud_init::assert_schema(&cloud_init::read(&bytes, scratch.path()).document);
        }
    }
}

/// The folder of a machine has the files of its user data, and nothing else.
fn assert_tree_is_in_user_data(machine: &Path, user_data: &[u8]) {
    let mut tree = tree(machine);
    tree.retain(|_, (_, bytes)| bytes.is_some());
    for entry in user_data::parse(user_data).write_files {
        let (mode, bytes) = tree
            .remove(entry.path.trim_start_matches('/'))
            .expect("written");
        assert_eq!(mode, entry.mode(), "{}", entry.path);
        assert_eq!(bytes, Some(entry.bytes()), "{}", entry.path);
    }
    assert!(tree.is_empty(), "{:?}", tree.keys());
}

#[test]
fn modes_are_those_of_kubeadm() {
    let folder = tempfile::tempdir().expect("folder");
    let output = folder.path().join("out");
    rendered(&manifest("ha.yaml"), &output, None);
    let tree = tree(&output);
    for (name, mode) in [
        ("cp-1", 0o755),
        ("cp-1/etc/kubernetes", 0o755),
        ("cp-1/etc/kubernetes/manifests", 0o700),
        ("cp-1/etc/kubernetes/manifests/etcd.yaml", 0o600),
        ("cp-1/etc/kubernetes/kubelet.conf", 0o600),
        ("cp-1/etc/kubernetes/pki", 0o755),
        ("cp-1/etc/kubernetes/pki/ca.crt", 0o644),
        ("cp-1/etc/kubernetes/pki/ca.key", 0o600),
        ("cp-1/etc/kubernetes/pki/sa.pub", 0o600),
        ("cp-1/var/lib/etcd", 0o700),
        ("cp-1/var/lib/kubelet", 0o700),
        ("cp-1/var/lib/kubelet/config.yaml", 0o644),
        ("cp-3/etc/kubernetes/pki/etcd/peer.key", 0o600),
        ("pki", 0o700),
        ("pki/prod-ca/tls.key", 0o600),
        ("pki/prod-kubeconfig/value", 0o600),
    ] {
        let found = tree
            .get(name)
            .unwrap_or_else(|| panic!("{name} is missing"));
        assert_eq!(found.0, mode, "{name}");
    }
    assert!(!tree.contains_key("cp-4"), "nothing runs on a spare");
    let top = std::fs::metadata(&output)
        .expect("output")
        .permissions()
        .mode()
        & 0o7777;
    assert_eq!(top, 0o700, "the output holds private keys");
}

#[test]
fn a_p256_machine_of_profile_standard_fits_the_promised_size() {
    let folder = tempfile::tempdir().expect("folder");
    let (plain, small) = (folder.path().join("plain"), folder.path().join("small"));
    let pki = folder.path().join("pki");
    rendered(&manifest("ha.yaml"), &plain, Some(&pki));
    let budget = format!("spec:\n  machineConfig: {{sizeBudgetBytes: {SIZE_LIMIT}}}");
    let manifest = changed(folder.path(), &manifest("ha.yaml"), |text| {
        text.replacen("spec:", &budget, 1)
    });
    rendered(&manifest, &small, Some(&pki));
    for machine in ["cp-1", "cp-2", "cp-3"] {
        let read = |folder: &Path| {
            std::fs::read(folder.join(format!("{machine}.user-data"))).expect("user data")
        };
        let (stored, compressed) = (read(&plain), read(&small));
        let document = user_data::document(&stored);
        let mut gzip = Vec::new();
        let mut encoder = flate2::GzBuilder::new().write(&mut gzip, flate2::Compression::best());
        encoder.write_all(document.as_bytes()).expect("gzip");
        encoder.finish().expect("gzip");
        println!(
            "{machine}: stored {} bytes; document {}, gzip {}, compressed text {} (limit {SIZE_LIMIT})",
            stored.len(),
            document.len(),
            gzip.len(),
            compressed.len()
        );
        assert!(
            stored.starts_with(b"#cloud-config\n"),
            "readable without a budget"
        );
        assert!(gzip.len() <= SIZE_LIMIT);
        assert!(compressed.len() <= SIZE_LIMIT);
        assert!(compressed.starts_with(b"MIME-Version: 1.0\n"));
        assert_eq!(user_data::document(&compressed), document);
    }
}

#[test]
fn over_budget_publishes_nothing_and_names_files() {
    let folder = tempfile::tempdir().expect("folder");
    let output = folder.path().join("out");
    let manifest = changed(folder.path(), &manifest("ha.yaml"), |text| {
        text.replacen(
            "spec:",
            "spec:\n  machineConfig: {sizeBudgetBytes: 8000}",
            1,
        )
    });
    let error = refused(&manifest, &output, None);
    assert!(
        error.contains("machine cp-1") && error.contains("8000 are allowed"),
        "{error}"
    );
    assert_eq!(error.matches(" bytes)").count(), 5, "{error}");
    assert!(!output.join("cp-1").exists() && !output.join("cp-1.user-data").exists());
}

#[test]
fn a_change_of_one_machine_changes_its_revision_only() {
    let folder = tempfile::tempdir().expect("folder");
    let (output, pki) = (folder.path().join("out"), folder.path().join("pki"));
    let revisions = |said: &str| -> Vec<String> {
        let revision = |line: &str| Some(line.split_once("revision ")?.1[..16].to_owned());
        said.lines().filter_map(revision).collect()
    };
    let before = revisions(&rendered(&manifest("ha.yaml"), &output, Some(&pki)));
    let manifest = changed(folder.path(), &manifest("ha.yaml"), |text| {
        let kubelet = "- name: cp-2\n    kubeletExtraArgs: [{name: v, value: \"4\"}]";
        text.replace("- name: cp-2", kubelet)
    });
    let after = revisions(&rendered(&manifest, &output, Some(&pki)));
    assert_eq!(before.len(), 3);
    assert_eq!((&before[0], &before[2]), (&after[0], &after[2]));
    assert_ne!(before[1], after[1]);
    // The founding is not what a machine should be.
    let founding = pki.join("prod-founding.json");
    let text = std::fs::read_to_string(&founding).expect("founding");
    std::fs::write(&founding, text.replace("prod-", "other-")).expect("founding");
    let refounded = revisions(&rendered(&manifest, &output, Some(&pki)));
    assert_eq!(after, refounded);
    let etcd = output.join("cp-1/etc/kubernetes/manifests/etcd.yaml");
    assert!(
        std::fs::read_to_string(etcd)
            .expect("etcd")
            .contains("--initial-cluster-token=other-")
    );
}

#[test]
fn machines_that_are_gone_are_removed_and_new_ones_have_to_join() {
    let folder = tempfile::tempdir().expect("folder");
    let (output, pki) = (folder.path().join("out"), folder.path().join("pki"));
    rendered(&manifest("ha.yaml"), &output, Some(&pki));
    let one = changed(folder.path(), &manifest("ha.yaml"), |text| {
        text.replace("replicas: 3", "replicas: 1")
    });
    rendered(&one, &output, Some(&pki));
    assert!(output.join("cp-1").is_dir() && output.join("cp-1.user-data").is_file());
    assert!(!output.join("cp-2").exists() && !output.join("cp-2.user-data").exists());
    // Founders are those of the first run; a later machine is no founder.
    let fresh = folder.path().join("fresh");
    let pki = folder.path().join("pki-of-one");
    rendered(&one, &fresh, Some(&pki));
    let error = refused(&manifest("ha.yaml"), &fresh, Some(&pki));
    assert!(error.contains("not in the list of etcd members"), "{error}");
}

#[test]
fn cas_of_your_own_are_used_and_never_made_anew() {
    let folder = tempfile::tempdir().expect("folder");
    let (output, pki) = (folder.path().join("out"), folder.path().join("pki"));
    rendered(&example("single.yaml"), &output, Some(&pki));
    // Another control plane of the same name, with this one's CA.
    let other = folder.path().join("other");
    std::fs::create_dir_all(other.join("lab-ca")).expect("folder");
    for key in ["tls.crt", "tls.key"] {
        std::fs::copy(pki.join("lab-ca").join(key), other.join("lab-ca").join(key)).expect("CA");
    }
    let second = folder.path().join("second");
    rendered(&example("single.yaml"), &second, Some(&other));
    let read = |path: PathBuf| std::fs::read(path).expect("file");
    let ca = "lab-1/etc/kubernetes/pki/ca.crt";
    assert_eq!(read(output.join(ca)), read(second.join(ca)));
    let etcd_ca = "lab-1/etc/kubernetes/pki/etcd/ca.crt";
    assert_ne!(read(output.join(etcd_ca)), read(second.join(etcd_ca)));
    // Machines may have booted by now.
    let before = tree(&second);
    std::fs::remove_dir_all(other.join("lab-ca")).expect("remove");
    let error = refused(&example("single.yaml"), &second, Some(&other));
    assert!(
        error.contains("Secret lab-ca") && error.contains("restore it"),
        "{error}"
    );
    assert_eq!(tree(&second), before, "a failed run changes nothing");
}

#[test]
fn foreign_folders_are_left_alone() {
    let folder = tempfile::tempdir().expect("folder");
    std::fs::write(folder.path().join("thesis.txt"), "work of years").expect("file");
    let error = refused(&example("single.yaml"), folder.path(), None);
    assert!(error.contains("was not written by render"), "{error}");
    assert_eq!(tree(folder.path()).len(), 1);
    let output = folder.path().join("out");
    rendered(&example("single.yaml"), &output, None);
    let error = refused(&manifest("ha.yaml"), &output, None);
    assert!(error.contains("clusters/lab, not clusters/prod"), "{error}");
    let pki = changed(folder.path(), &example("single.yaml"), |text| {
        text.replace("lab-1", "pki")
    });
    let error = refused(&pki, &folder.path().join("new"), None);
    assert!(error.contains("give --pki"), "{error}");
}

#[test]
fn mistakes_are_named_with_their_field() {
    let folder = tempfile::tempdir().expect("folder");
    let output = folder.path().join("out");
    let error_of = |name: &str, from: &str, to: &str| {
        let own = manifest(name);
        let source = if own.exists() { own } else { example(name) };
        let manifest = changed(folder.path(), &source, |text| text.replace(from, to));
        refused(&manifest, &output, None)
    };
    for (name, from, to, wanted) in [
        ("ha.yaml", "replicas: 3", "replicas: 4", "spec.replicas: 4"),
        ("ha.yaml", "replicas: 3", "replicas: three", "spec.replicas"),
        (
            "ha.yaml",
            "198.18.0.12",
            "0.0.0.0",
            "spec.machines[cp-2].address",
        ),
        (
            "ha.yaml",
            "failureDomain: rack-b",
            "failuredomain: b",
            "spec.machines[1].failuredomain",
        ),
        (
            "ha.yaml",
            "kind: ControlPlane",
            "kind: NodePool",
            "holds no ControlPlane",
        ),
        ("ha.yaml", "spec:", "spec: [", "is not YAML"),
        (
            "files.yaml",
            "name: edge-cni\n          key",
            "name: other\n          key",
            "contentFrom",
        ),
        (
            "files.yaml",
            "/etc/cni/net.d/10-bridge.conflist",
            "/etc/kubernetes/kubelet.conf",
            "is a file that Seedbed writes itself",
        ),
        (
            "files.yaml",
            "/etc/cni/net.d/10-bridge.conflist",
            "/var/lib/etcd/member",
            "reserved",
        ),
    ] {
        let error = error_of(name, from, to);
        assert!(error.contains(wanted), "{from} -> {to}: {error}");
        assert!(!output.join("cp-1").exists());
    }
    let secret = error_of("files.yaml", "stringData:", "stringData: 5\nother:");
    assert!(secret.contains("Secret \"edge-registry\"") && secret.contains("stringData"));
    assert!(
        !secret.contains("replace-me"),
        "no secret in an error: {secret}"
    );
    let twice = changed(folder.path(), &example("single.yaml"), |text| {
        format!("{text}---\n{text}")
    });
    let error = refused(&twice, &output, None);
    assert!(error.contains("several ControlPlanes: lab, lab"), "{error}");
    let missing = refused(Path::new("/nowhere.yaml"), &output, None);
    assert!(
        missing.contains("/nowhere.yaml cannot be read"),
        "{missing}"
    );
}

#[test]
fn etcd_elsewhere_is_rendered_where_its_members_are_known() {
    let folder = tempfile::tempdir().expect("folder");
    let output = folder.path().join("out");
    let by_reference = example("external-etcd.yaml");
    let error = refused(&by_reference, &output, None);
    assert!(
        error.contains("clusterRef") && error.contains("spec.etcd.external"),
        "{error}"
    );
    let external = changed(folder.path(), &by_reference, |text| {
        let urls = "external: {endpoints: ['https://198.18.0.41:2379'], caFile: /srv/ca.crt}";
        text.replace("clusterRef: {name: state}", urls)
    });
    rendered(&external, &output, None);
    let manifests = output.join("cp-1/etc/kubernetes/manifests");
    let text = std::fs::read_to_string(manifests.join("kube-apiserver.yaml")).expect("a manifest");
    assert!(
        text.contains("- --etcd-servers=https://198.18.0.41:2379\n"),
        "{text}"
    );
    assert!(!manifests.join("etcd.yaml").exists());
    assert!(!output.join("pki/apis-etcd").exists());
}

#[test]
fn standard_input_is_read() {
    let folder = tempfile::tempdir().expect("folder");
    let mut child = Command::new(env!("CARGO_BIN_EXE_seedbed"))
        .args(["render", "-f", "-", "-o"])
        .arg(folder.path().join("out"))
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("seedbed runs");
    let text = std::fs::read(example("single.yaml")).expect("example");
    child
        .stdin
        .take()
        .expect("stdin")
        .write_all(&text)
        .expect("stdin");
    assert!(child.wait().expect("seedbed").success());
    assert!(folder.path().join("out/lab-1.user-data").is_file());
}

#[test]
fn help_and_crds() {
    let help = String::from_utf8(seedbed(&["render", "--help"]).stdout).expect("text");
    for word in ["--file", "--output", "--pki", "NAME-founding.json", "0700"] {
        assert!(help.contains(word), "{word}: {help}");
    }
    assert_eq!(seedbed(&["render"]).status.code(), Some(2));
    let crds = String::from_utf8(seedbed(&["crds"]).stdout).expect("text");
    let documents: Vec<serde_json::Value> = serde_saphyr::from_multiple(&crds).expect("YAML");
    let names: Vec<_> = documents
        .iter()
        .map(|crd| crd["metadata"]["name"].as_str())
        .collect();
    let wanted = ["controlplanes", "etcdclusters", "nodepools"];
    assert_eq!(
        names,
        wanted
            .map(|name| Some(format!("{name}.seedbed.dev")))
            .each_ref()
            .map(|name| name.as_deref())
    );
}
