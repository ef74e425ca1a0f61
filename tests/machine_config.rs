//! Machine configs give back what went in, byte for byte and the same every time.

#[path = "support/contents.rs"]
mod contents;
#[path = "support/user_data.rs"]
mod user_data;

use proptest::prelude::*;
use seedbed::domain::UserFile;
use seedbed::machine_config::{
    Additions, Contents, MachineConfigError, PLAIN_LIMIT_BYTES, PathFault,
};
use seedbed::manifests::NodeFile;
use user_data::Command;

const LARGE: usize = 786_432;

fn of(files: Vec<NodeFile>) -> Contents {
    Contents::new(files, Additions::default()).expect("contents")
}

fn user(path: &str) -> UserFile {
    UserFile {
        path: path.to_owned(),
        mode: 0o644,
        owner: "root:root".to_owned(),
        content: b"mine\n".to_vec().into(),
    }
}

fn assert_round_trip(files: &[NodeFile], user_data: &[u8]) {
    let read = user_data::parse(user_data).write_files;
    assert_eq!(read.len(), files.len());
    for (entry, file) in read.iter().zip(files) {
        assert_eq!(entry.path, file.path);
        assert_eq!(entry.mode(), file.mode, "{}", file.path);
        assert_eq!(entry.owner, file.owner, "{}", file.path);
        assert_eq!(entry.defer, file.owner != "root:root", "{}", file.path);
        assert_eq!(entry.bytes(), *file.content, "{}", file.path);
    }
}

#[test]
fn every_trap_comes_out_unchanged_plain_and_compressed() {
    let contents = of(contents::traps());
    let config = |budget| {
        contents
            .assemble(contents.revision(), budget)
            .expect("fits")
    };
    let plain = config(LARGE).user_data;
    let compressed = config(plain.len() - 1).user_data;
    assert!(compressed.starts_with(b"MIME-Version: 1.0\n"));
    assert!(compressed.len() < plain.len());
    assert_round_trip(contents.files(), &plain);
    assert_round_trip(contents.files(), &compressed);
    assert_eq!(user_data::document(&compressed).as_bytes(), &plain[..]);
}

#[test]
fn a_header_of_mail_near_the_start_is_stored_compressed() {
    // cloud-init would take such a document for a message and find no part in it.
    for content in ["# Mime-Version: 1.0\n", "x\n"] {
        let contents = of(vec![contents::file("a", content.as_bytes())]);
        let config = contents.assemble(String::new(), LARGE).expect("fits");
        let text = String::from_utf8(config.user_data.to_vec()).expect("text");
        assert_eq!(text.starts_with("MIME"), content.contains("Mime"), "{text}");
        assert_round_trip(contents.files(), text.as_bytes());
    }
}

#[test]
fn large_documents_are_stored_compressed_whatever_the_budget() {
    let contents = of(vec![contents::file(
        "large",
        &b"text\n".repeat(PLAIN_LIMIT_BYTES),
    )]);
    let config = contents.assemble(String::new(), LARGE).expect("fits");
    assert!(config.user_data.len() < PLAIN_LIMIT_BYTES);
    assert_round_trip(contents.files(), &config.user_data);
}

#[test]
fn over_budget_names_the_largest_files_and_gives_nothing() {
    let noise = |seed: u8, length: usize| -> Vec<u8> {
        let step = |state: &mut u32| {
            *state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            Some((*state >> 24) as u8)
        };
        std::iter::successors(Some(u32::from(seed)), |_| None)
            .flat_map(|mut state| std::iter::from_fn(move || step(&mut state)).take(length))
            .collect()
    };
    let files = (1..=7u8)
        .map(|i| contents::file(&format!("f{i}"), &noise(i, 1000 * usize::from(i))))
        .collect();
    let contents = of(files);
    let Err(error) = contents.assemble(String::new(), 12_288) else {
        panic!("28 kB of noise cannot fit");
    };
    let MachineConfigError::TooLarge {
        size,
        budget,
        largest,
    } = &error
    else {
        panic!("{error}");
    };
    assert!(*size > 28_000 && *budget == 12_288, "{error}");
    let names: Vec<_> = largest.iter().map(|file| file.path.as_str()).collect();
    let expected = ["f7", "f6", "f5", "f4", "f3"].map(|name| format!("/etc/example/{name}"));
    assert_eq!(names, expected);
    assert!(
        largest.iter().all(|file| file.compressed_bytes >= 3000),
        "{error}"
    );
    let text = error.to_string();
    assert!(
        text.contains("/etc/example/f7 (70") && text.contains("sizeBudgetBytes"),
        "{text}"
    );
}

#[test]
fn users_may_not_write_what_belongs_to_others() {
    let rendered = || vec![contents::file("rendered/file", b"x")];
    let fault = |paths: &[&str]| {
        let files: Vec<_> = paths.iter().map(|path| user(path)).collect();
        let additions = Additions {
            files: &files,
            reserved_directories: vec!["/var/lib/etcd".to_owned()],
            ..Additions::default()
        };
        match Contents::new(rendered(), additions) {
            Ok(_) => None,
            Err(MachineConfigError::Path { fault, .. }) => Some(fault),
            Err(other) => panic!("{other}"),
        }
    };
    assert_eq!(
        fault(&["/etc/example/mine", "/etc/example/rendered2"]),
        None
    );
    assert_eq!(
        fault(&["/etc/example/rendered/file"]),
        Some(PathFault::Rendered)
    );
    assert_eq!(fault(&["/a", "/a"]), Some(PathFault::Repeated));
    let etcd = || Some(PathFault::Reserved("/var/lib/etcd".into()));
    assert_eq!(fault(&["/var/lib/etcd"]), etcd());
    assert_eq!(fault(&["/var/lib/etcd/member/x"]), etcd());
    assert_eq!(fault(&["/var/lib/etcd-backup/x"]), None);
    let marker = "/run/cluster-api/bootstrap-success.complete";
    assert_eq!(fault(&[marker]), Some(PathFault::Reserved(marker.into())));
    for own in [
        "/etc/seedbed/first-boot",
        "/etc/systemd/system/seedbed-first-boot.service",
    ] {
        assert_eq!(fault(&[own]), Some(PathFault::Reserved(own.into())));
    }
    let folder = |below: &str| Some(PathFault::Folder(below.into()));
    assert_eq!(
        fault(&["/etc/example/rendered"]),
        folder("/etc/example/rendered/file")
    );
    assert_eq!(fault(&["/a", "/a-b", "/a/b"]), folder("/a/b"));
    assert_eq!(fault(&["/"]), folder("/etc/example/rendered/file"));
}

#[test]
fn the_revision_sees_what_the_machine_should_be_and_nothing_else() {
    let base = || vec![contents::file("a", b"1"), contents::file("b", b"2")];
    let revision = |files: Vec<NodeFile>, pre: &[&str], post: &[&str]| {
        contents::with_commands(files, pre, post).revision()
    };
    let known = revision(base(), &[], &[]);
    assert_eq!(known.len(), 16);
    let mut reversed = base();
    reversed.reverse();
    assert_eq!(revision(reversed, &[], &[]), known, "order of rendering");
    // Changing this value makes every running machine look outdated: do it with a changelog entry.
    assert_eq!(known, "2cc4e6ea5333c850");
    let with = |change: fn(&mut NodeFile)| {
        let mut files = base();
        change(&mut files[0]);
        revision(files, &[], &[])
    };
    let mut all = vec![
        known,
        with(|file| file.content = b"3".to_vec().into()),
        with(|file| file.mode = 0o644),
        with(|file| file.owner = "root:adm".into()),
        with(|file| file.path = "/etc/example/c".into()),
        revision(base(), &["x"], &[]),
        revision(base(), &[], &["x"]),
        revision(base(), &["x", "y"], &[]),
        revision(base(), &["xy"], &[]),
        revision(base(), &["x"], &["y"]),
        revision(base()[..1].to_vec(), &[], &[]),
    ];
    let count = all.len();
    all.sort();
    all.dedup();
    assert_eq!(all.len(), count);
}

#[test]
fn the_kubelet_is_held_before_files_and_started_after_them() {
    let pre = ["modprobe br_netfilter".to_owned()];
    let post = ["echo 'done'\n# two lines".to_owned()];
    let additions = Additions {
        pre_commands: &pre,
        post_commands: &post,
        private_directories: vec!["/etc/kubernetes/manifests".into(), "/var/lib/etcd".into()],
        restarted_services: vec!["containerd".into()],
        ..Additions::default()
    };
    let contents = Contents::new(vec![contents::file("a", b"x")], additions).expect("contents");
    let config = contents.assemble(String::new(), LARGE).expect("fits");
    let read = user_data::parse(&config.user_data);
    let Command::Program(hold) = &read.bootcmd[0] else {
        panic!("{:?}", read.bootcmd);
    };
    assert_eq!(
        hold[..3],
        ["cloud-init-per", "instance", "seedbed-hold-kubelet"]
    );
    let position = |wanted: &[&str]| {
        let is = |command: &Command| match command {
            Command::Program(words) => words == wanted,
            Command::Line(line) => [line.as_str()] == wanted,
        };
        let found = read.runcmd.iter().position(is);
        found.unwrap_or_else(|| panic!("{wanted:?} in {:#?}", read.runcmd))
    };
    let order = [
        position(&["set -e"]),
        position(&["/bin/sh", "-c", pre[0].as_str()]),
        position(&[
            "install",
            "-d",
            "-m",
            "0700",
            "/etc/kubernetes/manifests",
            "/var/lib/etcd",
        ]),
        position(&["systemctl", "daemon-reload"]),
        position(&["systemctl", "restart", "containerd"]),
        position(&["systemctl", "enable", "kubelet"]),
        position(&["systemctl", "restart", "kubelet"]),
        position(&["/bin/sh", "-c", post[0].as_str()]),
        position(&["echo success > /run/cluster-api/bootstrap-success.complete"]),
    ];
    assert!(order.is_sorted(), "{order:?}");
    assert_eq!(order[0], 0);
    assert_eq!(order[8], read.runcmd.len() - 1);
}

#[test]
fn hashes_are_those_of_the_contents() {
    let contents = of(vec![contents::file("empty", b"")]);
    let config = contents.assemble("r".to_owned(), LARGE).expect("fits");
    let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    assert_eq!(config.files["/etc/example/empty"], empty);
    assert_eq!(
        (config.revision.as_str(), config.format),
        ("r", "cloud-config")
    );
}

/// Up to eight files with different names.
fn any_files() -> impl Strategy<Value = Vec<NodeFile>> {
    let modes = prop::sample::select(vec![0o600, 0o644, 0o755, 0o400, 0o4755, 0o000]);
    let owners = prop::sample::select(vec!["root:root", "etcd:etcd", "no:yes"]);
    prop::collection::btree_map(
        contents::any_segment(),
        (contents::any_content(), modes, owners),
        0..8,
    )
    .prop_map(|files| {
        let one = |(name, (content, mode, owner)): (String, (Vec<u8>, u32, &str))| NodeFile {
            mode,
            owner: owner.to_owned(),
            ..contents::file(&name, &content)
        };
        files.into_iter().map(one).collect()
    })
}

proptest! {
    #[test]
    fn any_files_round_trip(files in any_files(), tight in any::<bool>()) {
        let contents = of(files);
        let config = contents.assemble(contents.revision(), LARGE).expect("fits");
        assert_round_trip(contents.files(), &config.user_data);
        if tight && let Ok(small) = contents.assemble(String::new(), config.user_data.len() - 1) {
            prop_assert!(small.user_data.len() < config.user_data.len());
            assert_round_trip(contents.files(), &small.user_data);
        }
        let again = contents.assemble(contents.revision(), LARGE).expect("fits");
        prop_assert_eq!(&config.user_data, &again.user_data);
    }

    #[test]
    fn any_command_round_trips(command in "[^\\x00]{0,60}") {
        let contents = contents::with_commands(vec![], &[&command], &[]);
        let config = contents.assemble(String::new(), LARGE).expect("fits");
        let wanted = Command::Program(vec!["/bin/sh".into(), "-c".into(), command]);
        prop_assert!(user_data::parse(&config.user_data).runcmd.contains(&wanted));
    }
}
