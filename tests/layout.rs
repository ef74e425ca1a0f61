//! The layout of the source: what a room may use, how long a file may be, what opens a room.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Longest file, not counting tests.
const MAX_LINES: usize = 400;

/// Rooms that decide and never act, as path prefixes below `src/`.
const PURE: [&str; 10] = [
    "controllers/fields/",
    "crd/",
    "domain/",
    "machine_config/",
    "manifests/",
    "membership/",
    "pki/",
    "target/",
    "tokens/",
    "versions/",
];

/// Their edges: the files that act.
const EDGES: [&str; 9] = [
    // Makes keys, serial numbers and signatures: the only user of randomness.
    "pki/issue",
    "pki/key.rs",
    // Talk to the target's API server.
    "target/apply.rs",
    "target/client.rs",
    "target/drain.rs",
    "target/nodes.rs",
    "target/requests.rs",
    "target/tokens.rs",
    // Makes tokens: they are stored before anything is made of them.
    "tokens/issue.rs",
];

/// Stages that decide, in every controller.
const PURE_STAGES: [&str; 2] = ["resolve", "plan"];

/// What gives a pure room away, with the reason.
const FORBIDDEN: [(&str, &str); 14] = [
    ("async ", "decisions do not wait"),
    (".await", "decisions do not wait"),
    ("kube::api", "no client"),
    ("kube::client", "no client"),
    ("kube::Client", "no client"),
    ("kube_ext::apply", "no client"),
    ("tokio", "no executor"),
    ("etcd_client", "no client"),
    ("std::env", "the environment is read by settings"),
    ("std::fs", "no files"),
    (
        "rand::",
        "randomness is stored before it is used; see pki/issue",
    ),
    ("Timestamp::now", "the time is an argument"),
    ("SystemTime", "the time is an argument"),
    ("Instant", "the time is an argument"),
];

/// Words that mean unfinished work.
const UNFINISHED: [&str; 4] = ["todo!(", "unimplemented!(", "TODO", "FIXME"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every Rust file below a folder of the project, as its path from there, with its text.
fn rust_files(folder: &str) -> Vec<(String, String)> {
    let start = root().join(folder);
    let mut files = Vec::new();
    let mut folders = vec![start.clone()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path: PathBuf = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                let path = path.strip_prefix(&start).unwrap();
                files.push((path.to_str().unwrap().to_owned(), text));
            }
        }
    }
    assert!(!files.is_empty(), "no source in {folder}");
    files.sort();
    files
}

fn is_test(path: &str) -> bool {
    path.ends_with("tests.rs") || path.contains("/tests/")
}

/// The text up to the tests at its end.
fn without_tests(text: &str) -> &str {
    text.split("#[cfg(test)]\nmod tests {")
        .next()
        .unwrap_or(text)
}

fn is_pure(path: &str) -> bool {
    let stage = path.strip_prefix("controllers/").is_some_and(|path| {
        path.split('/')
            .any(|part| PURE_STAGES.contains(&part.trim_end_matches(".rs")))
    });
    let room = PURE.iter().any(|room| path.starts_with(room));
    (stage || room) && !EDGES.iter().any(|edge| path.starts_with(edge))
}

/// What a pure file uses that it must not, one message each.
fn impurities(path: &str, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (number, line) in without_tests(text).lines().enumerate() {
        let code = line.split("//").next().unwrap_or_default();
        for (token, why) in FORBIDDEN {
            if code.contains(token) {
                let number = number + 1;
                found.push(format!("src/{path}:{number} uses {token:?}: {why}"));
            }
        }
    }
    found
}

#[test]
fn pure_rooms_do_not_act() {
    let found: Vec<_> = rust_files("src")
        .iter()
        .filter(|(path, _)| is_pure(path) && !is_test(path))
        .flat_map(|(path, text)| impurities(path, text))
        .collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn the_wall_is_where_it_should_be() {
    for path in [
        "domain/cidr.rs",
        "pki/plan.rs",
        "membership/founding.rs",
        "controllers/control_plane/resolve/etcd.rs",
        "controllers/etcd_cluster/plan.rs",
    ] {
        assert!(is_pure(path), "{path}");
    }
    for path in [
        "pki/issue.rs",
        "pki/issue/carry_out.rs",
        "etcd/client.rs",
        "controllers/control_plane/act.rs",
        "runtime/clock.rs",
    ] {
        assert!(!is_pure(path), "{path}");
    }
    let text = "use kube::ResourceExt;\n// async fn in a comment\nuse kube::api::Patch;\n\
                #[cfg(test)]\nmod tests {\n    use tokio;\n}\n";
    let found = impurities("domain/x.rs", text);
    assert_eq!(found, ["src/domain/x.rs:3 uses \"kube::api\": no client"]);
}

#[test]
fn files_stay_short() {
    let long: Vec<_> = rust_files("src")
        .into_iter()
        .filter(|(path, _)| !is_test(path))
        .map(|(path, text)| (path, without_tests(&text).lines().count()))
        .filter(|(_, lines)| *lines > MAX_LINES)
        .collect();
    assert!(
        long.is_empty(),
        "cut these along a seam, they have more than {MAX_LINES} lines: {long:?}"
    );
}

#[test]
fn every_room_says_what_it_is_for() {
    let mut silent = Vec::new();
    for (path, text) in rust_files("src") {
        let docs = text
            .lines()
            .take_while(|line| line.starts_with("//!"))
            .count();
        let is_room = path.ends_with("/mod.rs") || path == "lib.rs";
        if !is_test(&path) && docs < if is_room { 4 } else { 1 } {
            silent.push(format!(
                "src/{path} opens with {docs} lines of documentation"
            ));
        }
    }
    assert!(silent.is_empty(), "{}", silent.join("\n"));
}

#[test]
fn nothing_is_unfinished() {
    for folder in ["src", "tests"] {
        for (path, text) in rust_files(folder) {
            if folder == "tests" && path == "layout.rs" {
                continue; // Names the words.
            }
            for word in UNFINISHED {
                assert!(!text.contains(word), "{folder}/{path} holds {word}");
            }
        }
    }
}

/// `make test` and `make soak` run the targets in an order of their own; a new one must have its
/// place there.
#[test]
fn every_test_target_is_run() {
    let script = std::fs::read_to_string(root().join("tests/run.sh")).unwrap();
    let listed: BTreeSet<String> = script
        .lines()
        .filter_map(|line| {
            let line = line.trim();
            line.strip_prefix("group ").or(line.strip_prefix("soak "))
        })
        .flat_map(|line| line.split_whitespace().skip(1).map(str::to_owned))
        .collect();
    let mut targets = BTreeSet::from(["lib".to_owned()]);
    for entry in std::fs::read_dir(root().join("tests")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let is_file = path.extension().is_some_and(|extension| extension == "rs");
        if is_file || path.join("main.rs").is_file() {
            targets.insert(name);
        }
    }
    assert_eq!(listed, targets, "tests/run.sh and the test targets differ");
}
