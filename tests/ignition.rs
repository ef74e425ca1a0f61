//! The real parser of Ignition accepts every machine config, its files are those that went in, and
//! its script runs the commands as promised, once. Ignition itself runs on no machine here: it
//! belongs to an operating system that boots with it.

#[path = "support/contents.rs"]
mod contents;
#[path = "support/first_boot.rs"]
mod first_boot;
#[path = "support/ignition.rs"]
mod ignition;
#[path = "testbed/mod.rs"]
mod testbed;

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use first_boot::{Boot, STARTED};
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use seedbed::crd::MachineConfigFormat;
use seedbed::machine_config::{Additions, Contents, MachineConfig, PLAIN_LIMIT_BYTES};
use seedbed::manifests::NodeFile;

const LARGE: usize = 786_432;
const FOLDER: &str = "/etc/seedbed/first-boot";
const SCRIPT: &str = "/etc/seedbed/first-boot/run.sh";

fn with(files: Vec<NodeFile>, pre: &[&str], post: &[&str], joins: bool) -> Contents {
    let own = |commands: &[&str]| commands.iter().map(|c| (*c).to_owned()).collect::<Vec<_>>();
    let additions = Additions {
        format: MachineConfigFormat::Ignition,
        pre_commands: &own(pre),
        post_commands: &own(post),
        joins,
        ..Additions::default()
    };
    Contents::new(files, additions).expect("contents")
}

fn config(files: Vec<NodeFile>, budget: usize) -> MachineConfig {
    let contents = with(
        files,
        &["echo 'it''s' \"é\" \\ $HOME"],
        &["true # 中文"],
        true,
    );
    contents
        .assemble(contents.revision(), budget)
        .expect("fits")
}

/// The files that went in, and that the parser has nothing to say.
fn assert_understood(files: &[NodeFile], user_data: &[u8]) {
    assert_eq!(ignition::complaints(user_data), "");
    let document = ignition::document(user_data).to_string();
    assert_eq!(ignition::complaints(document.as_bytes()), "");
    assert_round_trip(files, user_data);
}

fn assert_round_trip(files: &[NodeFile], user_data: &[u8]) {
    let mut wanted = files.to_vec();
    wanted.sort_by(|a, b| a.path.cmp(&b.path));
    let read = ignition::parse(user_data);
    let (script, read) = read.files.split_last().expect("the script");
    assert_eq!((script.path.as_str(), script.mode), (SCRIPT, 0o700));
    assert_eq!(read.len(), wanted.len());
    for (entry, file) in read.iter().zip(&wanted) {
        assert_eq!(entry.path, file.path);
        assert_eq!(entry.owner, file.owner, "{}", file.path);
        assert_eq!(entry.mode, file.mode & 0o777, "{}", file.path);
        assert_eq!(entry.content, *file.content, "{}", file.path);
    }
}

#[test]
fn traps_arrive_unchanged_plain_and_compressed() {
    let mut files = contents::traps();
    files.push(NodeFile {
        owner: "etcd:adm".to_owned(),
        mode: 0o4755,
        ..contents::file("weird \"name\" é \\ 中 \u{1f600}", b"x")
    });
    let plain = config(files.clone(), LARGE);
    assert_eq!(plain.format, "ignition");
    assert!(!String::from_utf8_lossy(&plain.user_data).contains("replace"));
    assert_understood(&files, &plain.user_data);
    let compressed = config(files.clone(), plain.user_data.len() - 1);
    assert!(String::from_utf8_lossy(&compressed.user_data).contains("replace"));
    assert_understood(&files, &compressed.user_data);
    // The format is no part of what the machine should be.
    let cloud_config = contents::with_commands(files.clone(), &[], &[]);
    assert_eq!(
        cloud_config.revision(),
        with(files, &[], &[], true).revision()
    );
}

#[test]
fn any_files_arrive_unchanged() {
    let mut runner = TestRunner::deterministic();
    let mut draw = |number: usize| {
        let content = contents::any_content().new_tree(&mut runner);
        let name = contents::any_segment().new_tree(&mut runner);
        let name = name.expect("name").current();
        contents::file(
            &format!("{number}/{name}"),
            &content.expect("content").current(),
        )
    };
    let many: Vec<_> = (0..400).map(&mut draw).collect();
    let few = many[..30].to_vec();
    let plain = config(few.clone(), LARGE).user_data;
    assert!(plain.len() < PLAIN_LIMIT_BYTES);
    assert_understood(&few, &plain);
    let compressed = config(many.clone(), LARGE).user_data;
    assert!(compressed.len() < ignition::document(&compressed).to_string().len() / 2);
    assert_understood(&many, &compressed);
}

#[test]
fn the_parser_would_complain() {
    let broken = |from: &str, to: &str| {
        let config = config(vec![contents::file("a b", b"c d")], LARGE);
        let text = String::from_utf8(config.user_data.to_vec()).expect("text");
        assert!(text.contains(from), "{text}");
        let said = ignition::complaints(text.replacen(from, to, 1).as_bytes());
        assert!(!said.is_empty(), "{from} -> {to}");
    };
    broken("data:,c%20d", "data:,c d");
    broken("/etc/example/a b", "etc/example/a b");
    broken("\"mode\": 384", "\"mode\": 99999");
    broken("3.1.0", "3.99.0");
    broken("seedbed-first-boot.service", "seedbed-first-boot");
}

#[test]
fn machines_of_every_kind_are_accepted_and_small() {
    for example in ["single.yaml", "ha.yaml", "production.yaml"] {
        let folder = tempfile::tempdir().expect("folder");
        let file = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("examples")
            .join(example);
        let text = std::fs::read_to_string(file).expect("example");
        let (head, format) = (
            "\n  machineConfig:\n",
            "    format: Ignition\n    osPreparation: true\n",
        );
        let text = if text.contains(head) {
            text.replacen(head, &format!("{head}{format}"), 1)
        } else {
            text.replacen("\nspec:\n", &format!("\nspec:{head}{format}"), 1)
        };
        let manifest = folder.path().join("manifest.yaml");
        std::fs::write(&manifest, text).expect("manifest");
        let out = folder.path().join("out");
        let output = Command::new(env!("CARGO_BIN_EXE_seedbed"))
            .args(["render", "-f"])
            .args([manifest.as_path(), Path::new("-o"), &out])
            .output()
            .expect("seedbed");
        assert!(output.status.success(), "{example}: {output:?}");
        let entries = std::fs::read_dir(&out).expect("output");
        let names = entries.map(|entry| entry.expect("entry").path());
        let user_data: Vec<_> = names
            .filter(|path| path.extension().is_some_and(|e| e == "user-data"))
            .collect();
        assert!(!user_data.is_empty());
        for path in user_data {
            let user_data = std::fs::read(&path).expect("user data");
            assert_eq!(ignition::complaints(&user_data), "");
            let document = ignition::document(&user_data).to_string();
            assert_eq!(ignition::complaints(document.as_bytes()), "");
            let config = ignition::parse(&user_data);
            println!(
                "{example} {:?}: {} files, {} bytes, document {}",
                path.file_name(),
                config.files.len(),
                user_data.len(),
                document.len()
            );
            let machine = path.with_extension("");
            for file in config.files.iter().filter(|file| file.path != SCRIPT) {
                let rendered = machine.join(file.path.trim_start_matches('/'));
                let mode = std::fs::metadata(&rendered)
                    .expect("file")
                    .permissions()
                    .mode();
                assert_eq!(file.mode, mode & 0o777, "{}", file.path);
                assert_eq!(file.content, std::fs::read(&rendered).expect("file"));
            }
        }
    }
}

/// Runs the script with its own folders elsewhere; also whether it has noted that it began.
fn boot(contents: &Contents, enable_fails: bool) -> (Boot, bool) {
    let folder = tempfile::tempdir().expect("folder");
    let config = contents.assemble(String::new(), LARGE).expect("fits");
    let script = ignition::parse(&config.user_data).text(SCRIPT);
    let script = script.replace(FOLDER, folder.path().to_str().expect("utf-8"));
    let boot = first_boot::run(folder.path(), &script, enable_fails);
    let begun = folder.path().join("begun").is_file();
    (boot, begun)
}

#[test]
fn commands_run_in_order_each_in_a_shell_of_its_own() {
    let pre = [
        "echo one >> $TRACE; cd /nowhere || exit 0",
        "set -e\necho 'two'\"'\" >> $TRACE",
    ];
    let post = ["echo three >> $TRACE", "false || true"];
    let (boot, begun) = boot(&with(vec![], &pre, &post, false), false);
    assert!(boot.success && boot.marker && begun, "{}", boot.output);
    let wanted: Vec<_> = ["one", "two'"]
        .into_iter()
        .chain(STARTED)
        .chain(["three"])
        .collect();
    assert_eq!(boot.trace, wanted, "{}", boot.output);
}

#[test]
fn a_failed_step_ends_the_boot_without_the_marker_and_for_good() {
    let note = "echo note >> $TRACE";
    let failed = |pre: &[&str], post: &[&str], enable_fails, trace: &[&str], says: &str| {
        let (boot, begun) = boot(&with(vec![], pre, post, false), enable_fails);
        assert!(!boot.success && !boot.marker, "{}", boot.output);
        // The unit does not run a second time.
        assert!(begun, "{}", boot.output);
        assert_eq!(boot.trace, trace, "{}", boot.output);
        assert!(boot.output.contains(says), "{}", boot.output);
        let all = "the first boot failed at the step above";
        assert!(boot.output.contains(all), "{}", boot.output);
    };
    failed(
        &["true", "exit 3", note],
        &[],
        false,
        &[],
        "seedbed: preCommands[1]",
    );
    failed(&["'unclosed"], &[], false, &[], "seedbed: preCommands[0]");
    failed(
        &[],
        &["false", note],
        false,
        &STARTED,
        "seedbed: postCommands[0]",
    );
    failed(&[], &[note], true, &STARTED[..2], "");
}

#[test]
fn special_bits_of_a_mode_are_set_by_the_script() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("it's");
    std::fs::write(&path, "x").expect("file");
    let file = NodeFile {
        path: path.to_str().expect("utf-8").to_owned(),
        mode: 0o4750,
        owner: "root:root".to_owned(),
        content: b"x".to_vec().into(),
    };
    let (boot, _) = boot(&with(vec![file], &[], &[], false), false);
    assert!(boot.success, "{}", boot.output);
    let mode = std::fs::metadata(&path).expect("file").permissions().mode();
    assert_eq!(mode & 0o7777, 0o4750);
}

#[test]
fn the_kubelet_is_disabled_until_the_script_enables_it() {
    let config = config(vec![], LARGE);
    let units = ignition::parse(&config.user_data).units;
    assert_eq!(units[0], ("kubelet.service".to_owned(), false, None));
    let (name, enabled, content) = &units[1];
    assert_eq!(
        (name.as_str(), *enabled),
        ("seedbed-first-boot.service", true)
    );
    let content = content.as_deref().expect("a unit");
    let begun = format!("ConditionPathExists=!{FOLDER}/begun\n");
    assert!(content.contains(&begun), "{content}");
    // It starts the kubelet itself: ordered before it, neither would ever start.
    assert!(!content.contains("Before="), "{content}");
}

proptest! {
    #[test]
    fn any_contents_round_trip(contents in prop::collection::vec(contents::any_content(), 0..6)) {
        let numbered = contents.iter().enumerate();
        let files: Vec<_> = numbered
            .map(|(number, content)| contents::file(&number.to_string(), content))
            .collect();
        let plain = config(files.clone(), LARGE);
        assert_round_trip(&files, &plain.user_data);
        prop_assert_eq!(&plain.user_data, &config(files, LARGE).user_data);
    }
}
