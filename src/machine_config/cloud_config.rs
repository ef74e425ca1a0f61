//! cloud-init's `#cloud-config`.
//!
//! Written by hand, not by a YAML library, for three promises that none makes: the text is ASCII
//! (cloud-init loses other characters in a compressed part), every scalar is a quoted string or a
//! block (its parser speaks YAML 1.1, where `0:0`, `0600` and `no` are not strings), and a content
//! comes out byte for byte. `tests/cloud_init_schema.rs` has cloud-init itself read the result.

use std::fmt::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::boot::{Boot, Command, is_deferred};
use crate::manifests::NodeFile;

/// The document. The first line is `#cloud-config`: no template language is asked for, so braces in
/// files mean themselves.
pub(super) fn document(files: &[NodeFile], boot: &Boot) -> Zeroizing<String> {
    // Large enough never to move, which would leave copies of keys behind, and no larger, because
    // all of it is wiped.
    let content: usize = files.iter().map(|file| longest(&file.content) + 512).sum();
    let mut text = Zeroizing::new(String::with_capacity(content + 16_384));
    text.push_str("#cloud-config\n");
    commands(&mut text, "bootcmd", &boot.before_files);
    if !files.is_empty() {
        text.push_str("write_files:\n");
    }
    for file in files {
        write_file(&mut text, file);
    }
    commands(&mut text, "runcmd", &boot.at_the_end);
    text
}

/// The most bytes that a content becomes: a block with its indentation, or Base64.
fn longest(content: &[u8]) -> usize {
    let lines = content.split(|byte| *byte == b'\n').count();
    (content.len() + 3 * lines + 1).max(content.len().div_ceil(3) * 4)
}

fn write_file(text: &mut String, file: &NodeFile) {
    text.push_str("- path: ");
    quoted(text, &file.path);
    // cloud-init takes a number in decimal, a string in octal.
    let _ = write!(text, "\n  permissions: \"{:04o}\"\n  owner: ", file.mode);
    quoted(text, &file.owner);
    text.push('\n');
    if is_deferred(file) {
        text.push_str("  defer: true\n");
    }
    match inline(&file.content) {
        Some(content) => block(text, content),
        None if file.content.is_empty() => text.push_str("  content: \"\"\n"),
        None => {
            text.push_str("  encoding: \"b64\"\n  content: \"");
            STANDARD.encode_string(&*file.content, text);
            text.push_str("\"\n");
        }
    }
}

/// The content as text, if a literal block gives it back byte for byte in every YAML parser:
/// printable ASCII, tabs and line feeds, beginning with a visible character (else the indentation
/// is guessed wrong) and ending with one, or with one line feed after it.
fn inline(content: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(content).ok()?;
    let plain = |byte: u8| matches!(byte, b'\n' | b'\t' | b' '..=b'~');
    let visible = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_graphic);
    let body = content.strip_suffix(b"\n").unwrap_or(content);
    (content.iter().copied().all(plain) && visible(body.first()) && visible(body.last()))
        .then_some(text)
}

fn block(text: &mut String, content: &str) {
    let body = content.strip_suffix('\n');
    text.push_str(if body.is_some() {
        "  content: |\n"
    } else {
        "  content: |-\n"
    });
    for line in body.unwrap_or(content).split('\n') {
        if !line.is_empty() {
            // One more than the key's, because every line pays for it.
            text.push_str("   ");
            text.push_str(line);
        }
        text.push('\n');
    }
}

fn commands(text: &mut String, key: &str, commands: &[Command]) {
    let _ = writeln!(text, "{key}:");
    for command in commands {
        text.push_str("- ");
        match command {
            Command::Line(line) => quoted(text, line),
            Command::Program(words) => {
                text.push('[');
                for (index, word) in words.iter().enumerate() {
                    text.push_str(if index == 0 { "" } else { ", " });
                    quoted(text, word);
                }
                text.push(']');
            }
        }
        text.push('\n');
    }
}

/// A double-quoted scalar in ASCII.
fn quoted(text: &mut String, value: &str) {
    text.push('"');
    for character in value.chars() {
        let code = u32::from(character);
        let _ = match character {
            '"' => text.write_str("\\\""),
            '\\' => text.write_str("\\\\"),
            '\n' => text.write_str("\\n"),
            '\t' => text.write_str("\\t"),
            ' '..='~' => text.write_char(character),
            _ if code <= 0xff => write!(text, "\\x{code:02X}"),
            _ if code <= 0xffff => write!(text, "\\u{code:04X}"),
            _ => write!(text, "\\U{code:08X}"),
        };
    }
    text.push('"');
}
