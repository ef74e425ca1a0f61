//! Cleaning up after a test that was interrupted or killed: what the kernel does not take away
//! with a process (containers, mounts, network namespaces) is undone by a helper that outlives it.

use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};

use anyhow::{Context, Result};

/// Waits until its standard input ends, which happens however the writer ends, then runs what is
/// recorded in the state folder `$1`, the last first. Nothing is recorded after an orderly end.
/// The lock is free once that process is quite gone, or tells that somebody else is at it.
const SCRIPT: &str = r#"
cat > /dev/null
cd "$1/undo" 2>/dev/null || exit 0
records=$(ls -r)
[ -n "$records" ] || exit 0
exec 9>> "$1.lock"
flock --wait 60 9 || exit 0
for record in $records; do sh "$record"; done
cd /
grep -q -F " $1/" /proc/self/mountinfo || rm -rf "$1" "$1.lock"
"#;

/// The helper of one state folder. Dropping it lets it look once more, and waits for its end.
pub(super) struct Janitor {
    helper: Child,
    lifeline: Option<ChildStdin>,
}

impl Janitor {
    /// Starts the helper for the state folder `folder`.
    pub(super) fn start(folder: &Path) -> Result<Self> {
        // A session of its own, so that an interrupt at the terminal does not reach it.
        let mut helper = Command::new("setsid")
            .args(["sh", "-c", SCRIPT, "testbed-janitor"])
            .arg(folder)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot start the helper that cleans up after an interrupt")?;
        let lifeline = helper.stdin.take();
        Ok(Self { helper, lifeline })
    }
}

impl Drop for Janitor {
    fn drop(&mut self) {
        drop(self.lifeline.take());
        // It has nothing to do any more; there is nothing to do about a failure here.
        let _ = self.helper.wait();
    }
}

/// `argv` as a shell command.
pub(super) fn shell_command(argv: &[&str]) -> String {
    let quoted: Vec<String> = argv
        .iter()
        .map(|part| format!("'{}'", part.replace('\'', r"'\''")))
        .collect();
    format!("exec {}\n", quoted.join(" "))
}
