//! Ignition's config, specification 3.1: the lowest that can carry a compressed config.
//!
//! Ignition writes files and units before the operating system starts, for the first time only, and
//! stops the machine where it cannot; it runs no commands. These are in a script of a unit, which
//! begins once: a machine that was switched off in between stays down, as with cloud-init. The
//! kubelet of the image is disabled by a preset until the script enables it. `tests/ignition.rs`
//! has the real parser read the result.

use std::fmt::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::boot::{Command, FIRST_BOOT_FOLDER, FIRST_BOOT_UNIT, SPECIAL_BITS};
use super::stored::gzip;
use crate::manifests::NodeFile;

const VERSION: &str = "3.1.0";

/// The document, in ASCII. Contents are percent-encoded where that leaves most of them readable:
/// base64 would hide from the compression what files have in common.
pub(super) fn document(files: &[NodeFile], commands: &[Command]) -> Zeroizing<String> {
    let script = NodeFile {
        path: format!("{FIRST_BOOT_FOLDER}/run.sh"),
        mode: 0o700,
        owner: "root:root".to_owned(),
        content: script(commands),
    };
    let all = || files.iter().chain([&script]);
    // Large enough never to move, which would leave copies of keys behind. An escaped byte takes
    // three, and one of a path up to six.
    let size: usize = all()
        .map(|file| 3 * file.content.len() + 6 * file.path.len() + 512)
        .sum();
    let mut text = Zeroizing::new(String::with_capacity(size + 4096));
    let _ = write!(
        text,
        "{{\n\"ignition\": {{\"version\": \"{VERSION}\"}},\n\"storage\": {{\"files\": ["
    );
    for (index, file) in all().enumerate() {
        text.push_str(if index == 0 { "\n" } else { ",\n" });
        write_file(&mut text, file);
    }
    text.push_str("\n]},\n\"systemd\": {\"units\": [\n");
    text.push_str("{\"name\": \"kubelet.service\", \"enabled\": false},\n");
    let _ = write!(
        text,
        "{{\"name\": \"{FIRST_BOOT_UNIT}\", \"enabled\": true, \"contents\": "
    );
    quoted(&mut text, &unit());
    text.push_str("}\n]}\n}\n");
    text
}

/// A config that is replaced by the compressed one inside.
pub(super) fn compressed(document: &str) -> Zeroizing<Vec<u8>> {
    let encoded = Zeroizing::new(STANDARD.encode(gzip(document.as_bytes())));
    let head = format!(
        "{{\"ignition\": {{\"version\": \"{VERSION}\", \"config\": {{\"replace\": \
         {{\"compression\": \"gzip\", \"source\": \"data:;base64,"
    );
    let tail = "\"}}}}\n";
    let mut config = Zeroizing::new(Vec::with_capacity(head.len() + encoded.len() + tail.len()));
    for part in [&head, &*encoded, tail] {
        config.extend_from_slice(part.as_bytes());
    }
    config
}

fn write_file(text: &mut String, file: &NodeFile) {
    text.push_str("{\"path\": ");
    quoted(text, &file.path);
    let (user, group) = file.owner.split_once(':').unwrap_or((&file.owner, "root"));
    text.push_str(", \"user\": {\"name\": ");
    quoted(text, user);
    text.push_str("}, \"group\": {\"name\": ");
    quoted(text, group);
    // A number in decimal. What an image brings at this path is replaced.
    let _ = write!(
        text,
        "}}, \"mode\": {}, \"overwrite\": true, \"contents\": {{\"source\": \"",
        file.mode & !SPECIAL_BITS
    );
    data_url(text, &file.content);
    text.push_str("\"}}");
}

/// RFC 2397. A byte stands for itself if it does in a URL without a query, and in JSON.
fn data_url(text: &mut String, content: &[u8]) {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.!~*()/:;=+,@&".contains(&byte);
    let escaped = content.iter().filter(|byte| !plain(**byte)).count();
    if escaped * 2 > content.len() {
        text.push_str("data:;base64,");
        STANDARD.encode_string(content, text);
        return;
    }
    text.push_str("data:,");
    for byte in content {
        if plain(*byte) {
            text.push(char::from(*byte));
        } else {
            let _ = write!(text, "%{byte:02X}");
        }
    }
}

/// Begins once, whatever becomes of it.
fn script(commands: &[Command]) -> Zeroizing<Vec<u8>> {
    let commands_size: usize = commands.iter().map(|command| 4 * command.len() + 16).sum();
    let mut text = Zeroizing::new(String::with_capacity(commands_size + 4096));
    let _ = writeln!(
        text,
        "#!/bin/sh\n: > {FIRST_BOOT_FOLDER}/begun && sync || exit 1"
    );
    for command in commands {
        match command {
            Command::Line(line) => {
                text.push_str(line);
                text.push('\n');
            }
            Command::Program(words) => program(&mut text, words),
        }
    }
    Zeroizing::new(text.as_bytes().to_vec())
}

/// Every word in single quotes.
fn program(text: &mut String, words: &[String]) {
    for (index, word) in words.iter().enumerate() {
        text.push_str(if index == 0 { "'" } else { " '" });
        for (number, part) in word.split('\'').enumerate() {
            text.push_str(if number == 0 { "" } else { "'\\''" });
            text.push_str(part);
        }
        text.push('\'');
    }
    text.push('\n');
}

/// After the network, as `runcmd` of cloud-init. Not before the kubelet, which the script starts.
fn unit() -> String {
    format!(
        "[Unit]\n\
         Description=First boot of a machine that Seedbed describes\n\
         Wants=network-online.target\n\
         After=network-online.target\n\
         ConditionPathExists=!{FIRST_BOOT_FOLDER}/begun\n\
         \n\
         [Service]\n\
         Type=oneshot\n\
         RemainAfterExit=yes\n\
         ExecStart=/bin/sh {FIRST_BOOT_FOLDER}/run.sh\n\
         StandardOutput=journal+console\n\
         StandardError=journal+console\n\
         \n\
         [Install]\n\
         WantedBy=multi-user.target\n"
    )
}

/// A string of JSON in ASCII.
fn quoted(text: &mut String, value: &str) {
    text.push('"');
    for unit in value.encode_utf16() {
        let _ = match u8::try_from(unit) {
            Ok(b'\n') => text.write_str("\\n"),
            Ok(byte @ (b'"' | b'\\')) => write!(text, "\\{}", char::from(byte)),
            Ok(byte @ b' '..=b'~') => text.write_char(char::from(byte)),
            _ => write!(text, "\\u{unit:04x}"),
        };
    }
    text.push('"');
}
