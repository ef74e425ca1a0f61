//! Reads user data back, the way cloud-init does, to compare it with what went in.

#![allow(dead_code, reason = "each test takes its part")]

use std::io::Read;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

/// A decoded `#cloud-config`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CloudConfig {
    pub bootcmd: Vec<Command>,
    #[serde(default)]
    pub write_files: Vec<Entry>,
    pub runcmd: Vec<Command>,
}

/// A command: a line, or a program with its arguments.
#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum Command {
    Line(String),
    Program(Vec<String>),
}

/// An entry of `write_files`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    pub path: String,
    pub permissions: String,
    pub owner: String,
    #[serde(default)]
    pub encoding: Option<String>,
    pub content: String,
    #[serde(default)]
    pub defer: bool,
}

impl Entry {
    /// The bytes that land on the machine.
    pub fn bytes(&self) -> Vec<u8> {
        match self.encoding.as_deref() {
            None => self.content.clone().into_bytes(),
            Some("b64") => STANDARD.decode(&self.content).expect("base64"),
            Some(other) => panic!("{}: encoding {other}", self.path),
        }
    }

    pub fn mode(&self) -> u32 {
        u32::from_str_radix(&self.permissions, 8).expect("octal permissions")
    }
}

/// The document inside user data, decompressed if need be.
pub fn document(user_data: &[u8]) -> String {
    let text = std::str::from_utf8(user_data).expect("user data is text");
    let Some(message) = text.strip_prefix("MIME-Version: 1.0\n") else {
        return text.to_owned();
    };
    let (head, body) = message.split_once("\n\n").expect("header and body");
    assert!(head.contains("Content-Type: application/gzip"), "{head}");
    let compressed = STANDARD.decode(body.replace('\n', "")).expect("base64");
    let mut document = String::new();
    flate2::read::GzDecoder::new(compressed.as_slice())
        .read_to_string(&mut document)
        .expect("gzip of text");
    document
}

/// User data, read by a YAML 1.2 parser.
pub fn parse(user_data: &[u8]) -> CloudConfig {
    let document = document(user_data);
    assert!(document.is_ascii());
    assert!(document.starts_with("#cloud-config\n"), "first line");
    serde_saphyr::from_str(&document).unwrap_or_else(|error| panic!("{error}\n{document}"))
}
