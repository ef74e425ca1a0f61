//! Whether a live object already says what is desired. Pure.

use serde_json::Value;

/// Lists whose elements are merged by key (`listType=map`): further elements belong to others.
/// All other lists are compared as a whole (`listType=atomic`).
const MERGED_LISTS: &[(&str, &[&str])] = &[
    ("containers", &["name"]),
    ("env", &["name"]),
    ("ports", &["containerPort", "protocol"]),
    ("ports", &["port", "protocol"]),
    ("volumeMounts", &["mountPath"]),
    ("volumes", &["name"]),
];

/// The path of the first field that `live` lacks or has otherwise than `desired`; `None` when every
/// desired field is in place. Fields that only `live` has (defaults, other managers' fields) do not
/// count. Values are compared as they are written: desired quantities must be in canonical form.
pub fn difference(desired: &Value, live: &Value) -> Option<String> {
    let mut path = String::new();
    differs(desired, live, "", &mut path).then_some(path)
}

/// On a difference `path` holds where; otherwise it is left as it was.
fn differs(desired: &Value, live: &Value, field: &str, path: &mut String) -> bool {
    match (desired, live) {
        (Value::Object(wanted), Value::Object(has)) => wanted.iter().any(|(name, wanted)| {
            let length = path.len();
            path.push('.');
            path.push_str(name);
            let different = match has.get(name) {
                Some(has) => differs(wanted, has, name, path),
                None => !is_empty(wanted),
            };
            if !different {
                path.truncate(length);
            }
            different
        }),
        (Value::Array(wanted), Value::Array(has)) => match merge_keys(field, wanted) {
            Some(keys) => merged_list_differs(wanted, has, keys, path),
            None => {
                wanted.len() != has.len()
                    || wanted
                        .iter()
                        .zip(has)
                        .enumerate()
                        .any(|(index, (wanted, has))| {
                            element_differs(wanted, has, &index.to_string(), path)
                        })
            }
        },
        (wanted, has) => wanted != has,
    }
}

fn merged_list_differs(wanted: &[Value], has: &[Value], keys: &[&str], path: &mut String) -> bool {
    wanted.iter().any(|wanted| {
        let name = keys
            .iter()
            .map(|key| wanted[key].to_string())
            .collect::<Vec<_>>()
            .join(",");
        match has
            .iter()
            .find(|has| keys.iter().all(|key| has[key] == wanted[key]))
        {
            Some(has) => element_differs(wanted, has, &name, path),
            None => {
                path.push_str(&format!("[{name}]"));
                true
            }
        }
    })
}

fn element_differs(wanted: &Value, has: &Value, name: &str, path: &mut String) -> bool {
    let length = path.len();
    path.push_str(&format!("[{name}]"));
    let different = differs(wanted, has, "", path);
    if !different {
        path.truncate(length);
    }
    different
}

fn merge_keys(field: &str, elements: &[Value]) -> Option<&'static [&'static str]> {
    MERGED_LISTS
        .iter()
        .find(|(name, keys)| {
            *name == field
                && elements
                    .iter()
                    .all(|element| keys.iter().all(|key| element.get(key).is_some()))
        })
        .map(|(_, keys)| *keys)
}

/// What Go leaves out when it serialises.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(fields) => fields.is_empty(),
        Value::Array(elements) => elements.is_empty(),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}
