//! YAML output, with the options set in one place.
//!
//! YAML 1.1 readers (cloud-init's, and Go's for some words) take `yes`, `on` or `12:34:56` for
//! something else than text, so such strings are quoted; long strings stay on one line, because
//! folding changes what a reader that keeps line breaks sees. Keys come out in the order of the
//! value: `serde_json::Value` sorts them, as client-go does.

use std::fmt;

use serde::Serialize;

/// A value that has no YAML form, for example a map whose keys are not scalars.
#[derive(Debug, thiserror::Error)]
#[error("cannot be written as YAML")]
pub struct YamlError(#[source] Box<serde_saphyr::ser::Error>);

/// Writes `value` as one YAML document, ending in a newline, into `out`.
pub fn write_yaml<T: Serialize, W: fmt::Write>(out: &mut W, value: &T) -> Result<(), YamlError> {
    let options = serde_saphyr::ser_options! {
        prefer_block_scalars: false,
        folded_wrap_chars: usize::MAX,
        min_fold_chars: usize::MAX,
    };
    serde_saphyr::to_fmt_writer_with_options(out, value, options)
        .map_err(|error| YamlError(Box::new(error)))
}

/// `value` as one YAML document, ending in a newline.
pub fn to_yaml<T: Serialize>(value: &T) -> Result<String, YamlError> {
    let mut out = String::new();
    write_yaml(&mut out, value)?;
    Ok(out)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn strings_that_old_readers_take_for_something_else_are_quoted() {
        let words = [
            "yes",
            "no",
            "on",
            "off",
            "y",
            "n",
            "Yes",
            "ON",
            "true",
            "null",
            "~",
            "",
            "12:34:56",
            "0755",
            "0o755",
            "0x1f",
            "1_000",
            "1e3",
            ".5",
            ".inf",
            "2026-11-22",
            "=",
            "<<",
            "1.0",
            "-",
            "- a",
            "a: b",
            "a #b",
            "#a",
            "&a",
            "*a",
            "!a",
            "%a",
            "@a",
            "`a",
            "{a",
            "[a",
            "?",
            ": ",
            " a",
            "a ",
            "123",
        ];
        for word in words {
            let text = to_yaml(&json!({ "key": word })).unwrap();
            let value = text.strip_prefix("key: ").unwrap().trim_end();
            assert!(value.starts_with(['"', '\'']), "{word:?} became {text:?}");
        }
    }

    #[test]
    fn long_strings_stay_on_one_line() {
        let long = "word ".repeat(500) + "end";
        assert_eq!(to_yaml(&json!({ "key": long })).unwrap().lines().count(), 1);
    }

    #[test]
    fn shape_is_that_of_client_go() {
        let value =
            json!({"b": [{"x": 1, "z": ["-", "p"]}], "a": {}, "c": "", "d": true, "e": "0"});
        assert_eq!(
            to_yaml(&value).unwrap(),
            "a: {}\nb:\n- x: 1\n  z:\n  - '-'\n  - p\nc: \"\"\nd: true\ne: \"0\"\n"
        );
    }

    proptest! {
        #[test]
        fn every_string_comes_back(key in ".*", text in "(?s).*") {
            let value = json!({ key: [text.clone(), {"nested": text}] });
            let back: Value = serde_saphyr::from_str(&to_yaml(&value).unwrap()).unwrap();
            prop_assert_eq!(back, value);
        }
    }
}
