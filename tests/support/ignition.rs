//! Reads Ignition configs back, and asks the real parser about them.

#![allow(dead_code, reason = "each test takes its part")]

use std::io::Read as _;
use std::process::Command;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::testbed::{Component, build};

/// A config as far as Seedbed writes it.
pub struct Config {
    pub files: Vec<File>,
    /// Name, whether it is enabled, and its content.
    pub units: Vec<(String, bool, Option<String>)>,
}

pub struct File {
    pub path: String,
    pub owner: String,
    pub mode: u32,
    pub content: Vec<u8>,
}

impl Config {
    /// The content of the file at `path`.
    pub fn text(&self, path: &str) -> String {
        let file = self.files.iter().find(|file| file.path == path);
        let file = file.unwrap_or_else(|| panic!("no {path}"));
        String::from_utf8(file.content.clone()).expect("text")
    }
}

/// The config, or the one that replaces it.
pub fn document(user_data: &[u8]) -> Value {
    assert!(user_data.is_ascii());
    let config: Value = serde_json::from_slice(user_data).expect("JSON");
    assert_eq!(config["ignition"]["version"], "3.1.0");
    let replace = &config["ignition"]["config"]["replace"];
    if replace.is_null() {
        return config;
    }
    assert_eq!(replace["compression"], "gzip");
    let compressed = decoded(replace["source"].as_str().expect("source"));
    let mut inner = Vec::new();
    flate2::read::GzDecoder::new(&compressed[..])
        .read_to_end(&mut inner)
        .expect("gzip");
    document(&inner)
}

pub fn parse(user_data: &[u8]) -> Config {
    let document = document(user_data);
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let file = |file: &Value| {
        assert_eq!(file["overwrite"], true);
        File {
            path: text(&file["path"]),
            owner: format!(
                "{}:{}",
                text(&file["user"]["name"]),
                text(&file["group"]["name"])
            ),
            mode: u32::try_from(file["mode"].as_u64().expect("mode")).expect("mode"),
            content: decoded(file["contents"]["source"].as_str().expect("source")),
        }
    };
    let unit = |unit: &Value| {
        (
            text(&unit["name"]),
            unit["enabled"].as_bool().expect("enabled"),
            unit["contents"].as_str().map(str::to_owned),
        )
    };
    Config {
        files: list(&document["storage"]["files"])
            .iter()
            .map(file)
            .collect(),
        units: list(&document["systemd"]["units"])
            .iter()
            .map(unit)
            .collect(),
    }
}

/// The bytes of a URL with scheme `data` (RFC 2397).
fn decoded(url: &str) -> Vec<u8> {
    if let Some(base64) = url.strip_prefix("data:;base64,") {
        return STANDARD.decode(base64).expect("base64");
    }
    let mut rest = url.strip_prefix("data:,").expect("a data URL").bytes();
    let mut bytes = Vec::new();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let digits = [rest.next().expect("digit"), rest.next().expect("digit")];
            let digits = std::str::from_utf8(&digits).expect("digits");
            bytes.push(u8::from_str_radix(digits, 16).expect("digits"));
        } else {
            bytes.push(byte);
        }
    }
    bytes
}

/// What `ignition-validate` says; empty if it has nothing against it. It does not look into the
/// config that replaces another, so that one is to be given by itself.
pub fn complaints(config: &[u8]) -> String {
    let program = build::program(Component::Ignition, "ignition-validate").expect("built");
    let file = tempfile::NamedTempFile::new().expect("file");
    std::fs::write(file.path(), config).expect("config");
    let output = Command::new(program)
        .arg(file.path())
        .output()
        .expect("ignition-validate");
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    assert_eq!(output.status.success(), said.is_empty(), "{said}");
    said
}
