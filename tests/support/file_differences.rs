//! Differences between the files of kubeadm and ours, by what they say.

use std::collections::{BTreeMap, BTreeSet};

use seedbed::domain::parse_go_duration;
use serde_json::Value;

use crate::certificates;
use crate::kubeadm::File;

/// Files by path on the node.
pub type Files = BTreeMap<String, File>;

/// One difference between kubeadm's result and ours.
pub struct Difference {
    pub sample: String,
    /// From 1 on.
    pub machine: usize,
    pub path: String,
    /// Place in the file; empty: the file itself.
    pub place: String,
    pub kubeadm: String,
    pub ours: String,
}

const ABSENT: &str = "(absent)";

impl Difference {
    /// Whether it is about one flag of a command line.
    pub fn flag(&self, flag: &str) -> bool {
        self.place == ".spec.containers[0].command"
            && [&self.kubeadm, &self.ours]
                .iter()
                .all(|side| *side == ABSENT || side.starts_with(flag))
    }

    pub fn file_is_extra_in_kubeadm(&self) -> bool {
        self.place.is_empty() && self.ours == ABSENT
    }

    pub fn file_is_extra_in_ours(&self) -> bool {
        self.place.is_empty() && self.kubeadm == ABSENT
    }
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} machine {}: {}{}\n    kubeadm: {}\n    ours:    {}",
            self.sample, self.machine, self.path, self.place, self.kubeadm, self.ours
        )
    }
}

/// Collects the differences of one machine.
pub struct Report<'a> {
    pub sample: &'a str,
    pub machine: usize,
    pub differences: &'a mut Vec<Difference>,
}

impl Report<'_> {
    /// Every file that either side has: content and mode.
    pub fn files(&mut self, kubeadm: &Files, ours: &Files) {
        let paths: BTreeSet<&String> = kubeadm.keys().chain(ours.keys()).collect();
        for path in paths {
            match (kubeadm.get(path), ours.get(path)) {
                (Some(kubeadm), Some(ours)) => self.file(path, kubeadm, ours),
                (Some(_), None) => self.add(path, "", "written", ABSENT),
                (None, Some(_)) => self.add(path, "", ABSENT, "written"),
                (None, None) => {}
            }
        }
    }

    fn file(&mut self, path: &str, kubeadm: &File, ours: &File) {
        if kubeadm.mode != ours.mode {
            self.add(
                path,
                " mode",
                &format!("{:o}", kubeadm.mode),
                &format!("{:o}", ours.mode),
            );
        }
        let (kubeadm, ours) = (text(kubeadm), text(ours));
        match path.rsplit('.').next() {
            Some("crt") => {
                let read = certificates::certificate;
                self.values(path, String::new(), &read(kubeadm), &read(ours));
            }
            Some("key" | "pub") => {
                let read = certificates::pem_label;
                self.values(
                    path,
                    String::new(),
                    &read(kubeadm).into(),
                    &read(ours).into(),
                );
            }
            Some("conf") => {
                let read = certificates::kubeconfig;
                self.values(path, String::new(), &read(kubeadm), &read(ours));
            }
            // The same bytes.
            Some("env") => self.values(path, String::new(), &kubeadm.into(), &ours.into()),
            _ if path.ends_with("/instance-config.yaml") => {
                self.values(path, String::new(), &kubeadm.into(), &ours.into());
            }
            _ => {
                let read = |text: &str| serde_saphyr::from_str::<Value>(text).expect("YAML");
                self.values(path, String::new(), &read(kubeadm), &read(ours));
            }
        }
    }

    fn values(&mut self, path: &str, place: String, kubeadm: &Value, ours: &Value) {
        match (kubeadm, ours) {
            (Value::Object(a), Value::Object(b)) => {
                let names: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
                for name in names {
                    let place = format!("{place}.{name}");
                    match (a.get(name), b.get(name)) {
                        (Some(a), Some(b)) => self.values(path, place, a, b),
                        (a, b) => self.add(path, &place, &shown(a), &shown(b)),
                    }
                }
            }
            (Value::Array(a), Value::Array(b)) if place.ends_with(".command") => {
                self.commands(path, &place, a, b);
            }
            (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
                for (index, (a, b)) in a.iter().zip(b).enumerate() {
                    self.values(path, format!("{place}[{index}]"), a, b);
                }
            }
            (a, b) if a == b || same_duration(a, b) => {}
            (a, b) => self.add(path, &place, &shown(Some(a)), &shown(Some(b))),
        }
    }

    /// Flags in their order. Flags that only one side has are told one by one and taken out, so
    /// that one of them does not make every later flag differ.
    fn commands(&mut self, path: &str, place: &str, kubeadm: &[Value], ours: &[Value]) {
        let mut sides = [kubeadm, ours].map(|side| {
            side.iter()
                .map(|flag| flag.as_str().expect("text").to_owned())
                .collect::<Vec<_>>()
        });
        let [only_kubeadm, only_ours] = [(0, 1), (1, 0)].map(|(mine, other)| {
            let other: BTreeSet<&String> = sides[other].iter().collect();
            sides[mine]
                .iter()
                .filter(|flag| !other.contains(flag))
                .cloned()
                .collect::<Vec<_>>()
        });
        for flag in &only_kubeadm {
            self.add(path, place, flag, ABSENT);
        }
        for flag in &only_ours {
            self.add(path, place, ABSENT, flag);
        }
        sides[0].retain(|flag| !only_kubeadm.contains(flag));
        sides[1].retain(|flag| !only_ours.contains(flag));
        if sides[0] != sides[1] {
            self.add(path, place, &sides[0].join(" "), &sides[1].join(" "));
        }
    }

    fn add(&mut self, path: &str, place: &str, kubeadm: &str, ours: &str) {
        self.differences.push(Difference {
            sample: self.sample.to_owned(),
            machine: self.machine,
            path: path.to_owned(),
            place: place.to_owned(),
            kubeadm: kubeadm.to_owned(),
            ours: ours.to_owned(),
        });
    }
}

fn text(file: &File) -> &str {
    std::str::from_utf8(&file.content).expect("text")
}

fn shown(value: Option<&Value>) -> String {
    value.map_or_else(|| ABSENT.to_owned(), ToString::to_string)
}

/// Go writes durations in its own form, `10m0s`; what the user wrote, `10m`, means the same.
fn same_duration(a: &Value, b: &Value) -> bool {
    let parse = |value: &Value| parse_go_duration(value.as_str()?).ok();
    parse(a).is_some_and(|a| Some(a) == parse(b))
}
