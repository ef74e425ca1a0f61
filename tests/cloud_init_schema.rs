//! The real cloud-init accepts every machine config, writes the same bytes and runs the commands
//! as promised. Needs the Debian package cloud-init; without it these tests fail and say so.

#[path = "support/contents.rs"]
mod contents;
#[path = "support/first_boot.rs"]
mod first_boot;
mod support;

use std::path::Path;
use std::process::Command;

use first_boot::{Boot, STARTED};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;
use seedbed::controllers::etcd_cluster::resolve as etcd_cluster;
use seedbed::controllers::fields::Contents;
use seedbed::domain::{Founding, InitialClusterState, Member};
use seedbed::machine_config::{MachineConfig, etcd_machine_config, etcd_machine_contents};
use seedbed::manifests::NodeFile;
use seedbed::pki::{KeyPair, Leaf};
use serde_json::json;
use support::cloud_init;

const LARGE: usize = 786_432;

fn config(files: Vec<NodeFile>, budget: usize, pre: &[&str], post: &[&str]) -> MachineConfig {
    let contents = contents::with_commands(files, pre, post);
    contents
        .assemble(contents.revision(), budget)
        .expect("fits")
}

/// cloud-init's view of `files` is `files`.
fn assert_understood(files: &[NodeFile], user_data: &[u8]) {
    let folder = tempfile::tempdir().expect("folder");
    let read = cloud_init::read(user_data, folder.path());
    cloud_init::assert_schema(&read.document);
    let mut wanted = files.to_vec();
    wanted.sort_by(|a, b| a.path.cmp(&b.path));
    assert_eq!(read.files.len(), wanted.len());
    for (entry, file) in read.files.iter().zip(&wanted) {
        assert_eq!(entry.path, file.path);
        assert_eq!(entry.owner, file.owner, "{}", file.path);
        assert_eq!(entry.permissions, format!("{:04o}", file.mode));
        let (mode, bytes) = cloud_init::written(folder.path(), &file.path);
        assert_eq!(mode, file.mode, "{}", file.path);
        assert_eq!(bytes, *file.content, "{}", file.path);
    }
}

#[test]
fn traps_arrive_unchanged_plain_and_compressed() {
    // The one about mail is the only trap that would be refused in the plain form.
    let mut files = contents::traps();
    let pre = ["echo 'it''s' \"é\" \\ $HOME", "true # 中文"];
    let all = config(files.clone(), LARGE, &pre, &pre);
    assert_understood(&files, &all.user_data);
    files.retain(|file| !file.content.starts_with(b"MIME"));
    let plain = config(files.clone(), LARGE, &pre, &pre).user_data;
    assert!(plain.starts_with(b"#cloud-config\n"));
    assert_understood(&files, &plain);
    let compressed = config(files.clone(), plain.len() - 1, &pre, &pre).user_data;
    assert!(compressed.starts_with(b"MIME-Version"));
    assert_understood(&files, &compressed);
}

#[test]
fn any_files_arrive_unchanged() {
    // One document of many files, because starting cloud-init takes most of a second.
    let mut runner = TestRunner::deterministic();
    let mut draw = |number: usize| {
        let content = contents::any_content()
            .new_tree(&mut runner)
            .expect("content")
            .current();
        let name = contents::any_segment()
            .new_tree(&mut runner)
            .expect("name")
            .current();
        contents::file(&format!("{number}/{name}"), &content)
    };
    let files: Vec<_> = (0..400).map(&mut draw).collect();
    let plain_limit = seedbed::machine_config::PLAIN_LIMIT_BYTES;
    let (few, many) = (files[..60].to_vec(), files);
    let plain = config(few.clone(), LARGE, &[], &[]).user_data;
    assert!(plain.len() < plain_limit && plain.starts_with(b"#cloud-config"));
    assert_understood(&few, &plain);
    let compressed = config(many.clone(), LARGE, &[], &[]).user_data;
    assert!(compressed.starts_with(b"MIME-Version"));
    assert_understood(&many, &compressed);
}

/// A machine of an EtcdCluster, with every kind of thing that it can have.
#[test]
fn the_config_of_an_etcd_machine_is_understood() {
    let object = json!({
        "apiVersion": "seedbed.dev/v1alpha1",
        "kind": "EtcdCluster",
        "metadata": {"name": "state", "namespace": "clusters"},
        "spec": {
            "version": "3.7.0",
            "size": 1,
            "machines": [{"name": "etcd-1", "address": "198.18.0.41"}],
            "machineConfig": {
                "osPreparation": true,
                "files": [{"path": "/etc/motd", "content": "etcd\n"}],
                "preCommands": ["true"],
                "postCommands": ["true"],
            },
        },
    });
    let object = serde_json::from_value(object).expect("an EtcdCluster");
    let cluster = etcd_cluster::resolve(&object, &Contents::default()).expect("resolves");
    let machine = &cluster.machines[0];
    let pair = || KeyPair {
        certificate_pem: "a certificate\n".to_owned(),
        key_pem: "a key\n".to_owned().into(),
    };
    let leaves = Leaf::ALL.map(|leaf| (leaf, pair())).into();
    let mut founding = Founding {
        token: "state-3f1b2c".to_owned(),
        members: vec![Member::founder(machine)],
        state: InitialClusterState::New,
    };
    let revision = |founding: &Founding| {
        let contents = etcd_machine_contents(&cluster, machine, founding, "ca\n", &leaves);
        let files = contents.expect("contents").files().to_vec();
        let config = etcd_machine_config(&cluster, machine, founding, "ca\n", &leaves);
        let config = config.expect("a machine config");
        assert_understood(&files, &config.user_data);
        let text = String::from_utf8(config.user_data.to_vec()).expect("text");
        (
            config.revision,
            text.contains("is not started on an empty disk"),
        )
    };
    let (new, checked) = revision(&founding);
    assert!(!checked, "a founder has yet to start");
    // I9; the revision says nothing of it.
    founding.members[0].started = true;
    founding.state = InitialClusterState::Existing;
    assert_eq!(revision(&founding), (new.clone(), true));
    // A founder that nobody has seen start asks the others.
    founding.members[0].started = false;
    assert_eq!(revision(&founding), (new, true));
}

/// Runs `runcmd` as cloud-init makes it, with a systemctl that only notes its calls and with the
/// marker below `folder`. `keep` says which files were really written.
fn boot(pre: &[&str], post: &[&str], files_written: bool, enable_fails: bool) -> Boot {
    let folder = tempfile::tempdir().expect("folder");
    let root = folder.path().join("root/etc/example/file");
    let file = NodeFile {
        path: root.to_str().expect("utf-8").to_owned(),
        mode: 0o644,
        owner: "root:root".to_owned(),
        content: b"x".to_vec().into(),
    };
    if files_written {
        std::fs::create_dir_all(root.parent().expect("parent")).expect("folder");
        std::fs::write(&root, "x").expect("file");
    }
    let config = config(vec![file], LARGE, pre, post);
    let read = cloud_init::read(&config.user_data, folder.path());
    first_boot::run(folder.path(), &read.runcmd, enable_fails)
}

#[test]
fn commands_run_in_order_each_in_a_shell_of_its_own() {
    let pre = [
        "echo one >> $TRACE; cd /nowhere || exit 0",
        "set -e\necho two >> $TRACE",
    ];
    let boot = boot(
        &pre,
        &["echo three >> $TRACE", "false || true"],
        true,
        false,
    );
    assert!(boot.success && boot.marker, "{}", boot.output);
    let wanted: Vec<_> = ["one", "two"]
        .into_iter()
        .chain(STARTED)
        .chain(["three"])
        .collect();
    assert_eq!(boot.trace, wanted, "{}", boot.output);
}

#[test]
fn a_failed_step_ends_the_boot_without_the_marker() {
    let failed = |boot: Boot, trace: &[&str], says: &str| {
        assert!(!boot.success && !boot.marker, "{}", boot.output);
        assert_eq!(boot.trace, trace, "{}", boot.output);
        assert!(boot.output.contains(says), "{}", boot.output);
        assert!(
            boot.output
                .contains("the first boot failed at the step above")
        );
    };
    let note = "echo note >> $TRACE";
    failed(
        boot(&["true", "exit 3", note], &[], true, false),
        &[],
        "seedbed: preCommands[1]",
    );
    failed(
        boot(&["false && true"], &[], true, false),
        &[],
        "seedbed: preCommands[0]",
    );
    failed(
        boot(&["'unclosed"], &[], true, false),
        &[],
        "seedbed: preCommands[0]",
    );
    failed(
        boot(&[note], &[note], false, false),
        &[],
        "did not write all files",
    );
    failed(
        boot(&[], &["false", note], true, false),
        &STARTED,
        "seedbed: postCommands[0]",
    );
    failed(boot(&[], &[note], true, true), &STARTED[..2], "");
}

#[test]
fn the_kubelet_is_held_once_and_never_fails_the_boot() {
    let folder = tempfile::tempdir().expect("folder");
    let config = config(vec![], LARGE, &[], &[]);
    let read = cloud_init::read(&config.user_data, folder.path());
    // cloud-init-per keeps its own notes under /var/lib/cloud; here it only runs the command.
    let per = "#!/bin/sh\ntest \"$1 $2\" = 'instance seedbed-hold-kubelet'\nshift 2\nexec \"$@\"\n";
    let systemctl = "#!/bin/sh\necho \"$*\" >> $TRACE\nexit 1\n";
    for (name, script) in [("cloud-init-per", per), ("systemctl", systemctl)] {
        cloud_init::executable(&folder.path().join(name), script);
    }
    let trace = folder.path().join("trace");
    let status = Command::new("/bin/sh")
        .args(["-c", &read.bootcmd])
        .env("PATH", format!("{}:/usr/bin:/bin", folder.path().display()))
        .env("TRACE", &trace)
        .status();
    assert!(status.expect("sh").success());
    assert_eq!(
        std::fs::read_to_string(trace).expect("trace"),
        "disable --now kubelet\n"
    );
    assert!(
        Path::new("/usr/bin/cloud-init-per").is_file(),
        "part of cloud-init"
    );
}
