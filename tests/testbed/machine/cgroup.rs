//! One cgroup per machine, in every hierarchy: the kubelets of two machines must not see each
//! other's pods, and everything that a machine ever started can be killed through it. Works with
//! cgroup v2 and with the separate hierarchies of v1.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use super::super::progress;

const MOUNT: &str = "/sys/fs/cgroup";

/// Kills what is in the cgroup `$1`, in every hierarchy, and removes it. Processes take a moment
/// to go and may have started others meanwhile, hence the rounds.
const REMOVE: &str = r#"
for round in 1 2 3 4 5 6 7 8 9 10; do
    left=
    for group in /sys/fs/cgroup/"$1" /sys/fs/cgroup/*/"$1"; do
        [ -d "$group" ] || continue
        find "$group" -name cgroup.procs -exec cat {} + 2>/dev/null | xargs -r kill -KILL 2>/dev/null
        find "$group" -depth -type d -exec rmdir {} + 2>/dev/null
        [ ! -d "$group" ] || left=$group
    done
    [ -n "$left" ] || exit 0
    sleep 0.2
done
echo "cannot remove $left" >&2
exit 1
"#;

/// Makes the cgroup `name` in every hierarchy.
pub(super) fn create(name: &str) -> Result<()> {
    for hierarchy in hierarchies()? {
        let group = hierarchy.join(name);
        fs::create_dir_all(&group).with_context(|| format!("create {}", group.display()))?;
        // In v1 a new cpuset is empty, and nothing can run in it.
        for file in ["cpuset.cpus", "cpuset.mems"] {
            let of_parent = hierarchy.join(file);
            if of_parent.exists() {
                fs::write(group.join(file), fs::read(of_parent)?)?;
            }
            // What is made below it (for pods) takes over these settings.
            let clone = group.join("cgroup.clone_children");
            if file == "cpuset.cpus" && hierarchy.join(file).exists() && clone.exists() {
                fs::write(clone, "1")?;
            }
        }
    }
    Ok(())
}

/// A shell script that moves itself into the cgroup `name` and becomes the program in its
/// arguments.
pub(super) fn enter_and_exec(name: &str) -> String {
    format!(
        "for group in {MOUNT}/{name} {MOUNT}/*/{name}; do \
         if [ -d \"$group\" ]; then echo $$ > \"$group/cgroup.procs\" || exit 1; fi; done; \
         exec \"$@\""
    )
}

/// Kills everything in the cgroup `name` and removes it.
pub(super) fn remove(name: &str) -> Result<()> {
    let argv = removal(name);
    let (program, arguments) = argv.split_first().context("no command")?;
    progress::output(Command::new(program).args(arguments)).map(drop)
}

/// The command that kills everything in the cgroup `name` and removes it.
pub(super) fn removal(name: &str) -> Vec<String> {
    ["sh", "-c", REMOVE, "sh", name].map(String::from).to_vec()
}

fn hierarchies() -> Result<Vec<PathBuf>> {
    let mount = Path::new(MOUNT);
    if mount.join("cgroup.controllers").exists() {
        return Ok(vec![mount.to_owned()]);
    }
    let mut found = Vec::new();
    for entry in fs::read_dir(mount).context("no cgroups on this machine")? {
        let entry = entry?;
        // Joint hierarchies have a link per controller.
        if entry.file_type()?.is_dir() && entry.path().join("cgroup.procs").exists() {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}
