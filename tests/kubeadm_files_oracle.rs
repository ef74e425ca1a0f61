//! The rendered files of a machine against those of the real kubeadm of the same version.
//!
//! For each configuration and each machine kubeadm runs twice: once with the shared CAs only, so
//! that it writes everything itself and both results are compared; once with all that we rendered,
//! so that kubeadm validates our certificates and kubeconfigs and keeps them.

#[path = "support/certificates.rs"]
mod certificates;
#[path = "support/file_differences.rs"]
mod file_differences;
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

use seedbed::domain::{ControlPlane, Machine};
use seedbed::manifests::machine_files;
use seedbed::pki::issue;
use seedbed::runtime::clock::Clock;
use seedbed::versions;

use file_differences::{Difference, Files, Report};
use kubeadm::File;
use sample_configs::{Sample, founding};

/// Where we differ from kubeadm, and why.
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

#[test]
fn images_are_those_of_kubeadm() {
    let program = testbed::build::program(testbed::Component::Kubernetes, "kubeadm")
        .expect("the real kubeadm");
    for Sample {
        name,
        control_plane,
    } in sample_configs::kubeadm_samples()
    {
        let config = kubeadm_config::kubeadm_config(&control_plane, &control_plane.machines[0]);
        let kubeadm = kubeadm::images(&program, &config).expect("a list of images");
        let ours = versions::images(&control_plane).expect("a supported version");
        assert_eq!(ours, kubeadm, "{name}");
    }
}

/// Every machine of a sample, both ways.
fn compare(program: &Path, sample: &Sample, compared: &mut usize) -> Vec<Difference> {
    let control_plane = &sample.control_plane;
    let (cluster, machines) =
        issue::issue_control_plane(control_plane, Clock::system().now()).expect("certificates");
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
