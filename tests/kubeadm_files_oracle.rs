//! The rendered files of a machine against those of the real kubeadm of the same version.
//!
//! For each configuration and each machine kubeadm runs twice: once with the shared CAs only, so
//! that it writes everything itself and both results are compared; once with all that we rendered,
//! so that kubeadm validates our certificates and kubeconfigs and keeps them.

#[path = "support/certificates.rs"]
mod certificates;
#[path = "support/kubeadm.rs"]
mod kubeadm;
#[path = "support/kubeadm_config.rs"]
mod kubeadm_config;
#[path = "support/sample_configs.rs"]
mod sample_configs;
#[path = "testbed/mod.rs"]
mod testbed;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use seedbed::domain::{ControlPlane, Machine, parse_go_duration};
use seedbed::manifests::machine_files;
use seedbed::pki::issue;
use serde_json::Value;

use kubeadm::File;
use sample_configs::{Sample, founding};

type Files = BTreeMap<String, File>;

/// Why we differ from kubeadm, and where: machine number (0: any), path, place in the file.
struct Reason {
    matches: fn(&Difference) -> bool,
    why: &'static str,
}

/// The whole list. Everything else is an error, and a reason that no configuration needs is too.
const REASONS: &[Reason] = &[
    Reason {
        matches: |d| {
            d.path == "/etc/kubernetes/manifests/etcd.yaml" && d.flag("--initial-cluster=")
        },
        why: "all machines found the etcd cluster together, so each lists every founder; kubeadm \
              starts a cluster of one and adds the others",
    },
    Reason {
        matches: |d| {
            d.path == "/etc/kubernetes/manifests/etcd.yaml" && d.flag("--initial-cluster-state=")
        },
        why: "the founders start as new until the cluster ID is known; kubeadm leaves the default \
              on the first machine and writes existing on the others",
    },
    Reason {
        matches: |d| {
            d.path == "/etc/kubernetes/manifests/etcd.yaml" && d.flag("--initial-cluster-token=")
        },
        why: "a token of its own keeps a founding apart from any other; kubeadm leaves etcd's \
              default",
    },
    Reason {
        matches: |d| {
            d.path == "/etc/kubernetes/super-admin.conf"
                && d.machine > 1
                && d.file_is_extra_in_kubeadm()
        },
        why: "only `kubeadm init`, which runs on the first machine, writes it; the comparison runs \
              init on every machine because a dry run of join takes no configuration",
    },
    Reason {
        matches: |d| {
            d.path == "/etc/systemd/system/kubelet.service.d/10-kubeadm.conf"
                && d.file_is_extra_in_ours()
        },
        why: "kubeadm expects the drop-in from the kubelet's package; we render it",
    },
    Reason {
        matches: |d| d.path == "/var/lib/kubelet/config.yaml" && d.place == ".unknownToThisKubelet",
        why: "kubeadm drops fields that its own kubelet types lack; we keep what the user wrote",
    },
];

/// One difference between kubeadm's result and ours.
struct Difference {
    sample: String,
    machine: usize,
    path: String,
    place: String,
    kubeadm: String,
    ours: String,
}

const ABSENT: &str = "(absent)";

impl Difference {
    fn flag(&self, flag: &str) -> bool {
        self.place == ".spec.containers[0].command"
            && [&self.kubeadm, &self.ours]
                .iter()
                .all(|side| *side == ABSENT || side.starts_with(flag))
    }

    fn file_is_extra_in_kubeadm(&self) -> bool {
        self.place.is_empty() && self.ours == ABSENT
    }

    fn file_is_extra_in_ours(&self) -> bool {
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

#[test]
fn files_are_those_of_kubeadm() {
    let program = testbed::build::program(testbed::Component::Kubernetes, "kubeadm")
        .expect("the real kubeadm");
    let samples = sample_configs::kubeadm_samples();
    assert!(samples.len() >= 8);
    let (mut reasoned, mut unexplained, mut compared) = (BTreeMap::new(), Vec::new(), 0);
    for sample in &samples {
        for difference in compare(&program, sample, &mut compared) {
            match REASONS
                .iter()
                .position(|reason| (reason.matches)(&difference))
            {
                Some(reason) => *reasoned.entry(reason).or_insert(0) += 1,
                None => unexplained.push(difference),
            }
        }
    }
    println!(
        "{} configurations, {compared} files compared",
        samples.len()
    );
    println!("differences, each for a reason:");
    for (reason, count) in &reasoned {
        println!("  {count:>3} x {}", REASONS[*reason].why);
    }
    for difference in &unexplained {
        println!("UNEXPLAINED {difference}");
    }
    assert!(
        unexplained.is_empty(),
        "{} unexplained differences",
        unexplained.len()
    );
    let needed: BTreeSet<usize> = reasoned.into_keys().collect();
    for (number, reason) in REASONS.iter().enumerate() {
        assert!(
            needed.contains(&number),
            "no longer a difference, take it off the list: {}",
            reason.why
        );
    }
}

/// Every machine of a sample, both ways.
fn compare(program: &Path, sample: &Sample, compared: &mut usize) -> Vec<Difference> {
    let control_plane = &sample.control_plane;
    let (cluster, machines) =
        issue::issue_control_plane(control_plane, jiff::Timestamp::now()).expect("certificates");
    let mut differences = Vec::new();
    for (number, machine) in control_plane.machines.iter().enumerate() {
        let ours: Files = machine_files(
            control_plane,
            machine,
            &founding(control_plane),
            &cluster,
            &machines[&machine.name],
        )
        .expect("files")
        .into_iter()
        .map(|file| {
            assert_eq!(file.owner, "root:root");
            let content = file.content.to_vec();
            (
                file.path,
                File {
                    mode: file.mode,
                    content,
                },
            )
        })
        .collect();
        // The first machine is where kubeadm makes the CAs; the others get them from it.
        let shared = if number == 0 {
            Files::new()
        } else {
            shared_files(control_plane, &ours)
        };
        let config = kubeadm_config::kubeadm_config(control_plane, machine);
        let dry_run = kubeadm::dry_run(program, &config, &control_plane.certificates_dir, &shared)
            .unwrap_or_else(|error| panic!("{}: {error:#}", sample.name));
        let mut report = Report {
            sample: &sample.name,
            machine: number + 1,
            differences: &mut differences,
        };
        report.files(&dry_run.files, &ours);
        *compared += ours.len();
        accepted_by_kubeadm(program, control_plane, machine, &config, &ours);
    }
    differences
}

/// The eight files that all control-plane machines share.
fn shared_files(control_plane: &ControlPlane, files: &Files) -> Files {
    let names = [
        "ca.crt",
        "ca.key",
        "etcd/ca.crt",
        "etcd/ca.key",
        "front-proxy-ca.crt",
        "front-proxy-ca.key",
        "sa.key",
        "sa.pub",
    ];
    names
        .iter()
        .map(|name| {
            let path = format!("{}/{name}", control_plane.certificates_dir);
            let file = files[&path].clone();
            (path, file)
        })
        .collect()
}

/// kubeadm finds what we rendered, validates it (chain, names, key, CA and server of kubeconfigs)
/// and writes nothing in its place.
fn accepted_by_kubeadm(
    program: &Path,
    control_plane: &ControlPlane,
    machine: &Machine,
    config: &str,
    ours: &Files,
) {
    let dry_run = kubeadm::dry_run(program, config, &control_plane.certificates_dir, ours)
        .unwrap_or_else(|error| {
            panic!("kubeadm refuses our files for {}: {error:#}", machine.name)
        });
    let is_first = control_plane.machines[0].name == machine.name;
    let kept = |path: &str| {
        path.starts_with(&control_plane.certificates_dir)
            || (path.starts_with("/etc/kubernetes/") && path.ends_with(".conf"))
    };
    for (path, file) in ours.iter().filter(|(path, _)| kept(path)) {
        assert!(dry_run.files[path] == *file, "kubeadm replaced {path}");
    }
    // `sa` and the CAs are told in other words, so count what kubeadm says it makes.
    for line in dry_run.output.lines() {
        let makes = line.starts_with("[certs] Generating")
            || (line.starts_with("[kubeconfig] Writing")
                && (is_first || !line.contains("super-admin.conf")));
        assert!(!makes, "kubeadm does not accept ours: {line}");
    }
}

/// Collects the differences of one machine.
struct Report<'a> {
    sample: &'a str,
    machine: usize,
    differences: &'a mut Vec<Difference>,
}

impl Report<'_> {
    fn files(&mut self, kubeadm: &Files, ours: &Files) {
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
