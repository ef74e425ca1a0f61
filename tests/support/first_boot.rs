//! Running the script of a first boot here, with a systemctl that only notes its calls.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

/// Folder on the machine that a script marks its success in; scripts run here with `run` instead.
const MARKER_FOLDER: &str = "/run/cluster-api";

/// What a successful boot asks of systemctl.
pub const STARTED: [&str; 3] = [
    "systemctl daemon-reload",
    "systemctl enable kubelet",
    "systemctl restart kubelet",
];

/// What a run of the script left behind.
pub struct Boot {
    /// Calls of systemctl and traces of the commands, in order.
    pub trace: Vec<String>,
    pub marker: bool,
    pub success: bool,
    pub output: String,
}

/// Runs `script` with everything of its own below `folder`.
pub fn run(folder: &Path, script: &str, enable_fails: bool) -> Boot {
    let place = |name: &str| folder.join(name);
    let marker_folder = place("run");
    let script = script.replace(MARKER_FOLDER, marker_folder.to_str().expect("utf-8"));
    let fail = if enable_fails {
        "test \"$1\" != enable"
    } else {
        "true"
    };
    let systemctl = place("bin/systemctl");
    std::fs::create_dir(place("bin")).expect("folder");
    let content = format!("#!/bin/sh\necho \"systemctl $*\" >> $TRACE\n{fail}\n");
    std::fs::write(&systemctl, content).expect("systemctl");
    let executable = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(&systemctl, executable).expect("mode");
    std::fs::write(place("trace"), "").expect("trace");
    std::fs::write(place("run.sh"), script).expect("script");
    let path = std::env::var("PATH").expect("PATH");
    let output = Command::new("/bin/sh")
        .arg(place("run.sh"))
        .env("PATH", format!("{}:{path}", place("bin").display()))
        .env("TRACE", place("trace"))
        .output()
        .expect("sh");
    let trace = std::fs::read_to_string(place("trace")).expect("trace");
    Boot {
        trace: trace.lines().map(str::to_owned).collect(),
        marker: marker_folder.join("bootstrap-success.complete").is_file(),
        success: output.status.success(),
        output: String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned(),
    }
}
