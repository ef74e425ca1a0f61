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

use seedbed::controllers::etcd_cluster::resolve as etcd_cluster;
use seedbed::controllers::fields::Contents;
use seedbed::domain::{
    ControlPlane, EtcdCredentials, Founding, InitialClusterState, Machine, Member, NodeName,
};
use seedbed::manifests::{etcd_machine_files, machine_files};
use seedbed::pki::issue;
use seedbed::pki::plan::plan;
use seedbed::pki::state::{PkiState, Secrets, ca_data};
use seedbed::pki::{Ca, ClusterPki, KeyPair, Leaf, MachinePki};
use seedbed::runtime::clock::Clock;
use seedbed::versions;
use serde_json::{Value, json};

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
        matches: |d| {
            d.sample == "etcd-by-reference"
                && [
                    "/etc/kubernetes/pki/etcd/ca.crt",
                    "/etc/kubernetes/pki/apiserver-etcd-client.crt",
                    "/etc/kubernetes/pki/apiserver-etcd-client.key",
                ]
                .contains(&d.path.as_str())
                && d.file_is_extra_in_ours()
        },
        why: "kubeadm expects what the API server shows to an external etcd to be there already; the \
              EtcdCluster's CA has signed it, so we bring it",
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

/// kubeadm's guide renders a member of its own on each machine, with the stacked phase.
#[test]
fn the_member_of_an_etcd_machine_is_that_of_kubeadm() {
    let program = testbed::build::program(testbed::Component::Kubernetes, "kubeadm")
        .expect("the real kubeadm");
    let more = json!({
        "dataDir": "/srv/etcd",
        "extraArgs": [{"name": "quota-backend-bytes", "value": "8589934592"}],
        "extraEnvs": [{"name": "GOGC", "value": "off"}],
        "certificates": {"directory": "/srv/pki"},
    });
    for more in [json!({}), more] {
        let mut spec = json!({
            "version": "3.7.0",
            "size": 1,
            "machines": [{"name": "etcd-1", "address": "198.18.0.41"}],
        });
        spec.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        let object = json!({
            "apiVersion": "seedbed.dev/v1alpha1",
            "kind": "EtcdCluster",
            "metadata": {"name": "state", "namespace": "clusters"},
            "spec": spec,
        });
        let object = serde_json::from_value(object).expect("an EtcdCluster");
        let cluster = etcd_cluster::resolve(&object, &Contents::default()).expect("resolves");
        let local = json!({
            "dataDir": cluster.members.data_dir,
            "extraArgs": cluster.members.extra_args,
            "extraEnvs": cluster.members.extra_envs,
        });
        let config = etcd_config(&cluster.certificates_dir, &local);
        let kubeadm = kubeadm::etcd_phase(&program, &config).expect("a manifest");

        let path = "/etc/kubernetes/manifests/etcd.yaml".to_owned();
        let machine = &cluster.machines[0];
        let founding = Founding {
            token: "state-3f1b2c".to_owned(),
            members: vec![Member::founder(machine)],
            state: InitialClusterState::New,
        };
        let leaves = Leaf::ALL.map(|leaf| (leaf, pair())).into();
        let files = etcd_machine_files(&cluster, machine, &founding, "ca", &leaves);
        let ours = files
            .expect("files")
            .into_iter()
            .find(|file| file.path == path);
        let ours = ours.expect("a manifest");
        let ours = File {
            mode: ours.mode,
            content: ours.content.to_vec(),
        };
        let mut differences = Vec::new();
        let mut report = Report {
            sample: "etcd-machine",
            machine: 1,
            differences: &mut differences,
        };
        report.files(
            &Files::from([(path.clone(), kubeadm)]),
            &Files::from([(path, ours)]),
        );
        let explained = |d: &Difference| REASONS.iter().any(|reason| (reason.matches)(d));
        let unexplained: Vec<String> = differences
            .iter()
            .filter(|difference| !explained(difference))
            .map(ToString::to_string)
            .collect();
        assert!(unexplained.is_empty(), "{}", unexplained.join("\n"));
        // The flags of a founding, and nothing else.
        assert_eq!(differences.len(), 2);
    }
}

fn etcd_config(certificates_dir: &str, local: &Value) -> String {
    let init = json!({
        "apiVersion": "kubeadm.k8s.io/v1beta4",
        "kind": "InitConfiguration",
        "localAPIEndpoint": {"advertiseAddress": "198.18.0.41"},
        "nodeRegistration": {"name": "etcd-1"},
    });
    let cluster = json!({
        "apiVersion": "kubeadm.k8s.io/v1beta4",
        "kind": "ClusterConfiguration",
        "kubernetesVersion": "v1.37.1",
        "certificatesDir": certificates_dir,
        "etcd": {"local": local},
    });
    format!("{init}\n---\n{cluster}\n")
}

/// No certificate is read here.
fn pair() -> KeyPair {
    KeyPair {
        certificate_pem: String::new(),
        key_pem: String::new().into(),
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
    let (cluster, machines) = certificates_of(control_plane);
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

/// New certificates; those that an EtcdCluster's CA signs, by a CA that was there before.
fn certificates_of(control_plane: &ControlPlane) -> (ClusterPki, BTreeMap<NodeName, MachinePki>) {
    let now = Clock::system().now();
    let external = control_plane.etcd.external();
    let Some(EtcdCredentials::Issued { cluster }) = external.map(|etcd| &etcd.credentials) else {
        return issue::issue_control_plane(control_plane, now).expect("certificates");
    };
    let (algorithm, validity) = (control_plane.key_algorithm, control_plane.ca_validity);
    let ca = issue::issue_ca(Ca::Etcd, algorithm, validity, now).expect("a CA");
    let secrets = Secrets {
        cas: [(Ca::Etcd, ca_data(&ca))].into(),
        etcd_ca_secret: Some(format!("{cluster}-etcd")),
        ..Secrets::default()
    };
    let state = PkiState::read(&control_plane.name, &secrets);
    let plan = plan(control_plane, &state, false, now).expect("a plan");
    let issued = issue::carry_out(control_plane, &state, &plan, now).expect("certificates");
    let cluster = ClusterPki {
        ca: issued.cas[&Ca::Cluster].clone(),
        etcd_ca: Some(ca),
        front_proxy_ca: issued.cas[&Ca::FrontProxy].clone(),
        service_account: issued.service_account.expect("keys"),
    };
    assert!(!issued.cas.contains_key(&Ca::Etcd), "a CA of its own");
    (cluster, issued.machines)
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
        .filter_map(|name| {
            let path = format!("{}/{name}", control_plane.certificates_dir);
            let file = files.get(&path).cloned();
            assert!(
                file.is_some() || control_plane.etcd.stacked().is_none(),
                "{path} is missing"
            );
            Some((path, file?))
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
