//! Texts with a grammar: paths, names in labels, images, durations, certificate names.

use std::net::IpAddr;
use std::time::Duration;

use super::Checker;
use crate::domain::{dns_subdomain, dns_subdomain_or_wildcard, parse_go_duration};

/// A value for a message: quoted, escaped, and cut at 80 characters.
pub fn show(text: &str) -> String {
    match text.char_indices().nth(80) {
        Some((cut, _)) => format!("{:?}...", &text[..cut]),
        None => format!("{text:?}"),
    }
}

/// Checks an absolute path of a Linux file system without `.`, `..` and empty parts.
pub fn absolute_path(checker: &mut Checker, path: &str, text: &str) -> bool {
    let parts_ok = |rest: &str| {
        rest.split('/')
            .all(|part| !matches!(part, "" | "." | "..") && !part.chars().any(char::is_control))
    };
    let ok = text.len() <= 4096 && (text == "/" || text.strip_prefix('/').is_some_and(parts_ok));
    if !ok {
        let message = format!(
            "{} is not an absolute path; write it as /etc/example, without '..', '//' or a \
             trailing '/'",
            show(text)
        );
        checker.invalid(path, message);
    }
    ok
}

/// Checks a folder that files are written into and returns it without a trailing slash.
pub fn directory(checker: &mut Checker, path: &str, text: &str) -> String {
    let trimmed = text.strip_suffix('/').unwrap_or(text);
    if trimmed.is_empty() {
        let message = format!(
            "{} is not a folder of its own; name one below /",
            show(text)
        );
        checker.invalid(path, message);
    } else {
        absolute_path(checker, path, trimmed);
    }
    trimmed.to_owned()
}

/// Checks a Go duration within bounds.
pub fn duration(
    checker: &mut Checker,
    path: &str,
    text: &str,
    least: Duration,
    most: Duration,
) -> Option<Duration> {
    let value = checker.take(path, parse_go_duration(text))?;
    if value < least || value > most {
        let message = format!(
            "{text} is out of range; give a duration of {} to {}",
            spell(least),
            spell(most)
        );
        checker.invalid(path, message);
        return None;
    }
    Some(value)
}

fn spell(duration: Duration) -> String {
    match duration.as_secs() {
        seconds if seconds % 3600 == 0 => format!("{}h", seconds / 3600),
        seconds if seconds % 60 == 0 => format!("{}m", seconds / 60),
        seconds => format!("{seconds}s"),
    }
}

/// Letter or digit at both ends, `-`, `_`, `.` between, at most 63 characters: a label value or
/// the name part of a qualified name.
fn is_name_part(text: &str) -> bool {
    let bytes = text.as_bytes();
    let edge = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    bytes.len() <= 63
        && edge(bytes.first())
        && edge(bytes.last())
        && bytes
            .iter()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

/// Checks the value of a label or taint (`IsValidLabelValue` of apimachinery).
pub fn label_value(checker: &mut Checker, path: &str, text: &str) -> bool {
    let ok = text.is_empty() || is_name_part(text);
    if !ok {
        let message = format!(
            "{} is not a label value; use at most 63 letters, digits, '-', '_' and '.', beginning \
             and ending with a letter or digit",
            show(text)
        );
        checker.invalid(path, message);
    }
    ok
}

/// Checks the key of a label or taint (`IsQualifiedName` of apimachinery).
pub(super) fn qualified_name(checker: &mut Checker, path: &str, text: &str) -> bool {
    let ok = match text.split_once('/') {
        Some((prefix, name)) => crate::domain::dns_subdomain(prefix).is_ok() && is_name_part(name),
        None => is_name_part(text),
    };
    if !ok {
        let message = format!(
            "{} is not a qualified name; write it as example.net/name, the name of at most 63 \
             letters, digits, '-', '_' and '.'",
            show(text)
        );
        checker.invalid(path, message);
    }
    ok
}

/// Checks the repository of an image: host, optional port and path, without tag or scheme.
pub fn image_repository(checker: &mut Checker, path: &str, text: &str) -> bool {
    let part_ok = |part: &str| {
        let edge = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
        let bytes = part.as_bytes();
        edge(bytes.first())
            && edge(bytes.last())
            && bytes.iter().all(|b| {
                b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_' | b'.')
            })
    };
    let mut parts = text.split('/');
    let first = parts.next().unwrap_or_default();
    let host_ok = match first.rsplit_once(':') {
        Some((host, port)) => part_ok(host) && port.parse::<u16>().is_ok(),
        None => part_ok(first),
    };
    let ok = text.len() <= 255 && host_ok && parts.all(part_ok);
    if !ok {
        let message = format!(
            "{} is not an image repository; write it as registry.example.net:5000/path, \
             lower-case, without scheme, tag or trailing '/'",
            show(text)
        );
        checker.invalid(path, message);
    }
    ok
}

/// Checks the tag of an image.
pub fn image_tag(checker: &mut Checker, path: &str, text: &str) -> bool {
    let word = |b: &u8| b.is_ascii_alphanumeric() || *b == b'_';
    let bytes = text.as_bytes();
    let ok = bytes.len() <= 128
        && bytes.first().is_some_and(word)
        && bytes.iter().all(|b| word(b) || matches!(b, b'.' | b'-'));
    if !ok {
        let message = format!(
            "{} is not an image tag; use at most 128 letters, digits, '_', '.' and '-', not \
             beginning with '.' or '-'",
            show(text)
        );
        checker.invalid(path, message);
    }
    ok
}

/// Checks subject alternative names: IP addresses, DNS names, or wildcards such as `*.example.net`.
pub fn sans(checker: &mut Checker, path: &str, names: Option<&Vec<String>>) -> Vec<String> {
    let names = names.cloned().unwrap_or_default();
    for (index, name) in names.iter().enumerate() {
        if name.parse::<IpAddr>().is_err() && dns_subdomain_or_wildcard(name).is_err() {
            let message = format!(
                "{} is neither an IP address nor a DNS name; write api.example.net, \
                 *.example.net or 10.0.0.1",
                show(name)
            );
            checker.invalid(format!("{path}[{index}]"), message);
        }
    }
    names
}

/// As [`sans`], after lower-casing, as kubeadm does for `apiServer.certSANs` (and not for etcd's).
pub fn lowercase_sans(
    checker: &mut Checker,
    path: &str,
    names: Option<&Vec<String>>,
) -> Vec<String> {
    let lowered = names.map(|names| names.iter().map(|n| n.to_ascii_lowercase()).collect());
    sans(checker, path, lowered.as_ref())
}

/// The object's name stands in label values (at most 63 characters) and begins the names of its
/// Secrets: `<name>-<machine>-certs` then never exceeds 253.
pub fn object_name(checker: &mut Checker, name: Option<&str>) -> String {
    let name = name.unwrap_or_default();
    if name.is_empty() {
        checker.invalid("metadata.name", "is missing; give the object a name");
    } else if name.len() > 63 {
        let message = format!(
            "{} has {} characters; at most 63 are allowed, because the name stands in labels",
            show(name),
            name.len()
        );
        checker.invalid("metadata.name", message);
    } else {
        checker.take("metadata.name", dns_subdomain(name));
    }
    name.to_owned()
}
