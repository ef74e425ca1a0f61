//! Files that are hard to carry, for every test of user data.

use proptest::prelude::*;
use seedbed::machine_config::{Additions, Contents};
use seedbed::manifests::NodeFile;

/// A file below `/etc/example` with the mode and owner of a key.
pub fn file(name: &str, content: &[u8]) -> NodeFile {
    NodeFile {
        path: format!("/etc/example/{name}"),
        mode: 0o600,
        owner: "root:root".to_owned(),
        content: content.to_vec().into(),
    }
}

/// Contents with a user's commands.
pub fn with_commands(files: Vec<NodeFile>, pre: &[&str], post: &[&str]) -> Contents {
    let own = |commands: &[&str]| commands.iter().map(|c| (*c).to_owned()).collect::<Vec<_>>();
    let (pre, post) = (own(pre), own(post));
    let additions = Additions {
        pre_commands: &pre,
        post_commands: &post,
        ..Additions::default()
    };
    Contents::new(files, additions).expect("contents")
}

/// Contents on which YAML writers and readers are known to stumble.
pub fn traps() -> Vec<NodeFile> {
    let contents: &[&[u8]] = &[
        b"",
        b"\n",
        b"\n\n",
        b" ",
        b"\t",
        b"x",
        b"x\n",
        b"x\n\n",
        b"\nx",
        b" x",
        b"\tx\n",
        b"x \n",
        b"x\n ",
        b"x\n \n",
        b"x\n\t\n",
        b"a\n\n\nb\n",
        b"a\n  b\n c\n",
        b"a\r\nb\r\n",
        b"a\rb",
        b"a\0b",
        b"\xff\xfe\x00",
        b"\xc3\xa9\n",
        "emoji \u{1f600}\n".as_bytes(),
        "next line\u{85}separator\u{2028}end\n".as_bytes(),
        b"\xef\xbb\xbfbom\n",
        b"\x7f\n",
        b"# comment first\nkey: value\n",
        b"no",
        b"yes\n",
        b"on",
        b"~",
        b"null\n",
        b"0600",
        b"0o600",
        b"12:34:56",
        b"1e3",
        b".5",
        b"2001-01-01",
        b"=",
        b"<<: *a\n",
        b"- a\n- b\n",
        b"{{ v1.local_hostname }}\n",
        b"## template: jinja\n",
        b"--- \n...\n",
        b"---\na: 1\n---\n",
        b"%YAML 1.1\n",
        b"&anchor\n*alias\n",
        b"!tag\n",
        b"'single' \"double\" \\back\n",
        b"a: b: c\n",
        b"x #not a comment\n",
        b"| >- text\n",
        b"@at `tick`\n",
        b"$HOME $(id) `id`\n",
        b"MIME-Version: 1.0\nbody\n",
        b"#!/bin/sh\nexit 1\n",
        b"#include http://example.net\n",
        b"tab\tinside\n\ttab first\n",
    ];
    let numbered = contents.iter().enumerate();
    numbered
        .map(|(i, content)| file(&format!("trap-{i:02}"), content))
        .collect()
}

/// Any bytes, any text, and lines made of what YAML cares for.
pub fn any_content() -> impl Strategy<Value = Vec<u8>> {
    let pieces = prop::sample::select(vec![
        " ",
        "  ",
        "\t",
        "\n",
        "\n\n",
        "\r\n",
        "\r",
        "#",
        "- ",
        ": ",
        "|",
        ">",
        "'",
        "\"",
        "\\",
        "%",
        "@",
        "`",
        "{",
        "}",
        "[",
        "]",
        ",",
        "&a",
        "*a",
        "!",
        "~",
        "yes",
        "0x1",
        "1:2",
        "---",
        "...",
        "a",
        "key",
        "é",
        "\u{85}",
        "\u{2028}",
        "\u{feff}",
        "\0",
        "mime-version:",
    ]);
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..200),
        any::<String>().prop_map(String::into_bytes),
        prop::collection::vec(pieces, 0..30).prop_map(|pieces| pieces.concat().into_bytes()),
    ]
}

/// A path segment that the checks accept, whatever it does to YAML or a shell.
pub fn any_segment() -> impl Strategy<Value = String> {
    "[^/\\x00-\\x1f\\x7f-\\u{9f}]{1,20}".prop_filter("plain segment", |s| s != "." && s != "..")
}
