//! What a machine does at its first boot, beside writing files.
//!
//! Ignition stops a machine whose files it cannot write, and disables the kubelet by a preset.
//! cloud-init writes files early and runs `runcmd` late, as one shell script that goes on after a
//! failed line. Two things follow. An image whose package enables the kubelet would start it as soon
//! as its configuration exists, before the user's commands: so it is held back first. And the
//! success marker has to be earned: so the script ends at the first failure.

use super::{Contents, DataDir, Founder};
use crate::manifests::NodeFile;

/// Written when everything succeeded, and only then (Cluster API's bootstrap contract).
pub const SUCCESS_MARKER: &str = "/run/cluster-api/bootstrap-success.complete";

/// With Ignition: the folder with the commands, and with the mark that they have begun.
pub const FIRST_BOOT_FOLDER: &str = "/etc/seedbed/first-boot";
/// With Ignition: the unit that runs them, and its file.
pub(super) const FIRST_BOOT_UNIT: &str = "seedbed-first-boot.service";
pub(super) const FIRST_BOOT_UNIT_FILE: &str = "/etc/systemd/system/seedbed-first-boot.service";

/// Ends the boot of a member whose folder, `$1`, is empty.
const REFUSE: &str = "rm -f /etc/kubernetes/manifests/etcd.yaml; \
                      echo \"seedbed: $1 is empty, but this etcd member has started before; it is \
                      not started on an empty disk\" >&2; exit 1";

/// Set-user-ID, set-group-ID and sticky: bits of a mode that Ignition 3.1 does not set.
pub(super) const SPECIAL_BITS: u32 = 0o7000;

/// Commands of cloud-init's two moments.
pub(super) struct Boot {
    /// `bootcmd`: before files are written, on every boot.
    pub before_files: Vec<Command>,
    /// `runcmd`: once, at the end of the first boot.
    pub at_the_end: Vec<Command>,
}

/// A step of the script: an entry of `bootcmd` or `runcmd`.
pub(super) enum Command {
    /// A line of the script.
    Line(String),
    /// A program with its arguments, which are quoted.
    Program(Vec<String>),
}

impl Command {
    /// Bytes of all words.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Line(line) => line.len(),
            Self::Program(words) => words.iter().map(|word| word.len() + 3).sum(),
        }
    }
}

/// For cloud-init, which has to be asked whether it wrote all files.
pub(super) fn boot(contents: &Contents) -> Boot {
    Boot {
        before_files: vec![hold_kubelet()],
        at_the_end: run(contents, all_files_written(contents).into_iter().collect()),
    }
}

/// For a script of its own, on a machine that has all its files and holds its kubelet.
pub(super) fn script(contents: &Contents) -> Vec<Command> {
    let special = contents.files.iter();
    let special = special.filter(|file| file.mode & SPECIAL_BITS != 0);
    let modes = special.map(|file| program(["chmod", &format!("{:o}", file.mode), &file.path]));
    run(contents, modes.collect())
}

/// Once per instance. The kubelet may not be installed yet, hence never a failure.
fn hold_kubelet() -> Command {
    program([
        "cloud-init-per",
        "instance",
        "seedbed-hold-kubelet",
        "/bin/sh",
        "-c",
        "systemctl disable --now kubelet || true",
    ])
}

fn run(contents: &Contents, first: Vec<Command>) -> Vec<Command> {
    let mut run = vec![
        line("set -e"),
        line(
            "trap 'test $? = 0 || echo \"seedbed: the first boot failed at the step above\" >&2' EXIT",
        ),
    ];
    run.extend(first);
    user_commands(&mut run, "preCommands", &contents.pre_commands);
    // These follow the user's commands, which may have mounted a disk there.
    run.extend(contents.data_dir.as_ref().map(|data_dir| match data_dir {
        DataDir::Kept(folder) => no_amnesia(folder),
        DataDir::SetAside(folder) => set_aside(folder),
        DataDir::AsksOthers(founder) => ask_others(founder),
    }));
    if !contents.private_directories.is_empty() {
        let mut install = argv(["install", "-d", "-m", "0700"]);
        install.extend(contents.private_directories.iter().cloned());
        run.push(Command::Program(install));
    }
    run.push(program(["systemctl", "daemon-reload"]));
    if !contents.restarted_services.is_empty() {
        let mut restart = argv(["systemctl", "restart"]);
        restart.extend(contents.restarted_services.iter().cloned());
        run.push(Command::Program(restart));
    }
    run.push(program(["systemctl", "enable", "kubelet"]));
    run.push(program(["systemctl", "restart", "kubelet"]));
    user_commands(&mut run, "postCommands", &contents.post_commands);
    run.extend(contents.joins.then(joined));
    run.push(program(["mkdir", "-p", "/run/cluster-api"]));
    run.push(Command::Line(format!("echo success > {SUCCESS_MARKER}")));
    run
}

/// A member that has started must not start again on an empty disk: it would vote without
/// remembering what it voted for (etcd-membership I9, E4). A new disk means a new member. What it has
/// promised is in its write-ahead log; the folder beside it is made even by an etcd that refuses to start.
fn no_amnesia(data_dir: &str) -> Command {
    let check = format!("test -d \"$1/member/wal\" || {{ {REFUSE}; }}");
    program(["/bin/sh", "-c", &check, "sh", data_dir])
}

/// A founder whose first start the operator has yet to see. On an empty disk it asks the other members,
/// which must run for it to start at all: a member's client URLs are listed from its first start on.
/// The list is that of etcd's peer port, which etcd itself asks.
fn ask_others(founder: &Founder) -> Command {
    let list = "curl -fgsS --http1.1 --noproxy '*' -m 5 \
                --cacert $2/ca.crt --cert $2/peer.crt --key $2/peer.key \"$url/members\"";
    let ask = format!(
        "test -d \"$1/member/wal\" || until test \"$asked\"; do curl -V >/dev/null || exit; \
         for url in $4; do list=$({list}) || continue; asked=1; \
         case $list in *'\"name\":\"'$3'\",\"clientURLs\"'*) {REFUSE} ;; esac; done; \
         test \"$asked\" || sleep 5; done"
    );
    let (folder, pki) = (&founder.data_dir, &founder.certificates);
    let others = founder.others.join(" ");
    program([
        "/bin/sh",
        "-c",
        &ask,
        "sh",
        folder,
        pki,
        &founder.name,
        &others,
    ])
}

/// A member that has never started begins with an empty folder. What an earlier member of this
/// machine has left there would be refused by the others, or worse (etcd-membership I10). Nothing
/// uses it at this time: the kubelet is held back.
fn set_aside(data_dir: &str) -> Command {
    let move_away = "test -d \"$1/member\" || exit 0; \
                     aside=\"$1/member.$(date -u +%Y%m%dT%H%M%SZ)\"; \
                     mv \"$1/member\" \"$aside\"; \
                     echo \"seedbed: data of an earlier etcd member was moved to $aside\"";
    program(["/bin/sh", "-ec", move_away, "sh", data_dir])
}

/// Waits, as `kubeadm join` does, until the kubelet has a certificate of its own, and takes away the
/// credential that it was asked for with. No limit: the credential is kept valid until then.
fn joined() -> Command {
    let wait = "until test -e /var/lib/kubelet/pki/kubelet-client-current.pem; do sleep 1; done; \
                rm -f /etc/kubernetes/bootstrap-kubelet.conf";
    program(["/bin/sh", "-c", wait])
}

/// cloud-init only logs when it cannot write a file, for example for want of its owner, and leaves
/// out all that follow; so the last one of each of its two passes tells.
fn all_files_written(contents: &Contents) -> Option<Command> {
    let last = |deferred| {
        let mut files = contents.files.iter().rev();
        files.find(|file| is_deferred(file) == deferred)
    };
    let last = [last(false), last(true)];
    let last: Vec<_> = last
        .into_iter()
        .flatten()
        .map(|file| file.path.clone())
        .collect();
    let check = "for file; do test -f \"$file\" || \
                 { echo \"seedbed: cloud-init did not write all files, $file is missing\" >&2; \
                 exit 1; }; done";
    let mut check = argv(["/bin/sh", "-c", check, "sh"]);
    check.extend(last.iter().cloned());
    (!last.is_empty()).then_some(Command::Program(check))
}

/// Users and groups are made after files are written, except for deferred ones.
pub(super) fn is_deferred(file: &NodeFile) -> bool {
    file.owner != "root:root"
}

/// Each in a shell of its own: `exit`, `cd` or an unclosed quote in one does not reach the next,
/// and its exit status decides whether the boot goes on.
fn user_commands(run: &mut Vec<Command>, field: &str, commands: &[String]) {
    for (index, command) in commands.iter().enumerate() {
        run.push(Command::Line(format!("echo 'seedbed: {field}[{index}]'")));
        run.push(program(["/bin/sh", "-c", command]));
    }
}

fn line(text: &str) -> Command {
    Command::Line(text.to_owned())
}

fn program<const N: usize>(words: [&str; N]) -> Command {
    Command::Program(argv(words))
}

fn argv<const N: usize>(words: [&str; N]) -> Vec<String> {
    words.map(str::to_owned).to_vec()
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::process::Command as Shell;

    use super::*;

    /// I9: runs the real check on a folder with and without data.
    #[test]
    fn a_started_member_never_boots_on_an_empty_disk() {
        let folder = tempfile::tempdir().unwrap();
        let Command::Program(argv) = no_amnesia(folder.path().to_str().unwrap()) else {
            panic!("not a program");
        };
        let script = argv[2].replace("/etc/kubernetes", folder.path().to_str().unwrap());
        let manifest = folder.path().join("manifests/etcd.yaml");
        std::fs::create_dir_all(manifest.parent().unwrap()).unwrap();
        std::fs::write(&manifest, "kind: Pod").unwrap();
        let run = || {
            Shell::new("/bin/sh")
                .args(["-c", &script, "sh", &argv[4]])
                .output()
                .unwrap()
        };

        let wal = folder.path().join("member/wal");
        std::fs::create_dir_all(&wal).unwrap();
        assert!(run().status.success());
        assert!(manifest.exists());

        std::fs::remove_dir(&wal).unwrap();
        let refused = run();
        assert!(!refused.status.success() && !manifest.exists());
        let text = String::from_utf8(refused.stderr).unwrap();
        assert!(text.contains("empty disk"), "{text}");
    }

    #[test]
    fn only_a_started_member_has_the_check() {
        let commands = |data_dir: Option<DataDir>| -> Vec<String> {
            let additions = super::super::Additions {
                data_dir,
                ..Default::default()
            };
            let about_data = |command: &Command| match command {
                Command::Program(argv) if argv.last().unwrap() == "/data" => Some(argv[2].clone()),
                _ => None,
            };
            let contents = Contents::new(Vec::new(), additions).unwrap();
            let steps = script(&contents);
            steps.iter().filter_map(about_data).collect()
        };
        assert!(commands(None).is_empty());
        let kept = commands(Some(DataDir::Kept("/data".to_owned())));
        assert!(kept.len() == 1 && kept[0].contains("empty disk"));
        let aside = commands(Some(DataDir::SetAside("/data".to_owned())));
        assert!(aside.len() == 1 && aside[0].contains("mv "));
    }

    /// I9: runs the real script; a stand-in for curl has what each member lists.
    #[test]
    fn a_founder_starts_on_an_empty_disk_only_when_nobody_knows_it() {
        const UNKNOWN: &str = r#"[{"id":1,"peerURLs":["https://a"],"name":"cp-1",
            "clientURLs":["https://a"]},{"id":3,"peerURLs":["https://c"],"name":"cp-3"}]"#;
        const KNOWN: &str = r#"[{"id":3,"peerURLs":["https://c"],"name":"cp-3","clientURLs":[]}]"#;
        let run = |lists: [Option<&str>; 2], data: bool, curl: bool| {
            let root = tempfile::tempdir().unwrap();
            let at = |name: &str| root.path().join(name);
            let text = |name: &str| at(name).to_str().unwrap().to_owned();
            for (name, list) in ["a", "b"].iter().zip(lists) {
                std::fs::create_dir_all(at(name)).unwrap();
                if let Some(list) = list {
                    std::fs::write(at(name).join("members"), list).unwrap();
                }
            }
            std::fs::create_dir_all(at(if data {
                "data/member/wal"
            } else {
                "data/member"
            }))
            .unwrap();
            std::fs::create_dir_all(at("bin")).unwrap();
            for tool in ["rm", "cat", "sleep"] {
                std::os::unix::fs::symlink(format!("/bin/{tool}"), at("bin").join(tool)).unwrap();
            }
            if curl {
                let curl = "#!/bin/sh\n[ \"$1\" = -V ] && exit\nfor last; do :; done\nexec cat \"$last\" 2>/dev/null\n";
                std::fs::write(at("bin/curl"), curl).unwrap();
                let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
                std::fs::set_permissions(at("bin/curl"), mode).unwrap();
            }
            let Command::Program(argv) = ask_others(&Founder {
                data_dir: text("data"),
                certificates: text("pki"),
                name: "cp-3".to_owned(),
                others: vec![text("a"), text("b")],
            }) else {
                panic!("not a program");
            };
            let mut shell = Shell::new(&argv[0]);
            let shell = shell.args(&argv[1..]).env("PATH", at("bin"));
            let output = shell.output().unwrap();
            let said = String::from_utf8(output.stderr).unwrap();
            (output.status.success(), said)
        };
        assert!(run([Some(UNKNOWN), None], false, true).0);
        let (done, said) = run([Some(UNKNOWN), Some(KNOWN)], false, true);
        assert!(!done && said.contains("data is empty"), "{said}");
        assert!(!run([None, Some(KNOWN)], false, true).0);
        assert!(run([None, Some(KNOWN)], true, true).0, "it has its data");
        let (done, said) = run([Some(UNKNOWN), None], false, false);
        assert!(!done && said.contains("curl: "), "{said}");
    }

    /// I10: runs the real command on a folder with the data of a removed member, and without.
    #[test]
    fn a_new_member_never_starts_on_old_data() {
        let folder = tempfile::tempdir().unwrap();
        let Command::Program(argv) = set_aside(folder.path().to_str().unwrap()) else {
            panic!("not a program");
        };
        let run = || Shell::new(&argv[0]).args(&argv[1..]).output().unwrap();
        assert!(run().status.success());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);

        let member = folder.path().join("member");
        std::fs::create_dir(&member).unwrap();
        std::fs::write(member.join("wal"), "old").unwrap();
        let moved = run();
        assert!(moved.status.success(), "{moved:?}");
        let text = String::from_utf8(moved.stdout).unwrap();
        let aside = text.trim().rsplit(' ').next().unwrap();
        let kept = std::fs::read_to_string(Path::new(aside).join("wal")).unwrap();
        assert!(!member.exists() && kept == "old", "{text}");
    }
}
