//! The real cloud-init as a reader of user data.

#![allow(dead_code, reason = "each test takes its part")]

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use serde::Deserialize;

/// cloud-init's own Python, which has its modules and its YAML parser.
const PYTHON: &str = "/usr/bin/python3";

/// What cloud-init makes of user data.
pub struct Read {
    /// The cloud-config, decompressed.
    pub document: Vec<u8>,
    pub files: Vec<File>,
    /// The script of early commands.
    pub bootcmd: String,
    /// The script of late commands.
    pub runcmd: String,
}

/// An entry of `write_files` as it was parsed.
#[derive(Debug, Deserialize)]
pub struct File {
    pub path: String,
    pub permissions: String,
    pub owner: String,
}

fn required() {
    assert!(
        Path::new("/usr/bin/cloud-init").is_file(),
        "this test needs cloud-init; as root, run: apt-get install cloud-init"
    );
}

/// Has cloud-init read `user_data`, with its files written below `folder`/root.
pub fn read(user_data: &[u8], folder: &Path) -> Read {
    required();
    let source = folder.join("user-data");
    std::fs::write(&source, user_data).expect("user data");
    let output = Command::new(PYTHON)
        .args(["-c", include_str!("cloud_init.py")])
        .args([&source, folder])
        .output()
        .expect("python3");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let text = |name: &str| std::fs::read_to_string(folder.join(name)).expect(name);
    Read {
        document: std::fs::read(folder.join("document")).expect("document"),
        files: serde_json::from_str(&text("files.json")).expect("files"),
        bootcmd: text("bootcmd"),
        runcmd: text("runcmd"),
    }
}

/// Mode and bytes of a file that [`read`] had cloud-init write.
pub fn written(folder: &Path, path: &str) -> (u32, Vec<u8>) {
    let file = folder.join("root").join(path.trim_start_matches('/'));
    let mode = std::fs::metadata(&file).expect(path).permissions().mode() & 0o7777;
    // Without root, a file of mode 0 cannot be read back otherwise.
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).expect(path);
    (mode, std::fs::read(&file).expect(path))
}

/// `cloud-init schema` has nothing to say against `document`.
pub fn assert_schema(document: &[u8]) {
    required();
    let file = tempfile::NamedTempFile::new().expect("file");
    std::fs::write(&file, document).expect("document");
    let output = Command::new("cloud-init")
        .args(["schema", "--config-file"])
        .arg(file.path())
        .output()
        .expect("cloud-init");
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && said.contains("Valid cloud-config"),
        "{said}"
    );
}

/// Writes a script.
pub fn executable(path: &Path, script: &str) {
    std::fs::write(path, script).expect("script");
    std::fs::set_permissions(path, PermissionsExt::from_mode(0o755)).expect("mode");
}
